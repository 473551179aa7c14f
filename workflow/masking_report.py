"""The masking report of finished runs that have been attacked, into data/results/masking/RUN/.

    python workflow/masking_report.py RUN [RUN ...] [--images 200] [--steps 40] [--draws 10000] [--queries 2000] [--readouts 64]

RUN: names of runs in data/runs/ with a report that holds AutoAttack. Attacks are transferred from plain and from adversarial
training of the same pair and seed where these are there, from a distilled copy, and from the weights trained on without the
defence. Every finished piece is kept in the run's folder, so that a killed command goes on.
"""

import argparse
import sys

import torch

from deepdefense import inference, masking
from replication.experiments.masking import SPENT, masking_run


def add_spent(parser: argparse.ArgumentParser) -> None:
    """An option for each thing that a masking report spends."""
    for setting, words in SPENT.items():
        default = getattr(masking.Settings(), setting)
        parser.add_argument(f"--{setting}", type=int, default=default, help=f"masking report: {words} (default: %(default)s)")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", metavar="RUN")
    parser.add_argument("--images", type=int, help="the first test images (default: those of the run's report)")
    add_spent(parser)
    parser.add_argument("--device", default="auto", help="cpu, cuda or auto")
    parser.add_argument("--threads", type=int, default=1, help="threads of torch (default: 1)")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    spent = {setting: getattr(options, setting) for setting in SPENT}
    for name in options.runs:
        try:
            found = masking_run(name, inference.pick_device(options.device), images=options.images, spent=spent)
        except ValueError as error:
            parser.error(str(error))
        failed, powerless = (", ".join(map(str, numbers)) or "none" for numbers in (found.failed, found.powerless))
        print(f"{name}: checks failed: {failed}; without power: {powerless}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
