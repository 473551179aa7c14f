"""Work counted, not timed: floating-point operations of convolutions and matrix products; passes through a model."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass

from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry


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
