"""Figures and tables of the geometry, and the quantities of C5 and C8, from records of known numbers; several seeds or one."""

import copy
import json
import math
import re
from html import unescape

import matplotlib
import numpy as np
import pytest
import seaborn as sns
from matplotlib import pyplot as plt
from matplotlib.colors import LogNorm
from matplotlib.contour import ContourSet
from measured import record

from replication import figures
from replication.chapters import geometry_figures, geometry_tables, geometry_words
from replication.chapters.style import PALETTE
from replication.claims import measured
from replication.maps import Maps
from replication.scope import DEFENCE_NAMES
from replication.tables import Spread

matplotlib.use("Agg")
OBJECTIVES = ("standard", "gnr", "pgd-at", "gfa-first", "gfa-deep")
ROWS = (*OBJECTIVES, "gfa-first-aligned")
FIGURES = {
    name: getattr(geometry_figures, name)
    for name in (
        "alignment_by_layer", "rise_bars", "loss_profiles", "landscapes", "attack_parts", "jacobian_directions",
    )
}  # fmt: skip
TABLES = {
    name: getattr(geometry_tables, name)
    for name in dir(geometry_tables)
    if name.endswith("_table") and name not in ("all_pairs_table", "directions_table")
}


@pytest.fixture(scope="module")
def records():
    """Five defences, two seeds each, and an aligned setting of one; the weights are those of the seed, whatever the objective."""
    base = {seed: record("standard", seed) for seed in (1, 2)}
    found = []
    for seed, one in base.items():
        for objective in OBJECTIVES:
            found.append(copy.deepcopy(one))
            found[-1]["training"]["config"] |= {"objective": objective}
            found[-1]["name"] = f"{objective}-{seed}"
    for one in [one for one in found if measured.row(one) == "gfa-first"]:
        found.append(copy.deepcopy(one) | {"row": "gfa-first-aligned", "name": f"{one['name']}-aligned"})
    return found


@pytest.fixture(autouse=True)
def close():
    yield
    plt.close("all")


def changed(records, objective, change):
    """Copies of the records, those of `objective` passed through `change(geometry, seed)`."""
    copies = copy.deepcopy(records)
    for one in copies:
        if measured.row(one) == objective:
            change(one["geometry"], one["training"]["config"]["seed"])
    return copies


def with_tangential_rise(records, objective, factor):
    """The tangential rise of squared error of `objective` is `factor[seed]` times that of the others."""

    def change(geometry, seed):
        geometry["rise"]["mse"]["tangential"]["mean"] *= factor[seed]

    return changed(records, objective, change)


def _title(ax):
    """The title of a panel, on one line."""
    return ax.get_title().replace("\n", " ")


@pytest.mark.parametrize("name", FIGURES)
@pytest.mark.parametrize("kept", ["all", "one seed", "one network"])
def test_every_figure_is_drawn_of_many_networks_and_of_one(records, name, kept):
    some = {"all": records, "one seed": records[:5], "one network": records[3:4]}[kept]
    fig = FIGURES[name](some)
    fig.canvas.draw()
    drawn = [text.get_text() for legend in fig.legends for text in legend.get_texts()] + [_title(ax) for ax in fig.axes]
    for objective in {measured.row(one) for one in some}:
        assert DEFENCE_NAMES[objective] in drawn


@pytest.mark.parametrize("name", FIGURES)
def test_without_records_a_figure_says_so(name):
    with pytest.raises(ValueError, match="there are no measures to draw"):
        FIGURES[name]([])


def test_bars_have_the_heights_and_whiskers_of_the_records(records):
    altered = with_tangential_rise(records, "gfa-first", {1: 0.5, 2: 0.25})
    fig = geometry_figures.rise_bars(altered)
    absolute, relative = fig.axes[0], fig.axes[3]
    index = [name for name in DEFENCE_NAMES if name in OBJECTIVES].index("gfa-first")
    values = [one["geometry"]["rise"]["mse"]["tangential"]["mean"] for one in altered if measured.row(one) == "gfa-first"]
    bars = [container for container in absolute.containers if hasattr(container, "patches")][index]
    assert bars.patches[1].get_height() == pytest.approx(np.mean(values))
    assert matplotlib.colors.same_color(bars.patches[1].get_facecolor(), PALETTE["gfa-first"])
    bars = [container for container in relative.containers if hasattr(container, "patches")][index]
    assert bars.patches[1].get_height() == pytest.approx(0.375) and bars.patches[0].get_height() == pytest.approx(1)
    low, high = (point[1] for point in bars.errorbar[2][0].get_segments()[1])
    assert high - low == pytest.approx(2 * np.std([0.5, 0.25], ddof=1))


