"""How a model is run: on which device, frozen, seeded, and what it predicts."""

import random
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from types import CellType, FunctionType, MethodType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules import module as every_module

from .arguments import checked_whole
from .own_generators import own_generators_at


def predict(model: nn.Module, x: Tensor, batch_size: int = 1000) -> Tensor:
    """Predicted classes (N,) of images x (N, C, H, W) in [0, 1], in eval mode; −1 where the model gives no answer (NaN)."""
    batch_size = checked_whole("batch_size", batch_size, least=1)
    with frozen(model), torch.no_grad():
        return torch.cat([answers(model(part)) for part in x.split(batch_size)])


@contextmanager
def frozen(model: nn.Module) -> Iterator[None]:
    """The model in eval mode, with parameters that take no gradient, and `private`; afterwards everything as before."""
    modes = {module: module.training for module in model.modules()}
    wanted = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if any(modes.values()):
        model.eval()
    for parameter in wanted:
        parameter.requires_grad_(False)
    try:
        with private(model):
            yield
    finally:
        for module, mode in modes.items():
            if module.training is not mode:
                module.training = mode
        for parameter in wanted:
            parameter.requires_grad_(True)


numpy_random: Any = np.random  # its stub leaves out the two functions below
_spare: list = []  # bit generators to lay under NumPy's global functions; to make one takes longer than FGSM may


@contextmanager
def _numpy_seeded(seed: int) -> Iterator[None]:
    """NumPy's global functions at `seed`; the generator under them is put aside and comes back untouched."""
    before = numpy_random.get_bit_generator()  # a copy of its state would take longer than all else here
    own = _spare.pop() if _spare else np.random.MT19937()
    numpy_random.set_bit_generator(own)
    try:
        np.random.seed(seed)  # noqa: NPY002 (what a defence may draw from)
        yield
    finally:
        numpy_random.set_bit_generator(before)
        _spare.append(own)


@contextmanager
def seeded(device: torch.device, seed: int, model: nn.Module | None = None) -> Iterator[None]:
    """The global generators at `seed`, torch's on the CPU and on every GPU in use, NumPy's and Python's; afterwards as before.

    model: its own generators too (`own_generators`)
    """
    seed = checked_whole("seed", seed)
    cuda = range(torch.cuda.device_count()) if _gpus_in_use(device) else []
    of_python = random.getstate()
    of_model = nullcontext() if model is None else own_generators_at(model, seed)
    with torch.random.fork_rng(devices=cuda), _numpy_seeded(seed % 2**32), of_model:
        reseed(device, seed)
        random.seed(seed)
        try:
            yield
        finally:
            random.setstate(of_python)


def batch_seed(seed: int, number: int) -> int:
    """The seed of batch `number` of what has `seed`: batches draw apart, and those of another seed apart from them."""
    return seed * 10_007 + number


def reseed(device: torch.device, seed: int) -> None:
    """Put torch's global generators at `seed`, the CPU's and those of every GPU in use."""
    if _gpus_in_use(device):
        torch.manual_seed(seed)
    else:  # the same for the CPU's; torch.manual_seed would take a stack trace for each kind of GPU that may yet come
        torch.default_generator.manual_seed(seed)


def _gpus_in_use(device: torch.device) -> bool:
    return device.type == "cuda" or torch.cuda.is_initialized()


def pick_device(device: str = "auto") -> torch.device:
    """ "auto" takes a CUDA GPU where there is one, else the CPU."""
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.device(device)


def answers(logits: Tensor) -> Tensor:
    """The class with the largest of the logits (B, K), (B,) int64; −1 where there is no answer.

    No answer: a logit is NaN, all are −∞, or several are +∞. One +∞ alone is an answer, and of equal finite logits the
    first is it, as for `argmax`.
    """
    first = logits.argmax(1)
    largest = logits.gather(1, first[:, None])
    alone = (logits == largest).sum(1) == 1  # NaN equals nothing
    return first.masked_fill(~(alone | largest.squeeze(1).isfinite()), -1)


def wrong(logits: Tensor, y: Tensor) -> Tensor:
    """Is the answer another than y (B,), or none at all? (B,) bool"""
    return answers(logits) != y


def untrainable(model: nn.Module, *, thawed: bool = False) -> str | None:
    """Why no copy of `model` can be trained, in words; None if one can. thawed: with parameters that take no gradient set free.

    A forward that was put in place of the class's own may hold the model itself: a copy would run the weights of the original.
    """
    if not any(parameter.requires_grad or thawed for parameter in model.parameters()):
        kind = "none of its parameters takes a gradient" if any(True for _ in model.parameters()) else "it has no parameters"
        return f"{kind} (networks in a plain list or dictionary are not found; put them into an nn.ModuleList or nn.ModuleDict)"
    own = {id(module) for module in model.modules()}
    for name, module in model.named_modules():
        if _holds(vars(module).get("forward"), own):
            return (
                f"the forward of {name or 'the model'} was replaced by a function that holds the model itself, so that a copy would run "
                "the original's weights; give an nn.Module of your own that calls it"
            )
    return None


def _holds(value, modules: set[int], depth: int = 3) -> bool:
    """Does a function that is no method hold one of `modules` (ids), or a method of one?"""
    if isinstance(value, MethodType):
        return depth < 3 and id(value.__self__) in modules  # a method set as forward is copied with its module
    if not isinstance(value, FunctionType) or depth == 0:
        return id(value) in modules
    cells = [cell.cell_contents for cell in value.__closure__ or () if cell != CellType()]
    named = [value.__globals__[name] for name in value.__code__.co_names if name in value.__globals__]
    held = [*cells, *named, *(value.__defaults__ or ())]
    return any(_holds(one, modules, depth - 1) for one in held)


def _own_input(_module, args: tuple, kwargs: dict) -> tuple[tuple, dict]:
    def copy(value):
        return value.clone() if isinstance(value, Tensor) else value

    return tuple(map(copy, args)), {name: copy(value) for name, value in kwargs.items()}


def _full_precision(_module, args: tuple, output):
    if not isinstance(output, Tensor) or not output.is_floating_point():
        return output
    if output.dtype == torch.float32 or (output.dtype == torch.float64 and args and args[0].dtype == torch.float64):
        return output.clone()
    return output.to(torch.float32)


@contextmanager
def private(model: nn.Module) -> Iterator[nn.Module]:
    """While active, whoever calls `model` is safe from it: it gets a copy of its input and hands out a copy of its logits.

    So a model that writes into its input writes into nothing that is the caller's, and one that answers into the same
    memory each time changes no earlier answer. Gradients flow through both copies, bit for bit. Logits come as float32,
    from float64 images as float64 if the model gives that. Anything but a tensor is handed out as it is. Nests.
    """
    if _own_input in model._forward_pre_hooks.values():
        yield model
        return
    if isinstance(model, torch.jit.RecursiveScriptModule):
        handles = _listen_from_outside(model)  # it takes no hooks itself
    else:
        handles = [
            model.register_forward_pre_hook(_own_input, with_kwargs=True),
            model.register_forward_hook(_full_precision),
        ]
    try:
        yield model
    finally:
        for handle in handles:
            handle.remove()


def _listen_from_outside(model: nn.Module) -> list:
    def before(module, args):
        return _own_input(module, args, {})[0] if module is model else None

    def after(module, args, output):
        return _full_precision(module, args, output) if module is model else None

    return [every_module.register_module_forward_pre_hook(before), every_module.register_module_forward_hook(after)]


def is_private(hook) -> bool:
    """Is this hook of a module one of `private`, and so none that reads what passes?"""
    return hook in (_own_input, _full_precision)
