"""A submitted batch: what counts, and that each rule is held, one sentence each."""

import numpy as np
import pytest
import torch
from nets import Plane, images

import deepdefense
from deepdefense import data, models
from deepdefense.storage import files, paths
from replication import networks
from replication.chapters import break_our_networks as chapter
from replication.experiments import more_effort
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


NO_ATTACK = {"no": {"attack": lambda model, x, y, *, eps, seed: x}}


def test_more_effort_breaks_what_can_be_broken_and_nothing_else():
    """The nearest mistake of a plane lies along the signs of its weights, so what is within reach is known."""
    worst = X + 0.1 * torch.where(MODEL(X).argmax(1) == 1, -1.0, 1.0).view(-1, 1, 1, 1)
    reach = [i for i in range(1, 6) if MODEL(worst[i : i + 1]).argmax(1) != Y[i]]
    found = more_effort.try_harder(MODEL, REPORT, X, Y, more_effort.Effort(restarts=1, targets=1, steps=10))
    assert found == {"eps": 0.1, "n": 6, "survivors": 5, "broken": reach} and 0 < len(reach) < 5
    nothing_left = deepdefense.evaluate(MODEL, X, 1 - MODEL(X).argmax(1), eps=0.1, suites=NO_ATTACK, progress=False)
    assert more_effort.try_harder(MODEL, nothing_left, X, 1 - MODEL(X).argmax(1), more_effort.Effort())["broken"] == []
    in_l2 = deepdefense.evaluate(MODEL, X, Y, eps=0.1, norm="l2", suites=NO_ATTACK, progress=False)
    with pytest.raises(ValueError, match="under linf; got l2"):
        more_effort.try_harder(MODEL, in_l2, X, Y, more_effort.Effort())


def test_momentum_is_a_decaying_sum_of_directions_of_one_length():
    low, high = torch.full((2, 1, 1, 2), -9.0), torch.full((2, 1, 1, 2), 9.0)
    move, at = more_effort.Momentum(0.5), torch.zeros(2, 1, 1, 2)
    first, second = torch.tensor([[3.0, 1.0], [0.0, 0.0]]).view(2, 1, 1, 2), torch.tensor([[-0.1, 0.1], [2.0, -2.0]]).view(2, 1, 1, 2)
    assert torch.equal(move(at, first, low, high, 1.0), first.sign())
    assert torch.equal(move(at, second, low, high, 1.0), torch.tensor([[-1.0, 1.0], [1.0, -1.0]]).view(2, 1, 1, 2))
    assert torch.allclose(move.sum[0].flatten(), torch.tensor([0.5 * 1.5 - 1, 0.5 * 0.5 + 1]))


def test_more_effort_keeps_a_record_which_the_page_reads(tmp_path, monkeypatch, capsys):
    digits = data.load("digits")
    model = models.build("mlp", digits.in_shape, classes=10, width=0.25, seed=0).eval()
    test = digits.test[:40]
    report = deepdefense.evaluate(model, test.images(), test.y, eps=0.1, suites=NO_ATTACK, progress=False)
    record = {"name": "digits-mlp", "config": {"data": "digits"}}
    monkeypatch.setattr(paths, "results_root", lambda: tmp_path)
    monkeypatch.setattr(networks, "load", lambda name: networks.Published(model, record, None if name == "not attacked" else report))
    with pytest.raises(SystemExit):
        more_effort.main(["digits-mlp", "not attacked"])
    assert "digits-mlp must have a report under L∞" in capsys.readouterr().err and not list(tmp_path.iterdir())
    (path,) = more_effort.main(["digits-mlp", "--restarts", "1", "--steps", "5"])
    made = files.read_json(path)
    kept = int(report.robust().sum())
    assert made["survivors"] == kept and set(made["broken"]) <= set(report.robust().nonzero()[0]) and made["effort"]["steps"] == 5
    assert more_effort.main(["digits-mlp"]) == [] and "its record is there" in capsys.readouterr().out

    published = networks.Network(record | {"config": {"data": "digits", "val_eps": 0.1}}, tmp_path)
    published.__dict__["reports"] = {"linf": report}
    there = chapter.efforts([published])
    assert made["broken"] and f"{len(made['broken'])} of {kept} survivors of 1 network fall" in chapter.effort_words(there)
    assert chapter.effort_table(there).loc["digits-mlp", "broken"] == len(made["broken"])
    assert chapter.efforts([]) == [] and "Nobody has tried" in chapter.effort_words([])
    files.write_json(path, made | {"survivors": kept + 1})
    assert chapter.efforts([published]) == []
