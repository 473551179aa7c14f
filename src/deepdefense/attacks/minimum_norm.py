"""Minimum-norm attacks: the nearest image that the model gets wrong, `attack(model, x, y, *, seed, ...) -> x_adv`.

Where an attack finds nothing, and where the model was wrong from the start, it returns the clean image. Whether an
image counts as a success is the model's prediction to say, and how far it is, `nearest.minimum_over`'s: no attack is
asked. DeepFool is our own (one Jacobian a step), and so is EAD (foolbox's stops by the loss of the whole batch, so
results would depend on neighbours): in both, and in our margin ascent, an image that is finished leaves the batch. DDN
and FMN are foolbox's (Rauber et al. 2020).
"""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from ..arguments import check_whole, positive
from ..inference import wrong
from ..losses import margin
from .contract import TOLERANCE, AttackError, check_inputs
from .elastic_net import elastic_net
from .libraries import View, library, viewed
from .radius_bisection import bisect_radius

BEYOND = 1.001  # a success is taken this much farther, out of the reach of rounding in another batch size
MIN_STEP = 1e-6  # DeepFool's least step: an image whose logits are tied would never leave its place


def _wrong(view: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    with torch.no_grad():
        return wrong(view(x), y)


def _column(values: Tensor, like: Tensor) -> Tensor:
    return values.view(-1, *[1] * (like.dim() - 1))


def _search(name: str, model: nn.Module, x: Tensor, y: Tensor, seed: int, run: Callable[[View, Tensor, Tensor], Tensor]) -> Tensor:
    """`run(view, x, y)` on the images that are right; its successes by prediction, the clean image everywhere else.

    An image that is NaN anywhere is no success. FMN ends so near a flat boundary that the next forward pass may
    round it back: a success is taken to `BEYOND` of its way, or left where it is if the model is right there.
    """
    x, y = check_inputs(model, x, y, 0.0)
    x_adv = x.clone()
    if len(x) == 0:
        return x_adv
    with viewed(model, x, seed) as view:
        right = ~_wrong(view, x_adv, y)
        if right.any():
            clean, labels = x_adv[right].contiguous(), y[right]
            raw = run(view, clean.clone(), labels).detach().to(x.dtype)
            found = raw.clamp(0, 1)  # x + delta may round to a hair above 1
            if ((raw - found).abs() > TOLERANCE).any():
                raise AttackError(f"{name} left [0, 1]: values from {raw.min():.6g} to {raw.max():.6g}")
            best = clean
            for candidate in (found, torch.lerp(clean, found, BEYOND).clamp(0, 1)):
                success = _wrong(view, candidate, labels) & candidate.isfinite().flatten(1).all(1)
                best = torch.where(_column(success, x), candidate, best)
            x_adv[right] = best
    return x_adv


def _nearest_face(view: nn.Module, x_adv: Tensor, y: Tensor, rivals: int, dual: int) -> tuple[Tensor, Tensor, Tensor]:
    """One linearisation of the model at images that are right, against the `rivals` likeliest wrong classes.

    Returns the distance to the nearest class boundary (n,), the gradient of its gap (n, ...) and that one's dual norm.
    """
    point = x_adv.clone().requires_grad_()
    logits = view(point)
    others = logits.detach().scatter(1, y[:, None], -torch.inf).topk(min(rivals, logits.shape[1] - 1)).indices
    gaps = logits.gather(1, y[:, None]) - logits.gather(1, others)
    best = torch.full_like(gaps[:, 0], torch.inf).detach()
    best_norm, best_gradient = torch.ones_like(best), torch.zeros_like(x_adv)
    for k in range(others.shape[1]):
        (gradient,) = torch.autograd.grad(gaps[:, k].sum(), point, retain_graph=k + 1 < others.shape[1])
        norm = gradient.flatten(1).norm(dual, dim=1)
        distance = torch.where(norm > 0, gaps[:, k].detach() / norm, torch.inf)
        nearer = distance < best
        best, best_norm = torch.where(nearer, distance, best), torch.where(nearer, norm, best_norm)
        best_gradient = torch.where(_column(nearer, gradient), gradient, best_gradient)
    return best, best_gradient, best_norm


def _deepfool(view: nn.Module, x: Tensor, y: Tensor, *, norm: str, steps: int, overshoot: float, rivals: int) -> Tensor:
    """DeepFool on images that are right. Those that cross the boundary, or see no gradient at all, leave the batch."""
    x_adv, moved, active = x.clone(), torch.zeros_like(x), torch.arange(len(x), device=x.device)
    for step in range(steps):
        if step:
            active = active[~_wrong(view, x_adv[active], y[active])]
        if len(active) == 0:
            break
        distance, gradient, size = _nearest_face(view, x_adv[active], y[active], rivals, {"l2": 2, "linf": 1}[norm])
        visible = distance.isfinite()
        active, distance, gradient, size = active[visible], distance[visible], gradient[visible], size[visible]
        direction = gradient.sign() if norm == "linf" else gradient / _column(size, gradient)
        moved[active] -= _column(distance + MIN_STEP, gradient) * direction
        x_adv[active] = (x[active] + (1 + overshoot) * moved[active]).clamp(0, 1)
    return x_adv


def deepfool(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    norm: str,
    steps: int = 50,
    overshoot: float = 0.02,
    rivals: int = 9,
    seed: int = 0,
) -> Tensor:
    """DeepFool (Moosavi-Dezfooli et al. 2016), batched: one forward and `rivals` backward passes a step.

    norm: "l2" or "linf"; rivals: how many of the likeliest wrong classes are looked at, all of ten classes by default
    overshoot: by how much the whole way is lengthened, to cross a boundary that the steps only creep up to
    Draws nothing: `seed` has no effect.
    """
    check_whole(steps=steps, rivals=rivals)
    positive(overshoot=overshoot)
    run = partial(_deepfool, norm=norm, steps=steps, overshoot=overshoot, rivals=rivals)
    return _search("DeepFool", model, x, y, seed, run)


deepfool_l2, deepfool_linf = partial(deepfool, norm="l2"), partial(deepfool, norm="linf")


def _almost(y: Tensor, slack: Tensor | None = None):
    """foolbox's criterion "misclassified", met by NaN logits, and already within `slack` (n,) of the boundary, in logits."""
    base = library("foolbox").criteria.Misclassification

    class Almost(base):  # type: ignore[misc, valid-type]  # imported when it is needed
        def __call__(self, perturbed, outputs):
            logits = outputs.raw
            met = wrong(logits, y)
            return type(outputs)(met if slack is None else met | (margin(logits, y) >= -slack))

    return Almost(y)


class _Levelled(nn.Module):
    """A model whose logits are scaled, image by image, so that the right one leads by `gap` on the clean images x.

    Farther from the boundary than those it leads by `gap` too: softmax neither saturates nor takes all classes for equal.
    """

    def __init__(self, view: View, x: Tensor, y: Tensor, gap: float):
        super().__init__()
        self._view, self._y, self._gap = [view], y, gap  # in a list, so that it is no submodule
        with torch.no_grad():
            self._clean = margin(view(x), y).abs().clamp(min=1e-12)

    def forward(self, x: Tensor) -> Tensor:
        logits = self._view[0](x)
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        scale = self._gap / torch.maximum(self._clean, margin(logits.detach(), self._y).abs())
        return logits * scale[:, None]


def _foolbox(
    name: str, model: nn.Module, x: Tensor, y: Tensor, seed: int, slack: float = 0.0, gap: float | None = None, **options
) -> Tensor:
    """foolbox's attack `name`; slack: share of the clean margin within which the boundary counts as reached; gap: see `ddn`."""
    foolbox = library("foolbox")
    attack = getattr(foolbox.attacks, name)(**options)

    def run(view: View, x: Tensor, y: Tensor) -> Tensor:
        shown = view if gap is None else _Levelled(view, x, y, gap).eval()
        seen = foolbox.PyTorchModel(shown, bounds=(0, 1), device=x.device)
        if not slack:
            return attack.run(seen, x, _almost(y))
        with torch.no_grad():
            near = -slack * margin(view(x), y)
        return attack.run(seen, x, _almost(y, near))

    return _search(name, model, x, y, seed, run)


def ddn(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    steps: int = 100,
    init_eps: float = 1.0,
    gamma: float = 0.05,
    gap: float | None = None,
    seed: int = 0,
) -> Tensor:
    """Decoupled direction and norm, L2 (Rony et al. 2019): cross-entropy steps at a radius that shrinks on success.

    init_eps: first radius, too large for distances below about 0.1 (it shrinks to a hundredth of it in 100 steps)
    gamma: share by which the radius changes. Where the gradient is zero it steps at random, from `seed`.
    gap: scale the logits, image by image, so that the right one leads by this on the clean image. With logits of squared
    error (0.1 to 0.5) cross-entropy takes all classes for equally likely and heads for their mean; with `gap=10` the
    result is the same for any multiple of the logits. None leaves them as they are.
    """
    check_whole(steps=steps)
    positive(init_eps=init_eps, gamma=gamma, **({} if gap is None else {"gap": gap}))
    return _foolbox("DDNAttack", model, x, y, seed, gap=gap, steps=steps, init_epsilon=init_eps, gamma=gamma)


def l2_margin(model: nn.Module, x: Tensor, y: Tensor, *, steps: int = 10, searches: int = 12, rivals: int = 9, seed: int = 0) -> Tensor:
    """L2 margin ascent with a bisection on the radius, image by image; then towards each of the `rivals` likeliest classes.

    steps: of each ascent, on the sphere of one radius and in [0, 1]; searches: radii tried, and half as many whenever an
    ascent towards one class has brought an image nearer. About 200 forward and backward passes with the defaults (images
    leave as soon as they fool), at most (steps + 1)(searches + rivals (1 + searches / 2)). Where the gradient is zero it
    steps along one random direction, from `seed`. The attack is ours; the margin: Carlini & Wagner 2017, targets: Gowal
    et al. 2019.
    """
    check_whole(steps=steps, searches=searches, rivals=rivals)
    options = dict(steps=steps, searches=searches, rivals=rivals, seed=seed)
    return _search("L2 margin", model, x, y, seed, lambda view, x, y: bisect_radius(view, x, y, **options))


def fmn_linf(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    steps: int = 100,
    stepsize: float = 1.0,
    gamma: float = 0.05,
    seed: int = 0,
) -> Tensor:
    """Fast minimum norm in L∞ (Pintor et al. 2021), on the margin. Draws nothing: `seed` has no effect.

    stepsize: first length (L2) of a step, falling to a hundredth; gamma: first factor of the radius' change.
    foolbox's own can come to rest on the boundary, a rounding error before it, and report nothing: here 10⁻⁵ of the
    clean margin counts as there. There is none in L2: `L2FMNAttack` never projects (it divides a norm by itself).
    """
    check_whole(steps=steps)
    positive(stepsize=stepsize, gamma=gamma)
    return _foolbox("LInfFMNAttack", model, x, y, seed, slack=1e-5, steps=steps, max_stepsize=stepsize, gamma=gamma)


def ead(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    rule: str = "en",
    steps: int = 100,
    searches: int = 9,
    beta: float = 1e-3,
    stepsize: float = 1e-2,
    const: float = 1e-3,
    early: bool = True,
    seed: int = 0,
) -> Tensor:
    """Elastic-net attack (Chen et al. 2018): ISTA on c · margin + β‖δ‖₁ + ‖δ‖₂², with a binary search for c.

    rule: which success is kept, the least elastic net ("en") or the least L1 ("l1")
    steps, searches: 100 steps in each of 9 searches, as torchattacks runs it (foolbox's own default of 10,000 steps is a
    hundred times that): at most 1,800 forward and 900 backward passes
    early: a search ends for an image where a tenth of its steps brings less than a ten-thousandth of its own loss, the
    criterion that foolbox and torchattacks put to the batch. Draws nothing: `seed` has no effect.
    """
    if rule not in ("en", "l1"):
        raise ValueError(f"rule must be 'en' or 'l1', got {rule!r}")
    check_whole(steps=steps, searches=searches)
    positive(beta=beta, stepsize=stepsize, const=const)
    run = partial(elastic_net, rule=rule, steps=steps, searches=searches, beta=beta, stepsize=stepsize, const=const, early=early)
    return _search("EAD", model, x, y, seed, run)


"""The attacks whose per-image minimum answers for each norm (`nearest.minimum_over`)."""
