"""The chapter on the search: the plan's rule of choice on records whose answer is known, its tables, sentences and figures."""

import math
import warnings

import pytest
from matplotlib import pyplot as plt
from search_records import BAR, record, whole_grid

from deepdefense.storage import files, paths
from replication import search
from replication.chapters import search_figures, search_tables

CNN = ("cifar10", "cnn")
REFERENCES = [record("standard", 0.6, 0.02), record("pgd-at", 0.40, 0.30), record("pgd-at", 0.45, 0.28, loss="ce")]


def chosen(*records, variant="gfa-first"):
    """The choice for the CNN on CIFAR-10 among these records and the references, whose bar is 0.40."""
    runs = search.runs_of([*REFERENCES, *records])
    return next(choice for choice in search.choose(runs) if (choice.pair, choice.variant) == (CNN, variant))


def first(lam, clean, robust, **more):
    return record("gfa-first", clean, robust, lam=lam, **more)


def test_adversarial_training_is_chosen_by_robust_accuracy_and_sets_the_bar():
    adversarial, gfa = chosen(variant="pgd-at"), chosen(first(1, 0.5, 0.1))
    assert (adversarial.run.robust, adversarial.bar, adversarial.eligible) == (0.30, None, 2)
    assert gfa.bar == 0.40 and "at least 40.0 %" in gfa.reason and "1 eligible run " in gfa.reason


def test_the_most_robust_run_over_the_bar_is_chosen():
    choice = chosen(first(1, 0.55, 0.10), first(2, 0.40, 0.15), first(3, 0.399, 0.90), first(4, 0.41, 0.12))
    assert choice.run.lam == 2 and [run.lam for run in choice.others] == [4, 1] and choice.eligible == 4


def test_without_a_run_over_the_bar_the_highest_mean_is_chosen_and_said():
    choice = chosen(first(1, 0.39, 0.10), first(2, 0.30, 0.25), first(3, 0.1, 0.3))
    assert choice.run.lam == 2 and [run.lam for run in choice.others] == [1, 3]
    assert "none of the 3 eligible reaches" in choice.reason and "highest mean" in choice.reason


def test_gfa_that_did_nothing_is_chosen_only_if_nothing_else_passes():
    idle, working = first(1, 0.55, 0.20, alignment=0.09), first(2, 0.45, 0.10, alignment=0.1)
    assert chosen(idle, working).run.lam == 2 and "alignment of at least 0.1" in chosen(idle, working).reason
    assert chosen(idle).run.lam == 1 and "alignment" not in chosen(idle).reason
    assert chosen(idle, first(3, 0.39, 0.3, alignment=0.9)).run.lam == 1, "the aligned one is below the bar"


@pytest.mark.parametrize("status", ["collapsed", "diverged"])
def test_a_run_that_fell_in_a_repeat_is_not_chosen_and_repeats_never_are(status):
    best, second = first(1, 0.5, 0.2, alignment=0.3), first(2, 0.5, 0.1, alignment=0.3)
    assert chosen(best, second, first(1, 0.5, 0.9, alignment=0.3, seed=10)).run.config == chosen(best, second).run.config
    assert chosen(best, second, first(1, 0.1, 0.1, alignment=0.9, seed=10, status=status)).run.lam == 2


def test_of_equals_base_settings_come_first():
    choice = chosen(record("pgd-at", 0.7, 0.30, loss="ce"), variant="pgd-at")
    assert choice.run.robust == 0.30 and not choice.run.varied


def test_equals_are_ordered_by_clean_accuracy_then_by_smaller_lam():
    choice = chosen(first(3, 0.5, 0.1), first(2, 0.5, 0.1), first(1, 0.45, 0.1))
    assert [run.lam for run in (choice.run, *choice.others)] == [2, 3, 1]


