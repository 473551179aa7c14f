"""Networks under the paper's protocol to the letter: what is handed over, what is kept, what a stopped run does again."""

from dataclasses import replace

import numpy as np
import paper_protocol as command
import piecewise as pw
import pytest
import torch
from measured import run as made_up
from nets import digits
from torch import nn

from deepdefense import models
from deepdefense.storage import files
from replication import records
from replication.claims import protocol_quantities
from replication.experiments import paper_protocol as subject
from replication.experiments.paper_protocol import Protocol

SMALL = Protocol((8, 51), images=12, slow_images=2, queries=3, search_steps=1)


def test_a_record_is_whole_and_is_read_back(tmp_path):
    run, test = made_up(), digits(20, 20, 12).test
    said = []
    record = subject.protocol_run(run, test, SMALL, out=tmp_path / records.PROTOCOL, say=said.append)
    (found,) = protocol_quantities.read(tmp_path)
    assert found.record == record and len(found.right) == 12 and not record["changes_in_train_mode"]
    assert [name for name in found.table if name.startswith("train")] == [] and any(name.startswith("clamped") for name in found.table)
    for name, values in found.table.items():
        if name.rpartition("/")[2].isdigit() and not name.startswith("clamped"):
            assert not (values[~np.isnan(values)] > found.right[~np.isnan(values)]).any(), name
    assert np.isnan(found.table["DeepFool/l2"]).sum() >= 10


def test_what_was_done_is_not_done_again(tmp_path, monkeypatch):
    model, test = models.build("cnn", (1, 8, 8), 10, width=0.25, seed=0).eval(), digits(20, 20, 4).test
    few = Protocol((8,), images=4, slow_images=1, queries=2, search_steps=1, conditions=("",))
    first = subject.under_protocol(model, test.images(), test.y, few, tmp_path, lambda line: None)
    monkeypatch.setattr(subject, "attacked", None)
    again = subject.under_protocol(model, test.images(), test.y, few, tmp_path, lambda line: None)
    assert all(np.array_equal(first[name], again[name], equal_nan=True) for name in first)


def test_images_of_the_clamped_condition_are_those_that_the_body_takes():
    model, x = models.build("cnn", (1, 8, 8), 10, width=0.25, seed=0).eval(), pw.greys(5, (1, 8, 8))
    body, h = subject.handed_over(model, x, "clamped")
    assert h.min() >= -1 and h.min() < 0 and torch.allclose(body(h), model(x), atol=1e-5)
    other = models.build("cnn", (1, 8, 8), 10, width=0.25, seed=0, scaling=([0.0], [0.2])).eval()
    with pytest.raises(ValueError, match="scaling = symmetric"):
        subject.handed_over(other, x, "clamped")


def test_train_mode_counts_only_with_layers_that_know_it():
    assert subject.conditions_of(nn.Sequential(nn.Linear(2, 2))) == ["", "clamped"]
    assert subject.conditions_of(nn.Sequential(nn.Dropout(0.5))) == ["", "clamped", "train", "together"]


@pytest.mark.parametrize("given", [dict(levels=()), dict(levels=(0.5,)), dict(levels=(8,), images=0), dict(levels=(8,), conditions=("x",))])
def test_a_protocol_of_nothing_is_refused(given):
    with pytest.raises(ValueError, match="levels|images|conditions"):
        Protocol(**given)


def test_classes_that_are_hardly_answered_are_not_counted():
    assert subject.classes_answered(np.repeat([0, 1, 2], [500, 495, 5])) == 2


@pytest.mark.parametrize("other", [dict(images=11), dict(slow_images=3), dict(queries=4), dict(search_steps=2), dict(seed=1)])
def test_another_protocol_keeps_its_pieces_apart(other):
    given = dict(images=12, slow_images=2, queries=3, search_steps=1)
    assert Protocol((8,), **(given | other)).folder != Protocol((8, 51), **given).folder


def constant():
    """It answers the first class whatever it sees, and has no gradient."""
    model = models.build("cnn", (1, 8, 8), 10, width=0.25, seed=0).eval()
    last = [module for module in model.modules() if isinstance(module, nn.Linear)][-1]
    nn.init.zeros_(last.weight)
    last.bias.data = torch.eye(10)[0]
    return model


def test_an_attack_that_hands_back_no_image_has_found_nothing():
    found = subject.attacked(constant(), pw.greys(5, (1, 8, 8)), torch.tensor([0, 0, 1, 0, 2]), "DeepFool", None, SMALL)
    assert found["right"].tolist() == found["kept"].tolist() == [True, True, False, True, False]
    assert found["l2"].isnan().tolist() == found["right"].tolist()


class Unsure(nn.Module):
    """NaN for light images."""

    def __init__(self, body):
        super().__init__()
        self.body = body

    def forward(self, h):
        return torch.where((h.mean((1, 2, 3)) > -0.35)[:, None], torch.nan, self.body(h))


def everything(model, x, y, few, folder=None):
    return subject.under_protocol(model, x, y, few, folder, lambda line: None)


FEW = Protocol((8,), images=5, slow_images=3, queries=2, search_steps=1, conditions=("",))


@pytest.fixture
def hasty(monkeypatch):
    monkeypatch.setattr(subject, "PATIENT_STEPS", 12)


