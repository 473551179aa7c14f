"""A whole training step as one CUDA graph: recorded once, then replayed without a single launch from Python.

A recorded step reads and writes fixed memory: images, labels, λ and learning rate are copied into buffers before each replay,
and what it logs is copied out. The first steps, the odd last batch of an epoch, and everything where recording is impossible
run as they are. Results are those of the plain step, to the rounding of λ and learning rate to float32.

Not yet run on a GPU: `tests/test_cuda_graph.py` has the checks that need one, and tests the buffers without.
"""

import warnings
from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor

from .step import TrainingStep

WARM_UP = 3  # steps before recording, so that cuDNN has chosen its kernels and the optimizer has made its state


class CudaRecorder:
    """torch.cuda.CUDAGraph behind three calls: what a GPU does here, a test can stand in for."""

    def warm_up(self, step: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
        """One real step on a stream of its own, as recording will be."""
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            result = step()
        torch.cuda.current_stream().wait_stream(stream)
        return result

    def record(self, step: Callable[[], dict[str, Tensor]], generator: torch.Generator) -> dict[str, Tensor]:
        """Record `step` without doing it; returns the tensors that each replay will fill."""
        self.graph = torch.cuda.CUDAGraph()
        self.graph.register_generator_state(generator)
        with torch.cuda.graph(self.graph):
            return step()

    def replay(self) -> None:
        self.graph.replay()


class GraphedStep:
    """A `TrainingStep` with the same calls, replayed for every batch of the first batch's size. `reason`: why not, if not."""

    def __init__(self, step: TrainingStep, recorder=None):
        self.step, self.recorder = step, recorder or CudaRecorder()
        self.reason: str | None = None
        self.replayed = 0
        self._warm = 0
        self._log: dict[str, Tensor] | None = None

    def __call__(self, x: Tensor, y: Tensor, lam: float | Tensor, lr: float, generator: torch.Generator) -> dict[str, Tensor] | None:
        if self._warm == 0:
            self._x, self._y, self._generator = torch.empty_like(x), torch.empty_like(y), generator
            self._lam = torch.zeros((), device=x.device)
        if self.reason is not None or x.shape != self._x.shape or generator is not self._generator:
            return self.step(x, y, lam, lr, generator)
        self._x.copy_(x)
        self._y.copy_(y)
        self._lam.fill_(lam)
        self.step.set_rate(lr)
        if self._warm < WARM_UP:
            self._warm += 1
            return self.recorder.warm_up(self._static)
        if self._log is None:
            try:
                self._log = self.recorder.record(self._static, generator)
            except RuntimeError as error:
                self.reason = f"the step could not be recorded: {str(error).splitlines()[0]}"
                warnings.warn(f"no CUDA graph: {self.reason}", stacklevel=2)
                return self.step(x, y, lam, lr, generator)
        self.recorder.replay()
        self.replayed += 1
        return {name: value.clone() for name, value in self._log.items()}

    def _static(self) -> dict[str, Tensor]:
        """The step on the buffers; the rate is in the optimizer already."""
        rate = self.step.optimizer.param_groups[0]["lr"]
        log = self.step(self._x, self._y, self._lam, rate, self._generator)
        return cast("dict[str, Tensor]", log)  # None is for a CPU alone


def why_not(device: torch.device) -> str | None:
    """Why no CUDA graph can be had on `device`, or None."""
    if device.type != "cuda":
        return f"a CUDA graph needs a CUDA GPU, and this run is on {device.type}"
    return None