@pytest.mark.parametrize(
    "more",
    [
        {"width": 0.25},
        {"activation": "softplus"},
        {"scaling": "unit"},
        {"epochs": 3},
        {"form": "abs"},
        {"form": "negative"},
        {"status": "collapsed"},
        {"status": "diverged"},
    ],
    ids=str,
)
def test_what_may_not_be_chosen(more):
    best = first(1, 0.59, 0.55, **more)
    assert chosen(best, first(2, 0.5, 0.1)).run.lam == 2
    alone = chosen(best)
    assert alone.run is None and alone.eligible == 0 and "no eligible run" in alone.reason


@pytest.mark.parametrize(
    "more",
    [{"loss": "ce"}, {"optimizer": "sgd", "lr": 0.1}, {"batch_size": 32}, {"start": "plain"}, {"detach_features": True}, {"warmup": 0.0}],
    ids=str,
)
def test_what_may_be_chosen(more):
    assert chosen(first(1, 0.5, 0.2, **more), first(2, 0.5, 0.1)).run.lam == 1


def test_variants_and_pairs_are_chosen_apart_and_gnr_by_the_same_bar():
    other = [record("pgd-at", 0.8, 0.6, data="fashion_mnist", model="mlp"), first(1, 0.7, 0.9, data="fashion_mnist", model="mlp")]
    gnr = [record("gnr", 0.5, 0.1, lam=0.1), record("gnr", 0.39, 0.2, lam=1.0)]
    records = [first(1, 0.5, 0.1), record("gfa-deep", 0.5, 0.2, lam=0.2), *gnr, *other]
    assert chosen(*records).run.robust == 0.1 and chosen(*records, variant="gfa-deep").run.robust == 0.2
    assert chosen(*records, variant="gnr").run.lam == 0.1
    fashion = search.choose(search.runs_of(records))[-4:]
    assert [c.variant for c in fashion] == list(search.CHOSEN) and fashion[2].bar == 0.8 and "highest mean" in fashion[2].reason


def test_without_an_adversarially_trained_network_nothing_is_chosen():
    runs = search.runs_of([first(1, 0.5, 0.2), record("pgd-at", 0.1, 0.1, status="collapsed")])
    choices = {choice.variant: choice for choice in search.choose(runs)}
    assert choices["gfa-first"].run is None and "no adversarially trained network" in choices["gfa-first"].reason
    assert choices["pgd-at"].run is None and "no eligible run" in choices["pgd-at"].reason


def test_neither_the_test_set_nor_an_earlier_epoch_plays_a_part():
    run = search.runs_of([first(1, 0.5, 0.2)])[0]
    assert (run.clean, run.robust, run.alignment) == (0.5, 0.2, 0.0)  # the record has 0.9 in the first epoch, 0.99 on the test set


def test_base_settings_are_the_commonest_and_the_alignment_the_papers():
    runs = [first(lam, 0.5, 0.1, form="abs", lr=3e-3) for lam in (1, 2, 3)] + [first(4, 0.5, 0.1)]
    read = search.runs_of(runs)
    base = search.base_settings(run.config for run in read)
    assert (base["lr"], base["form"], base["reduction"], base["start"]) == (3e-3, "cos", "sum", "fresh")
    assert not {"lam", "warmup", "objective", "data", "model"} & set(base)
    assert [run.varied for run in read] == [(("form", "abs"),)] * 3 + [(("lr", 1e-3),)]


@pytest.mark.parametrize(
    "more, factor",
    [
        ({}, None),
        ({"loss": "ce"}, "loss"),
        ({"weights": [0, 1]}, "weights"),
        ({"optimizer": "sgd", "lr": 0.1}, "optimizer"),
        ({"lr": 0.1}, "optimizer"),
        ({"start": "plain"}, "start"),
        ({"loss": "ce", "width": 1.0}, None),
    ],
    ids=str,
)
def test_what_a_run_varies(more, factor):
    common = [first(lam, 0.5, 0.1) for lam in (2, 3)]
    run = next(run for run in search.runs_of([*REFERENCES, *common, first(1, 0.5, 0.1, **more)]) if run.lam == 1)
    assert run.factor == factor and dict(run.varied) == more


