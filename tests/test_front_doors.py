"""What the chapters rest on: defences by name, finished runs by name, tables and figures of a report."""

import json
import sys
from dataclasses import replace

import matplotlib
import numpy as np
import pytest
import torch
from defences import small_images, steepest
from nets import digits, global_random_state

from deepdefense import attacks, data, evaluate, loading, training
from replication import example_defences, profiles, records
from replication.chapters import your_own
from replication.chapters.attacks import runs_bars
from replication.experiments import attack

matplotlib.use("Agg")

FILE = """
import torch
from torch import nn
class Net(nn.Module):
    def forward(self, x):
        return x.flatten(1)[:, :4]
def whole():
    return Net(), torch.rand(3, 1, 5, 5), torch.zeros(3, dtype=torch.long)
def named():
    return Net(), "digits"
def unknown():
    return Net(), "imagenet"
def alone():
    return Net()
def lists():
    return Net(), [1], [2]
def swapped():
    return torch.rand(3, 1, 5, 5), torch.zeros(3), Net()
def arrays():
    return Net(), torch.rand(3, 1, 5, 5).numpy(), torch.zeros(3).numpy()
def a_class():
    return Net, torch.rand(3, 1, 5, 5), torch.zeros(3, dtype=torch.long)
def loader():
    return Net(), torch.utils.data.DataLoader(range(3))
def of_a_device(device, *, width=3, depth):
    return whole()
class Wide(Net):
    def __init__(self, width):
        super().__init__()
number = 3
"""


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "my_defence.py"
    path.write_text(FILE)
    return path


def test_a_defence_from_a_file_and_from_a_module(file, monkeypatch):
    found = loading.load(f"{file}:whole")
    assert found.x.shape == (3, 1, 5, 5) and len(found.y) == 3 and found.dataset == "own images" and found.model(found.x).shape == (3, 4)
    monkeypatch.syspath_prepend(str(file.parent))
    found = loading.load("my_defence:named")
    test = data.load("digits").test
    assert found.dataset == "digits" and torch.equal(found.x, test.images()) and torch.equal(found.y, test.y)
    sys.modules.pop("my_defence")


NET = """
import torch
from torch import nn
def make():
    return nn.Sequential(nn.Flatten(), nn.Linear(25, WIDTH)), torch.rand(3, 1, 5, 5), torch.zeros(3, dtype=torch.long)
"""
DATACLASS = """from __future__ import annotations
from dataclasses import dataclass
@dataclass
class Settings:
    width: int = 4
"""


def width(module):
    found = loading.load(module)
    return found.model(found.x).shape[1]


def test_a_defence_file_may_hold_a_dataclass_and_import_what_lies_beside_it_from_anywhere(tmp_path, monkeypatch):
    first, second = tmp_path / "one", tmp_path / "two"
    for folder, classes in ((first, 4), (second, 7)):
        (folder / "parts").mkdir(parents=True)
        (folder / "parts" / "__init__.py").write_text("")
        (folder / "parts" / "net.py").write_text(NET.replace("WIDTH", str(classes)))
        (folder / "helper_of_a_defence.py").write_text(NET.replace("WIDTH", str(classes + 1)))
        (folder / "defence.py").write_text(DATACLASS + NET.replace("WIDTH", "Settings().width"))
        (folder / "helped.py").write_text("from helper_of_a_defence import make\n")
        (folder / "late.py").write_text("def make():\n    from parts.net import make\n    return make()\n")
    monkeypatch.chdir("/")
    path = list(sys.path)
    for folder, classes in ((first, 4), (second, 7), (first, 4)):  # files and helpers of the same names
        assert width(f"{folder}/defence.py:make") == 4
        assert width(f"{folder}/helped.py:make") == classes + 1
        assert width(f"{folder}/late.py:make") == classes
        assert sys.path == path
    (first / "helper_of_a_defence.py").write_text(NET.replace("WIDTH", "11"))
    assert width(f"{first}/helped.py:make") == 11, "an edited helper is read again"
    monkeypatch.setenv("HOME", str(tmp_path))
    assert width("~/two/late.py:make") == 7


