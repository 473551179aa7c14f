"""Why the same run gives other numbers on another machine: trained again here, as it is and as another processor would.

    python workflow/check_processors.py [--objectives standard gfa-first] [--seed 1]

The same commit, the same seed, one thread, each in a process of its own: twice as it is; once with torch, oneDNN and MKL held to
the instructions of an older processor (AVX2), which changes the order in which sums are rounded and nothing else; once with two
threads, which does the same. What comes out is in data/results/checked/processors.json: digests of the weights and accuracies on
the whole test set, beside those of the committed record of that run.
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

from deepdefense.storage import files, paths, provenance
from replication import profiles, records

AVX2 = {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2", "MKL_ENABLE_INSTRUCTIONS": "AVX2"}
WAYS = {"as it is": {}, "as it is, again": {}, "instructions of AVX2": AVX2, "two threads": {"OMP_NUM_THREADS": "2"}}
TRAIN = """
import json, sys, torch
from deepdefense import data, training
from deepdefense.storage.resumable import model_fingerprint
from replication import profiles
run = profiles.make("quick", sys.argv[1], seed=int(sys.argv[2]))
made = training.fit(run, dataset=data.load(run.data), device="cpu", progress=False)
print(json.dumps({"weights": model_fingerprint(made.last), "test_accuracy": made.record["metrics"]["last"]["test_accuracy"],
                  "instructions": torch.backends.cpu.get_cpu_capability(), "threads": torch.get_num_threads()}))
"""


def train(objective: str, seed: int, settings: dict[str, str]) -> dict:
    """One training in a process of its own, with environment variables `settings`."""
    environment = os.environ | {"OMP_NUM_THREADS": "1"} | settings
    done = subprocess.run([sys.executable, "-c", TRAIN, objective, str(seed)], env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"training {objective} failed: {done.stderr.strip().splitlines()[-1]}")
    return json.loads(done.stdout.splitlines()[-1])


def committed(objective: str, seed: int, where: Path) -> dict | None:
    """Accuracy, commit and processor of the committed record of the same run; None if there is none."""
    path = where / records.published(profiles.make("quick", objective, seed=seed).name())
    if not path.is_file():
        return None
    record = files.read_json(path)
    return {"test_accuracy": record["metrics"]["last"]["test_accuracy"], "environment": record["environment"]}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--objectives", nargs="+", default=["standard", "gfa-first"])
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    rows = []
    for objective in asked.objectives:
        for way, settings in WAYS.items():
            rows.append({"objective": objective, "way": way, **train(objective, asked.seed, settings)})
            print(f"{objective}, {way}: test accuracy {100 * rows[-1]['test_accuracy']:.2f} %, weights {rows[-1]['weights']}", flush=True)
    there = {name: committed(name, asked.seed, paths.results_root() / records.REDUCED) for name in asked.objectives}
    record = {"kind": "processors", "name": "processors", "seed": asked.seed, "rows": rows, "committed": there}
    files.write_json(paths.results_root() / "checked" / "processors.json", record | {"environment": provenance.environment("cpu")})
    return 0


if __name__ == "__main__":
    sys.exit(main())
