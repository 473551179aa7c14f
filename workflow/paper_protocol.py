"""Finished runs under the paper's protocol to the letter, and under its mistakes, into data/results/paper_protocol/RUN/.

    python workflow/paper_protocol.py RUN [RUN ...] [--images 2000] [--slow-images 1000] [--queries 5000]

RUN: names of runs in data/runs/. torchattacks is called as it comes. Each network is attacked once, whatever it is compared with;
to say something, its seed needs the plainly and the adversarially trained network too. Every finished attack is kept in the run's
folder, so that a killed command goes on; a run whose record is there is not repeated. A CNN of full width takes one core about an
hour, most of it for Square, DeepFool and EADEN (`--slow-images`); the MLP some ten minutes.
"""

import argparse
import sys

import torch

from deepdefense import data, inference
from deepdefense.training.runs import load_run
from replication import records, scope
from replication.experiments.paper_protocol import Protocol, protocol_run


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", metavar="RUN")
    parser.add_argument("--images", type=int, default=2000, help="the first test images (default: %(default)s)")
    parser.add_argument("--slow-images", type=int, default=1000, help="of Square, DeepFool and EADEN (default: %(default)s)")
    parser.add_argument("--queries", type=int, default=5000, help="of Square (default: %(default)s)")
    parser.add_argument("--device", default="auto", help="cpu, cuda or auto")
    parser.add_argument("--threads", type=int, default=1, help="threads of torch (default: 1)")
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    try:
        folders = [records.check_run(name) for name in options.runs]
        Protocol((8,), options.images, options.slow_images, options.queries)
    except ValueError as error:
        parser.error(str(error))
    for folder in folders:
        if (records.protocol_folder(folder.name) / records.PROTOCOL_JSON).is_file():
            print(f"{folder.name}: its record is there", flush=True)
            continue
        device = inference.pick_device(options.device)
        run = load_run(folder, str(device))
        dataset = run.record["config"]["data"]
        protocol = Protocol(scope.levels(dataset), options.images, options.slow_images, options.queries)
        test = data.load(dataset).test[: options.images].to(device)
        record = protocol_run(run, test, protocol, say=lambda line: print(f"  {line}", flush=True))
        print(
            f"{folder.name}: clean {record['clean']}, {record['classes_answered']} classes answered, {record['seconds']:.0f} s", flush=True
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
