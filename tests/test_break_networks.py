"""A submitted batch: what counts, and that each rule is held, one sentence each."""

import numpy as np
import pytest
import torch
from nets import Plane, images

import deepdefense
from replication.experiments.break_networks import check_batch

X = images(6, (1, 2, 2))[0].clamp(0.2, 0.8)
MODEL = Plane(torch.ones(4), -2.0)
Y = MODEL(X).argmax(1)
Y[0] = 1 - Y[0]  # a clean error
REPORT = deepdefense.evaluate(MODEL, X, Y, eps=0.1, suites={"no": {"attack": lambda model, x, y, *, eps, seed: x}}, progress=False)


def send(tmp_path, indices, sent):
    np.savez(tmp_path / "batch.npz", indices=indices, images=sent)
    return check_batch(MODEL, REPORT, tmp_path / "batch.npz", X, Y)


def test_survivors_alone_are_broken(tmp_path):
    worst = (X + 0.1 * torch.where(MODEL(X).argmax(1) == 1, -1.0, 1.0).view(-1, 1, 1, 1)).numpy()
    falls = (MODEL(torch.from_numpy(worst)).argmax(1) != Y).numpy()
    found = send(tmp_path, np.arange(6), worst)
    assert found.survivors == 5 and found.broken == tuple(i for i in range(1, 6) if falls[i]) and (found.wrong == falls).all()
    assert send(tmp_path, np.arange(6), X.numpy()).broken == ()
    order = np.array([3, 1])
    assert send(tmp_path, order, worst[order]).broken == tuple(sorted(i for i in order.tolist() if falls[i]))


@pytest.mark.parametrize(
    ("indices", "sent", "said"),
    [
        ([0], X[:1] + 0.11, "within eps = 0.10000 in linf; 1 are not"),
        ([0], X[:1] * float("nan"), r"images must be in \[0, 1\]"),
        ([0], X[:1] - 1, r"images must be in \[0, 1\]"),
        ([6], X[:1], "indices must be from 0 to 5"),
        ([-1], X[:1], "indices must be from 0 to 5"),
        ([1, 1], X[:2], "each once"),
        ([0.0], X[:1], "whole numbers"),
        ([], X[:0], "at least one"),
        ([0], X[:2], "of shape"),
        ([0], (255 * X[:1]).byte(), "floating-point"),
    ],
)
def test_a_batch_against_the_rules_is_refused(tmp_path, indices, sent, said):
    with pytest.raises(ValueError, match=said):
        send(tmp_path, np.array(indices), sent.numpy())


def test_what_is_no_batch_is_said(tmp_path):
    (tmp_path / "batch.npz").write_text("nothing")
    with pytest.raises(ValueError, match="batch must be an npz file"):
        check_batch(MODEL, REPORT, tmp_path / "batch.npz", X, Y)
    with pytest.raises(ValueError, match="the 6 images of the report"):
        check_batch(MODEL, REPORT, tmp_path / "batch.npz", X[:5], Y[:5])
