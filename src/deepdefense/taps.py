"""Taps: the inputs h_l of a model's weight layers, caught by name while its own `forward` runs.

Works on any `nn.Module`: a tap is the name of a submodule (as in `named_modules`), its value that submodule's first input.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from torch import Tensor, nn

WEIGHT_LAYERS = (nn.Linear, nn.Bilinear, nn.modules.conv._ConvNd)


@dataclass(frozen=True)
class Tap:
    """One layer input: the layer's name, the tensor (B, ...), and its version counter when it was caught."""

    name: str
    value: Tensor
    version: int


def tap_names(model: nn.Module) -> list[str]:
    """Names of all weight layers (linear and convolution) of `model`, in order of registration."""
    return [name for name, module in model.named_modules() if isinstance(module, WEIGHT_LAYERS)]


def resolve(model: nn.Module, layers: str | Sequence[str]) -> list[str]:
    """Names to listen at for `layers`: "first" and "deep" mean all weight layers, a list means itself (checked)."""
    known = tap_names(model)
    if isinstance(layers, str):
        if layers not in ("first", "deep"):
            raise ValueError(f"layers must be 'first', 'deep' or a list of tap names, got {layers!r}")
        if not known:
            raise ValueError("the model has no linear or convolution layer to tap; pass a list of submodule names")
        return known
    modules = dict(model.named_modules())
    unknown = [name for name in layers if name not in modules or name == ""]
    if unknown or not layers:
        raise ValueError(f"no tap named {', '.join(map(repr, unknown)) or '(empty list)'}; this model has {known}")
    return list(layers)


@contextmanager
def record(model: nn.Module, names: Sequence[str]) -> Iterator[list[Tap]]:
    """Catch the first input of every module in `names`, in the order in which forward reaches them.

    A tensor that feeds two layers (a residual block and its shortcut) is listed once, under the first. A layer that runs
    again with another input (shared weights) is listed again, as "name#2".
    """
    caught: list[Tap] = []

    def hook(name):
        def keep(_module, args, kwargs):
            value = next(iter([*args, *kwargs.values()]), None)
            if isinstance(value, Tensor) and all(tap.value is not value for tap in caught):
                calls = 1 + sum(tap.name.split("#")[0] == name for tap in caught)
                caught.append(Tap(name if calls == 1 else f"{name}#{calls}", value, value._version))

        return keep

    modules = dict(model.named_modules())
    targets = [(name, modules[name]) for name in names]  # an unknown name fails before the first hook is set
    handles = [module.register_forward_pre_hook(hook(name), with_kwargs=True) for name, module in targets]
    try:
        yield caught
    finally:
        for handle in handles:
            handle.remove()


def forward(model: nn.Module, x: Tensor, layers: str | Sequence[str]) -> tuple[Tensor, list[Tap]]:
    """One forward pass: (logits, taps of `layers` in forward order). `x` must require grad if gradients are wanted.

    "first" is the input of the first weight layer that runs: the image as the network sees it.
    """
    with record(model, resolve(model, layers)) as caught:
        logits = model(x)
    reached = {tap.name.split("#")[0] for tap in caught}
    missed = [] if isinstance(layers, str) else [name for name in layers if name not in reached]
    if missed or not caught:
        raise ValueError(f"forward hands no input of its own to {', '.join(map(repr, missed)) or 'any weight layer'}")
    for tap in caught:
        if tap.value._version != tap.version:
            raise ValueError(f"the input of layer {tap.name!r} is changed in place later on; make that operation out of place")
    return logits, caught[:1] if layers == "first" else caught