def test_records_are_read_from_both_folders_and_the_second_may_be_missing(tmp_path):
    with pytest.raises(files.ResultsError, match="no training record in search or refine"):
        search.load(tmp_path)
    for folder, one in (("search", REFERENCES[0]), ("search", REFERENCES[1]), ("other", REFERENCES[2])):
        files.write_json(tmp_path / folder / f"{one['name']}.json", one)
    assert len(search.load(tmp_path)) == 2
    (tmp_path / "refine").mkdir()
    assert len(search.load(tmp_path)) == 2
    files.write_json(tmp_path / "refine" / "one.json", first(1, 0.5, 0.1))
    files.write_json(tmp_path / "refine" / "again.json", REFERENCES[0])
    assert [run.variant for run in search.load(tmp_path)] == ["standard", "gfa-first", "pgd-at"]


def test_a_diverged_run_has_no_numbers():
    run = search.runs_of([first(1, 0.5, 0.1, status="diverged")])[0]
    assert math.isnan(run.clean) and math.isnan(run.robust) and math.isnan(run.alignment)


def test_accurate_and_aligned():
    records = [first(1, 0.56, 0.1, alignment=0.25), first(2, 0.54, 0.1, alignment=0.5), first(3, 0.59, 0.1, alignment=0.1)]
    records += [first(4, 0.57, 0.2, alignment=0.3, width=1.0), first(5, 0.1, 0.1, alignment=0.9, status="collapsed")]
    runs = search.runs_of([*REFERENCES, *records])
    assert [run.lam for run in search_tables.aligned(runs, CNN)] == [4, 1, 2]
    said = search_tables.aligned_words(runs)
    assert "of 5 GFA runs, 3 end above chance and aligned" in said and "2 of these are within 5 points" in said and "1 of them with" in said
    assert "After 9 of all their 10 epochs" in said and "after 7 of these also that accurate" in said  # five first epochs, at 0.9
    assert [state[0] for state, _ in search_tables.aligned_epochs(runs, CNN)][4:7] == [0.9, 0.57, 0.56]
    assert list(search_tables.aligned_table(runs)["may be chosen"]) == ["no", "yes", "yes"]


def test_the_front_holds_what_no_other_run_beats():
    runs = search.runs_of([first(1, 0.5, 0.1), first(2, 0.4, 0.2), first(3, 0.4, 0.15), first(4, 0.3, 0.2), first(5, 0.3, 0.3)])
    assert [run.lam for run in search_figures.front(runs)] == [1, 2, 5]


def test_effects_are_differences_to_the_run_of_the_same_lam_and_warmup():
    entropy = [first(1, 0.4, 0.1, loss="ce", warmup=0.5), first(1, 0.3, 0.1, loss="ce")]
    runs = search.runs_of([*REFERENCES, first(1, 0.5, 0.1, warmup=0.5), *entropy])
    found = [(name, run.clean, other.clean) for name, run, other in search_tables.effects(runs, CNN)]
    assert sorted(found) == [("loss: ce", 0.4, 0.5), ("loss: ce", 0.45, 0.40)]
    assert "3 runs depart from the base settings; 2 are in the figure" in search_tables.effects_words(runs, CNN)


def test_who_escapes_a_collapse_is_named():
    base = [first(1, 0.1, 0.1, status="collapsed"), first(2, 0.5, 0.1)]
    changed = [first(1, 0.4, 0.05, alignment=-0.3, form="negative"), first(2, 0.1, 0.1, status="collapsed", lr=0.1)]
    said = search_tables.effects_words(search.runs_of([*REFERENCES, *base, *changed]), CNN)
    assert "Of the 1 whose base run collapsed, 1 ended above chance; of the other 2, 1 collapsed." in said
    assert "form negative (GFA-FIRST, λ = 1, warm-up 1): 40.0 % clean, 5.0 % robust, alignment −0.30" in said


