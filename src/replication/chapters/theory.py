"""Figures of chapters 1 and 2: the decomposition, images, loss along directions, first-order bounds."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns
from matplotlib.figure import Figure


def right_angle() -> Figure:
    """The decomposition in the plane of x and v: a drawing, no data."""
    x, v = np.array([2.0, 1.0]), np.array([1.1, 2.0])
    radial = (v @ x) / (x @ x) * x
    fig, ax = plt.subplots(figsize=(4.6, 3.2))
    colours = sns.color_palette("colorblind")
    arrows = [(x * 1.25, "black", "$x$", (6, 2)), (v, colours[0], "$v$", (6, 2)), (radial, colours[1], "$v_r$", (-40, -38))]
    for tip, shade, name, offset in arrows:
        ax.annotate("", tip, (0, 0), arrowprops=dict(arrowstyle="-|>", color=shade, lw=2))
        ax.annotate(name, tip, xytext=offset, textcoords="offset points", color=shade, fontsize=13)
    ax.annotate("", v, radial, arrowprops=dict(arrowstyle="-|>", color=colours[2], lw=2))
    ax.annotate("$v_t$", (v + radial) / 2, xytext=(6, 4), textcoords="offset points", color=colours[2], fontsize=13)
    circle = plt.Circle((0, 0), np.linalg.norm(radial), fill=False, ls=":", color="grey")
    ax.add_patch(circle)
    ax.set(xlim=(-0.3, 3), ylim=(-0.3, 2.3), aspect="equal")
    ax.axis("off")
    return fig


def image_row(images: Sequence[np.ndarray], titles: Sequence[str], signed: Sequence[bool]) -> Figure:
    """Images (C, H, W) side by side; signed ones on one common diverging scale, zero white."""
    limit = max(np.abs(image).max() for image, has_sign in zip(images, signed, strict=True) if has_sign)
    fig, axes = plt.subplots(1, len(images), figsize=(1.75 * len(images), 2.2))
    for ax, image, title, has_sign in zip(axes, images, titles, signed, strict=True):
        plane = image.mean(0) if has_sign or len(image) == 1 else image.transpose(1, 2, 0)
        kind = dict(cmap="PuOr", vmin=-limit, vmax=limit) if has_sign else dict(cmap="gray", vmin=0, vmax=1)
        ax.imshow(plane, **kind)
        ax.set_title(title)
        ax.axis("off")
    return fig


def image_grid(images: np.ndarray, names: Sequence[str], columns: int = 10) -> Figure:
    """Images (N, C, H, W) in [0, 1] in rows of `columns`, each under its class name."""
    rows = -(-len(images) // columns)
    fig, axes = plt.subplots(rows, columns, figsize=(columns * 0.7, rows * 0.95), squeeze=False)
    for ax in axes.flat:
        ax.axis("off")
    for ax, image, name in zip(axes.flat, images, names, strict=False):
        ax.imshow(image.transpose(1, 2, 0) if len(image) == 3 else image[0], cmap="gray", vmin=0, vmax=1)
        ax.set_title(name, fontsize=7.5, pad=2)
    return fig


def loss_profiles(distances: np.ndarray, changes: Mapping[str, Mapping[str, np.ndarray]]) -> Figure:
    """changes[model][direction] (N, T): mean loss change against distance, with the middle half of the images shaded."""
    fig, axes = plt.subplots(1, len(changes), figsize=(min(7.2, 3.5 * len(changes)), 3), sharey=True, squeeze=False)
    for ax, (model, by_direction) in zip(axes.flat, changes.items(), strict=True):
        for (direction, change), marker in zip(by_direction.items(), "os^", strict=False):
            low, high = np.quantile(change, [0.25, 0.75], axis=0)
            (line,) = ax.plot(distances, change.mean(0), marker=marker, ms=4, label=direction)
            ax.fill_between(distances, low, high, color=line.get_color(), alpha=0.15, lw=0)
        ax.set(title=model, xlabel="L2 distance, scaled image units", ylabel="change of the loss")
    fig.legend(*axes.flat[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return fig


def bound_against_gain(bound: Mapping[str, np.ndarray], gain: Mapping[str, np.ndarray], eps: float) -> Figure:
    """Per image: first-order tangential bound against the tangential loss change that was really reached."""
    fig, ax = plt.subplots(figsize=(4.6, 3.8))
    top = max(max(b.max(), gain[name].max()) for name, b in bound.items())
    for (name, b), marker in zip(bound.items(), "o^", strict=False):
        ax.scatter(b, gain[name], s=14, marker=marker, alpha=0.6, label=f"{name} (n = {len(b)})")
    ax.plot([0, top], [0, top], color="black", lw=1, ls="--", label="equal")
    ax.set(xlabel=f"first-order bound at eps = {eps:g}", ylabel="loss change reached")
    ax.legend(fontsize=9)
    return fig
