"""What is known to be impossible is said before anything is attacked; and a maximum over nothing is no number."""

import datetime
import os
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from defences import Linear, around_grey, labelled, small_images
from torch import nn

import deepdefense
from deepdefense import attacks
from deepdefense.attacks import suites
from deepdefense.evaluation import protocol, standard_suite
from deepdefense.evaluation.report import Report
from deepdefense.storage.files import ResultsError
from replication.experiments import eps_sweep


class Counted:
    """An attack that counts its images and does nothing."""

    def __init__(self):
        self.images = 0

    def __call__(self, model, x, y, *, eps, seed=0):
        self.images += len(x)
        return x


COUNTED = Counted()


def small_net(classes=10, pixels=64):
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(pixels, 16), nn.ReLU(), nn.Linear(16, classes)).eval()


class Pair(nn.Module):
    def forward(self, x):
        return x.flatten(1)[:, :10], x


WITH_ADAPTIVE = [{"own": {"counted": COUNTED}}, "adaptive"]
GUIDES, LABELS = torch.rand(6, 1, 8, 8), torch.arange(6)
REFUSED = {
    "about, a date": (dict(about={"date": datetime.date(2025, 1, 1)}), r"about\['date'\] is datetime.*JSON cannot hold"),
    "about, NaN": (dict(about={"name": "a", "reported": float("nan")}), r"about\['reported'\] is nan"),
    "about, nested": (dict(about={"a": {"b": [Path("x")]}}), r"about\['a'\]"),
    "about, NumPy": (dict(about={"n": np.float32(1)}), r"about\['n'\]"),
    "eps, text": (dict(eps="8/255"), "eps must be a number; got '8/255', which is text"),
    "eps, several": (dict(eps=torch.ones(2)), "eps must be a number"),
    "mode": (dict(mode="worst"), "mode must be one of full, worst_case; got 'worst'"),
    "loss": (dict(training_loss="squared"), "loss must be one of mse, ce"),
    "folder": (dict(folder=2025), "folder must be the path of a folder; got 2025"),
    "no suite": (dict(suites=[]), "suites names no attack"),
    "no suite, dictionary": (dict(suites={}), "suites names no attack"),
    "no attack": (dict(suites=[{"own": {}}]), "'own' has no attacks"),
    "no suite, in a list": (dict(suites=[{}]), "suites names no attack"),
    "a number in a list": (dict(suites=["gradient", 3]), "suites must be names of suites"),
    "about, own entry": (dict(about={"model": "WRN-28-10"}), r"about\['model'\] would be lost, since the record has an entry"),
    "about, kind": (dict(about={"kind": "mine"}), r"about\['kind'\] would be lost"),
    "about, text": (dict(about="a net"), "about must be a dictionary .* got 'a net'"),
    "about, pairs": (dict(about=[("name", "a")]), "about must be a dictionary"),
    "batch_size": (dict(batch_size=4.5), "batch_size must be a whole number of at least 1; got 4.5"),
    "chunk": (dict(chunk=True), "chunk must be a whole number"),
    "no attack of two suites": (dict(suites=["gradient", {"own": {}}]), "'own' has no attacks"),
    "a number": (dict(suites=3), "suites must be names of suites"),
    "no suite to know": (dict(substitutes={"a": nn.Flatten()}), "substitutes and guides are for the suite 'adaptive'"),
    "substitute": (dict(substitutes={"a": 3}), "substitutes must be"),
    "substitute alone": (dict(substitutes=small_net()), "substitutes must be {name: torch.nn.Module}, got Sequential"),
    "substitutes in a list": (dict(substitutes=[small_net()]), "substitutes must be .* got list"),
    **{
        f"substitute, {name}": (dict(suites=WITH_ADAPTIVE, substitutes={"a": network}), said)
        for name, (network, said) in {
            "classes": (small_net(classes=5), "substitute 'a' must answer an image with 10 logits, got shape"),
            "size": (small_net(pixels=49), "substitute 'a' failed on an image of shape"),
            "type": (small_net().double(), "substitute 'a' failed on an image of shape"),
            "tuple": (Pair(), "substitute 'a' must answer an image with 10 logits, got a tuple"),
        }.items()
    },
    **{
        f"guides, {name}": (dict(suites=WITH_ADAPTIVE, guides=given), said)
        for name, (given, said) in {
            "bytes": (
                ((255 * GUIDES).to(torch.uint8), LABELS),
                "guides must be of the type of the images, torch.float32, .* got torch.uint8",
            ),
            "double": ((GUIDES.double(), LABELS), "guides must be of the type of the images"),
            "up to 255": ((255 * GUIDES, LABELS), "guides must be .*images must lie in"),
            "NaN": ((GUIDES * torch.nan, LABELS), "guides must be .*images must lie in"),
            "float labels": ((GUIDES, LABELS.float()), "guides must be .*class indices as whole numbers"),
            "column of labels": ((GUIDES, LABELS[:, None]), r"guides must be .*take y.squeeze\(1\)"),
        }.items()
    },
    "guides": (dict(guides=(torch.rand(3, 1, 2, 2), torch.arange(3))), "guides must be"),
    "guides of one class": (dict(guides=(torch.rand(3, 1, 8, 8), torch.ones(3))), "of two classes or more"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_before_the_first_attack(name, tmp_path):
    options, said = REFUSED[name]
    COUNTED.images, counted, model, x = 0, COUNTED, small_net(), torch.rand(4, 1, 8, 8)
    options = dict(eps=0.1, suites={"own": {"counted": counted}}, folder=tmp_path / "kept", progress=False) | options
    with pytest.raises(ValueError, match=said):
        deepdefense.evaluate(model, x, model(x).argmax(1), **options)
    assert counted.images == 0 and not (tmp_path / "kept").exists()


def test_a_folder_that_cannot_be_written(tmp_path):
    counted, model, x = Counted(), small_net(), torch.rand(4, 1, 8, 8)
    (tmp_path / "file").write_text("")
    with pytest.raises(ResultsError, match="could not write"):
        deepdefense.evaluate(
            model, x, model(x).argmax(1), eps=0.1, suites={"o": {"c": counted}}, folder=tmp_path / "file" / "in", progress=False
        )
    assert counted.images == 0


@pytest.mark.parametrize("eps", [np.float32(0.125), np.float64(0.125), np.array(0.125), torch.tensor(0.125)])
def test_eps_of_any_kind(eps, tmp_path):
    model, x = small_net(), torch.rand(4, 1, 8, 8)
    report = deepdefense.evaluate(model, x, model(x).argmax(1), eps=eps, suites={"o": {"F": attacks.fgsm}}, folder=tmp_path, progress=False)
    assert report.summary()["eps"] == 0.125


@pytest.mark.parametrize("two", [2.0, np.int64(2), torch.tensor(2)])
def test_whole_numbers_of_any_kind(two):
    model, x = small_net(), torch.rand(4, 1, 8, 8)
    suites = {"o": {"P": partial(attacks.loss_pgd, steps=3)}}
    y = model(x).argmax(1)
    given, plain = (
        deepdefense.evaluate(model, x, y, eps=0.1, suites=suites, progress=False, batch_size=n, chunk=n, seed=n) for n in (two, 2)
    )
    assert given.table().equals(plain.table()) and type(given.about["seed"]) is int


class Marked(torch.Tensor):
    """A tensor of a class of one's own, as data sets give them."""


def test_tensors_of_a_class_of_ones_own():
    model, x = small_net(), torch.rand(4, 1, 8, 8)
    y = model(x).argmax(1)
    members = {"APGD": partial(attacks.apgd_ce, steps=5), "DDN": partial(attacks.ddn, steps=5), "EAD": partial(attacks.ead, searches=1)}
    options = dict(eps=0.1, suites={"o": members}, progress=False)
    marked = deepdefense.evaluate(model, x.as_subclass(Marked), y.as_subclass(Marked), **options)
    assert marked.table().equals(deepdefense.evaluate(model, x, y, **options).table())
    assert all(type(attack(model, x.as_subclass(Marked), y)) is torch.Tensor for attack in list(members.values())[1:])


def test_the_folder_may_be_below_home(tmp_path, monkeypatch):
    monkeypatch.setitem(os.environ, "HOME", str(tmp_path))
    model, x = small_net(), torch.rand(2, 1, 8, 8)
    deepdefense.evaluate(model, x, model(x).argmax(1), eps=0.1, suites={"o": {"c": Counted()}}, folder="~/kept", progress=False)
    assert (tmp_path / "kept" / "report.json").is_file()


def test_forty_thousand_classes(tmp_path):
    model, x = nn.Sequential(nn.Flatten(), nn.Linear(4, 40_000)), torch.rand(3, 1, 2, 2)
    with torch.no_grad():
        model[1].bias[39_999] += 9
    y = model(x).argmax(1)
    report = deepdefense.evaluate(model, x, y, eps=0.1, suites={"o": {"F": attacks.fgsm}}, folder=tmp_path, progress=False)
    back = Report.read(tmp_path)
    assert back.label.tolist() == y.tolist() == [39_999] * 3 and back.summary() == report.summary()


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("classes", [2, 3])
def test_few_classes(classes, norm, monkeypatch, capsys):
    """What needs four classes is left out with a word, and the rest is run; what is left of AutoAttack is no AutoAttack."""
    monkeypatch.setattr(standard_suite, "standard", partial(standard_suite.standard, steps=3, queries=10))
    model = Linear(classes=classes)
    x, y = labelled(model, around_grey(8))
    eps = model.distance(x, y, norm).median().item()
    own = {"own": {"targeted": partial(attacks.apgdt, steps=2), "DLR": partial(attacks.loss_pgd, loss="dlr"), "FGSM": attacks.fgsm}}
    report = deepdefense.evaluate(
        model, x, y, eps=eps, norm=norm, suites=["standard", own] if norm == "linf" else "standard", progress=False
    )
    left_out = {entry["attack"] for entry in report.about["left_out"]}
    wanted = (
        {"standard/APGD-T"} | ({"own/targeted"} if norm == "linf" else set()) | ({"own/DLR"} if (norm, classes) == ("linf", 2) else set())
    )
    assert (
        left_out == wanted and not left_out & report.outcomes.keys() and {"standard/APGD-CE", "standard/Square"} <= report.outcomes.keys()
    )
    said = capsys.readouterr().err
    assert all(f"{name} is left out: it needs" in said for name in left_out)
    clear = ((model.distance(x, y, norm) / eps - 1).abs() > 0.05).numpy()
    assert (report.robust() == (model.distance(x, y, norm) > eps).numpy())[clear].all()
    assert report.summary()["robustbench"]["autoattack_acc"] is None and report.summary()["robustbench"]["external"] is not None


def test_a_suite_of_which_nothing_is_left():
    model = Linear(classes=2)
    x, y = labelled(model, around_grey(4))
    with pytest.raises(ValueError, match="no attack of suite 'own' can be run on a model of 2 classes: it needs 4"):
        deepdefense.evaluate(model, x, y, eps=0.1, suites={"own": {"APGDT": attacks.apgdt}}, progress=False)


def test_attacks_on_features_run_in_slices():
    """A batch size below the chunk does not stop them, and changes nothing but rounding."""
    model, x = small_net(), torch.rand(11, 1, 8, 8)
    y = model(x).argmax(1)
    known = dict(guides=(torch.rand(6, 1, 8, 8), torch.arange(6) % 3), substitutes={"other": small_net()})
    made = suites.suite("adaptive", model, x[:1], **known)
    own = {name: partial(attack, steps=3) for name, attack in made.items() if name.startswith("features")}
    assert len(own) == 2
    whole, sliced, single = (
        deepdefense.evaluate(model, x, y, eps=0.03, suites={"own": own}, batch_size=size, progress=False) for size in (None, 4, 1)
    )
    assert 0 < whole.robust().sum() < len(x)
    for key, outcome in whole.outcomes.items():
        for other in (sliced, single):
            assert (outcome.success == other.outcomes[key].success).all()
            assert np.allclose(outcome.loss, other.outcomes[key].loss, atol=1e-4)
            assert outcome.cost["backward"] == other.outcomes[key].cost["backward"]


def test_substitutes_guides_and_the_training_loss_reach_the_adaptive_suite(monkeypatch):
    short = partial(attacks.suite_adaptive, steps=1, restarts=1)
    monkeypatch.setattr(attacks, "suite_adaptive", short)
    model, x = small_net(), torch.rand(5, 1, 8, 8)
    options = dict(eps=0.03, suites="adaptive", progress=False)
    report = deepdefense.evaluate(
        model, x, model(x).argmax(1), training_loss="ce", substitutes={"other": small_net()},
        guides=(torch.rand(6, 1, 8, 8), torch.arange(6) % 3), **options,
    )  # fmt: skip
    assert {"adaptive/transfer, other", "adaptive/features, guided"} <= report.outcomes.keys()
    assert "training_loss='ce'" in report.summary()["attacks"]["adaptive/orthogonal PGD, clean"]["settings"]
    assert report.summary()["training_loss"] == "ce"
    assert not {"adaptive/PGD mse"} & report.outcomes.keys()
    without = deepdefense.evaluate(model, x, model(x).argmax(1), **options)
    assert not {"adaptive/transfer, other", "adaptive/features, guided"} & without.outcomes.keys()
    assert "adaptive/PGD mse" in without.outcomes


def test_no_maximum_over_nothing():
    model, x, y = small_images(4, wrong=(0, 1, 2, 3))
    report = deepdefense.evaluate(model, x, y, eps=0.02, suites={"own": {"FGSM": attacks.fgsm}}, progress=False)
    assert report.robust().sum() == 0 and report.summary()["attacks"]["own/FGSM"]["attacked"] == 0
    empty = Report(report.label, report.label, {}, report.about)
    for call in (empty.robust, empty.summary):
        with pytest.raises(ValueError, match="no attack was run, so there is no robust accuracy"):
            call()
    with pytest.raises(ValueError, match="no attack of suite 'standard' was run; there are own"):
        report.robust(*report.in_suite("standard"))
    for options in (dict(levels=()), dict(suite={})):
        with pytest.raises(ValueError, match="a sweep needs images, levels and attacks"):
            eps_sweep.sweep(model, x, y, **options)
    with pytest.raises(ValueError, match="there are no images"):
        protocol.robust_accuracy(model, x[:0], y[:0], attacks.fgsm, eps=0.1)
