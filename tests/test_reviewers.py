"""The page of the reviewers' questions: interpolation at equal clean accuracy, its rows, and the grid of the rivals."""

import math
from dataclasses import replace

import grid
import matplotlib.pyplot as plt
import pytest
import yaml

from deepdefense.attacks import paper
from deepdefense.storage import paths
from deepdefense.training.config import TrainConfig
from replication import full_search, networks, profiles, search, tables, timings
from replication.chapters import masking, masking_checks, other_architectures, reviewers, rivals
from replication.full_search import OneSeed, Setting
from replication.scope import CNN, MLP, VARIANTS

PAGE, SETTINGS = networks.of_page(), full_search.load()
PROBES = networks.probes(other_architectures.READS)


def setting(objective, clean, robust, lam=0.0, status="finished", **options):
    config = TrainConfig(data="cifar10", model="cnn", objective=objective, lam=lam, options=options)
    trials = {seed: OneSeed(f"{objective}{seed}", replace(config, seed=seed), status, clean, robust, 0.0) for seed in (0, 10)}
    return Setting(config, trials)


def test_gnr_is_read_between_its_lambdas_and_nowhere_else():
    made = [setting("standard", 0.8, 0.0), setting("gnr", 0.6, 0.2, lam=1.0), setting("gnr", 0.4, 0.25, lam=10.0)]
    made.append(setting("gnr", 0.1, 0.9, lam=100.0, status="collapsed"))
    points = rivals.curve(made, CNN, "gnr")
    assert points == [(0.4, 0.25), (0.6, 0.2)] and rivals.at_clean(points, 0.5) == pytest.approx(0.225)
    assert rivals.at_clean(points, 0.39) is None and rivals.at_clean(points, 0.61) is None and rivals.at_clean(points[:1], 0.4) is None
    gfa, beyond = setting("gfa-first", 0.5, 0.04, target=0.2), setting("gfa-first", 0.7, 0.04, target=0.1)
    assert rivals.lead([*made, gfa], gfa) == pytest.approx(0.185)
    assert rivals.lead([*made, beyond], beyond) is None, "plain training does not stand for GNR at λ 0"
    said = rivals.ahead_words([*made, gfa, beyond])
    assert "in 1 of 1 settings of CNN, CIFAR-10" in said and "1 more lie outside the range of GNR's clean accuracies" in said
    assert rivals.lead(made, setting("gfa-first", 0.7, math.nan, target=0.3, status="diverged")) is None


def test_a_collapsed_rival_is_named_and_not_numbered():
    made = [setting("standard", 0.8, 0.0), setting("gnr", 0.8, 0.05, lam=1.0), setting("gnr", 0.4, 0.25, lam=10.0)]
    table = rivals.rivals_table([setting("cure", 0.1, 0.1, lam=4.0, h=1.5, status="collapsed"), setting("mart", 0.6, 0.3)], made)
    assert list(table.loc[("CNN, CIFAR-10", "CURE", "λ 4, h 1.5"), ["ended", "clean (%)"]]) == ["collapsed", "–"]
    assert table.loc[("CNN, CIFAR-10", "MART", "as it is"), "GNR's at that clean (%)"] == "15.0"
    assert rivals.rivals_table([], []).empty
    assert rivals.missing([setting("mart", 0.6, 0.3)]).splitlines() == [f"{n}: not run yet" for n in ("GradAlign", "CURE", "TRADES")]


def test_a_check_that_passes_in_part_is_not_counted_as_one_that_passes():
    said = reviewers.masking_words(PAGE.networks)
    tallies = [masking_checks.tally(report) for net, report in masking.reports(PAGE.networks) if net.defence in VARIANTS]
    for words, kind in (("pass", "pass"), ("pass in part", "pass in part"), ("no power", "without power")):
        n = sum(tally[kind] for tally in tallies)
        assert (f" {n} {words}," in f"{said},".replace(":", ",")) == (n > 0), words


def test_the_fab_of_the_reports_is_its_authors():
    assert paper.BOUNDED["FAB"] is paper.fab and "FAB-T, the authors' own" in paper.fab.__doc__
    said = reviewers.fab_words(PAGE.networks)
    assert "under its authors' FAB-T" in said and "under torchattacks' FAB" not in said