def test_scales_are_logarithmic_only_where_numbers_are_far_apart(records):
    assert geometry_figures.rise_bars(records[:5]).axes[3].get_yscale() == "linear"

    def steep(geometry, seed):
        geometry["rise"]["mse"]["radial"]["mean"] *= 1000
        geometry["landscape"]["mse"] = (1000 * np.array(geometry["landscape"]["mse"])).tolist()

    altered = changed(records, "pgd-at", steep)
    assert geometry_figures.rise_bars(altered).axes[3].get_yscale() == "log"
    norms = {id(mesh.norm): mesh.norm for ax in geometry_figures.landscapes(altered).axes[:5] for mesh in ax.collections[:1]}
    (norm,) = norms.values()  # one scale for all networks
    grids = [np.mean([one["geometry"]["landscape"]["mse"] for one in members], 0) for members in geometry_figures.groups(altered).values()]
    assert isinstance(norm, LogNorm) and norm.vmin == np.min(grids) and norm.vmax == np.max(grids)


def test_the_contour_is_where_accuracy_falls_to_chance_and_rows_are_radial(records):
    """Accuracy that falls with the radius alone, from 1 to 0: chance (0.1) is reached near the upper end of the vertical axis."""

    def ramp(geometry, seed):
        axis = np.array(geometry["landscape"]["axis"])
        geometry["landscape"]["accuracy"] = np.repeat(np.linspace(1, 0, len(axis))[:, None], len(axis), 1).tolist()

    one = changed(records[:1], "standard", ramp)
    for ax in geometry_figures.landscapes(one).axes[:2]:
        (contour,) = [part for part in ax.collections if isinstance(part, ContourSet)]
        (path,) = contour.get_paths()
        assert np.allclose(path.vertices[:, 1], 2 - 0.1 * 4) and np.ptp(path.vertices[:, 0]) == 4
    flat = changed(records[:1], "standard", lambda geometry, seed: geometry["landscape"].update(accuracy=np.ones((17, 17)).tolist()))
    assert not [part for ax in geometry_figures.landscapes(flat).axes for part in ax.collections if isinstance(part, ContourSet)]


def test_all_profiles_share_one_scale(records):
    def steep(geometry, seed):
        along = geometry["profiles"]["along"]["radial"]["mse"]
        along["mean"] = [1000 * value for value in along["mean"]]

    axes = geometry_figures.loss_profiles(changed(records, "gnr", steep)).axes[:5]
    assert len({ax.get_ylim() for ax in axes}) == 1 and {ax.get_yscale() for ax in axes} == {"symlog"}


def test_whiskers_are_said_in_words(records):
    assert geometry_figures.whiskers(records) == "whiskers: ± 1 sd over 2 seeds; n = 5 images"
    assert geometry_figures.whiskers(records[:5]) == "whiskers: 95 % for the mean over n = 5 images"
    assert geometry_figures.whiskers(records[:5], dispersion=True) == "whiskers: ± 1 sd over n = 5 images"
    summary = records[0]["geometry"]["loss"]["mse"]
    assert geometry_figures.centre(records[:1], "loss", "mse") == (summary["mean"], 1.96 * summary["sd"] / 5**0.5)
    assert geometry_figures.centre(records[:1], "loss", "mse", dispersion=True) == (summary["mean"], summary["sd"])


def test_the_ratio_of_c5_is_taken_seed_by_seed(records):
    altered = with_tangential_rise(records, "gfa-first", {1: 0.5, 2: 0.25})
    assert measured.rise_ratios(altered, "gfa-first") == {1: pytest.approx(0.5), 2: pytest.approx(0.25)}
    assert measured.rise_ratios(altered, "gfa-first", within="radial") == {1: 1.0, 2: 1.0}
    assert measured.rise_ratios(altered, "gfa-deep", loss="margin") == {1: 1.0, 2: 1.0}
    assert measured.rise_ratios(altered[1:], "gfa-first") == {2: pytest.approx(0.25)}  # seed 1 has no plain network
    row = geometry_tables.ratio_table(altered).loc["GFA-FIRST", "squared error"]
    assert row["tangential"].words(2) == "0.38 ± 0.18" and row["tangential, by seed"] == "0.50, 0.25" and row["seeds"] == 2


