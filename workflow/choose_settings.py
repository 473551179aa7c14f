"""From the search at full size to grids of runs: which settings get a second seed, and the headline grid.

    python workflow/choose_settings.py                       what is still open, pair by pair
    python workflow/choose_settings.py --second OUT.csv      the runs with the second seed, for train_grid.py
    python workflow/choose_settings.py --headline OUT.csv    the headline runs of every pair whose search is complete
    python workflow/choose_settings.py --weak OUT.csv        their adversarial training with two steps, and for a tenth of the epochs (E2)
    python workflow/choose_settings.py --better-use-second OUT.csv  the same of workflow/grids/better_use.csv, with the second seed
    python workflow/choose_settings.py --better-use OUT.csv  candidates of E3 and E4 chosen from workflow/grids/better_use.csv, and GNR's λ

The rules are those of book/plan_full_size.md, as `replication.full_search` has them; nobody chooses a setting by hand.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import grid

from deepdefense.storage import files, paths
from replication import full_search
from replication.claims import use_quantities
from replication.full_search import SEEDS, Pair, Setting, Taken, complete, pick, second_looks
from replication.records import load_records
from replication.scope import CNN, COMPARED, MLP, PAIRS, VARIANTS, levels

ROOT = Path(__file__).resolve().parents[1]
BOTH_SEEDS = (MLP,)  # the pair of which every setting has both seeds from the start
COLUMNS = ("data", "model", "epochs", "augment", "objective", "lam", "warmup", "target", "form", "loss", "ema", "beta", "seed")
OPTIONS = ("target", "form", "loss", "beta")  # of the objectives, that a setting of the search may set


def grid_row(setting: Setting, **others) -> dict:
    """A line of a grid for `setting` with profile "paper", every field that it sets written out."""
    c = setting.config
    found = {"data": c.data, "model": c.model, "epochs": c.epochs, "augment": c.augment, "objective": c.objective}
    steered = c.options.get("target") is not None
    found |= {"lam": c.lam, "warmup": c.warmup} if (c.lam or c.objective in ("gnr", *VARIANTS)) and not steered else {}
    found |= {"lam": c.lam} if steered and c.lam else {}
    found |= {name: c.options[name] for name in OPTIONS if c.options.get(name) is not None}
    return found | ({"ema": c.ema} if c.ema else {}) | others


def write_rows(path: str | Path, rows: Sequence[Mapping], columns: Sequence[str]) -> Path:
    """A grid as CSV, written whole or not at all; a field that a row does not set stays empty."""
    lines = [list(columns), *([row.get(name, "") for name in columns] for row in rows)]
    text = "".join(",".join("" if value is None else str(value) for value in line) + "\n" for line in lines)
    return files.write_bytes(path, text.encode())


HEADLINE = {"epochs": 30, "seed": "1 2 3"}
WORST_CASE = {"attack_suites": "standard adaptive", "attack_mode": "worst_case", "attack_images": 2000}
MEASURED = {"measure_images": 2000}
BEYOND = {"attack_suites": "standard adaptive", "attack_mode": "worst_case", "attack_images": 500}  # at the largest eps of the sweep
SINGLY = {"attack_suites": "paper standard adaptive", "attack_images": 500}
DISTANCES = {"attack_suites": "paper minimum_norm", "attack_norm": "l2", "attack_images": 1000}
ONE_SEED = {"seed": "1"}
BETTER_USE = "better_use"  # folder of data/results/
HEADLINE_COLUMNS = (*COLUMNS, "attack_suites", "attack_norm", "attack_eps", "attack_mode", "attack_images", "measure_images")


def headline_rows(choices: Sequence[Taken], pairs: Sequence[Pair] = (CNN, MLP, ("cifar10", "mlp"))) -> list[dict]:
    """The headline grid: plain training and what was chosen, each with the plan's seeds and attacks.

    Every network measured and under the cascade, at the plan's eps and at the largest of the sweep; one seed under every attack on its
    own, and its distances, of all seeds where a claim reads them.
    """
    rows = []
    for pair in pairs:
        mine = [c for c in choices if c.pair == pair and c.setting is not None]
        if not mine:
            continue
        taken = [setting for c in mine for setting in (c.setting, c.aligned) if setting is not None]
        plain = {"data": pair[0], "model": pair[1], "augment": taken[0].config.augment, "objective": "standard"} | HEADLINE
        for row in (plain, *(grid_row(setting, **HEADLINE) for setting in taken)):
            claimed = pair == CNN and row["objective"] in COMPARED  # C3 and C4 read distances there
            beyond = BEYOND | {"attack_eps": max(levels(pair[0])) / 255}
            rows += [row | WORST_CASE | MEASURED, row | beyond, row | SINGLY | ONE_SEED, row | DISTANCES | ({} if claimed else ONE_SEED)]
    return rows


def weak_rows(choices: Sequence[Taken], pairs: Sequence[Pair] = (CNN, MLP)) -> list[dict]:
    """E2: what was chosen of adversarial training, with two steps of attack, and for a tenth of the epochs; in all else as it is."""
    mine = [c.setting for c in choices if c.pair in pairs and c.defence == "pgd-at" and c.setting is not None]
    ways = ({"attack_steps": 2}, {"epochs": HEADLINE["epochs"] // 10})
    return [grid_row(setting, **(HEADLINE | way)) for setting in mine for way in ways]


def by_candidate(settings: Sequence[Setting]) -> list[list[Setting]]:
    """The settings of each candidate of E3 and E4."""
    kinds = (*use_quantities.INSTEAD, *use_quantities.BESIDE)
    return [[s for s in settings if use_quantities.kind_of(vars(s.config)) == kind] for kind in kinds]


def better_use_rows(settings: Sequence[Setting]) -> list[dict]:
    """E3 and E4: each candidate as the rule takes it, and every λ of GNR that finished, between which GNR is read; CNN on CIFAR-10."""
    bar = full_search.first(pick(settings, CNN, "pgd-at"), None)
    if bar is None:
        return []
    each = by_candidate(pick(settings, CNN))
    taken = [one for some in each if (one := full_search.first(some, bar.clean)) is not None]
    gnr = [setting for setting in pick(settings, CNN, "gnr") if not setting.lost]
    return [grid_row(setting, **HEADLINE) | WORST_CASE for setting in (*taken, *gnr)]


def better_use_looks(settings: Sequence[Setting]) -> list[Setting]:
    """The first two settings of each candidate of E3 and E4 by what seed 0 gave, of those that have not got the second seed."""
    once = full_search.with_first_seed(pick(settings, CNN))
    adversarial, _ = full_search.ranked(pick(once, CNN, "pgd-at"), None)
    if not adversarial:
        return []
    bar = adversarial[0].clean
    wanted = [setting for some in by_candidate(once) for setting in full_search.ranked(some, bar)[0][: full_search.LOOKS]]
    return full_search.without_second_seed(wanted, settings)


def searched_uses() -> list[Setting]:
    """The settings of workflow/grids/better_use.csv that have been run, with the seeds of the search."""
    folder = paths.results_root() / BETTER_USE
    found = load_records(folder, "training") if folder.is_dir() else []
    return full_search.settings_of(record for record in found if record["config"]["seed"] in SEEDS)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--second", type=Path, metavar="OUT.csv", help="write the runs with the second seed")
    parser.add_argument("--headline", type=Path, metavar="OUT.csv", help="write the headline grid")
    parser.add_argument("--weak", type=Path, metavar="OUT.csv", help="write the weak adversarial training of E2")
    parser.add_argument("--better-use-second", type=Path, metavar="OUT.csv", help="write the second seeds of the search of E3 and E4")
    parser.add_argument("--better-use", type=Path, metavar="OUT.csv", help="write the runs of E3 and E4 beside the headline's")
    asked = parser.parse_args()
    planned = [row.config for row in grid.load(ROOT / "workflow" / "grids" / "full_search.csv", "paper").values()]
    try:
        settings = full_search.load()
    except files.ResultsError as error:
        parser.error(str(error))
    closed = [pair for pair in PAIRS if complete(settings, planned, pair)]
    looks = [setting for pair in PAIRS if pair not in BOTH_SEEDS for setting in second_looks(settings, pair)]
    for pair in PAIRS:
        open_looks = sum(setting.pair == pair for setting in looks)
        print(f"{PAIRS[pair]}: {'complete' if pair in closed else f'open, {open_looks} second looks as far as it is known'}")
    if asked.second:
        write_rows(asked.second, [grid_row(setting, seed=SEEDS[1]) for setting in looks], COLUMNS)
    choices = [choice for choice in full_search.choose(settings) if choice.pair in closed]
    if asked.headline:
        write_rows(asked.headline, headline_rows(choices), HEADLINE_COLUMNS)
    if asked.weak:
        write_rows(asked.weak, weak_rows(choices), (*COLUMNS, "attack_steps"))
    if asked.better_use_second:
        looked = better_use_looks([*settings, *searched_uses()])
        write_rows(asked.better_use_second, [grid_row(setting, seed=SEEDS[1]) for setting in looked], COLUMNS)
    if asked.better_use:
        if CNN not in closed:
            parser.error(f"the search of {PAIRS[CNN]} is not complete, so there is no bar to choose by")
        write_rows(asked.better_use, better_use_rows([*settings, *searched_uses()]), HEADLINE_COLUMNS)
    return 0


if __name__ == "__main__":
    sys.exit(main())