def test_every_question_has_an_answer_and_a_page_that_is_there():
    found = reviewers.rows(PAGE.networks, search.load(), SETTINGS, timings.benchmarks("training")[0], PROBES)
    assert len(found) >= 14 and len({row.question for row in found}) == len(found)
    pages = {path.stem for path in (paths.root() / "book").glob("*.ipynb")}
    assert all(row.page in pages and len(row.answer) > 20 and "nan" not in row.answer.split() for row in found)
    titles = {
        chapter["file"]: chapter["title"]
        for part in yaml.safe_load((paths.root() / "book" / "_toc.yml").read_text())["parts"]
        for chapter in part["chapters"]
    }
    assert {row.page for row in found} - reviewers.TITLES.keys() == {"17_reviewers"}, "what stands on the page itself has no link"
    assert reviewers.TITLES.items() <= titles.items()
    more = [*found, reviewers.Row("a < b?", "x & y", "06_cost")]
    made = tables.html(reviewers.table(more), label="asked", links=reviewers.pages(more))
    assert made.count("<tr>") == len(found) + 2 and "a &lt; b?" in made
    assert '<a href="06_cost.html">Cost (C7)</a>' in made and "17_reviewers" not in made
    said = reviewers.answer_words(found)
    assert len(said) == 1 + len(reviewers.SHORT) and f"of {len(found)} questions" in said[0]


def test_without_records_nothing_is_made_up():
    found = reviewers.rows([], [], [], None, [])
    assert all("not run yet" in row.answer or row.question.startswith(("Is the loss", "Does theory")) for row in found)


def test_gnr_has_an_effect_that_the_records_show():
    """The sentence quoted, contradicted: GNR keeps several times plain's images on the CNN, and more than GFA at equal clean accuracy."""

    def mean(name):
        kept = [reviewers.worst(n) for n in networks.of(PAGE.networks, CNN, name)]
        return sum(kept) / len(kept)

    assert mean("gnr") > 3 * mean("standard") and mean("gnr") > 2 * mean("gfa-first")
    gaps = [gap for s in full_search.pick(SETTINGS, MLP, *full_search.VARIANTS) if (gap := rivals.lead(SETTINGS, s)) is not None]
    assert len(gaps) >= 5 and sum(gap > 0 for gap in gaps) > 0.8 * len(gaps) and max(gaps) > 0.05


def test_the_grid_of_the_rivals_is_full_size_and_has_the_seeds_of_the_page():
    rows = grid.load(paths.root() / "workflow" / "grids" / "rivals.csv", "paper")
    seeds = {}
    for row in rows.values():
        seeds.setdefault(row.config.objective, set()).add(row.config.seed)
        assert (
            row.config.epochs == profiles.PROFILES["paper"]["shared"]["epochs"] and row.config.train_size is None and row.config.width == 1
        )
        assert row.config.loss == "ce" and row.attacks
    assert seeds == {"gradalign": {1, 2, 3}, "cure": {1, 2, 3}, "trades": {1}, "mart": {1}}
    planned = rivals.planned()
    assert planned["seeds"].sum() == len(rows)
    hours = rivals.core_hours(planned, {"standard": 3, "gradalign": 12, "cure": 12, "trades": 27, "mart": 27}, 30)
    assert hours["gradalign"] == pytest.approx(3 * 30 * 17 * 4 / 3600) and hours["cure"] == pytest.approx(4 * 30 * 17 * 5 / 3600)


def test_the_figure_has_a_panel_a_pair():
    figure = rivals.tradeoff(SETTINGS, rivals.rival_settings())
    assert len(figure.axes) == len({s.pair for s in SETTINGS})
    plt.close(figure)
    table = rivals.leads_table(SETTINGS)
    gaps = [rivals.lead(SETTINGS, s) for s in full_search.pick(SETTINGS, MLP, *full_search.VARIANTS)]
    wanted = [f"{100 * gap:+.1f}".replace("-", "−") for gap in gaps if gap is not None]
    assert list(table.loc["MLP, Fashion-MNIST", "GNR minus GFA (points)"]) == wanted
    assert f"of {len(wanted)} settings of MLP" in rivals.ahead_words(SETTINGS) and rivals.leads_table([]).empty
    assert "can be compared" in rivals.ahead_words([])


def test_what_the_rivals_cost_is_said_beside_plain_training():
    table = rivals.cost_table({"mart": 2.0}, {"standard": 3, "mart": 27})
    assert list(table.loc["MART"]) == [27, 9, 2]
