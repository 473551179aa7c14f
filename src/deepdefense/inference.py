"""How a model is run: on which device, frozen, seeded, and what it predicts."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


def predict(model: nn.Module, x: Tensor, batch_size: int = 1000) -> Tensor:
    """Predicted classes (N,) of images x (N, C, H, W) in [0, 1], in eval mode."""
    with frozen(model), torch.no_grad():
        return torch.cat([model(part).argmax(1) for part in x.split(batch_size)])


@contextmanager
def frozen(model: nn.Module) -> Iterator[None]:
    """The model in eval mode with parameters that take no gradient; afterwards each module and parameter as before."""
    modes = {module: module.training for module in model.modules()}
    wanted = {parameter: parameter.requires_grad for parameter in model.parameters()}
    model.eval()
    for parameter in wanted:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode
        for parameter, flag in wanted.items():
            parameter.requires_grad_(flag)


@contextmanager
def seeded(device: torch.device, seed: int) -> Iterator[None]:
    """The global generators at `seed`, the CPU's and those of every GPU in use; afterwards as they were."""
    in_use = device.type == "cuda" or torch.cuda.is_initialized()
    cuda = range(torch.cuda.device_count()) if in_use else []  # torch.manual_seed reseeds them all
    with torch.random.fork_rng(devices=cuda):
        torch.manual_seed(seed)
        yield


def pick_device(device: str = "auto") -> torch.device:
    """ "auto" takes a CUDA GPU where there is one, else the CPU."""
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.device(device)
