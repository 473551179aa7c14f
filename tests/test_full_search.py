"""The rule of choice at full size: settings by the means over seeds, the bar, what took hold, and which get a second seed."""

import choose_settings
import grid
import pytest

from deepdefense.storage import files, paths
from replication import full_search, profiles
from replication.chapters import better_use
from replication.full_search import choose, second_looks, settings_of
from replication.networks import Network
from replication.scope import CNN, MLP, VARIANTS


def record(objective, clean, robust, alignment=0.0, *, seed=0, status="finished", **parameters):
    run = profiles.make("paper", objective, epochs=15, seed=seed, **parameters)
    values = {"val_accuracy": clean, "val_robust_accuracy": robust, "val_alignment": alignment}
    return {"name": run.name(), "kind": "training", "config": vars(run) | {}, "status": status, "history": [{"finite": True} | values]}


def both(objective, *numbers, **parameters):
    """Records with both seeds; each number one value, or one a seed."""
    one_each = [n if isinstance(n, tuple) else (n, n) for n in numbers]
    return [record(objective, *values, seed=seed, **parameters) for seed, values in zip((0, 10), zip(*one_each, strict=True), strict=True)]


BASE = [*both("standard", 0.73, 0.0), *both("pgd-at", (0.48, 0.50), 0.28, loss="ce"), *both("pgd-at", 0.44, 0.25, loss="mse")]


def chosen(records, defence="gfa-first"):
    return next(c for c in choose(settings_of(records)) if c.defence == defence)


def test_adversarial_training_is_chosen_by_robust_accuracy_and_sets_the_bar():
    choice = chosen(BASE, "pgd-at")
    assert choice.setting.words == "cross-entropy" and choice.bar is None
    assert chosen([*BASE, *both("gnr", 0.6, 0.1, lam=1)], "gnr").bar == pytest.approx(0.49)


def test_the_most_robust_of_those_that_pass_the_bar_whatever_their_alignment():
    records = [*BASE, *both("gfa-first", 0.66, 0.03, 0.3, target=0.1), *both("gfa-first", 0.54, 0.11, 0.02, target=0.2)]
    records += both("gfa-first", 0.40, 0.20, 0.4, target=0.4)
    choice = chosen(records)
    assert choice.setting.words == "target 0.2" and "of the 2 of 3 settings" in choice.reason and "49.00 %" in choice.reason
    assert choice.aligned.words == "target 0.4"  # the chosen one has not taken hold: beside it the most robust that has


def test_a_mean_passes_the_bar_though_a_seed_does_not():
    records = [*BASE, *both("gfa-first", (0.47, 0.52), 0.1, 0.3, target=0.3)]
    assert chosen(records).setting.words == "target 0.3" and chosen(records).aligned is None


def test_if_none_passes_the_best_mean_of_both_accuracies():
    records = [*BASE, *both("gfa-first", 0.45, 0.10, 0.2, target=0.3), *both("gfa-first", 0.30, 0.20, 0.4, target=0.6)]
    choice = chosen(records)
    assert choice.setting.words == "target 0.3" and "none of 2 settings" in choice.reason


@pytest.mark.parametrize("status", ["collapsed", "diverged"])
def test_a_setting_lost_with_either_seed_is_out(status):
    lost = [record("gfa-first", 0.6, 0.2, target=0.3), record("gfa-first", 0.1, 0.1, 0.9, target=0.3, seed=10, status=status)]
    assert chosen([*BASE, *lost]).setting is None
    assert chosen([*BASE, *lost, *both("gfa-first", 0.5, 0.1, target=0.2)]).setting.words == "target 0.2"


def test_one_seed_is_no_candidate_and_without_adversarial_training_there_is_no_bar():
    assert chosen([*BASE, record("gfa-first", 0.6, 0.2, target=0.3)]).setting is None
    assert "sets the bar" in chosen(both("gfa-first", 0.6, 0.2, target=0.3)).reason


def test_which_get_their_second_seed():
    records = [record("standard", 0.73, 0.0), record("pgd-at", 0.48, 0.28, loss="ce"), record("pgd-at", 0.45, 0.25, loss="mse")]
    records += [record("pgd-at", 0.49, 0.27, loss="ce", ema=0.999)]
    targets = {0.1: (0.66, 0.03, 0.0), 0.2: (0.54, 0.11, 0.02), 0.3: (0.50, 0.12, 0.05), 0.4: (0.32, 0.136, 0.25), 0.6: (0.2, 0.13, 0.5)}
    records += [record("gfa-first", *numbers, target=target) for target, numbers in targets.items()]
    records += [record("gfa-first", 0.55, 0.12, 0.3, target=0.5, status="collapsed")]
    looked = {s.words for s in second_looks(settings_of(records), CNN)}
    assert looked == {
        "as it is",
        "cross-entropy",
        "cross-entropy, averaged weights (0.999)",
        "target 0.2",
        "target 0.3",
        "target 0.4",
        "target 0.6",
    }
    done = [*records, *(r | {"config": r["config"] | {"seed": 10}} for r in records if r["status"] == "finished")]
    assert second_looks(settings_of(done), CNN) == []