def test_a_defence_file_that_fails_leaves_nothing_behind(tmp_path):
    (tmp_path / "broken.py").write_text("import no_such_module_anywhere\n")
    (tmp_path / "unfinished.py").write_text("def make(:\n")
    (tmp_path / "raises.py").write_text("1 / 0\n")
    (tmp_path / "whole.py").write_text(NET.replace("WIDTH", "4"))
    assert width(f"{tmp_path}/whole.py:make") == 4
    path, modules = list(sys.path), set(sys.modules)
    for file, said in (("broken", "No module named 'no_such_module_anywhere'"), ("unfinished", "invalid syntax|Invalid|expected")):
        with pytest.raises(ValueError, match=f"cannot be imported: .*({said})"):
            loading.load(f"{tmp_path}/{file}.py:make")
    with pytest.raises(ZeroDivisionError):  # of the reader's own code: with its traceback
        loading.load(f"{tmp_path}/raises.py:make")
    assert sys.path == path and set(sys.modules) == modules


@pytest.mark.parametrize(
    ("module", "said"),
    [
        ("my_defence", "must be 'module:callable' or 'file.py:callable', got 'my_defence'"),
        (":f", "must be 'module:callable'"),
        (3, "must be 'module:callable'"),
        ("no_such_module:f", "cannot be imported: No module named 'no_such_module'"),
        ("no/such/file.py:f", "cannot be imported: .*No such file"),
        ("FILE:missing", "has no function 'missing'; it has Net, whole, named, unknown, alone, lists, swapped, arrays, …"),
        ("FILE:number", "has no function 'number'; it has Net"),
        ("FILE:whole()", r"has no function 'whole\(\)'; give its name without parentheses"),
        ("FILE:of_a_device", "must take no arguments, and needs device, depth; name a function that gives them"),
        ("FILE:Wide", "must take no arguments, and needs width; name"),
        ("FILE:alone", "must return .* not Net"),
        ("FILE:lists", "x and y must be tensors, got list and list"),
        ("FILE:arrays", "x and y must be tensors, got ndarray and ndarray; torch.from_numpy makes"),
        ("FILE:swapped", r"must return .* not a tuple of 3 \(Tensor, Tensor, Net\)$"),
        ("FILE:a_class", r"not a tuple of 3 \(the class Net, Tensor, Tensor\); the model is an object of its class, as in Net\(\)"),
        ("FILE:loader", "must return .* beside the model it returned one DataLoader"),
        ("FILE:unknown", "the data set must be one of cifar10, fashion_mnist, digits; got 'imagenet'"),
    ],
)
def test_what_is_no_defence(file, module, said):
    with pytest.raises(ValueError, match=said):
        loading.load(module.replace("FILE", str(file)) if isinstance(module, str) else module)


def test_the_example_is_the_same_each_time_and_learns():
    before = global_random_state()
    found = loading.load("replication.example_defences:plain_digits")
    model, x, y = found.model, found.x, found.y
    again, _ = example_defences.plain_digits()
    assert global_random_state() == before and x.shape == (360, 1, 8, 8) and not model.training
    assert all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), again.state_dict().values(), strict=True))
    with torch.no_grad():
        assert (model(x).argmax(1) == y).float().mean() > 0.9


