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
    probe = {"ours": 1 / len(x), "torchattacks": 0, "foolbox": 0}  # ours asks the model once a call for its classes
    for by in ("ours", "torchattacks", "foolbox"):
        measured = benchmark.turn(row(benchmark, "FGSM", by), model, x, y, 0)
        assert (measured["forward"], measured["backward"]) == (1 + probe[by], 1)
    for by in ("ours", "torchattacks"):
        measured = benchmark.turn(row(benchmark, "PGD-20", by), model, x, y, 0)
        assert measured["forward"] == pytest.approx(20 + probe[by])
        assert measured["backward"] == 20
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
