"""Work counted, not timed: floating-point operations of convolutions and matrix products; passes through a model."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from types import MappingProxyType

from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from . import taps


class FlopCount(TorchDispatchMode):
    """Adds up `total` while active, double backward included.

    torch's own FlopCounterMode follows modules with hooks, which fail under `torch.autograd.grad`; its formulas serve here.
    """

    def __init__(self):
        super().__init__()
        self.total = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        formula = flop_registry.get(func._overloadpacket)
        if formula is not None:
            self.total += formula(*args, **kwargs, out_val=out)
        return out


def step_cost(model: nn.Module, step: Callable[[nn.Module], Tensor], x: Tensor) -> dict[str, float]:
    """Cost of one training step, `step(model).backward()`, per sample of `x`, on a copy of `model`.

    Returns "flops_per_sample" and "forward_passes", the same as a multiple of one forward pass.
    """
    twin = deepcopy(model).train()
    with FlopCount() as forward:
        twin(x)
    with FlopCount() as whole:
        step(twin).backward()
    return {"flops_per_sample": whole.total / len(x), "forward_passes": whole.total / forward.total}


PGD = MappingProxyType({"PGD-7": 7, "PGD-10": 10})


def floors(model: nn.Module, x: Tensor, attack_steps: Mapping[str, int] = PGD) -> dict[str, float]:
    """The least arithmetic of a step of each defence, in forward passes F; r is the share of F in the first weight layer.

    plain 3 − r: forward 1, weight gradients 1, input gradients 1, but none is needed at the image
    GFA and GNR 6 − r: the input gradient, image included, adds 1, and its derivative 2
    PGD-k 2k + 3 − r: an attack step is a forward pass and an input gradient
    TRADES 2k + 7 − 2r with k = 10: the clean prediction 1, and two batches to train on
    """
    twin = deepcopy(model).eval()
    with FlopCount() as whole:
        _, (first,) = taps.forward(twin, x, "first")
    layer = dict(twin.named_modules())[first.name]
    with FlopCount() as part:
        layer(first.value)
    r = part.total / whole.total
    attacked = {name: 2 * steps + 3 - r for name, steps in attack_steps.items()}
    return {"plain": 3 - r, "GFA-FIRST": 6 - r, "GFA-DEEP": 6 - r, "GNR": 6 - r, **attacked, "TRADES": 27 - 2 * r}


@dataclass
class Passes:
    """Images that went through a model, forwards and backwards."""

    forward: int = 0
    backward: int = 0


@contextmanager
def count_passes(model: nn.Module) -> Iterator[Passes]:
    """Count the images that pass through `model` while active, with hooks on its output; copies of it count as well.

    A backward pass is counted when a gradient reaches the logits: a Jacobian taken in one vectorised call counts once.
    """
    passes = Passes()

    def came_back(cotangent: Tensor) -> None:
        passes.backward += len(cotangent)

    def went_through(_module, _inputs, output: Tensor) -> None:
        passes.forward += len(output)
        if output.requires_grad:
            output.register_hook(came_back)

    handle = model.register_forward_hook(went_through)
    try:
        yield passes
    finally:
        handle.remove()
