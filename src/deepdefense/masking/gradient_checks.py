"""Checks 1, 2 and 6: do white-box attacks behave as they must when gradients tell the truth?"""

from copy import deepcopy
from functools import partial
from itertools import pairwise

import torch
from torch import Tensor

from ..attacks.contract import Attack
from ..attacks.multi_targeted import multi_targeted_pgd
from ..attacks.projected_gradient import FACTORS, ScaledLogits, loss_pgd, trace_pgd
from ..inference import answers, batch_seed, frozen
from ..losses import get_loss
from .check import LITTLE, NEVER, Check, Rule, exceeds, make
from .tested_model import Subject

SMALL_SWEEP = (0.25, 0.5, 1.0, 2.0, 4.0)  # times eps
LAST_RADIUS = 0.5  # half the range: every image can be made grey


def check_strength(subject: Subject) -> Check:
    """Check 1: more attack, more success. PGD on cross-entropy against one step, more steps, restarts, other eps.

    Fails if FGSM breaks images that PGD does not, if accuracy rises from one eps to the next larger one, or if images
    survive eps = 0.5, each time more than a true share of 1 % explains; or if twice the steps, or two restarts more,
    break more than a true share of 5 % explains. "Explains": the binomial tail over the n images is at least 1 %.
    """
    n, steps = len(subject), subject.settings.steps
    pgd = partial(loss_pgd, loss="ce", steps=steps)
    once = subject.broken(pgd)
    one_step = subject.broken(partial(loss_pgd, loss="ce", steps=1, alpha=subject.eps, random_start=False))
    doubled = subject.broken(partial(pgd, steps=2 * steps))
    restarted = once | subject.broken(pgd, seed=1) | subject.broken(pgd, seed=2)
    radii = sorted({min(factor * subject.eps, LAST_RADIUS) for factor in SMALL_SWEEP} | {LAST_RADIUS})
    broken = [once if radius == subject.eps else subject.broken(pgd, eps=radius) for radius in radii]
    counts = [int(mask.sum()) for mask in broken]
    rises = [max(0, before - after) for before, after in pairwise(counts)]
    numbers = {
        "broken by PGD": int(once.sum()),
        "broken by FGSM and not by PGD": int((one_step & ~once).sum()),
        "broken by twice the steps only": int((doubled & ~once).sum()),
        "broken by restarts only": int((restarted & ~once).sum()),
        "largest rise of accuracy with eps": max(rises),
        "left at eps 0.5": n - counts[-1],
        "n": n,
    }
    tests = {
        "broken by FGSM and not by PGD": ("FGSM breaks {} of {} images that PGD does not", NEVER),
        "broken by twice the steps only": ("twice the steps break {} of {} images more", LITTLE),
        "broken by restarts only": ("two more restarts break {} of {} images more", LITTLE),
        "largest rise of accuracy with eps": ("a larger eps leaves {} of {} images more", NEVER),
        "left at eps 0.5": ("{} of {} images survive eps = 0.5", NEVER),
    }
    failures = [text.format(numbers[key], n) for key, (text, allowed) in tests.items() if exceeds(numbers[key], n, allowed)]
    data = {
        "eps": radii,
        "accuracy": [1 - count / n for count in counts],
        "variants": {
            "FGSM": 1 - one_step.float().mean().item(),
            f"PGD-{steps}": 1 - once.float().mean().item(),
            f"PGD-{2 * steps}": 1 - doubled.float().mean().item(),
            "3 restarts": 1 - restarted.float().mean().item(),
        },
    }
    could = dict.fromkeys(tests, n - int(once.sum()))
    could |= {"largest rise of accuracy with eps": max(counts[:-1]), "left at eps 0.5": n}
    rules = [Rule(key, numbers[key], could[key], n, allowed) for key, (_, allowed) in tests.items()]
    fine = "Stronger attacks and larger radii break more images, little is gained past PGD, and none survive eps = 0.5."
    return make(check_strength, 1, "More attack, more success", failures, fine, numbers, data, rules, n)


def _gradient_norms(subject: Subject, loss: str) -> Tensor:
    """L2 norm of each image's input gradient of `loss`, (n,)."""
    norms = []
    with frozen(subject.model):
        size = subject.settings.batch_size
        for x, y in zip(subject.x.split(size), subject.y.split(size), strict=True):
            x = x.clone().requires_grad_()
            with torch.enable_grad():
                value = get_loss(loss)(subject.model(x), y).sum()
                (gradient,) = torch.autograd.grad(value, x, allow_unused=True) if value.requires_grad else (None,)
            norms.append(torch.zeros(len(y), device=y.device) if gradient is None else gradient.flatten(1).norm(dim=1))
    return torch.cat(norms)