def test_a_finished_run_by_name(tmp_path):
    run_config = replace(profiles.make("smoke", "standard"), epochs=1, width=0.25, val_size=20, val_steps=1)
    folder = tmp_path / "a-run"
    trained = training.fit(run_config, folder=folder, dataset=digits(), progress=False)
    assert records.finished_runs(tmp_path) == ["a-run"] and records.check_run("a-run", tmp_path) == folder
    with pytest.raises(ValueError, match=r"run must name a finished run in .*; got 'b-run'. There are: a-run"):
        records.check_run("b-run", tmp_path)
    loaded = training.load_run(folder)
    x = digits().test.images()
    assert torch.equal(loaded.best(x), trained.best(x)) and torch.equal(loaded.last(x), trained.last(x))
    assert loaded.record == trained.record and not loaded.best.training
    suites = {"paper": {"FGSM": attacks.fgsm, "APGD-100": attacks.fgsm}}
    report = attack.attack_run(loaded, digits().test[:30], eps=0.1, suites=suites, progress=False)
    summary = report.summary()
    assert summary["training"]["config"] == trained.record["config"] and summary["robustbench"]["dataset"] == "digits"
    kept = folder / "report-last-linf-eps0.10000-n30-seed0" / "report.json"
    assert json.loads(kept.read_text()) == summary
    assert runs_bars([summary]).axes[0].get_ylabel() == "accuracy (%), n = 30"


@pytest.fixture(scope="module")
def report():
    model, x, y = small_images(12)
    suites = {
        "own": {"FGSM": attacks.fgsm, "idle": lambda model, x, y, *, eps, seed=0: x},
        "near": {"steepest": steepest},
    }
    return evaluate(model, x, y, eps=8 / 255, suites=suites, progress=False, about={"name": "small"})


def test_tables_of_a_report(report):
    summary = report.summary()
    text = your_own.two_lines(summary)
    assert "12 images, L∞ eps = 8/255, seed 0" in text and "clean accuracy 91.7 [64.6, 98.5] %" in text
    assert f"robust accuracy {100 * report.robust().mean():.1f} [" in text and "3 attacks" in text
    table = your_own.report_table(summary)
    assert list(table["attack"]) == ["FGSM", "idle", "steepest"] and list(table["images"]) == [11] * 3
    assert list(table["broken"]) == [row["succeeded"] for row in summary["attacks"].values()] and table["broken"][1] == 0
    assert [int(passes) for passes in table["forward passes"][:2]] == [1, 0] and table["median distance"][0] == "–"
    assert float(table["median distance"][2]) == pytest.approx(np.sort(report.distance("near/steepest"))[5], rel=1e-2)
    suites = your_own.suites_table(summary)
    assert list(suites["suite"]) == ["clean", "own", "near", "worst case over all"]
    assert len(your_own.warnings_table(summary)) == 0
    bench = your_own.robustbench_table(summary).set_index("field")["value"]
    assert bench["clean_acc"] == "91.67" and bench["name"] == "small" and "reported" not in bench


def test_figures_of_a_report(report):
    summary = report.summary()
    bars = your_own.report_bars(summary).axes[0]
    masks = [report.clean, *map(report.robust, report.outcomes), report.robust()]
    assert [bar.get_width() for bar in bars.patches] == pytest.approx([100 * mask.mean() for mask in masks])
    image = your_own.broken_by(report).axes[0].images[0].get_array()
    assert image.shape == (3, 11) and image[0].sum() == report.outcomes["own/FGSM"].success.sum() and image[1].sum() == 0
    lines = {line.get_label(): line for line in your_own.distance_curves(report).axes[0].lines}
    x, y = lines["minimum over all"].get_data()
    never = np.isinf(report.distance("near/steepest")).sum()
    assert y[0] == pytest.approx(100 * report.clean.mean()) and y[-1] == pytest.approx(100 * never / 12)
    assert (np.diff(y) <= 0).all() and y[0] > y[-1]
    bounded = replace(report, outcomes={key: o for key, o in report.outcomes.items() if o.bounded})
    assert your_own.distance_curves(bounded) is None
    broke = np.sum([o.attacked & o.success for o in report.outcomes.values()], axis=0)[report.clean]
    said = your_own.silent_words(report)
    assert f"Of 11 images that are right from the start, {(broke == 0).sum()} survive" in said and f"{(broke == 1).sum()} fall" in said
    median = np.median(report.distance("near/steepest"))
    assert your_own.distances_words(report).endswith(f"{median:.3f}." if np.isfinite(median) else "∞.")
