"""Keep the weights of headline networks beside their records, data/results/PROFILE/NAME.safetensors.

    python workflow/keep_weights.py [--profile paper] [--seeds 1] [--pairs cifar10/cnn fashion_mnist/mlp] [--most 30]

`replication.networks.load(NAME)` gives such a network with its record and its report. Weights are float32, as they were trained: in half
precision decisions would change. Refused if the files in the folder were larger than `--most` MB together.
"""

import argparse
import sys

from deepdefense.storage import paths
from deepdefense.training import runs
from replication import networks, records


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--profile", default=records.FULL, choices=networks.READS, help="folder of data/results (default: %(default)s)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1])
    parser.add_argument("--pairs", nargs="+", default=["cifar10/cnn", "fashion_mnist/mlp"], metavar="DATA/MODEL")
    parser.add_argument("--most", type=float, default=30, help="MB (default: %(default)g)")
    options = parser.parse_args()
    where = paths.results_root() / options.profile
    chosen = [n for n in networks.read_all(where) if n.seed in options.seeds and "/".join(n.pair) in options.pairs]
    kept = {n.name: n for n in networks.published_networks() if n.where == where} | {n.name: n for n in chosen}
    size = 4 * sum(n.record["parameters"] for n in kept.values()) / 1e6
    if size > options.most:
        parser.error(f"--most is {options.most:g} MB, and the weights of these {len(kept)} networks are {size:.0f} MB")
    for network in chosen:
        target = where / f"{network.name}{networks.WEIGHTS}"
        print(runs.export(paths.runs_root() / network.name, target).relative_to(paths.root()))
    print(f"{len(kept)} networks, {size:.1f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
