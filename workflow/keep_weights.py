"""Keep the weights of headline networks beside their records, data/results/PROFILE/NAME.safetensors.

    python workflow/keep_weights.py [--profile paper] [--seeds 1] [--pairs cifar10/cnn fashion_mnist/mlp] [--most 30]

`replication.networks.load(NAME)` gives such a network with its record and its report. Weights are float32, as they were trained: in half
precision decisions would change. Of a GFA variant with two settings the chosen one is kept, not the aligned one beside it. What is kept
already stays as it is. Refused if the files in the folder were larger than `--most` MB together.
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
    there = networks.read_all(where)
    each = [networks.by_seed(there, pair).get(seed, {}) for pair in networks.present(there) for seed in options.seeds]
    chosen = [n for one in each for n in one.values() if "/".join(n.pair) in options.pairs]
    published = {n.name: n for n in networks.published_networks() if n.where == where}
    kept = published | {n.name: n for n in chosen}
    size = 4 * sum(n.record["parameters"] for n in kept.values()) / 1e6
    if size > options.most:
        parser.error(f"--most is {options.most:g} MB, and the weights of these {len(kept)} networks are {size:.0f} MB")
    new = [network for network in chosen if network.name not in published]
    here = records.finished_runs()
    lost = [network.name for network in new if network.name not in here]
    if lost:
        parser.error(f"no weights are in {where} and no finished run is in {paths.runs_root()} of {', '.join(lost)}")
    for network in new:
        print(runs.export(paths.runs_root() / network.name, where / f"{network.name}{networks.WEIGHTS}").relative_to(paths.root()))
    print(f"{len(kept)} networks, {size:.1f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
