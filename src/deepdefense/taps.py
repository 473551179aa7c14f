"""Taps: the inputs h_l of a model's weight layers, caught by name while its own `forward` runs.

Works on any `nn.Module`: a tap is the name of a submodule (as in `named_modules`), its value that submodule's first input. The first
tap is the image as the network sees it (see `first_tap`), under the name of the weight layer that it feeds, or `IMAGE` if there is none.
"""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from .arguments import check_logits_type, check_run
from .first_tap import FollowImage

IMAGE = "(image)"
DRAWS = 100  # passes that a layer may be left out of, one after the other, before it counts as one that never runs
WEIGHT_LAYERS = (nn.Linear, nn.Bilinear, nn.modules.conv._ConvNd)
ELEMENTWISE = (nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm, nn.PReLU)  # with parameters, but no weight layers


class NotReached(ValueError):
    """A pass hands a layer no input of its own; the message names the layer."""


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
    """Names to listen at for `layers`: "first" and "deep" mean all weight layers, a list means itself (checked).

    "first" needs none: it is the image, whatever follows. A list may hold `IMAGE` too.
    """
    known = tap_names(model)
    if isinstance(layers, str):
        if layers not in ("first", "deep"):
            raise ValueError(f"layers must be 'first', 'deep' or a list of tap names, got {layers!r}")
        if not known and layers == "deep":
            raise ValueError("the model has no linear or convolution layer to tap; take 'first' or a list of submodule names")
        return known
    modules = dict(model.named_modules())
    unknown = [name for name in layers if (name not in modules or name == "") and name != IMAGE]
    if unknown or not layers:
        raise ValueError(f"no tap named {', '.join(map(repr, unknown)) or '(empty list)'}; this model has {known}")
    return list(layers)


@contextmanager
def record(model: nn.Module, names: Sequence[str], called: set[str] | None = None) -> Iterator[list[Tap]]:
    """Catch the first input of every module in `names`, in the order in which forward reaches them.

    A tensor that feeds two layers (a residual block and its shortcut) is listed once, under the first. A layer that runs
    again with another input (shared weights) is listed again, as "name#2". called: takes the names of all that ran
    """
    caught: list[Tap] = []
    called = set() if called is None else called

    def hook(name):
        def keep(_module, args, kwargs):
            called.add(name)
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


def passed_over(model: nn.Module, called: set[str]) -> list[str]:
    """Names of the modules with parameters of their own that "deep" has no tap at, given those that ran; "" is the model itself.

    Normalisations and PReLU scale each number by itself and are no weight layers, so they are not named.
    """
    return [
        name
        for name, module in model.named_modules()
        if next(module.parameters(recurse=False), None) is not None and name not in called and not isinstance(module, ELEMENTWISE)
    ]


def forward(model: nn.Module, x: Tensor, layers: str | Sequence[str], *, warn: bool = False) -> tuple[Tensor, list[Tap]]:
    """One forward pass: (logits, taps of `layers` in forward order). `x` must require grad if gradients are wanted.

    "first" is the image as the network sees it; "deep" that and the inputs of all weight layers behind it.
    warn: name the modules with weights that "deep" passes over
    """
    names, image = resolve(model, layers), isinstance(layers, str) or IMAGE in layers
    untracked = image and not (x.requires_grad and torch.is_grad_enabled())
    if untracked:
        with torch.enable_grad():
            logits, caught = forward(model, x.detach().clone().requires_grad_(), layers, warn=warn)
        return logits.detach(), [replace(tap, value=tap.value.detach()) for tap in caught]
    called: set[str] = set()
    follow = FollowImage(x) if image else None
    with record(model, [name for name in names if name != IMAGE], called) as caught, follow or nullcontext():
        logits = check_run(model, x)
    if follow:
        caught = _image_first(follow, logits, caught, x)
    reached = {tap.name.split("#")[0] for tap in caught} | {IMAGE}
    missed = [] if isinstance(layers, str) else [name for name in layers if name not in reached]
    if missed or not caught or (layers == "deep" and not called):
        raise NotReached(f"forward hands no input of its own to {', '.join(map(repr, missed)) or 'any weight layer'}")
    if warn and layers == "deep" and (names := passed_over(model, called)):
        named = ", ".join(repr(name) if name else "the model itself" for name in names)
        warnings.warn(f"'deep' has no tap at these modules, whose weights it does not know as layers: {named}", stacklevel=4)
    taps = caught[:1] if layers == "first" else caught
    for tap in taps:
        if tap.value._version != tap.version:
            raise ValueError(f"the input of layer {tap.name!r} is changed in place later on; make that operation out of place")
    return logits, taps


def _image_first(follow: FollowImage, logits: Tensor, caught: list[Tap], x: Tensor) -> list[Tap]:
    """The taps with the image in front, and no other that holds the image again."""
    check_logits_type(logits, len(x))
    value = follow.seen(logits)
    known = [tap for tap in caught if tap.value is value]
    first = known[0] if known else Tap(IMAGE, value, follow.versions.get(id(value), value._version))
    return [first, *(tap for tap in caught if not follow.holds(tap.value))]


def forward_reaching(model: nn.Module, x: Tensor, layer: str) -> tuple[Tensor, Tensor]:
    """(logits, input of `layer`) of the first pass that reaches it: a random model, with stochastic depth for one, may leave it out.

    NotReached after 100 passes without it.
    """
    for _ in range(DRAWS - 1):
        try:
            logits, caught = forward(model, x, [layer])
            return logits, caught[0].value
        except NotReached:
            continue
    logits, caught = forward(model, x, [layer])
    return logits, caught[0].value
