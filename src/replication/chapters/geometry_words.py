"""What the figures of the geometry show, in words made from the records: (caption, alternative text) of each, by its function."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from .. import estimates
from ..claims import measured
from ..scope import DEFENCE_NAMES, DIRECTIONS, LOSS_NAMES
from ..wording import NOTHING, number, several
from . import geometry_figures as figures
from .geometry_figures import groups, look_up, seeds, whiskers

Records = Sequence[Mapping]


def listed(records: Records, value: Callable[[Mapping], float], digits: int = 2) -> str:
    """ "plain 0.12, GFA-FIRST 0.34": a value of each record, the mean over the seeds of each defence."""
    means = {name: estimates.mean_sd([value(one) for one in members])[0] for name, members in groups(records).items()}
    return ", ".join(f"{DEFENCE_NAMES[name]} {number(mean, digits)}" for name, mean in means.items())


def of(records: Records, *path: str, digits: int = 2) -> str:
    """`listed` of the mean of a summary in the geometry."""
    return listed(records, lambda one: look_up(one, *path)["mean"], digits)


def ratios(records: Records, loss: str, within: str = "tangential") -> str:
    """Worst rise over plain's of the same seed, by defence."""
    records = measured.comparable(records, loss)
    found = {name: list(measured.rise_ratios(records, name, loss=loss, within=within).values()) for name in groups(records)}
    shown = {DEFENCE_NAMES[name]: estimates.mean_sd(values)[0] for name, values in found.items() if name != "standard" and values}
    return ", ".join(f"{name} {number(mean, 2)}" for name, mean in shown.items()) or NOTHING


def left_out(records: Records, loss: str) -> str:
    """Which defences are not shown with `loss`, and why, as a sentence with a space before it; nothing where all are."""
    there = groups(measured.comparable(records, loss))
    names = [DEFENCE_NAMES[name] for name in groups(records) if name not in there]
    if not names:
        return ""
    were, their = ("it was", "its") if len(names) == 1 else ("they were", "their")
    why = f"on which {were} not trained: {their} logits, and so {their} margin, have a scale of their own"
    return f" Without {', '.join(names)} for the {LOSS_NAMES[loss]}, {why}."


def length_and_angle(records: Records, title: str) -> str:
    """The two ways in which a loss gets flat along the sphere, in a sentence: its gradient is shorter, or turned to the radius.

    Of networks trained on squared error, if there are any: the mean length of the gradient over plain training's, and its tangential
    part's over its own.
    """
    shown = groups(measured.comparable(records, "mse"))
    means = {
        name: [float(np.mean([look_up(one, "gradient", part)["mean"] for one in members])) for part in ("length", "tangential")]
        for name, members in shown.items()
    }
    if "standard" not in means:
        return f"{title}: there is no plain training to compare with."
    longer = [f"{DEFENCE_NAMES[name]} {number(both[0] / means['standard'][0], 2)}" for name, both in means.items() if name != "standard"]
    turned = [f"{DEFENCE_NAMES[name]} {number(both[1] / both[0], 2)}" for name, both in means.items()]
    return (
        f"{title}: mean length of the gradient of the training loss over plain training's: {', '.join(longer)}. "
        f"Of its length is tangential: {', '.join(turned)}."
    )


def _n(records: Records) -> str:
    """How many images and seeds; for captions whose figure has no whiskers."""
    return f"n = {look_up(records[0], 'n')} images, {several(seeds(records), 'seed')}"


def _alignment(records: Records, title: str) -> tuple[str, str]:
    first = next(iter(look_up(records[0], "alignment", "layers")))
    said = f"Mean alignment at the input: {of(records, 'alignment', 'layers', first, digits=3)}."
    caption = f"{title}. {said} Left: signed, of each layer's input with the gradient of the training loss there; right: its magnitude."
    return f"{caption} {whiskers(records, dispersion=True).capitalize()}.", f"{title}: alignment layer by layer, a line a defence. {said}"


def _rise(records: Records, title: str) -> tuple[str, str]:
    said = f"Worst tangential rise over plain training's: squared error {ratios(records, 'mse')}; margin {ratios(records, 'margin')}."
    radius = look_up(records[0], "rise", "radius")
    caption = f"{title}. {said} Above: absolute, within L2 length {radius:g}; below: relative to plain training of the same seed."
    caption += f"{left_out(records, 'mse')} {whiskers(records).capitalize()}."
    return caption, f"{title}: bars of the worst rise of three losses, a bar a defence. {said}"


def _profiles(records: Records, title: str, loss: str) -> tuple[str, str]:
    far = look_up(records[0], "profiles", "distances")[-1]
    shown = measured.comparable(records, loss)
    steep = listed(shown, lambda one: look_up(one, "profiles", "along", DIRECTIONS[1], loss)["mean"][-1])
    said = f"Change of the {LOSS_NAMES[loss]} at distance {far:g} along the tangential gradient: {steep}."
    caption = f"{title}. {said} Lines: mean; bands: the middle half of the images; one vertical scale. {_n(shown)}."
    caption += left_out(records, loss)
    return caption, f"{title}: curves of the loss against the distance from the image, a panel a defence. {said}"


def _landscapes(records: Records, title: str, loss: str) -> tuple[str, str]:
    shown = measured.comparable(records, loss)
    ends = listed(shown, lambda one: max(map(max, look_up(one, "landscape", loss))))
    said = f"Largest mean {LOSS_NAMES[loss]} on the plane: {ends}."
    n = f"n = {look_up(records[0], 'landscape', 'n')} images, {several(seeds(records), 'seed')}"
    caption = (
        f"{title}. {said} Mean loss (top) and accuracy (below) in the plane of radius and tangential gradient, one colour scale a row; "
        f"the cross is the image, the line, where there is one, the fall to chance level. {n}.{left_out(records, loss)}"
    )
    return caption, f"{title}: maps of loss and accuracy around an image, a column a defence. {said}"


def _attacks(records: Records, title: str) -> tuple[str, str]:
    shares, cosines = (of(records, "attacks", "mse", key, digits=3) for key in ("radial share", "cosine"))
    said = f"Attack on the squared error, radial share of ‖δ‖²: {shares}; cosine with the training gradient: {cosines}."
    about = f"PGD-20, L∞ eps = {look_up(records[0], 'attacks', 'eps'):.3g}; {whiskers(records)}."
    caption = f"{title}. {said} Below: change of the attacked loss by the whole perturbation and by each part alone. {about}"
    return caption + left_out(records, "mse"), f"{title}: bars of what PGD's perturbations are made of. {said}"


def _directions(records: Records, title: str) -> tuple[str, str]:
    residual = next(iter(look_up(records[0], "directions")))
    lengths = of(records, "directions", residual, "tangential length", digits=3)
    aligned = of(records, "directions", residual, "alignment", digits=3)
    said = f"Of the direction “{residual}”: alignment with the image {aligned}; tangential length {lengths}."
    caption = f"{title}. {said} {whiskers(records, dispersion=True).capitalize()}."
    return caption, f"{title}: a row a direction of logits, a mark a defence, in three panels. {said}"


WORDS = {
    figures.alignment_by_layer: _alignment,
    figures.rise_bars: _rise,
    figures.loss_profiles: _profiles,
    figures.landscapes: _landscapes,
    figures.attack_parts: _attacks,
    figures.jacobian_directions: _directions,
}


def words(make: Callable, records: Records, title: str, **options) -> tuple[str, str]:
    """(caption, alternative text) of the figure that `make` draws of these records; title: whose they are."""
    return WORDS[make](records, title, **options)
