"""The benchmark's counts are what they claim, and it runs from end to end."""

import gc
import importlib.util
import weakref
from pathlib import Path

import piecewise as pw
import pytest
import torch

from deepdefense.storage import files

PATH = Path(__file__).resolve().parents[1] / "benchmarks" / "attacks.py"


@pytest.fixture(scope="module")
def benchmark():
    spec = importlib.util.spec_from_file_location("benchmark_attacks", PATH)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def row(benchmark, attack, by):
    return next(c for c in benchmark.contestants(4) if (c.attack, c.by) == (attack, by))


def test_passes_are_counted(benchmark):
    model, x = pw.affine(), pw.greys(5)
    y = model(x).argmax(1)
    for by in ("ours", "torchattacks", "foolbox"):
        measured = benchmark.turn(row(benchmark, "FGSM", by), model, x, y, 0)
        assert (measured["forward"], measured["backward"]) == (1, 1)
    for by in ("ours", "torchattacks"):
        measured = benchmark.turn(row(benchmark, "PGD-20", by), model, x, y, 0)
        assert (measured["forward"], measured["backward"]) == (20, 20)
    measured = benchmark.turn(row(benchmark, "DeepFool L2", "ours"), model, x, y, 0)
    assert measured["backward"] == 3 and measured["success"] == 1  # one step: a backward pass for each wrong class
    assert measured["distance"] == pytest.approx(pw.affine_distance(model, x, y, "l2").median().item(), rel=0.05)


def test_a_crash_is_a_result(benchmark):
    def crash(model, x, y):
        raise RuntimeError("view size\nmore")

    model, x = pw.affine(), pw.greys(5)
    rows = [benchmark.Contestant("A", "them", "linf", crash), row(benchmark, "FGSM", "ours")]
    table = benchmark.measure(rows, model, x, torch.zeros(5, dtype=torch.long), 2)
    assert table[0]["error"] == "RuntimeError: view size" and table[1]["ms_min"] <= table[1]["ms"] <= table[1]["ms_max"]


def test_the_ratio_is_to_the_first_of_its_attack_turn_by_turn(benchmark, monkeypatch):
    times = {"ours": iter([9.0, 1.0, 2.0, 8.0]), "them": iter([9.0, 2.0, 6.0, 8.0])}  # the first turn is not measured
    result = {"forward": 1, "backward": 1, "success": 1, "distance": None}
    monkeypatch.setattr(benchmark, "turn", lambda contestant, *rest: {"ms": next(times[contestant.by]), **result})
    rows = [benchmark.Contestant("A", by, "linf", None) for by in times]
    table = benchmark.measure(rows, None, torch.zeros(1), torch.zeros(1), 3)
    assert [line["ratio"] for line in table] == [1.0, 2.0] and [line["ms"] for line in table] == [2.0, 6.0]


def test_an_attack_of_ours_that_does_not_exist_is_found_before_anything_runs(benchmark):
    with pytest.raises(AttributeError, match="fab"):
        benchmark._ours("fab", eps=0.1)
    with pytest.raises(TypeError, match="targets"):
        benchmark._ours("fab_t", eps=0.1, targets=9)
    pairs = [(c.attack, c.by) for c in benchmark.contestants(10)]
    assert len(pairs) == len(set(pairs)) and ("FAB-T-100", "ours") in pairs


def test_a_contestant_that_fails_fails_the_script_by_name(benchmark, tmp_path, capsys, monkeypatch):
    def crash(model, x, y):
        raise RuntimeError("view size")

    rows = [benchmark.Contestant("A", "them", "linf", crash), row(benchmark, "FGSM", "ours")]
    monkeypatch.setattr(benchmark, "small_cnn", lambda name, device: pw.affine(pixels=64, classes=10))
    monkeypatch.setattr(benchmark, "contestants", lambda classes: rows)
    out, threads = tmp_path / "attacks.json", torch.get_num_threads()
    assert benchmark.main(f"--images 3 --repeats 1 --device cpu --out {out}".split()) == 1
    torch.set_num_threads(threads)
    assert "1 of 2 contestants failed: A (them): RuntimeError: view size" in capsys.readouterr().err
    assert [line.get("error") for line in files.read_json(out)["attacks"]] == ["RuntimeError: view size", None]


def test_counting_keeps_no_graph_alive(benchmark):
    """A hook that holds the output it hangs on would keep every graph of a run: gigabytes for a hundred steps."""
    model, x, outputs = pw.affine(), pw.greys(5), []
    handle = model.register_forward_hook(lambda module, args, out: outputs.append(weakref.ref(out)))
    benchmark.turn(row(benchmark, "PGD-20", "foolbox"), model, x, model(x).argmax(1), 0)
    handle.remove()
    gc.collect()
    assert len(outputs) > 20 and not [out for out in outputs if out() is not None]


def test_from_end_to_end(benchmark, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(benchmark, "small_cnn", lambda name, device: pw.affine(pixels=64, classes=10))
    out = tmp_path / "attacks.json"
    threads = torch.get_num_threads()
    options = "--images 3 --repeats 1 --device cpu --only".split()
    assert benchmark.main([*options, "FGSM|DeepFool L2", "--out", str(out)]) == 0
    torch.set_num_threads(threads)
    record, text = files.read_json(out), capsys.readouterr().out
    assert {line["by"] for line in record["attacks"]} == {"ours", "torchattacks", "foolbox"}
    assert record["environment"]["packages"]["foolbox"] in text and "ms/image" in text
    with pytest.raises(SystemExit):
        benchmark.main(["--only", "nothing"])
    assert "no attack's name matches" in capsys.readouterr().err
