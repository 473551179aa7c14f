"""Each benchmark of training runs from end to end, and its record can be shown; the ratios are taken turn by turn."""

import importlib
import sys
from dataclasses import replace
from pathlib import Path

import matplotlib.pyplot as plt
import pytest
import torch
from nets import digits

from deepdefense import cost, data, models
from deepdefense.storage import files
from deepdefense.training import allocator
from replication import timings
from replication.chapters.cost import (
    defences,
    growth_curves,
    machine_table,
    precision_gradients,
    precision_table,
    step_ratios,
    step_table,
    training_table,
    tried_table,
)

FOLDER = Path(__file__).resolve().parents[1] / "benchmarks"


@pytest.fixture
def load(monkeypatch):
    """Import a script of benchmarks/ as if it were run there; threads and the C library's memory stay as they are."""
    monkeypatch.syspath_prepend(str(FOLDER))
    monkeypatch.setattr(allocator, "keep_for_reuse", lambda: False)
    threads = torch.get_num_threads()
    yield importlib.import_module
    torch.set_num_threads(threads)
    for name in ("common", "step", "training", "growth", "precision", "tried"):
        sys.modules.pop(name, None)


def written(out, name):
    record = files.read_json(out / f"{name}.json")
    environment = record["environment"]
    assert record["kind"] == "benchmark" and record["name"] == name and environment["packages"]["torch"]
    assert environment["cpu"] and environment["load"] >= 0 and environment["threads"] == 1 and "commit" in environment
    return record


