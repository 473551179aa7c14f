"""What is measured of a trained network beside attacks on it: its sweep over eps, and the geometry of its loss.

`measure_run` gives one JSON record, means and standard deviations over the first test images with what claim C5 compares image by
image, and the sweep; `book/09_measure.ipynb` makes them for one run, and the chapters on geometry and on gradient attacks read them.
"""

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from deepdefense.attacks import loss_pgd
from deepdefense.data import Split
from deepdefense.geometry import decompose
from deepdefense.gfa import layer_gradients, measure_alignment
from deepdefense.inference import answers, frozen
from deepdefense.losses import get_loss
from deepdefense.models import Classifier
from deepdefense.storage import files, provenance
from deepdefense.training.config import TrainConfig
from deepdefense.training.runs import Run

from .. import records, scope
from ..scope import DIRECTIONS, LOSSES, WITHIN
from . import eps_sweep
from .attack import TRAINING_FACTS
from .jacobian import restrained
from .loss_change import attack_parts, curvature, directions, loss_along, worst_rise

RADIUS = 0.5  # L2, in image units: the tangential plane is searched within it
DISTANCES = np.linspace(-2, 2, 33)  # of the profiles, L2 in image units; an L∞ ball of 8/255 reaches 1.74 on CIFAR-10
GRID = np.linspace(-2, 2, 17)  # of the landscape's two axes
GEOMETRY_IMAGES, LANDSCAPE_IMAGES = 1000, 100  # of the images of the sweep, at most
DIGITS = 6  # significant digits of a number in the record
CHUNK = 100


def summary(values: Tensor) -> dict:
    """Mean, standard deviation over the samples and quartiles of (N,); NaN is refused."""
    values = values.double()
    if not values.isfinite().all():
        raise ValueError(f"{int((~values.isfinite()).sum())} of {len(values)} values are not finite")
    quartiles = torch.quantile(values, torch.tensor([0.25, 0.5, 0.75], dtype=torch.float64, device=values.device))
    low, median, high = (float(q) for q in quartiles)
    return {"mean": float(values.mean()), "sd": float(values.std(correction=0)), "q25": low, "median": median, "q75": high}


def rounded(value):
    """`value`, JSON, with every float to DIGITS significant digits."""
    if isinstance(value, dict):
        return {key: rounded(part) for key, part in value.items()}
    if isinstance(value, list):
        return [rounded(part) for part in value]
    return float(f"{value:.{DIGITS}g}") if isinstance(value, float) else value


def _in_chunks(measure: Callable[..., Mapping[str, Tensor]], *tensors: Tensor) -> dict[str, Tensor]:
    """`measure` on parts of the images, put together again."""
    parts = [measure(*part) for part in zip(*(t.split(CHUNK) for t in tensors), strict=True)]
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


def _summaries(found: Mapping[str, Tensor]) -> dict[str, dict]:
    return {name: summary(values) for name, values in found.items()}


def alignments(model: Classifier, x: Tensor, y: Tensor, loss: str) -> dict:
    """Alignment at each layer for the training loss, signed and in magnitude, and at the input for each loss."""
    layers = measure_alignment(model, x, y, layers="deep", loss=loss)
    at_input = {name: next(iter(measure_alignment(model, x, y, layers="first", loss=name).values())) for name in LOSSES}
    return {
        "layers": {name: summary(a) | {"mean_abs": float(a.abs().mean())} for name, a in layers.items()},
        "input": {name: summary(a) | {"mean_square": float(a.square().mean())} for name, a in at_input.items()},
    }


def rises(f, h: Tensor, y: Tensor, radius: float) -> dict[str, dict[str, Tensor]]:
    """{loss: {within: (N,)}}: the worst rise of each loss within `radius` (in the coordinates of h)."""

    def measure(part, labels):
        return {within: worst_rise(f, part, labels, radius=radius, loss=loss, within=within) for within in WITHIN}

    found = {}
    for loss in LOSSES:
        found[loss] = _in_chunks(measure, h, y)
    return found


def image_by_image(logits: Tensor, y: Tensor, rise: Mapping[str, Mapping[str, Tensor]], alignment: Tensor) -> dict:
    """What a mean over the images hides, as lists in the order of the images: two networks can be compared on those both get right.

    "margin": right logit minus the largest wrong one; "rise": the worst tangential rises, {loss: list}; "alignment": at the input,
    for the training loss. logits (N, K), y (N,), rise as `rises` gives it, alignment (N,).
    """
    return {
        "label": y.tolist(),
        "right": (answers(logits) == y).tolist(),
        "margin": (-get_loss("margin")(logits, y)).double().tolist(),
        "rise": {loss: rise[loss]["tangential"].double().tolist() for loss in ("mse", "margin")},
        "alignment": alignment.double().tolist(),
    }


def parts_of_attacks(model: Classifier, x: Tensor, y: Tensor, g: Tensor, eps: float, seed: int) -> dict:
    """{attacked loss: summaries} of what the two parts of PGD-20 perturbations do (see `variation.attack_parts`)."""
    found = {}
    for loss in LOSSES:
        x_adv = loss_pgd(model, x, y, eps=eps, steps=20, loss=loss, seed=seed)
        delta = (x_adv - x) / model.scale
        found[loss] = _summaries(_in_chunks(lambda *part: attack_parts(model.body, *part), model.scaled(x), y, delta, g))
    return found