def test_the_counts_add_up_over_the_whole_grid():
    runs = search.runs_of(whole_grid())
    counts = search_tables.counts_table(runs)
    assert len(runs) == counts["runs"].sum() == 201
    assert (counts["runs"] == counts[["finished", "collapsed", "diverged"]].sum(axis=1)).all() and (counts["diverged"] > 0).any()
    assert {choice.bar for choice in search.choose(runs)} == {None, BAR}
    assert not [run for run in runs if run.varied and run.factor is None]  # the search changes one thing at a time
    for pair in search.pairs_of(runs):
        assert search.plain(runs, pair) and not search.plain(runs, pair).varied


@pytest.mark.parametrize("records", [REFERENCES, [first(1, 0.5, 0.1, status="diverged")], whole_grid()], ids=["few", "diverged", "all"])
def test_every_table_and_figure_is_drawn_without_a_warning(records):
    runs = search.runs_of(records)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for pair in search.pairs_of(runs):
            for figure in (search_figures.landscape(runs, pair), search_figures.effects_figure(runs, pair)):
                figure.canvas.draw()
        for figure in (search_figures.accuracy_map(runs), search_figures.trade_off(runs)):
            figure.canvas.draw()
        for name in ("counts_table", "made_table", "ranges_table", "ridge_table", "chosen_table", "aligned_table"):
            assert getattr(search_tables, name)(runs) is not None
        for name in ("aligned_words", "chosen_words", "excluded_words"):
            assert "nan" not in getattr(search_tables, name)(runs)
    plt.close("all")


def test_a_collapsed_run_is_crossed_and_a_diverged_one_marked():
    gfa = [first(1, 0.5, 0.1), first(2, 0.1, 0.1, status="collapsed"), first(3, 0.1, 0.1, status="diverged")]
    ax = search_figures.landscape(search.runs_of([*REFERENCES, *gfa]), CNN).axes[0]
    marks = {line.get_marker(): list(line.get_xdata()) for line in ax.lines if line.get_marker() in "x|"}
    assert marks == {"x": [2], "|": [3]}
    plt.close("all")


def test_the_command_prints_the_choices(tmp_path, monkeypatch, capsys):
    for one in [*REFERENCES, first(1, 0.5, 0.1), first(2, 0.5, 0.2, loss="ce")]:
        files.write_json(tmp_path / "search" / f"{one['name']}.json", one)
    monkeypatch.setattr(paths, "results_root", lambda: tmp_path)
    search.main()
    said = capsys.readouterr().out
    assert "CNN, CIFAR-10: 5 runs" in said and "-> λ 2, warm-up 1, loss = ce: clean 50.0 %, robust 20.0 %" in said
    assert "GFA-DEEP: no choice" in said


@pytest.mark.parametrize(("variant", "factor"), [("gfa-first", 1.33), ("gfa-deep", 2.0)])
def test_there_is_little_room_between_hardly_aligned_and_collapsed_on_the_reduced_cnn(variant, factor):
    """Chapter 8 in words: λ at which a network of the long warm-up is hardly aligned, and the first at which it has collapsed."""
    runs = [one for one in search.pick(search.load(), CNN, variant) if not one.varied]
    ridge = [one for one in runs if one.warmup == 1]
    hardly = max(one.lam for one in ridge if one.status == "finished" and one.alignment < 0.1)
    collapsed = min(one.lam for one in ridge if one.status == "collapsed")
    assert collapsed / hardly == pytest.approx(factor, abs=0.01)
    if variant == "gfa-deep":
        assert {one.status for one in runs if one.warmup < 1} == {"collapsed"}, "with DEEP every shorter warm-up has collapsed"
