"""The arithmetic of training steps: exact float32, or less of it where that is asked for. Validation and attacks stay in float32.

float32  IEEE single precision, on a GPU too (torch itself lets cuDNN round convolutions to TF32)
tf32     float32 tensors, products of 10-bit mantissas on the tensor cores of an NVIDIA GPU
bf16     convolutions and matrix products in bfloat16 (8-bit mantissa) by torch's autocast; weights, losses and alignments in float32
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch

PRECISIONS = ("float32", "tf32", "bf16")


def check(precision: str, device: torch.device) -> None:
    """A ValueError if `device` has no such arithmetic."""
    if precision not in PRECISIONS:
        raise ValueError(f"precision must be one of {', '.join(PRECISIONS)}; got {precision!r}")
    if precision == "tf32" and device.type != "cuda":
        raise ValueError(f"precision 'tf32' needs a CUDA GPU, and this is {device.type}; take 'float32' or 'bf16'")


@contextmanager
def arithmetic(precision: str) -> Iterator[None]:
    """How a GPU multiplies float32 numbers meanwhile; afterwards as before. Nothing to see on a CPU."""
    switches = (torch.backends.cuda.matmul, torch.backends.cudnn.conv)  # type: ignore[attr-defined]  # a module that is an object
    before = [switch.fp32_precision for switch in switches]
    for switch in switches:
        switch.fp32_precision = "tf32" if precision == "tf32" else "ieee"
    try:
        yield
    finally:
        for switch, value in zip(switches, before, strict=True):
            switch.fp32_precision = value


def autocast(precision: str, device: torch.device) -> AbstractContextManager:
    """Around the forward pass of a step, and a gradient taken within it."""
    return torch.autocast(device.type, torch.bfloat16) if precision == "bf16" else nullcontext()
