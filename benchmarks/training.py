"""Epochs per second and peak memory of GFA beside PGD-7, PGD-10, TRADES and GNR, in the same loop; the data path alone.

    python benchmarks/training.py --out training.json

Each turn trains every defence for one epoch by `train.fit` and takes the time of its training part; "data" only draws, crops and
flips the same batches. Memory: on a CPU the most that one step adds to the resident set of a fresh process, on a GPU what torch
allocated at most.
"""

import json
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from common import compare, finish, parser, prepare, spread, wait

from deepdefense import data, inference, objectives, training
from deepdefense.training import runs
from deepdefense.training.step import TrainingStep, make_optimizer
from replication import profiles

DEFENCES = {
    "plain": ("standard", {}),
    "GFA-FIRST": ("gfa-first", dict(lam=0.5)),
    "GFA-DEEP": ("gfa-deep", dict(lam=0.1)),
    "GNR": ("gnr", dict(lam=0.1)),
    "PGD-7": ("pgd-at", dict(attack_steps=7)),
    "PGD-10": ("pgd-at", dict(attack_steps=10)),
    "TRADES": ("trades", {}),
}


def run_of(name: str, options) -> training.TrainConfig:
    objective, settings = DEFENCES[name]
    shared = dict(data=options.data, model=options.model, width=1.0, augment="crop-flip", epochs=1, batch_size=options.batch)
    return profiles.make("quick", objective, warmup=0.0, train_size=options.images, val_size=10, **{**shared, **settings})


def one_step(run: training.TrainConfig, dataset: data.Dataset, device: torch.device) -> None:
    generator = torch.Generator(device).manual_seed(0)
    model = runs.build_model(run, dataset).to(device).train()
    step = TrainingStep(model, make_optimizer(run, model), objectives.build(run.objective, run.options))
    x, y = next(data.batches(dataset.train, run.batch_size, generator=generator, augment=run.augment))
    step(x, y, run.lam, run.lr, generator)


def peak(name: str, options) -> None:
    """Print the MiB that a step of `name` adds at most, in this process; one of a single image before it brings in the code."""
    device = inference.pick_device(options.device)
    torch.set_num_threads(options.threads)
    run, dataset = run_of(name, options), data.load(options.data).to(device)
    one_step(replace(run, batch_size=1), dataset, device)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        one_step(run, dataset, device)
        print(json.dumps((torch.cuda.max_memory_allocated() - before) / 2**20))
        return
    Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here
    before = resident("VmRSS")
    one_step(run, dataset, device)
    print(json.dumps(resident("VmHWM") - before))


def resident(field: str) -> float:
    """MiB in memory now (VmRSS) or at most (VmHWM), by Linux's account."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 2**10 for line in lines if line.startswith(field))


def peak_elsewhere(name: str, options) -> float:
    settings = ["--data", options.data, "--model", options.model, "--batch", options.batch, "--images", options.images]
    command = [sys.executable, Path(__file__), "--peak-of", name, "--device", options.device, "--threads", options.threads, *settings]
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def measure(options, device: torch.device) -> list[dict]:
    """A row for each defence and one for the data, times turn by turn against plain."""
    full = data.load(options.data).to(device)
    dataset = replace(full, val=full.val[:50], test=full.test[:50])
    images = min(options.images, len(dataset.train))
    seconds: dict[str, list[float]] = {name: [] for name in [*DEFENCES, "data"]}
    for turn in range(-1, options.repeats):
        for name in seconds:
            if name == "data":
                took = data_alone(dataset.train[:images], options.batch, device)
            else:
                took = training.fit(run_of(name, options), dataset=dataset, device=str(device), progress=False).record["train_time_s"]
            if turn >= 0:
                seconds[name].append(took)
            print(f"\rturn {turn + 1} of {options.repeats}: {name}".ljust(50), end="", file=sys.stderr)
    print("\r".ljust(51), end="\r", file=sys.stderr)
    rows = []
    for row in compare(seconds, "plain"):
        name = row["contestant"]
        per_second = {"epochs_per_second": spread([images / len(full.train) / t for t in seconds[name]])}
        on_linux = device.type == "cuda" or sys.platform.startswith("linux")
        measured = on_linux and name != "data"
        peaks = [round(peak_elsewhere(name, options), 1) for _ in range(min(3, options.repeats))] if measured else []
        rows.append(row | per_second | ({"peak_mib": spread(peaks)} if measured else {}))
    return rows


def data_alone(part: data.Split, batch: int, device: torch.device) -> float:
    generator = torch.Generator(device).manual_seed(0)
    start = time.perf_counter()
    for _ in data.batches(part, batch, generator=generator, augment="crop-flip"):
        pass
    wait(device)
    return time.perf_counter() - start


def main(arguments: Sequence[str] | None = None) -> int:
    options = parser(__doc__, repeats=5)
    options.add_argument("--data", default="cifar10", choices=sorted(data.SPECS), help="whose images (default: cifar10)")
    options.add_argument("--model", default="cnn", help="cnn, mlp or resnet18 (default: cnn)")
    options.add_argument("--images", type=int, default=1280, help="training images of a turn (default: 1280)")
    options.add_argument("--batch", type=int, default=128, help="images a step (default: 128)")
    options.add_argument("--peak-of", choices=DEFENCES, help="only print the peak memory of this defence, in MiB")
    chosen = options.parse_args(arguments)
    if chosen.peak_of:
        peak(chosen.peak_of, chosen)
        return 0
    device, where = prepare(chosen)
    settings = {"data": chosen.data, "model": chosen.model, "images": chosen.images, "batch": chosen.batch}
    finish("training", measure(chosen, device), settings, where, chosen.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
