"""What the jobs of a plan will cost: seconds and GPU memory, from steps timed on this machine, never from a table of guesses.

`measure` times a few training steps of each kind of run and keeps the numbers in `costs.json` in the workflow's folder.
A job that has run before is expected to take as long as it took (`durations.json`).
"""

import json
import math
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import grid
import torch

from deepdefense import data, inference, models, objectives
from deepdefense.storage import files

MEASURED, TOOK = "costs.json", "durations.json"
NOTEBOOK_SECONDS = 15  # imports, a kernel, the figures of a page; replaced by what a job took
GPU_CONTEXT_MB = 700  # what a process takes on a GPU beside its tensors
CPU_BATCH = 16  # images of a timed step on a CPU
# Passes of an image through the model, at most (an image that every attack fails on): (forward, backward), K classes.
PASSES = {
    "gradient": lambda k: (142, 141),
    "paper": lambda k: (6_300 + 20 * k, 1_300 + 1_100 * (k - 1)),
    "standard": lambda k: (5_000 + 100 + 250 * (k - 1), 100 + 200 * (k - 1)),
    "adaptive": lambda k: (1_610, 1_500),
    "minimum_norm": lambda k: (2_450, 2_450 + 50 * k),
}
MEASURE_PASSES = 3_000  # of an image that is measured, in forward passes: the sweep over eps is most of it


def kind(row: grid.Row) -> str:
    """Rows of one kind cost the same an image: the same network, objective and batch."""
    c = row.config
    parts = (c.data, c.model, c.width, c.activation, c.objective, sorted(c.options.items()), c.batch_size)
    return json.dumps([*parts, _device_name()])


def _device_name() -> str:
    device = inference.pick_device()
    return torch.cuda.get_device_name(device) if device.type == "cuda" else f"cpu, torch {torch.__version__}"


def probe(row: grid.Row) -> dict[str, float]:
    """Seconds an image of a training step and of a forward pass, and peak GPU memory in MB, timed on random images."""
    c, device = row.config, inference.pick_device()
    size = c.batch_size if device.type == "cuda" else min(c.batch_size, CPU_BATCH)
    spec = data.SPECS[c.data]
    shape = (spec.image[2] if len(spec.image) == 3 else 1, *spec.image[:2])
    model = models.build(c.model, shape, len(spec.classes), width=c.width, activation=c.activation, seed=0).to(device)
    x, y = torch.rand(size, *shape, device=device), torch.zeros(size, dtype=torch.long, device=device)
    objective = objectives.build(c.objective, c.options)
    step = objectives.Step(1.0, torch.Generator(device).manual_seed(0))
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)

    def timed(work, times: int) -> float:
        """Seconds an image, the least of `times`: what else the machine does only adds to it, and by ten times in one of few."""
        took = []
        for _ in range(1 + times):  # the first one compiles and allocates
            _wait(device)
            start = time.perf_counter()
            work()
            _wait(device)
            took.append(time.perf_counter() - start)
        return min(took[1:]) / size

    def forward():
        with torch.no_grad():
            model(x)

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        found = {"step": timed(lambda: objective(model, x, y, step)[0].backward(), 3), "forward": timed(forward, 10)}
    finally:
        torch.set_num_threads(threads)
    peak = torch.cuda.max_memory_allocated(device) / 2**20 if device.type == "cuda" else 0
    return found | {"gpu_mb": math.ceil(GPU_CONTEXT_MB + 1.5 * peak) if peak else 0}


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


@dataclass(frozen=True)
class Costs:
    """Expected costs. measured: {kind: what `probe` found}; took: {job: seconds that it took the last time}."""

    measured: dict = field(default_factory=dict)
    took: dict = field(default_factory=dict)

    def training(self, row: grid.Row) -> int:
        """Seconds of a training run, validation included."""
        if (job := f"train {row.name}") in self.took:
            return math.ceil(self.took[job])
        c, found = row.config, self.measured.get(kind(row))
        if found is None:
            return NOTEBOOK_SECONDS
        held_out = data.SPECS[c.data].validation
        images = c.train_size or data.SPECS[c.data].published[0] - held_out
        validation = held_out + 3 * c.val_steps * min(c.val_size, held_out)
        return math.ceil(NOTEBOOK_SECONDS + c.epochs * (images * found["step"] + validation * found["forward"]))

    def attack(self, row: grid.Row, attack: grid.Attack) -> int:
        """Seconds of one of a run's attacks, at most: as if every image withstood every attack."""
        held = data.SPECS[row.config.data].published[1]
        if (job := f"attack {row.name} {attack.folder(held).removeprefix('report-')}") in self.took:
            return math.ceil(self.took[job])
        found = self.measured.get(kind(row))
        if found is None:
            return NOTEBOOK_SECONDS
        classes = len(data.SPECS[row.config.data].classes)
        passes = [PASSES[name](classes) for name in attack.suites]
        forwards = sum(f + 2 * b for f, b in passes)
        return math.ceil(NOTEBOOK_SECONDS + (attack.images or held) * forwards * found["forward"])

    def measure(self, row: grid.Row) -> int:
        """Seconds of measuring a run."""
        if (job := f"measure {row.name}") in self.took:
            return math.ceil(self.took[job])
        found = self.measured.get(kind(row))
        return NOTEBOOK_SECONDS if found is None else math.ceil(NOTEBOOK_SECONDS + row.measure * MEASURE_PASSES * found["forward"])

    def page(self, page: str) -> int:
        return math.ceil(self.took.get(f"page {page}", NOTEBOOK_SECONDS))

    def gpu_mb(self, row: grid.Row) -> int:
        """Memory of the GPU that a job of this run needs, in MB; 0 on a CPU."""
        return self.measured.get(kind(row), {}).get("gpu_mb", 0)

    @staticmethod
    def minutes(seconds: float) -> int:
        """A time limit for a cluster: three times what is expected, and half an hour."""
        return math.ceil(30 + 3 * seconds / 60)


def load(folder: str | Path = ".") -> Costs:
    """The costs kept in `folder`; empty ones if there are none or they are damaged."""

    def read(name: str) -> dict:
        try:
            return files.read_json(Path(folder) / name)
        except files.ResultsError:
            return {}

    return Costs(read(MEASURED), read(TOOK))


def measure(rows: Iterable[grid.Row], folder: str | Path) -> Costs:
    """The costs of `rows`: those kept in `folder`, and those of kinds that are not yet there, timed now and kept."""
    known = load(folder)
    measured = dict(known.measured)
    for row in rows:
        if kind(row) not in measured:
            measured[kind(row)] = probe(row)
    if measured != known.measured:
        files.write_json(Path(folder) / MEASURED, measured)
    return Costs(measured, known.took)


def remember(took: dict[str, float], folder: str | Path) -> None:
    """Keep how long the jobs `took`, {"train NAME": seconds}, for the next estimate."""
    files.write_json(Path(folder) / TOOK, load(folder).took | {job: round(seconds, 1) for job, seconds in took.items()})


def in_words(seconds: float) -> str:
    """A duration as people say it: 40 s, 12 min, 3.5 h."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
