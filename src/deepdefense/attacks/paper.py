"""The attacks that the paper lists, as torchattacks names them, each behind our conventions; or what stands in for it.

`SUITE_PAPER` names the attack behind each of the paper's names, `UNUSABLE` says why torchattacks' own is not there.
The defects are shown one by one in tests/test_torchattacks_defects.py.
"""

from functools import partial

import torch
from torch import Tensor, nn

from ..arguments import check_whole, checked_number, positive
from ..losses import targeted_margin
from .autoattack import DLR_CLASSES
from .contract import Attack
from .gradient import EPS, apgd, fgsm, pgd
from .libraries import View, bounded, classes_of, library
from .minimum_norm import ddn, deepfool_l2, ead


def apgdt(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    eps: float = EPS,
    steps: int = 100,
    restarts: int = 1,
    targets: int | None = 9,
    seed: int = 0,
) -> Tensor:
    """Auto-PGD on the targeted DLR loss, L∞, the likeliest wrong classes in turn (Croce & Hein 2020); torchattacks'.

    100 steps as its authors run it (torchattacks' default is 10). targets: how many wrong classes, nine as the authors
    have it, or all where there are fewer; None takes all. With two or three classes the DLR loss is not defined, and
    the targeted margin takes its place. Returns the clean image where it finds nothing. torchattacks reseeds itself
    with `seed` on each call, so give each batch its own.
    """
    check_whole(steps=steps, restarts=restarts, **({} if targets is None else {"targets": targets}))
    make = library("torchattacks").APGDT

    def run(view: View, x: Tensor, y: Tensor) -> Tensor:
        classes = classes_of(view, x)
        tried = classes - 1 if targets is None else min(targets, classes - 1)
        options = dict(norm="Linf", eps=eps, steps=steps, n_restarts=restarts, seed=seed, n_classes=tried + 1)
        attack = make(view, **options)
        if classes < DLR_CLASSES:
            attack.dlr_loss_targeted = targeted_margin
        return attack(x, y)

    return bounded("APGDT", model, x, y, eps=eps, seed=seed, run=run)


def square(model: nn.Module, x: Tensor, y: Tensor, *, eps: float = EPS, queries: int = 5000, restarts: int = 1, seed: int = 0) -> Tensor:
    """Square Attack, L∞ (Andriushchenko et al. 2020), by random search on the margin without gradients; torchattacks'.

    The images of a batch share their squares, so a result depends on its batch. Clean image where it finds nothing.
    """
    check_whole(queries=queries, restarts=restarts)
    make = library("torchattacks").Square
    options = dict(norm="Linf", eps=eps, n_queries=queries, n_restarts=restarts, seed=seed)
    return bounded("Square", model, x, y, eps=eps, seed=seed, run=lambda view, x, y: make(view, **options)(x, y))


def pgd_l2(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    eps: float = 0.5,
    steps: int = 20,
    alpha: float | None = None,
    random_start: bool = True,
    seed: int = 0,
) -> Tensor:
    """PGD in L2 on cross-entropy, last iterate; torchattacks'. eps: L2 radius; alpha: step, eps/5 by default."""
    eps = checked_number("eps", eps)
    alpha = eps / 5 if alpha is None else alpha
    check_whole(steps=steps)
    positive(alpha=alpha + (eps == 0))
    if x.dim() != 4:
        raise ValueError(f"torchattacks' PGDL2 takes images (B, C, H, W), got shape {tuple(x.shape)}")
    make = library("torchattacks").PGDL2
    options = dict(eps=eps, alpha=alpha, steps=steps, random_start=random_start)
    return bounded("PGDL2", model, x, y, eps=eps, seed=seed, norm="l2", run=lambda view, x, y: make(view, **options)(x, y))


def fab(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    eps: float = EPS,
    norm: str = "linf",
    steps: int = 100,
    restarts: int = 1,
    targets: int | None = 9,
    seed: int = 0,
) -> Tensor:
    """FAB-T, the authors' own (Croce & Hein 2020), each of the `targets` likeliest wrong classes (None: all) in turn.

    A minimum-norm attack put to the bounded question: an image it moves beyond eps comes back clean.
    norm: "linf" or "l2". It computes in float32 whatever x is.
    """
    check_whole(steps=steps, restarts=restarts, **({} if targets is None else {"targets": targets}))
    if norm not in ("linf", "l2"):
        raise ValueError(f"norm must be 'linf' or 'l2', got {norm!r}")
    make = library("pyautoattack.fab_pt").FABAttack_PT

    def run(view: View, x: Tensor, y: Tensor) -> Tensor:
        options = dict(n_restarts=restarts, n_iter=steps, eps=eps, seed=seed, device=x.device)
        wrong = classes_of(view, x) - 1
        targeted = dict(targeted=True, n_target_classes=wrong if targets is None else min(targets, wrong))
        attack = make(lambda v: view(v).float(), norm={"linf": "Linf", "l2": "L2"}[norm], **options, **targeted)
        moved = attack.perturb(single := x.float(), y)
        return torch.where(moved == single, x, moved.to(x.dtype))  # pixels that did not move are the image's own

    return bounded("FAB-T", model, x, y, eps=eps, seed=seed, norm=norm, run=run)


BOUNDED: dict[str, Attack] = {
    "FGSM": fgsm,
    "PGD": pgd,
    "APGD": apgd,
    "APGDT": apgdt,
    "FAB": fab,  # official FAB-T
    "Square": square,
}
"""Called with `eps=`, L∞."""
BOUNDED_L2: dict[str, Attack] = {"PGDL2": pgd_l2}
"""Called with `eps=`, L2."""
MINIMUM_NORM: dict[str, Attack] = {
    "DeepFool": deepfool_l2,  # our batched one
    "EADEN": partial(ead, rule="en"),  # foolbox's
    "EADL1": partial(ead, rule="l1"),
    "CW": ddn,
}
"""Called without a radius; success and distance are for `nearest.minimum_over` to find."""
SUITE_PAPER: dict[str, Attack] = BOUNDED | BOUNDED_L2 | MINIMUM_NORM
UNUSABLE: dict[str, str] = {
    "FAB": "crashes on channels-last images and in L1; 10 steps, untargeted; gives the clean image beyond eps. "
    "Instead: `fab`, the official FAB-T",
    "DeepFool": "stops short of the boundary without a word where its steps fall below float32's resolution; one image "
    "and one class at a time; images already wrong count as distance 0. Instead: `deepfool_l2`, batched",
    "EADEN": "its test for stopping sums the loss over the batch, so one image can stop all; it starts each search "
    "where the last one ended; it writes into the clean images and leaves [0, 1]. Instead: `ead`, rule 'en'",
    "EADL1": "as EADEN. Instead: `ead`, rule 'l1'",
    "CW": "its margin is wrong where the other logits are negative; pixels of exactly 0 or 1 never move; the test for "
    "stopping sums over the batch; no search for c. Instead: `ddn`, foolbox's, of the same norm",
}
"""torchattacks' attacks that no wrapper can make sound, and why."""
