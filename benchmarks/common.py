"""What the benchmarks share: contestants that take turns, ratios within each turn, and a record of the machine."""

import argparse
import os
import platform
import re
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from deepdefense.inference import pick_device
from deepdefense.storage import files, provenance
from deepdefense.training import allocator


def wait(device: torch.device) -> None:
    """Until a GPU has done what it was given; a CPU has already."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def machine(device: torch.device, packages: Sequence[str] = ()) -> dict:
    """Where and with what this runs, other versions included, and how busy the machine is."""

    def installed(package: str) -> str | None:
        try:
            return version(package)
        except PackageNotFoundError:
            return None

    processors = Path("/proc/cpuinfo")
    names = re.findall(r"model name\s*:\s*(.+)", processors.read_text()) if processors.exists() else []
    environment = provenance.environment(device)
    environment["packages"] |= {package: installed(package) for package in packages}
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    return environment | {"cpu": names[0] if names else platform.processor(), "cores": os.cpu_count(), "load": load}


def take_turns(
    contestants: Mapping[str, Callable[[], None]], repeats: int, device: torch.device, warm_up: int = 2
) -> dict[str, list[float]]:
    """{name: seconds of each turn}: in every turn each contestant runs once, in an order that moves on by one each time."""
    names, seconds = list(contestants), {name: [] for name in contestants}
    for turn in range(-warm_up, repeats):
        shift = turn % len(names)
        for name in names[shift:] + names[:shift]:
            wait(device)
            start = time.perf_counter()
            contestants[name]()
            wait(device)
            if turn >= 0:
                seconds[name].append(time.perf_counter() - start)
    return seconds


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median, quartiles and extremes."""
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive") if len(values) > 1 else [values[0]] * 3
    return {"median": middle, "q25": low, "q75": high, "min": min(values), "max": max(values), "n": len(values)}


def compare(seconds: Mapping[str, Sequence[float]], base: str) -> list[dict]:
    """A row for each contestant: milliseconds, and the ratio to `base` taken turn by turn."""
    return [
        {
            "contestant": name,
            "ms": spread([1e3 * t for t in times]),
            "ratio": spread([t / b for t, b in zip(times, seconds[base], strict=True)]),
        }
        for name, times in seconds.items()
    ]


def parser(text: str, repeats: int) -> argparse.ArgumentParser:
    """The options that every benchmark of training has."""
    options = argparse.ArgumentParser(description=text.splitlines()[0])
    options.add_argument("--repeats", type=int, default=repeats, help=f"turns (default: {repeats})")
    options.add_argument("--device", default="auto", help="cpu, cuda or auto")
    options.add_argument("--threads", type=int, default=1, help="threads of torch (default: 1)")
    options.add_argument("--give-memory-back", action="store_true", help="leave the C library's memory as it is")
    options.add_argument("--out", type=Path, help="write rows and machine as JSON here")
    return options


def prepare(options: argparse.Namespace) -> tuple[torch.device, dict]:
    """Threads and memory set, the device, and the machine as it is before the first turn."""
    torch.set_num_threads(options.threads)
    kept = False if options.give_memory_back else allocator.keep_for_reuse()
    device = pick_device(options.device)
    return device, machine(device) | {"memory_kept": kept}


def finish(name: str, rows: Sequence[dict], settings: Mapping, where: dict, out: Path | None) -> None:
    """Print the rows, and write the record if `out` is given."""
    print("  ".join(f"{key} {where[key]}" for key in ("cpu", "cores", "threads", "device", "load", "date", "commit")))
    for row in rows:
        head = "  ".join(f"{value:g}" if isinstance(value, float) else str(value) for value in row.values() if not isinstance(value, dict))
        spreads = [(key, value) for key, value in row.items() if isinstance(value, dict)]
        print(head.ljust(60), "  ".join(f"{key} {v['median']:.3g} ({v['q25']:.3g}–{v['q75']:.3g}, n = {v['n']})" for key, v in spreads))
    if out:
        end = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
        record = {"kind": "benchmark", "name": name, "settings": dict(settings), "environment": where | {"load_at_end": end}}
        files.write_json(out, record | {"rows": list(rows)})
