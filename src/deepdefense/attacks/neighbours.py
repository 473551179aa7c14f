"""Which attacks do the same to an image whatever images stand beside it, and how such an attack runs on a part of a chunk.

Such an attack draws once, for all images of its batch, or draws nothing; so it may be run on some images of a chunk, with
the chunk's own draws, and does to each what it does in the whole chunk, up to the model's own rounding in a smaller batch.
Others reseed for what is left of a batch, as APGD-T does for each target: they are only ever given a whole chunk.
"""

import inspect
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial, wraps

import torch
from torch import Tensor, nn

from . import autoattack, features, gradient, hard_label, minimum_norm, multi_targeted, orthogonal, paper
from .contract import Attack, entry
from .projected_gradient import loss_pgd, restarted_pgd
from .tangential import tangential_pgd

Settings = dict[str, object]


def function_of(attack: Attack) -> Callable:
    """The function below all partials."""
    while isinstance(attack, partial):
        attack = attack.func
    return attack


def settings_of(attack: Attack) -> Settings:
    """{name: value} of the parameters of `attack` that have a value: bound by a partial, or by default."""
    parameters = inspect.signature(attack).parameters.values()
    return {p.name: p.default for p in parameters if p.default is not p.empty}


def _always(settings: Settings, norm: str) -> bool:
    return True


def _one_start(settings: Settings, norm: str) -> bool:
    return settings.get("restarts", 1) == 1  # a second start is drawn for what the first has left


ALONE: dict[Callable, Callable[[Settings, str], bool]] = {
    gradient.fgsm: _always,
    gradient.pgd: _always,
    gradient.apgd: _one_start,
    loss_pgd: lambda settings, norm: settings.get("generator") is None,
    restarted_pgd: _always,
    multi_targeted.multi_targeted_pgd: _always,
    orthogonal.orthogonal_pgd: _always,
    tangential_pgd: _always,
    features.feature_pgd: _always,
    hard_label.rays: _always,
    paper.pgd_l2: _always,
    paper.fab: _one_start,
    paper.square: _one_start,
    minimum_norm.deepfool: _always,
    minimum_norm.ddn: _always,
    minimum_norm.fmn_linf: _always,
    minimum_norm.ead: _always,
    autoattack.apgd_ce: _always,
    autoattack.fab_t: _always,
    autoattack.square: lambda settings, norm: settings.get("norm", norm) == "linf",  # in L2 it draws for what is left
}
LAYERED = (features.feature_pgd,)  # read layers inside the model, which cannot be done in slices


def treats_alone(attack: Attack, norm: str) -> bool:
    """Does `attack` do the same to an image whatever its neighbours? False where that is not known."""
    condition = entry(ALONE, function_of(attack))
    return condition is not None and condition(settings_of(attack), norm)


def reads_layers(attack: Attack) -> bool:
    """Is `attack` one of ours that looks inside the model?"""
    return function_of(attack) in LAYERED


FRESH, LIKE, FILLED = ("rand", "randn"), ("rand_like", "randn_like"), ("uniform_", "normal_")


class _ChunkDraws:
    """While active, what is drawn for each of the images `rows` of a chunk is drawn for the whole chunk, and theirs taken.

    A draw is one for each image if it has as many rows, and else the image's own lengths or 1. The few functions that draw
    are replaced, and not every call of torch watched, which a small network would feel.
    """

    def __init__(self, chunk: torch.Size, rows: Tensor):
        self.chunk, self.rows = tuple(chunk), rows
        self._before: list[tuple[object, str, Callable | None]] = []

    def __enter__(self) -> None:
        for owner, names, drawn in ((torch, FRESH, self._fresh), (torch, LIKE, self._like), (Tensor, FILLED, self._filled)):
            for name in names:
                self._before.append((owner, name, vars(owner).get(name)))  # Tensor inherits its own
                setattr(owner, name, drawn(getattr(owner, name)))

    def __exit__(self, *_error) -> None:
        for owner, name, before in reversed(self._before):
            if before is None:
                delattr(owner, name)  # which uncovers the inherited one
            else:
                setattr(owner, name, before)
        self._before.clear()

    def _whole(self, size) -> tuple[int, ...] | None:
        size = tuple(size)
        fits = len(size) == len(self.chunk) and size[0] == len(self.rows)
        fits = fits and all(n in (1, own) for n, own in zip(size[1:], self.chunk[1:], strict=True))
        return (self.chunk[0], *size[1:]) if fits else None

    def _rows(self, drawn: Tensor) -> Tensor:
        return drawn[self.rows.to(drawn.device)]

    def _fresh(self, draw: Callable) -> Callable:
        @wraps(draw)
        def deal(*args, **kwargs):
            size = kwargs.get("size") or (args[0] if len(args) == 1 and not isinstance(args[0], int) else args)
            if (whole := self._whole(size)) is None:
                return draw(*args, **kwargs)
            return self._rows(draw(whole, **{name: value for name, value in kwargs.items() if name != "size"}))

        return deal

    def _like(self, draw: Callable) -> Callable:
        @wraps(draw)
        def deal(like, *args, **kwargs):
            whole = self._whole(like.shape)
            return draw(like, *args, **kwargs) if whole is None else self._rows(draw(like.new_empty(whole), *args, **kwargs))

        return deal

    def _filled(self, draw: Callable) -> Callable:
        @wraps(draw)
        def deal(tensor, *args, **kwargs):
            whole = self._whole(tensor.shape)
            if whole is None:
                return draw(tensor, *args, **kwargs)
            return tensor.copy_(self._rows(draw(tensor.new_empty(whole), *args, **kwargs)))

        return deal


def on_rows(attack: Attack, model: nn.Module, x: Tensor, y: Tensor, rows: Tensor, **options) -> Tensor:
    """`attack` on the images `rows` (n,) of the chunk x (B, C, H, W), y (B,), with the draws of the whole chunk, (n, C, H, W)."""
    with nullcontext() if len(rows) == len(x) else _ChunkDraws(x.shape, rows):
        return attack(model, x[rows], y[rows], **options)
