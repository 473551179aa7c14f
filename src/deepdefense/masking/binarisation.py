"""Check 7, the binarisation test: does an attack find what is there by construction?

Zimmermann et al. 2022, "Increasing Confidence in Adversarial Robustness Evaluations"; the readout's formula is ours.

For one image at a time the last weight layer is replaced by a readout with two classes that tells random points inside
the eps-ball (class 0, and the image itself) from one random corner of it (class 1). That point is an adversarial
example by construction. An attack that misses class 1 is too weak for this model's features, whatever the model's
robustness is.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .. import taps
from ..attacks.contract import Attack, check_inputs, check_output, returned
from ..inference import batch_seed, frozen, predict, seeded
from .check import Check, Rule, falls_short, make, powerless, skipped
from .tested_model import Subject

WANTED = 0.95  # share of readouts that a sound attack solves
TOO_EASY = 0.5  # share that random guessing may solve, for the test to say anything
FEWEST_READOUTS = 10  # readouts, for the test to say anything
INNER_RADIUS = 0.95  # inner points lie within this times eps
CLOSENESS = 0.99  # where the readout's threshold lies between the inner points (0) and the surface point (1)
SURFACE_POINTS = 10  # tried in turn, until one can be told from the inner points
RIDGE = 0.1  # added to the covariance of the features, relative to its mean diagonal
SCORE = 5.0  # the readout is scaled so that the image lies this far below the threshold
TITLE = "Attacks find what is there by construction"


def last_layer(model: nn.Module, x: Tensor) -> str | None:
    """Name of the weight layer that runs last, or None if the model has none."""
    if not taps.tap_names(model):
        return None
    with frozen(model), torch.no_grad():
        return taps.forward(model, x[:1], "deep")[1][-1].name.split("#")[0]


class Binarised(nn.Module):
    """`model` with its last weight layer `layer` replaced by w·features − threshold: two logits, (0, score)."""

    def __init__(self, model: nn.Module, layer: str, w: Tensor, threshold: Tensor):
        super().__init__()
        self.model, self.layer, self.w, self.threshold = model, layer, w, threshold

    def features(self, x: Tensor) -> Tensor:
        return taps.forward(self.model, x, [self.layer])[1][-1].value.flatten(1).to(x.dtype)

    def forward(self, x: Tensor) -> Tensor:
        score = self.features(x) @ self.w - self.threshold
        return torch.stack([torch.zeros_like(score), score], 1)


@dataclass(frozen=True)
class Binarisation:
    """Result: how many images were asked for, how many gave a readout, and how many of those each attack solved."""

    images: int
    readouts: int
    solved: dict[str, int]
    guessed: int
    any_attack: int


def _noise(x: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """(count, *x.shape) random signs"""
    return 2.0 * torch.randint(2, (count, *x.shape), generator=generator, device=x.device).to(x.dtype) - 1


def _inner(x: Tensor, eps: float, count: int, generator: torch.Generator) -> Tensor:
    """Points of the ball of radius INNER_RADIUS · eps around x (C, H, W): half uniform, half corners of smaller
    balls."""
    noise = 2 * torch.rand(count, *x.shape, generator=generator, device=x.device, dtype=x.dtype) - 1
    half = count // 2
    radius = torch.rand(half, *[1] * x.dim(), generator=generator, device=x.device, dtype=x.dtype)
    noise[:half] = radius * _noise(x, half, generator)
    return (x + INNER_RADIUS * eps * noise).clamp(0, 1)


@torch.no_grad()
def readout(model: nn.Module, layer: str, x: Tensor, *, eps: float, inner: int, generator: torch.Generator) -> Binarised | None:
    """A readout for the image x (1, C, H, W), or None where no surface point can be told from the inner points.

    Its plane is that of a linear discriminant, (Σ + ridge)⁻¹ (surface point − mean), from the inner points' features:
    a plane fitted to that one point by logistic regression left PGD up to 7 of 24 unsolved on an honest net (digits).
    """
    surface = (x + eps * _noise(x[0], SURFACE_POINTS, generator)).clamp(0, 1)
    points = torch.cat([surface, x, _inner(x[0], eps, inner, generator)])
    with frozen(model):
        features = taps.forward(model, points, [layer])[1][-1].value.flatten(1).double()
    outer, inside = features[:SURFACE_POINTS], features[SURFACE_POINTS:]
    centre = inside.mean(0)
    covariance = (inside - centre).T @ (inside - centre) / len(inside)
    ridge = RIDGE * covariance.diagonal().mean()
    if not ridge > 0:
        return None
    covariance.diagonal().add_(ridge)
    planes = torch.linalg.solve(covariance, (outer - centre).T)
    highest, reached = (inside @ planes).amax(0), (outer * planes.T).sum(1)
    apart = (reached > highest).nonzero().flatten().tolist()
    if not apart:
        return None
    w, low, high = planes[:, apart[0]], highest[apart[0]], reached[apart[0]]
    threshold = low + CLOSENESS * (high - low)
    unit = SCORE / (threshold - inside[0] @ w)
    made = Binarised(model, layer, (unit * w).to(x.dtype), (unit * threshold).to(x.dtype))
    with frozen(made):
        found = made(points).argmax(1)
    whole = found[apart[0]] == 1 and not found[SURFACE_POINTS:].any()
    return made if whole else None  # seen to hold in the model's own precision


def binarisation_test(
    model: nn.Module,
    x: Tensor,
    attacks: Mapping[str, Attack],
    *,
    eps: float,
    inner: int = 1000,
    guesses: int = 200,
    seed: int = 0,
) -> Binarisation:
    """The test for each image of x (N, C, H, W) in [0, 1] and each of `attacks`.

    Raises ValueError for a model without a weight layer.

    inner: random points inside the ball that a readout must give class 0; guesses: random points of the ball, half
    uniform and half corners, that stand for an attack which guesses
    """
    y = torch.zeros(len(x), dtype=torch.long, device=x.device)
    check_inputs(model, x, y, eps)
    layer = last_layer(model, x)
    if layer is None:
        raise ValueError("the model has no linear or convolution layer that a readout could replace")
    generator = torch.Generator(x.device).manual_seed(seed)
    solved, guessed, any_attack, readouts = dict.fromkeys(attacks, 0), 0, 0, 0
    with seeded(x.device, seed):
        for number, image in enumerate(x.detach().split(1)):
            binary = readout(model, layer, image, eps=eps, inner=inner, generator=generator)
            if binary is None:
                continue
            readouts += 1
            found = []
            for name, attack in attacks.items():
                x_adv = returned(image, attack(binary, image.clone(), y[:1].clone(), eps=eps, seed=batch_seed(seed, number)), name)
                found.append(bool(predict(binary, check_output(image, x_adv, eps, name), 1).item() == 1))
                solved[name] += found[-1]
            any_attack += any(found)
            noise = 2 * torch.rand(guesses, *image.shape[1:], generator=generator, device=x.device, dtype=x.dtype) - 1
            noise[: guesses // 2] = _noise(image[0], guesses // 2, generator)
            guessed += bool((predict(binary, (image + eps * noise).clamp(0, 1), guesses) == 1).any())
    return Binarisation(len(x), readouts, solved, guessed, any_attack)


def _of_two_classes(subject: Subject, attacks: Mapping[str, Attack]) -> tuple[dict[str, Attack], str]:
    """The attacks that can be run on a model of two classes, and which cannot, and why: each is tried on a linear one."""
    x = subject.x[:1]
    model = nn.Sequential(nn.Flatten(), nn.Linear(x[0].numel(), 2)).to(x.device, x.dtype)
    fit, unfit = {}, []
    for name, attack in attacks.items():
        try:
            attack(model, x.clone(), torch.zeros(1, dtype=torch.long, device=x.device), eps=subject.eps, seed=subject.settings.seed)
            fit[name] = attack
        except (ValueError, IndexError, RuntimeError) as error:
            unfit.append(f"{name} ({error})")
    return fit, ", ".join(unfit)


def check_binarisation(subject: Subject, attacks: Mapping[str, Attack]) -> Check:
    """Check 7: an adversarial example that is there by construction is found (Zimmermann et al. 2022). By each attack,
    and by any.

    Fails if fewer readouts are solved by the white-box attacks together than a true share of 95 % explains (the
    binomial tail is below 1 %). No power on fewer than 10 images. Not applicable with fewer than 10 readouts, or, if the
    attacks solve them, where random guessing solves more than half as well.
    """
    if last_layer(subject.model, subject.x) is None:
        return skipped(check_binarisation, 7, TITLE, "The model has no weight layer that a readout could replace.")
    if min(len(subject), subject.settings.readouts) < FEWEST_READOUTS:
        return powerless(check_binarisation, 7, TITLE, min(len(subject), subject.settings.readouts), FEWEST_READOUTS)
    attacks, unfit = _of_two_classes(subject, attacks)
    if not attacks:
        return skipped(check_binarisation, 7, TITLE, f"Its readouts have two classes, which no attack takes: {unfit}.")
    try:
        found = binarisation_test(
            subject.model, subject.x[: subject.settings.readouts], attacks, eps=subject.eps, seed=subject.settings.seed
        )
    except ValueError as error:
        if not subject.answers_vary():
            raise
        return skipped(check_binarisation, 7, TITLE, f"On this random model it cannot be made: {error}.")
    n = found.readouts
    if n < FEWEST_READOUTS:
        reason = f"Only {n} of {found.images} images gave a readout that separates inner points from the surface point."
        return skipped(check_binarisation, 7, TITLE, reason)
    short = falls_short(found.any_attack, n, WANTED)
    if found.guessed > TOO_EASY * n and not short:
        reason = f"Random guessing solves {found.guessed} of {n} readouts, so that solving them says nothing."
        return skipped(check_binarisation, 7, TITLE, reason)
    numbers = {"solved by any attack": found.any_attack, "solved by guessing": found.guessed, "readouts": n}
    weak = [name for name, count in found.solved.items() if falls_short(count, n, WANTED)]
    failures = [f"the attacks together solve {found.any_attack} of {n} readouts that have a solution by construction"] * short
    fine = f"The attacks together solve {found.any_attack} of {n} readouts, guessing {found.guessed}."
    if weak:
        fine += f" Too weak alone: {', '.join(weak)}."
    also = f"Left out, since readouts have two classes: {unfit}." if unfit else ""
    rates = {name: count / n for name, count in found.solved.items()}
    data = {
        "success": {**rates, "random guessing": found.guessed / n},
        "weak": weak,
        "wanted": WANTED,
        "images": found.images,
    }
    rules = [Rule("readouts left unsolved", n - found.any_attack, n, n, 1 - WANTED)]
    return make(check_binarisation, 7, TITLE, failures, fine, numbers, data, rules, None, also)
