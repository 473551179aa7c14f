"""Networks under the paper's protocol to the letter: what is handed over, what is kept, what a stopped run does again."""

import numpy as np
import piecewise as pw
import pytest
import torch
from measured import run as made_up
from nets import digits
from torch import nn

from deepdefense import models
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