def test_networks_that_say_nothing_or_nothing_right_have_a_whole_record(hasty):
    test = digits(20, 20, 5).test
    x, unsure, y = test.images(), constant(), torch.zeros(5, dtype=torch.int64)
    unsure.body = Unsure(unsure.body)
    light = (2 * x - 1).mean((1, 2, 3)) > -0.35
    assert 0 < light.sum() < 5
    for model, labels, right in ((unsure, y, ~light), (constant(), y + 1, light & False)):
        found = everything(model, x, labels, FEW)
        assert ((found["prediction"] == found["label"]) == right.numpy()).all()
        for name, kept in found.items():
            if name.startswith(("APGD", "FAB", "Square")):  # no gradient, nothing to find
                there = ~np.isnan(kept)
                assert there.sum() == (3 if name.startswith(subject.SLOW) else 5) and (kept == right.numpy())[there].all(), name


def test_batches_that_do_not_divide_the_images_and_a_kill_between_attacks_change_no_number(tmp_path, monkeypatch, hasty):
    model, test = models.build("cnn", (1, 8, 8), 10, width=0.25, seed=0).eval(), digits(20, 20, 5).test
    monkeypatch.setattr(subject, "BATCH", 2)
    x, y = test.images(), model(test.images()).argmax(1)  # all are right: batches of 2, 2 and 1
    whole, calls, attacked = everything(model, x, y, FEW), [], subject.attacked

    def killed(*given):
        calls.append(given)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return attacked(*given)

    monkeypatch.setattr(subject, "attacked", killed)
    with pytest.raises(KeyboardInterrupt):
        everything(model, x, y, FEW, tmp_path)
    again = everything(model, x, y, FEW, tmp_path)
    assert len(calls) == 1 + len(subject.plan_of(FEW, [""]))
    assert whole.keys() == again.keys() and all(np.array_equal(whole[name], again[name], equal_nan=True) for name in whole)
    other = everything(model, x, y, replace(FEW, levels=(51,)), tmp_path)
    assert np.array_equal(other["DeepFool/l2"], whole["DeepFool/l2"], equal_nan=True) and "FGSM/8" not in other
    with pytest.raises(ValueError, match="slow_images = 3, not 2"):
        everything(model, x, y, replace(FEW, slow_images=2), tmp_path)


def test_the_patient_attack_is_apgd_of_a_hundred_steps_and_the_other_of_torchattacks_ten():
    model = constant()
    assert [subject.make_attack(name, model, 0.1, SMALL).steps for name in ("APGD", subject.PATIENT)] == [10, 100]
    assert {name for name in ("", "clamped", "train", "together") if (name, subject.PATIENT, 8) in subject.plan_of(FEW, [name])} == {
        "", "clamped", "train",
    }  # fmt: skip


def test_an_attack_in_train_mode_leaves_the_network_that_is_judged_alone():
    model = models.build("cnn", (1, 8, 8), 10, width=0.25, seed=0)
    model.body = nn.Sequential(nn.BatchNorm2d(1), model.body)
    x = pw.greys(6, (1, 8, 8))
    y = model.eval()(x).argmax(1)
    found = subject.attacked(model, x, y, "FAB", 1, SMALL, "train")
    still = found["l2"] == 0
    assert still.any() and found["kept"][still].all(), "an image that is as it was is answered as it was"


def test_a_network_whose_images_nobody_hands_over_in_minus_1_to_1_is_refused_before_any_work(tmp_path, monkeypatch):
    model = models.build("cnn", (1, 8, 8), 10, width=0.25, seed=0, scaling=([0.0], [0.2])).eval()
    monkeypatch.setattr(subject, "attacked", None)
    with pytest.raises(ValueError, match="scaling = symmetric"):
        everything(model, pw.greys(3, (1, 8, 8)), torch.zeros(3, dtype=torch.int64), SMALL, tmp_path / "pieces")
    assert not (tmp_path / "pieces").exists()


def test_a_record_of_another_protocol_is_not_taken_for_the_one_that_is_asked_for(tmp_path, monkeypatch):
    monkeypatch.setattr(records.paths, "results_root", lambda: tmp_path)
    assert not subject.is_there("a", SMALL)
    files.write_json(records.protocol_folder("a") / records.PROTOCOL_JSON, {"protocol": subject.as_record(SMALL)})
    assert subject.is_there("a", SMALL)
    with pytest.raises(ValueError, match=r"the record of a is there with images = 12, not 11; ask for that, or delete"):
        subject.is_there("a", Protocol((8, 51), images=11, slow_images=2, queries=3, search_steps=1))


def test_a_run_without_a_network_is_refused_before_the_first_is_attacked(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(records.paths, "runs_root", lambda: tmp_path)
    monkeypatch.setattr(command, "load_run", None)
    for name, last in (("good", {"file": "x"}), ("lost", None)):
        made = {"checkpoints": {"last": last}, "status": "diverged", "config": {"data": "digits"}}
        files.write_json(tmp_path / name / "run.json", made)
    with pytest.raises(SystemExit):
        command.main(["good", "lost"])
    assert "lost diverged in its first epoch" in capsys.readouterr().err