def test_an_open_second_look_or_a_missing_setting_leaves_the_search_open():
    planned = [profiles.make("paper", "standard", epochs=15), profiles.make("paper", "pgd-at", epochs=15, loss="ce")]
    records = [*both("standard", 0.73, 0.0), *both("pgd-at", 0.48, 0.28, loss="ce")]
    assert full_search.complete(settings_of(records), planned, CNN)
    assert not full_search.complete(settings_of(records[:-1]), planned, CNN)
    assert not full_search.complete(settings_of(records[:2]), planned, CNN)


def test_the_headline_grid_is_what_was_chosen(tmp_path):
    records = [*BASE, *both("gnr", 0.55, 0.1, lam=3.0), *both("gfa-first", 0.54, 0.11, 0.02, target=0.2)]
    records += [*both("gfa-first", 0.4, 0.12, 0.3, target=0.4), *both("trades", 0.5, 0.3, loss="ce", beta=6)]
    records += both("gfa-deep", 0.5, 0.1, 0.2, lam=0.4, warmup=1)
    path = choose_settings.write_rows(
        tmp_path / "paper.csv", choose_settings.headline_rows(choose(settings_of(records))), choose_settings.HEADLINE_COLUMNS
    )
    rows = grid.load(path, "paper")
    runs = {(row.config.objective, row.config.options.get("target"), row.config.seed): row for row in rows.values()}
    targets = {
        ("standard", None),
        ("pgd-at", None),
        ("trades", None),
        ("gnr", None),
        ("gfa-first", 0.2),
        ("gfa-first", 0.4),
        ("gfa-deep", None),
    }
    assert {key[:2] for key in runs} == targets and {key[2] for key in runs} == {1, 2, 3} and len(runs) == 21
    assert all(row.config.epochs == 30 and row.measure == 2000 for row in rows.values())
    deep = runs["gfa-deep", None, 1]
    assert (deep.config.lam, deep.config.warmup) == (0.4, 1)
    assert [a.mode for a in deep.attacks] == ["worst_case", "worst_case", "full", "full"]
    assert [(a.norm, a.images) for a in deep.attacks] == [("linf", 2000), ("linf", 500), ("linf", 500), ("l2", 1000)]
    assert [a.eps for a in deep.attacks] == [8 / 255, 16 / 255, 8 / 255, 0.5] and len({a.folder(10_000) for a in deep.attacks}) == 4
    later = runs["gfa-deep", None, 2].attacks
    assert [(a.norm, a.mode) for a in later[1:]] == [("linf", "worst_case"), ("l2", "full")], "C3 and C4 read distances of every seed"
    assert [a.norm for a in runs["trades", None, 2].attacks] == ["linf", "linf"], "no claim reads distances of TRADES"
    assert all(len(runs[defence, None, 1].attacks) == 4 for defence in ("standard", "trades", "pgd-at"))


def test_every_committed_run_is_one_of_the_grid():
    planned = {name for name in grid.load(paths.root() / "workflow" / "grids" / "full_search.csv", "paper")}
    there = {trial.name for setting in full_search.load() for trial in setting.trials.values()}
    assert there <= planned


def test_no_records_is_said(tmp_path):
    with pytest.raises(files.ResultsError, match="there are no records of the search at full size"):
        full_search.load(tmp_path)


def written(tmp_path, rows, columns):
    """The configurations of the rows as train_grid.py reads them."""
    return [row.config for row in grid.load(choose_settings.write_rows(tmp_path / "out.csv", rows, columns), "paper").values()]


def test_weak_adversarial_training_is_what_was_chosen_but_for_steps_or_epochs(tmp_path):
    records = [*both("pgd-at", 0.48, 0.28, loss="mse", ema=0.999), *both("pgd-at", 0.49, 0.27, loss="ce")]
    runs = written(tmp_path, choose_settings.weak_rows(choose(settings_of(records))), (*choose_settings.COLUMNS, "attack_steps"))
    assert len(runs) == 6 and {run.seed for run in runs} == {1, 2, 3}
    assert {(run.options["loss"], run.ema, run.options.get("attack_steps", 7), run.epochs) for run in runs} == {
        ("mse", 0.999, 2, 30), ("mse", 0.999, 7, 3),
    }  # fmt: skip