def _losses(subject: Subject) -> list[str]:
    classes = _classes(subject)
    return list(dict.fromkeys(["ce", "margin", *(["dlr"] if classes > 2 else []), subject.settings.training_loss]))


@torch.no_grad()
def _classes(subject: Subject) -> int:
    with frozen(subject.model):
        return subject.model(subject.x[:1]).shape[1]


def _broken_in_double(subject: Subject, attack: Attack) -> Tensor | str:
    """Images that `attack` breaks on a float64 copy of the model, (n,) bool; or why it cannot be run there.

    A model may refuse float64 in any way and anywhere, by an assertion or in its backward pass, so that any error of this
    trial is an answer, which the check reports.
    """
    try:
        copy = deepcopy(subject.model).double()
        with frozen(copy), torch.no_grad():
            logits = copy(subject.x[:1].double())
            if logits.dtype != torch.float64:
                return f"the model answers float64 images in {str(logits.dtype).removeprefix('torch.')}"
        return subject.broken_in_float64(copy, attack)
    except Exception as error:
        first = next(iter(str(error).strip().splitlines()), "")
        return f"{type(error).__name__}: {first}" if first else type(error).__name__


def check_invariance(subject: Subject) -> Check:
    """Check 2: what must not matter does not. PGD with logits × 10⁻³ … 10³, in float64, on other losses.

    Two losses, or two scales of one, may well differ on an honest model: on a CNN trained with PGD and MSE, whose logits
    are small, cross-entropy missed 7 of 75 images that it broke with logits × 100, and one loss 6 that another broke
    (data/results/checked). What must not be is that one of them beats all attacks whose numbers are claimed.

    Fails if a scale or a loss breaks images that no white-box attack does, or float64 images that float32 does not,
    more than a true share of 5 % explains; if images have an input gradient of exactly zero in cross-entropy or in the
    training loss, more than a true share of 1 % explains; or if two passes over the same images give other logits.
    "Explains": the binomial tail over the n images is at least 1 %.
    """
    n, survived, pgd = len(subject), subject.survived, partial(loss_pgd, steps=subject.settings.steps)
    by_loss = {loss: subject.broken(partial(pgd, loss=loss)) for loss in _losses(subject)}
    by_scale = {f"{factor:g}": subject.broken(partial(_on_scaled, factor=factor, steps=subject.settings.steps)) for factor in FACTORS}
    best_scale, by_best_scale = _most(by_scale, survived)
    best_loss, by_best_loss = _most(by_loss, survived)
    double = _broken_in_double(subject, partial(pgd, loss="ce"))
    in_double = None if isinstance(double, str) else double
    norms = {loss: _gradient_norms(subject, loss) for loss in dict.fromkeys(["ce", subject.settings.training_loss])}
    zero = {loss: int((norm == 0).sum()) for loss, norm in norms.items()}
    double_only = None if in_double is None else int((in_double & ~by_loss["ce"]).sum())
    repeat = _repeat_difference(subject)
    numbers = {
        "broken by a scale only": by_best_scale,
        "best scale": float(best_scale),
        "broken by a loss only": by_best_loss,
        "best loss": best_loss,
        "broken by one loss and not by another": max(int((a & ~b).sum()) for a in by_loss.values() for b in by_loss.values()),
        "broken in float64 only": double_only,
        "zero gradients": max(zero.values()),
        "largest difference of two passes": repeat,
        "n": n,
    }
    failures = []
    for words, count in ((f"logits × {best_scale} break", by_best_scale), (f"PGD on {best_loss} breaks", by_best_loss)):
        if exceeds(count, n, LITTLE):
            failures.append(f"{words} {count} of {n} images that no white-box attack does")
    if double_only is not None and exceeds(double_only, n, LITTLE):
        failures.append(f"float64 breaks {double_only} of {n} images that float32 does not")
    for loss, count in zero.items():
        if exceeds(count, n, NEVER):
            failures.append(f"{count} of {n} images have an input gradient of exactly zero in {loss}")
    if repeat > 0:
        failures.append(f"two passes over the same images differ by up to {repeat:.2g} of the logits' size")
    data = {
        "scale": [float(scale) for scale in by_scale],
        "scale accuracy": [1 - mask.float().mean().item() for mask in by_scale.values()],
        "loss accuracy": {loss: 1 - mask.float().mean().item() for loss, mask in by_loss.items()},
        "white-box accuracy": survived.float().mean().item(),
        "float64 accuracy": None if in_double is None else 1 - in_double.float().mean().item(),
        "float64 missing": double if isinstance(double, str) else None,
        "gradient norms": norms,
    }
    fine = "No scale, precision or loss finds what the white-box attacks miss, gradients are there, and two passes agree."
    also = f"Float64 could not be tried: {double.rstrip('.')}." if isinstance(double, str) else ""
    left = int(survived.sum())
    rules = [Rule(f"broken by a {what} only", count, left, n, LITTLE) for what, count in (("scale", by_best_scale), ("loss", by_best_loss))]
    if double_only is not None:
        rules.append(Rule("broken in float64 only", double_only, int((~by_loss["ce"]).sum()), n, LITTLE))
    rules.append(Rule("zero gradients", max(zero.values()), n, n, NEVER))
    rules.append(Rule("two passes differ", int(repeat > 0), 1, 1, 0.0))
    return make(check_invariance, 2, "Scale, precision and loss do not matter", failures, fine, numbers, data, rules, n, also)


