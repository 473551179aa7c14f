"""Keep the weights of headline networks beside their records, data/results/quick/NAME.safetensors.

    python workflow/keep_weights.py [--seeds 1] [--pairs cifar10/cnn fashion_mnist/mlp cifar10/resnet18] [--most 30]

`deepdefense.training.runs.load(record, path)` gives the network. Refused if the files were larger than `--most` MB together.
"""

import argparse
import sys

from deepdefense.storage import paths
from deepdefense.training import runs
from replication import networks, records


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1])
    parser.add_argument("--pairs", nargs="+", default=["cifar10/cnn", "fashion_mnist/mlp", "cifar10/resnet18"], metavar="DATA/MODEL")
    parser.add_argument("--most", type=float, default=30, help="MB (default: %(default)g)")
    options = parser.parse_args()
    where = records.headline_folder()
    chosen = [n for n in networks.read_all(where) if n.seed in options.seeds and "/".join(n.pair) in options.pairs]
    size = 4 * sum(n.record["parameters"] for n in chosen) / 1e6
    if size > options.most:
        parser.error(f"--most is {options.most:g} MB, and the weights of these {len(chosen)} networks are {size:.0f} MB")
    for network in chosen:
        print(runs.export(paths.runs_root() / network.name, where / f"{network.name}.safetensors").relative_to(paths.root()))
    print(f"{len(chosen)} networks, {size:.1f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
