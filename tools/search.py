"""Train a grid of λ and keep every record: how the λ of a profile was chosen, on validation images only.

    python tools/search.py gfa-first 2 2.25 2.5

Records go to data/results/search/ (committed), checkpoints nowhere. A run whose record is there already is not repeated.
"""

import argparse

from deepdefense import config, data, paths, results, train


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("objective", choices=[name for name in config.DEFENCES if name.startswith("gfa")])
    parser.add_argument("lam", nargs="+", type=float)
    parser.add_argument("--profile", default="cpu", choices=config.PROFILES)
    parser.add_argument("--train-size", type=int)
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    sizes = dict(train_size=arguments.train_size, epochs=arguments.epochs, seed=arguments.seed)
    runs = [config.make(arguments.profile, arguments.objective, lam=lam, **sizes) for lam in arguments.lam]
    dataset = data.load(runs[0].data)
    for run in runs:
        path = paths.results_root() / "search" / f"{run.name()}.json"
        if not path.exists():
            record = train.fit(run, dataset=dataset, progress=False).record
            results.write_json(path, record | {"kind": "search"})
        row = results.read_json(path)["history"][-1]
        print(path.stem, {key: round(row[key], 3) for key in row if key.startswith("val_")}, flush=True)


if __name__ == "__main__":
    main()