def test_a_plain_network_without_any_rise_gives_no_ratio(records):
    altered = with_tangential_rise(records, "standard", {1: 0, 2: 0})
    assert all(math.isnan(ratio) for ratio in measured.rise_ratios(altered, "gfa-first").values())
    assert geometry_tables.ratio_table(altered).loc["GFA-FIRST", "squared error"]["tangential"].words(2) == "–"
    geometry_figures.rise_bars(altered).canvas.draw()


def test_the_change_of_c8_in_its_four_readings(records):
    def turn(geometry, seed):
        for number, layer in enumerate(geometry["alignment"]["layers"].values()):
            layer["mean"] -= 0.1 * seed * (number == 0)
            layer["mean_abs"] += 0.05 * (number == 0)

    altered = changed(records, "pgd-at", turn)
    layers = len(altered[0]["geometry"]["alignment"]["layers"])
    signed, magnitude, over_layers, magnitude_over_layers = (measured.alignment_changes(altered, kind=kind) for kind in measured.ALIGNMENTS)
    assert signed == {1: pytest.approx(-0.1), 2: pytest.approx(-0.2)}
    assert magnitude == {1: pytest.approx(0.05), 2: pytest.approx(0.05)}
    assert over_layers == {1: pytest.approx(-0.1 / layers), 2: pytest.approx(-0.2 / layers)}
    assert magnitude_over_layers[1] == pytest.approx(0.05 / layers)
    table = geometry_tables.change_table(altered)
    assert table.loc["PGD-7 training", "signed, at the input"]["by seed"] == "−0.100, −0.200"
    with pytest.raises(ValueError, match="kind must be one of signed, at the input;"):
        measured.alignment_changes(altered, kind="absolute")


def test_the_share_of_the_margin_does_not_depend_on_the_scale_of_the_logits(records):
    one = copy.deepcopy(records[0])
    one["geometry"]["loss"]["margin"]["mean"] = -0.5
    one["geometry"]["rise"]["margin"]["tangential"]["mean"] = 0.2
    assert measured.rise_over_margin(one) == pytest.approx(0.4)
    one["geometry"]["loss"]["margin"]["mean"] = 0.1
    assert math.isnan(measured.rise_over_margin(one))


def test_two_networks_of_one_objective_and_seed_are_refused(records):
    with pytest.raises(ValueError, match="standard-1 and standard-1"):
        measured.rise_ratios([*records, records[0]], "gnr")


@pytest.mark.parametrize("name", TABLES)
@pytest.mark.parametrize("kept", ["all", "one network"])
def test_every_table_has_a_row_for_each_defence(records, name, kept):
    some = records if kept == "all" else records[3:4]
    table = TABLES[name](some)
    wanted = {DEFENCE_NAMES[measured.row(one)] for one in some}
    wanted -= {"plain"} if name in ("ratio_table", "change_table") else set()
    assert set(table.index.get_level_values(0)) == wanted and "seeds" in table


def test_defences_keep_their_colours_as_others_join_and_none_looks_like_another():
    first = ["standard", "gfa-first", "gfa-deep", "pgd-at", "gnr", "trades"]
    assert [PALETTE[name] for name in first] == list(sns.color_palette("colorblind"))[:6]
    for look in (PALETTE, geometry_figures.MARKERS, geometry_figures.HATCHES):
        assert list(look) == list(DEFENCE_NAMES) and len(set(look.values())) == len(look)


def test_all_pairs_at_a_glance_are_the_numbers_of_the_pages_tables(records):
    altered = with_tangential_rise(records, "gfa-first", {1: 0.25, 2: 0.75})
    table = geometry_tables.all_pairs_table({"one pair": altered, "not measured": []})
    row = table.loc[("one pair", "GFA-FIRST")]
    ratios = geometry_tables.ratio_table(altered).loc["GFA-FIRST"]
    assert row["tangential rise over plain's, squared error"] == ratios.loc["squared error", "tangential"]
    assert row["tangential rise over plain's, squared error"] == Spread(0.5, pytest.approx(0.25 * 2**0.5), 2)
    assert row["tangential rise over plain's, margin"] == ratios.loc["margin", "tangential"] and row["seeds"] == 2
    changes = geometry_tables.change_table(altered).loc[("GFA-FIRST", "signed, at the input"), "minus plain"]
    assert row["alignment minus plain's"] == changes and len(table) == len(ROWS) - 1


