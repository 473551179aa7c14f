"""Checks 3, 4, 5 and 8: attacks without this model's gradient, or with another, must not beat the white-box ones."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from ..attacks.contract import Attack
from ..attacks.projected_gradient import loss_pgd
from ..attacks.transfer_attacks import transfer
from ..inference import answers, frozen
from .check import LITTLE, NEVER, Check, Rule, exceeds, make, skipped
from .tested_model import Subject


def _compare(
    function: Callable,
    number: int,
    title: str,
    subject: Subject,
    rivals: Mapping[str, Attack | Tensor],
    allowed: float,
    fine: str,
    missing: str = "",
) -> Check:
    """A check that fails if one of `rivals` breaks more survivors of the white-box attacks than `allowed` explains; where
    there are none, it is not applicable, for the reason `missing`."""
    if not rivals:
        return skipped(function, number, title, missing)
    n, survived = len(subject), subject.survived
    broken, missed = _run(subject, rivals)
    if not broken:
        return skipped(function, number, title, f"On this random model none could be run: {missed}.")
    only = {name: int((mask & survived).sum()) for name, mask in broken.items()}
    failures = [
        f"{name} breaks {count} of {n} images that no white-box attack does" for name, count in only.items() if exceeds(count, n, allowed)
    ]
    numbers = {f"broken by {name} only": count for name, count in only.items()} | {"n": n}
    everything = {**subject.broken_by_white_box, **broken}
    data = {
        "accuracy": {name: 1 - mask.float().mean().item() for name, mask in everything.items()},
        "white-box": list(subject.broken_by_white_box),
        "white-box accuracy": survived.float().mean().item(),
        "only": only,
        "allowed": allowed,
    }
    also = f"On this random model could not be run: {missed}." if missed else ""
    rules = [Rule(f"broken by {name} only", count, int(survived.sum()), n, allowed) for name, count in only.items()]
    return make(function, number, title, failures, fine, numbers, data, rules, n, also)


def _run(subject: Subject, rivals: Mapping[str, Attack | Tensor]) -> tuple[dict[str, Tensor], str]:
    """{name: images it breaks} of the rivals that can be run, and which cannot, and why.

    Only for a random model may there be any: one that leaves a layer out of a pass cannot be attacked at that layer.
    """
    broken, missed = {}, []
    for name, attack in rivals.items():
        try:
            broken[name] = subject.broken(attack, name=name)
        except ValueError as error:
            if not subject.answers_vary():
                raise
            missed.append(f"{name} ({error})")
    return broken, ", ".join(missed)


def check_black_box(subject: Subject, attacks: Mapping[str, Attack | Tensor]) -> Check:
    """Check 3: score-based and hard-label attacks (Square, RayS), which see less, never beat the white-box ones.

    Fails if one of them breaks images that no white-box attack does, more than a true share of 1 % explains.
    "Explains": the binomial tail over the n images is at least 1 %.
    """
    title, missing = "Black-box attacks never win", "No black-box attack was given."
    fine = "Whatever an attack without gradients breaks, a white-box attack breaks too."
    return _compare(check_black_box, 3, title, subject, attacks, NEVER, fine, missing)


@torch.no_grad()
def random_draws(subject: Subject, draws: int, *, chunk: int = 2048) -> Tensor:
    """How many of `draws` points of the ball the model gets wrong, (n,): half uniform inside, half at corners."""
    generator = torch.Generator(subject.x.device).manual_seed(subject.settings.seed)
    wrong = torch.zeros(len(subject), dtype=torch.long, device=subject.x.device)
    with frozen(subject.model):
        for index, (x, y) in enumerate(zip(subject.x, subject.y, strict=True)):
            left = draws
            while left > 0:
                count = min(left, chunk)
                noise = 2 * torch.rand(count, *x.shape, generator=generator, device=x.device, dtype=x.dtype) - 1
                noise[: count // 2] = torch.where(noise[: count // 2] < 0, -1.0, 1.0).to(x.dtype)
                points = (x + subject.eps * noise).clamp(0, 1)
                answer = answers(subject.model(points))
                wrong[index] += (answer != y).sum()
                subject.silent["points"] += int((answer < 0).sum())
                left -= count
    return wrong


def check_random(subject: Subject, draws: int) -> Check:
    """Check 4: random points of the ball, half uniform inside, half at its corners, never beat the white-box attacks.

    Fails if they hold mistakes for images that no white-box attack breaks, more images than a true share of 1 %
    explains. "Explains": the binomial tail over the n images is at least 1 %.
    """
    wrong = random_draws(subject, draws)
    mask = torch.zeros_like(subject.right)
    mask[subject.right] = wrong > 0
    fine = f"{draws} random points an image find nothing that a white-box attack does not."
    rivals = {f"{draws} random points": mask}
    outcome = _compare(check_random, 4, "Random search never wins", subject, rivals, NEVER, fine)
    outcome.data.update({"wrong points": wrong.tolist(), "draws": draws})
    return outcome


def check_transfer(subject: Subject, substitutes: Mapping[str, nn.Module]) -> Check:
    """Check 5: attacks on other networks never beat the white-box ones on the model itself. PGD on the margin.

    Fails if the attack on one substitute breaks images that no white-box attack does, more than a true share of 1 %
    explains. "Explains": the binomial tail over the n images is at least 1 %.
    """
    title = "Transfer never wins"
    missing = "No substitutes were given; deepdefense.masking.substitutes.standard_set trains three."
    rivals = {
        name: transfer({name: network}, loss_pgd, steps=subject.settings.steps, loss="margin") for name, network in substitutes.items()
    }
    fine = "What fools a substitute and carries over is broken by a white-box attack too."
    return _compare(check_transfer, 5, title, subject, rivals, NEVER, fine, missing)


def check_adaptive(subject: Subject, attacks: Mapping[str, Attack | Tensor]) -> Check:
    """Check 8: attacks made for Gradient-Feature Alignment break little that the white-box ones do not.

    Fails if one of them breaks images that no white-box attack does, more than a true share of 5 % explains.
    "Explains": the binomial tail over the n images is at least 1 %.
    """
    title, missing = "Adaptive attacks find little more", "No adaptive attack was given."
    fine = "Attacks across the aligned gradient, on features and through surrogates add little."
    return _compare(check_adaptive, 8, title, subject, attacks, LITTLE, fine, missing)