def _most(broken: dict[str, Tensor], survived: Tensor) -> tuple[str, int]:
    """The name whose mask holds most survivors of the white-box attacks, and how many."""
    only = {name: int((mask & survived).sum()) for name, mask in broken.items()}
    best = max(only, key=only.__getitem__)
    return best, only[best]


def _on_scaled(model, x: Tensor, y: Tensor, *, eps: float, factor: float, steps: int, seed: int) -> Tensor:
    return loss_pgd(ScaledLogits(model, factor), x, y, eps=eps, steps=steps, loss="ce", seed=seed)


@torch.no_grad()
def _repeat_difference(subject: Subject) -> float:
    """Largest difference between two passes over the same images, relative to the largest logit; 0 if rounding."""
    x = subject.x[: subject.settings.batch_size]
    with frozen(subject.model):
        first, second = subject.model(x), subject.model(x)
    if not torch.equal(answers(first) < 0, answers(second) < 0):  # an answer in one pass alone
        return 1.0
    first, second = first.nan_to_num(), second.nan_to_num()
    difference = ((first - second).abs().max() / first.abs().max().clamp(min=1e-12)).item()
    return difference if difference > 1e-4 else 0.0


def check_convergence(subject: Subject, multi_targeted: Tensor | None = None) -> Check:
    """Check 6: the attack has converged, and reports what it finds. Multi-targeted PGD with restarts; loss curves.

    multi_targeted: images that it broke, (N,) bool, if it has been run already

    Fails if multi-targeted PGD with restarts breaks images that no white-box attack does, or if PGD on cross-entropy
    passes through a mistake and ends on a right answer (a silent success), more than a true share of 5 % of the images
    explains. "Explains": the binomial tail over the n images is at least 1 %.
    """
    n = len(subject)
    survived = subject.survived
    spent = subject.settings
    attack = partial(multi_targeted_pgd, steps=spent.steps, restarts=spent.restarts, targets=spent.targets)
    many = subject.broken(attack if multi_targeted is None else multi_targeted)
    values, fooled = [], []
    for number, part in enumerate(torch.arange(n, device=subject.y.device).split(spent.batch_size)):
        seed = batch_seed(spent.seed, number)
        found = trace_pgd(subject.model, subject.x[part], subject.y[part], eps=subject.eps, steps=spent.steps, loss="ce", seed=seed)
        values.append(found.values)
        fooled.append(found.fooled)
    value, fool = torch.cat(values, 1), torch.cat(fooled, 1)
    silent = int((fool.any(0) & ~fool[-1]).sum())
    quantiles = torch.quantile(value.double(), torch.tensor([0.25, 0.5, 0.75], dtype=torch.double, device=value.device), dim=1)
    numbers = {
        "broken by multi-targeted restarts only": int((many & survived).sum()),
        "silent successes": silent,
        "images whose loss never rises": int((value.amax(0) <= value[0]).sum()),
        "n": n,
    }
    failures = []
    if exceeds(numbers["broken by multi-targeted restarts only"], n, LITTLE):
        count = numbers["broken by multi-targeted restarts only"]
        failures.append(f"multi-targeted PGD with restarts breaks {count} of {n} images that no white-box attack does")
    if exceeds(silent, n, LITTLE):
        failures.append(f"PGD passes through a mistake and ends on a right answer on {silent} of {n} images")
    data = {
        "loss quartiles": quantiles,
        "fooled share": fool.double().mean(1),
        "fooled so far": (fool.cumsum(0) > 0).double().mean(1),
        "accuracy": {"white-box": survived.float().mean().item(), "multi-targeted": 1 - many.float().mean().item()},
    }
    fine = "Targets and restarts find little that the white-box attacks miss, and PGD ends on the mistakes that it meets."
    met = int(fool.any(0).sum())
    rules = [
        Rule("broken by multi-targeted restarts only", numbers["broken by multi-targeted restarts only"], int(survived.sum()), n, LITTLE),
        Rule("silent successes", silent, met, n, LITTLE),
    ]
    return make(check_convergence, 6, "Converged, without silent successes", failures, fine, numbers, data, rules, n)
