"""Finished runs under the paper's protocol to the letter, and under its mistakes, into data/results/paper_protocol/RUN/.

    python workflow/paper_protocol.py RUN [RUN ...] [--images 2000] [--slow-images 1000] [--queries 5000]

RUN: names of runs in data/runs/. torchattacks is called as it comes. Each network is attacked once, whatever it is compared with;
to say something, its seed needs the plainly and the adversarially trained network too. Every finished attack is kept in the run's
folder, so that a killed command goes on; a run whose record is there is not repeated, and one whose record is of another protocol is
refused before any work. A CNN of full width takes one core about an hour, most of it for Square, DeepFool, EADEN and APGD with 100
steps (`--slow-images`); the MLP some ten minutes.
"""

import argparse
import sys
from pathlib import Path

import torch

from deepdefense import data, inference
from deepdefense.storage import files
from deepdefense.training.runs import load_run
from replication import records, scope
from replication.experiments.paper_protocol import Protocol, is_there, protocol_run


def _job(name: str, options: argparse.Namespace) -> tuple[Path, Protocol, bool]:
    """The folder of the run, what it is put under, and whether that has been done; a ValueError says why it cannot be."""
    folder = records.check_run(name)
    record = files.read_json(folder / "run.json")
    if record["checkpoints"]["last"] is None:
        raise ValueError(f"run must have a network to attack; {name} {record['status']} in its first epoch and has none")
    levels = scope.levels(record["config"]["data"])
    protocol = Protocol(levels, options.images, options.slow_images, options.queries)
    return folder, protocol, is_there(name, protocol)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", metavar="RUN")
    parser.add_argument("--images", type=int, default=2000, help="the first test images (default: %(default)s)")
    slow = "of Square, DeepFool, EADEN and APGD with 100 steps (default: %(default)s)"
    parser.add_argument("--slow-images", type=int, default=1000, help=slow)
    parser.add_argument("--queries", type=int, default=5000, help="of Square (default: %(default)s)")
    parser.add_argument("--device", default="auto", help="cpu, cuda or auto")
    parser.add_argument("--threads", type=int, default=1, help="threads of torch (default: 1)")
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    try:
        jobs = [_job(name, options) for name in dict.fromkeys(options.runs)]
    except ValueError as error:
        parser.error(str(error))
    for folder, protocol, there in jobs:
        if there:
            print(f"{folder.name}: its record is there", flush=True)
            continue
        device = inference.pick_device(options.device)
        run = load_run(folder, str(device))
        test = data.load(run.record["config"]["data"]).test[: options.images].to(device)
        record = protocol_run(run, test, protocol, say=lambda line: print(f"  {line}", flush=True))
        print(
            f"{folder.name}: clean {record['clean']}, {record['classes_answered']} classes answered, {record['seconds']:.0f} s", flush=True
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