def test_turns_are_interleaved_and_ratios_are_within_a_turn(load, monkeypatch):
    common = load("common")
    clock, calls = iter(range(0, 1000)), []
    ticks = {"a": 1, "b": 3}
    now = [0.0]
    monkeypatch.setattr(common.time, "perf_counter", lambda: now[0])

    def work(name):
        def run():
            calls.append(name)
            now[0] += ticks[name] * (1 + next(clock) // 4)  # a machine that gets slower

        return run

    seconds = common.take_turns({"a": work("a"), "b": work("b")}, 4, torch.device("cpu"), warm_up=0)
    assert calls == ["a", "b", "b", "a"] * 2 and len(seconds["a"]) == 4
    rows = {row["contestant"]: row for row in common.compare(seconds, "a")}
    assert rows["a"]["ratio"]["median"] == 1 and rows["b"]["ratio"]["min"] == rows["b"]["ratio"]["max"] == 3
    assert rows["b"]["ms"]["max"] > rows["b"]["ms"]["min"] and rows["b"]["ratio"]["n"] == 4
    assert common.spread([5.0])["q25"] == 5.0 and common.spread([1.0, 2.0, 3.0, 4.0])["median"] == 2.5


def test_step(load, tmp_path, capsys):
    step = load("step")
    options = ["--models", "cnn,mlp", "--repeats", "1", "--batch", "2", "--device", "cpu", "--out", str(tmp_path / "step.json")]
    assert step.main(options) == 0
    record = written(tmp_path, "step")
    assert {row["what"] for row in record["rows"]} == {"gradients", "step"}
    counts = {(row["model"], row["contestant"]): row["operations"] for row in record["rows"]}
    for name in ("cnn", "mlp"):
        least = cost.floors(models.build(name, (3, 32, 32), 10, seed=0), torch.rand(2, 3, 32, 32))
        for layers in ("FIRST", "DEEP"):
            assert counts[name, f"{layers}, ours"] == pytest.approx(least[f"GFA-{layers}"] / least["plain"])
            assert counts[name, f"{layers}, naive"] > counts[name, f"{layers}, ours"] + 0.1
    table = step_table([record])
    assert len(table) == 8 and "FIRST, ours" in set(table["step"])
    figure = step_ratios([record], {"cnn": 2.0, "mlp": 2.4})
    assert [ax.get_title() for ax in figure.axes] == ["cnn, n = 1 turns", "mlp, n = 1 turns"]
    assert "threads 1" in capsys.readouterr().out and list(machine_table([record])["threads"]) == [1]
    plt.close("all")


def test_training(load, tmp_path, monkeypatch):
    training = load("training")
    small = digits(train=32)
    monkeypatch.setattr(data, "load", lambda name: small)
    monkeypatch.setattr(training, "peak_elsewhere", lambda name, options: 12.34)
    options = ["--data", "digits", "--images", "32", "--batch", "16", "--repeats", "1", "--device", "cpu"]
    assert training.main([*options, "--out", str(tmp_path / "training.json")]) == 0
    record = written(tmp_path, "training")
    assert [row["contestant"] for row in record["rows"]] == [*training.DEFENCES, "data"]
    assert all(row["ms"]["median"] > 0 and ("peak_mib" in row) == (row["contestant"] != "data") for row in record["rows"])
    floors = cost.floors(models.build("cnn", (3, 32, 32), 10, seed=0), torch.rand(2, 3, 32, 32))
    assert len(training_table(record, floors)) == 8 and defences(record, floors).axes
    plt.close("all")


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the resident set is read from /proc")
def test_peak_memory_grows_with_the_batch(load, capsys, monkeypatch):
    training = load("training")
    full = data.load("digits")
    big = replace(full, train=replace(full.train, x=full.train.x.repeat(1, 1, 8, 8)))
    monkeypatch.setattr(data, "load", lambda name: big)
    options = ["--data", "digits", "--images", "600", "--device", "cpu", "--peak-of", "GFA-DEEP"]
    assert training.main([*options, "--batch", "512"]) == 0
    assert 10 < float(capsys.readouterr().out) < 2000


def test_growth(load, tmp_path):
    growth = load("growth")
    assert growth.main(["--repeats", "1", "--points", "1", "--device", "cpu", "--out", str(tmp_path / "growth.json")]) == 0
    record = written(tmp_path, "growth")
    assert [axis for axis in growth.AXES if any(row["axis"] == axis for row in record["rows"])] == list(growth.AXES)
    assert growth.case("taps", 4)[2] == {"taps": ["1", "3", "5", "7"]} and len(growth.case("taps", 17)[2]["taps"]) == 17
    assert len(growth_curves(record).axes) == 4
    plt.close("all")


def test_precision(load, tmp_path, monkeypatch):
    small = digits()
    monkeypatch.setattr(data, "load", lambda name: small)
    precision = load("precision")
    options = ["--images", "20", "--epochs", "1", "--repeats", "1", "--device", "cpu"]
    assert precision.main([*options, "--out", str(tmp_path / "precision.json")]) == 0
    record = written(tmp_path, "precision")
    table = precision_table(record)
    assert len(table) == 10 and set(table["arithmetic"]) == {"bf16"}
    assert all(0 < row["change"]["max"] < 0.2 for row in record["rows"] if "change" in row)
    assert len(precision_gradients(record)) == 2


def test_tried(load, tmp_path):
    tried = load("tried")
    for way, do, rival, do_rival in tried.convolutions(torch.device("cpu")).values():
        ours, theirs = do(), do_rival()
        ours, theirs = (next(v for v in found if v is not None) if isinstance(found, tuple) else found for found in (ours, theirs))
        if "exchanged" in rival:
            theirs = theirs[:, :, :3, :3].transpose(0, 1)
        assert torch.allclose(ours, theirs, rtol=1e-3, atol=2e-3), f"{way} must compute what {rival} does"
    assert tried.main(["--repeats", "1", "--device", "cpu", "--out", str(tmp_path / "tried.json")]) == 0
    assert len(tried_table(written(tmp_path, "tried"))) == 9


def test_a_folder_without_records_is_named(tmp_path):
    with pytest.raises(ValueError, match=f"folder must hold a record of the benchmark 'step'; {tmp_path} has none"):
        timings.benchmarks("step", tmp_path)
    with pytest.raises(files.ResultsError, match="not a folder"):
        timings.benchmarks("step", tmp_path / "nowhere")


def test_the_floor_of_a_linear_network_is_a_count_by_hand():
    """One layer: forward F, its weight gradient F, no input gradient; r = 1."""
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 4))
    least = cost.floors(net, torch.rand(2, 3, 2, 2))
    assert least == {"plain": 2, "GFA-FIRST": 5, "GFA-DEEP": 5, "GNR": 5, "PGD-7": 16, "PGD-10": 22, "TRADES": 25}