def test_a_map_that_is_walked_over_has_the_values_and_the_panels_of_its_picture(records, monkeypatch):
    walked, shown = geometry_figures.landscape_maps(records, "ce"), []
    monkeypatch.setattr(figures, "display", shown.append)
    figures.show(geometry_figures.landscapes(records, "ce"), alt="x", caption="x", maps=walked)
    data = json.loads(unescape(re.search('data-maps="([^"]*)"', shown[0].html)[1]))
    drawn = geometry_figures.landscapes(records, "ce").axes[: 2 * len(ROWS)]
    meshes = [ax.collections[0].get_array() for ax in drawn]
    held = [grid for _, panels in data["rows"] for grid in panels.values()]
    assert len(held) == len(meshes) == shown[0].html.count('class="map"')
    assert all(np.allclose(grid, mesh.reshape(np.shape(grid)), rtol=5e-3) for grid, mesh in zip(held, meshes, strict=True))
    assert [list(panels) for _, panels in data["rows"]] == [[DEFENCE_NAMES[name] for name in geometry_figures.groups(records)]] * 2
    with pytest.raises(ValueError, match="the map 'a' of 'loss' must be 2 × 2, as its axis is long; got \\(2, 3\\)"):
        Maps("up", "across", [0, 1], {"loss": {"a": np.zeros((2, 3))}})


@pytest.fixture
def with_other_loss(records):
    """Adversarial training was on cross-entropy, with logits so far from 0 and 1 that its squared error is five hundred times plain's."""

    def change(geometry, seed):
        for within in ("all", "tangential", "radial"):
            geometry["rise"]["mse"][within]["mean"] *= 500
        geometry["landscape"]["mse"] = (500 * np.array(geometry["landscape"]["mse"])).tolist()

    found = changed(records, "pgd-at", change)
    for one in found:
        if measured.row(one) == "pgd-at":
            one["training"]["config"]["options"] = {"loss": "ce"}
    return found


def test_squared_error_stands_beside_that_of_networks_trained_on_it_alone(with_other_loss):
    squared = [geometry_figures.loss_profiles(with_other_loss), geometry_figures.landscapes(with_other_loss)]
    other = [geometry_figures.loss_profiles(with_other_loss, "ce"), geometry_figures.landscapes(with_other_loss, "margin")]
    titles = [{_title(ax) for ax in fig.axes} for fig in squared + other]
    assert ["PGD-7 training" in found for found in titles] == [False, False, True, True]
    assert "PGD-7 training" not in geometry_figures.landscape_maps(with_other_loss).rows["squared error"]
    bars = {ax.get_title(): len(ax.containers) for ax in geometry_figures.rise_bars(with_other_loss).axes[:3]}
    count = len(ROWS) * 2  # bars and their whiskers
    assert bars == {"squared error": count - 2, "cross-entropy": count, "margin": count}
    ratios = geometry_tables.ratio_table(with_other_loss)
    assert list(ratios.loc["PGD-7 training"].index) == ["cross-entropy", "margin"] and len(ratios) == (len(ROWS) - 1) * 3 - 1
    glance = geometry_tables.all_pairs_table({"one": with_other_loss}).loc[("one", "PGD-7 training")]
    assert math.isnan(glance["tangential rise over plain's, squared error"].mean) and glance["tangential rise over plain's, margin"].n == 2
    assert geometry_tables.network_table(with_other_loss).loc["PGD-7 training", "mean squared error"].n == 0


def test_a_caption_names_who_is_left_out_and_why(with_other_loss):
    for make, options in ((geometry_figures.rise_bars, {}), (geometry_figures.landscapes, {"loss": "mse"})):
        caption, alt = geometry_words.words(make, with_other_loss, "CNN", **options)
        assert "Without PGD-7 training for the squared error, on which it was not trained: its logits, and so its margin, have" in caption
        assert "PGD-7 training" not in alt.split("margin")[0]
    caption, _ = geometry_words.words(geometry_figures.landscapes, with_other_loss, "CNN", loss="ce")
    assert "Without" not in caption
    alone = [one for one in with_other_loss if measured.row(one) == "pgd-at"]  # nothing to be compared with
    assert len(geometry_tables.curvature_table(alone)) == 1 and "Without" not in geometry_words.left_out(alone, "mse")