def test_candidates_are_chosen_by_the_rule_and_gnr_keeps_all_its_weights(tmp_path):
    records = [*BASE, *both("gnr", 0.58, 0.2, lam=1), *both("gnr", 0.4, 0.25, lam=10), record("gnr", 0.1, 0.1, lam=100, status="collapsed")]
    records += [*both("tangential-gnr", 0.55, 0.2, lam=4), *both("tangential-gnr", 0.40, 0.3, lam=40)]
    records += [*both("gfa-first", 0.52, 0.1, target=0.2, form="negative"), *both("gfa-first", 0.6, 0.3, target=0.3)]
    records += both("pgd-at-gfa-first", 0.45, 0.3, target=0.1, loss="ce")
    rows = choose_settings.better_use_rows(settings_of(records))
    assert all(row["attack_mode"] == "worst_case" for row in rows)
    runs = written(tmp_path, rows, choose_settings.HEADLINE_COLUMNS)
    assert {(run.objective, run.lam, run.options.get("target"), run.options.get("form"), run.options.get("loss")) for run in runs} == {
        ("tangential-gnr", 4.0, None, None, None), ("gfa-first", 0.0, 0.2, "negative", None),
        ("pgd-at-gfa-first", 0.0, 0.1, None, "ce"), ("gnr", 1.0, None, None, None), ("gnr", 10.0, None, None, None),
    }  # fmt: skip
    assert {(run.seed, run.epochs) for run in runs} == {(seed, 30) for seed in (1, 2, 3)}


def test_the_first_two_of_each_candidate_by_seed_0_get_the_second_seed():
    ranks = [
        ("tangential-gnr", lam, clean, robust) for lam, clean, robust in ((4, 0.55, 0.2), (12, 0.5, 0.25), (40, 0.49, 0.1), (120, 0.3, 0.4))
    ]
    records = [*BASE, *(record(name, clean, robust, lam=lam) for name, lam, clean, robust in ranks)]
    records += both("gfa-first", 0.52, 0.1, target=0.2, form="negative")
    assert [setting.config.lam for setting in choose_settings.better_use_looks(settings_of(records))] == [12, 4]
    assert choose_settings.better_use_looks(settings_of(records[len(BASE) :])) == [], "no bar, no looks"
    rows = grid.load(paths.root() / "workflow" / "grids" / "better_use.csv", "paper").values()
    assert {row.config.seed for row in rows} == {0} and len(rows) == better_use.WANTED * better_use.SETTINGS
    chosen = next(one for one in choose(full_search.load()) if (one.pair, one.defence) == (CNN, "pgd-at")).setting
    rivals = {row.config.options["loss"] for row in rows if row.config.objective.startswith("pgd-at")}
    assert rivals == {chosen.config.options.get("loss", "mse")}, "beside the adversarial training that the search chose"


def test_the_table_of_other_uses_takes_what_the_rule_takes(tmp_path):
    records = [*BASE, *both("tangential-gnr", 0.55, 0.2, lam=4), *both("tangential-gnr", 0.40, 0.3, lam=40)]
    records += [record("tangential-gnr", 0.6, 0.4, lam=1), *both("gfa-first", 0.52, 0.1, target=0.2, form="negative")]
    shown = better_use.search_table([Network(one, tmp_path) for one in records])
    taken = shown[shown.taken == "yes"]
    assert set(taken.index) == {
        ("plain", "as it is"), ("PGD-7 training", "loss ce"), ("tangential GNR", "λ 4"), ("GFA-FIRST, form −a", "target 0.2"),
    }  # fmt: skip
    assert shown.loc[("tangential GNR", "λ 1"), "clean (%)"] == "–"


def test_beyond_the_ridge_each_pair_and_variant_has_three_seeds_to_collapse_and_three_to_half_collapse():
    rows = grid.load(paths.root() / "workflow" / "grids" / "beyond_the_ridge.csv", "paper").values()
    for pair in (CNN, MLP):
        for variant in VARIANTS:
            mine = [row.config for row in rows if (row.config.data, row.config.model, row.config.objective) == (*pair, variant)]
            for steered in (False, True):
                assert {run.seed for run in mine if (run.options.get("target") is not None) == steered} == {1, 2, 3}, (pair, variant)