def free_directions(f, h: Tensor, y: Tensor, generator: torch.Generator) -> dict:
    """{direction of logits: summaries} of what GFA restrains and what it leaves free (see `jacobian.restrained`)."""

    def measure(part, labels):
        pulled = restrained(f, part, labels, generator)
        return {(name, key): value for name, values in pulled.items() for key, value in values.items()}

    found = {}
    for (name, key), value in _in_chunks(measure, h, y).items():
        found.setdefault(name, {})[key] = summary(value)
    return found


def profiles(f, h: Tensor, y: Tensor, g: Tensor, scale: float, generator: torch.Generator) -> dict:
    """Change of each loss along the three directions, mean and quartiles at each distance; curvature at the image."""
    paths = directions(h, g, generator)
    distances = torch.from_numpy(DISTANCES) / scale
    along = {}
    for name in DIRECTIONS:
        along[name] = {}
        for loss in LOSSES:
            change = loss_along(f, h, y, paths[name], distances, loss).double()
            low, high = torch.quantile(change, torch.tensor([0.25, 0.75], dtype=torch.float64, device=change.device), dim=0)
            along[name][loss] = {"mean": change.mean(0).tolist(), "q25": low.tolist(), "q75": high.tolist()}
    curved = {name: summary(curvature(f, h, y, paths[name])) for name in DIRECTIONS}
    return {"distances": DISTANCES.tolist(), "along": along, "curvature": curved}


def landscape(f, h: Tensor, y: Tensor, g: Tensor, scale: float, generator: torch.Generator) -> dict:
    """Mean loss and accuracy on a grid of the plane of the radius (first axis) and the tangential gradient (second)."""
    paths = directions(h, g, generator)
    radial, tangential = paths["radial"], paths["tangential gradient"]
    found = {"accuracy": [], **{loss: [] for loss in LOSSES}}
    with torch.no_grad():
        for r in GRID / scale:
            rows = {name: [] for name in found}
            for t in GRID / scale:
                logits = f(h + float(r) * radial + float(t) * tangential)
                rows["accuracy"].append(float((answers(logits) == y).double().mean()))
                for loss in LOSSES:
                    rows[loss].append(float(get_loss(loss)(logits, y).double().mean()))
            for name, row in rows.items():
                found[name].append(row)
    return {"axis": GRID.tolist(), "n": len(h), **found}


def geometry(model: Classifier, x: Tensor, y: Tensor, *, eps: float, loss: str = "mse", seed: int = 0) -> dict:
    """The geometry of `model`'s loss at images x (N, C, H, W) in [0, 1] with labels y (N,); everything JSON.

    loss: the one it was trained on, whose gradient is "the gradient"; eps: radius of the attacks taken apart
    Lengths are stated in image units: one of them is 1/scale in the network's coordinates (their mean over channels).
    """
    scale = float(model.scale.mean())
    generator = torch.Generator(x.device).manual_seed(seed)
    with frozen(model):
        h, f = model.scaled(x), model.body
        (_, g), *_ = layer_gradients(model, x, y, layers="first", loss=loss).values()
        g = g.view_as(h)  # an MLP's first layer has its images flattened
        _, tangential = decompose(g, h)
        with torch.no_grad():
            logits = torch.cat([f(part) for part in h.split(CHUNK)])
        level = {name: summary(get_loss(name)(logits, y)) for name in LOSSES}
        few = slice(0, LANDSCAPE_IMAGES)
        rise = rises(f, h, y, RADIUS / scale)
        (aligned,) = measure_alignment(model, x, y, layers="first", loss=loss).values()
        return {
            "accuracy": float((answers(logits) == y).double().mean()),
            "n": len(y),
            "coordinates": {"scale": scale, "dimension": h[0].numel(), "length": summary(h.flatten(1).norm(dim=1))},
            "loss": level,
            "gradient": {"length": summary(g.flatten(1).norm(dim=1)), "tangential": summary(tangential.flatten(1).norm(dim=1))},
            "alignment": alignments(model, x, y, loss),
            "rise": {"radius": RADIUS, **{name: _summaries(found) for name, found in rise.items()}},
            "images": image_by_image(logits, y, rise, aligned),
            "attacks": {"eps": eps, **parts_of_attacks(model, x, y, g, eps, seed)},
            "directions": free_directions(f, h, y, generator),
            "profiles": profiles(f, h, y, g, scale, generator),
            "landscape": landscape(f, h[few], y[few], g[few], scale, generator),
        }


def measure_run(run: Run, split: Split, *, which: str = "last", seed: int = 0, folder: str | Path | None = None) -> dict:
    """The measures of a trained run on `split`; with a folder, measures.json and sweep.parquet are written there."""
    if which not in ("last", "best"):
        raise ValueError(f"which must be 'last' or 'best', got {which!r}")
    model = {"last": run.last, "best": run.best}[which]
    x, y = split.images(), split.y
    config = TrainConfig(**run.record["config"])
    levels = scope.levels(config.data)
    found = eps_sweep.sweep(model, x, y, levels=levels, seed=seed)
    record = {
        "kind": "measures",
        "name": run.name,
        "weights": which,
        "n": len(y),
        "seed": seed,
        "training": {key: run.record[key] for key in TRAINING_FACTS},
        "environment": provenance.environment(x.device),
        "loss_of_gradient": config.loss,
        "sweep": {"levels": list(levels), "accuracy": {k: float(v.mean()) for k, v in found.items() if "/" in k}},
        "geometry": rounded(geometry(model, x[:GEOMETRY_IMAGES], y[:GEOMETRY_IMAGES], eps=config.val_eps, loss=config.loss, seed=seed)),
    }
    if folder is not None:
        files.write_bytes(Path(folder) / "sweep.parquet", records.write_sweep(found))
        files.write_json(Path(folder) / "measures.json", record)
    return record
