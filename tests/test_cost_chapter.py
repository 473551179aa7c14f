"""What the chapter on cost says in words, as inequalities over the committed records."""

import pytest
import torch

from deepdefense import cost, models
from replication.timings import benchmarks

FLOORS = {name: cost.floors(models.build(name, (3, 32, 32), 10, seed=0), torch.zeros(2, 3, 32, 32)) for name in ("cnn", "mlp", "resnet18")}


def gradients(kept=True):
    """{(model, contestant): median ratio of the gradients} with freed memory kept, or given back."""
    records = [r for r in benchmarks("step") if r["environment"]["memory_kept"] is kept and r["environment"]["threads"] == 1]
    rows = [row for record in records for row in record["rows"] if row["what"] == "gradients"]
    return {(row["model"], row["contestant"]): row["ratio"]["median"] for row in rows}


@pytest.mark.parametrize("name", list(FLOORS))
def test_with_both_measures_a_step_is_near_its_floor(name):
    ratio, floor = gradients(), FLOORS[name]["GFA-DEEP"] / FLOORS[name]["plain"]
    for layers in ("FIRST", "DEEP"):
        ours, naive = ratio[name, f"{layers}, ours"], ratio[name, f"{layers}, naive"]
        assert 2 < ours < 3 and floor < ours < floor + 0.35 and ours < naive
    assert 0 < ratio[name, "DEEP, ours"] - ratio[name, "FIRST, ours"] < 0.25


def test_the_floor_of_the_mlp_is_above_the_others():
    least = {name: floor["GFA-FIRST"] / floor["plain"] for name, floor in FLOORS.items()}
    assert least["mlp"] > 2.3 and 2 <= least["resnet18"] <= least["cnn"] < 2.05


def test_what_the_naive_way_costs_the_cnn():
    kept, given_back = gradients(), gradients(kept=False)
    assert 1.25 < kept["cnn", "DEEP, naive"] / kept["cnn", "DEEP, ours"] < 1.45
    assert 1.4 < given_back["cnn", "DEEP, naive"] / given_back["cnn", "DEEP, ours"] < 1.65


def test_what_was_tried_and_did_not_help():
    (record,) = benchmarks("tried")
    ratio = {row["question"]: row["ratio"] for row in record["rows"]}
    for question in ("weight gradients of both passes", "inner products of the alignment"):
        assert ratio[question]["q25"] > 1
    assert ratio["the same, padded to 8 channels"]["q75"] > 1
    plain, deep = ratio["memory format, plain step"], ratio["memory format, DEEP step"]
    assert 0.9 < plain["median"] < 1 and 0.9 < deep["median"] < 1 and abs(plain["median"] - deep["median"]) < 0.03


def test_how_it_grows():
    (record,) = benchmarks("growth")
    ratio = {(row["axis"], row["value"], row["contestant"]): row["ratio"] for row in record["rows"]}
    for who in ("FIRST", "DEEP"):
        assert ratio["batch", 16, who]["median"] > ratio["batch", 256, who]["median"]
        assert ratio["width", 0.25, who]["median"] > ratio["width", 2.0, who]["median"] + 0.5
        depths = [ratio["depth", depth, who] for depth in (1, 16)]
        assert abs(depths[0]["median"] - depths[1]["median"]) < 0.3
    assert 0 < ratio["taps", 17, "taps"]["median"] - ratio["taps", 1, "taps"]["median"] < 0.5


def test_beside_the_other_defences():
    (record,) = benchmarks("training")
    rows = {row["contestant"]: row for row in record["rows"]}
    ratio = {name: row["ratio"]["median"] for name, row in rows.items()}
    for name in ("GFA-FIRST", "GFA-DEEP"):
        assert ratio[name] < 0.5 * ratio["PGD-7"] and abs(ratio[name] - ratio["GNR"]) < 0.3
        assert rows[name]["peak_mib"]["min"] > rows["plain"]["peak_mib"]["max"]
    assert ratio["data"] < 0.15


def test_bf16_and_the_alignment():
    (record,) = benchmarks("precision")
    assert record["environment"]["device"].startswith("cpu")
    changes = [row["change"] for row in record["rows"] if "change" in row]
    assert max(change["median"] for change in changes) < 0.01 and max(change["max"] for change in changes) < 0.1
    gradient = [row for row in record["rows"] if "cosine" in row]
    assert all(row["cosine"] > 0.99 and row["relative_error"] < 0.1 for row in gradient)
