"""λ in a closed loop: the rule itself, what a run may ask for, that the target is held, and that a recorded step follows it too."""

import math
import random
from dataclasses import replace

import pytest
import torch
from nets import digits, images
from test_cuda_graph import StandIn

from deepdefense import models, objectives, training
from deepdefense.gfa import gfa_terms
from deepdefense.objectives.closed_loop import REACHED, ClosedLoop
from deepdefense.training import TrainConfig, config, cuda_graph
from deepdefense.training.step import TrainingStep, make_optimizer
from replication.profiles import make

SMALL = TrainConfig(model="mlp", width=0.2, epochs=12, batch_size=30, lr=5e-3, val_size=50, val_steps=2, val_eps=0.1)


def fit(objective, target, **settings):
    run = replace(SMALL, objective=objective, options={"target": target}, **settings)
    return training.fit(run, dataset=digits(train=600, val=150), device="cpu", progress=False).record


@pytest.mark.parametrize("low", [-1.0, 0.0, 0.9], ids=["pushed up to the limit", "in between", "pushed down to the limit"])
def test_the_rule_is_the_formula(low):
    loop, lam, mean, moments = ClosedLoop(0.5, torch.device("cpu")), 0.3, 0.0, random.Random(0)
    for step in range(200):
        progress, reached = step / 200, moments.uniform(low, 1.0 if low >= 0 else -0.5)
        loop.update({REACHED: torch.tensor(reached)}, progress)
        mean = 0.9 * mean + 0.1 * reached
        lam = min(20.0, max(0.02, lam * math.exp(0.15 * (0.5 * min(1, progress / 0.6) - mean))))
        assert loop.lam.item() == pytest.approx(lam, rel=1e-4) and loop.mean.item() == pytest.approx(mean, abs=1e-5)
    assert {-1.0: lam == 20.0, 0.0: 0.02 < lam < 20, 0.9: lam == 0.02}[low], "each case is what it is called"
    twin = ClosedLoop(0.5, torch.device("cpu"))
    twin.restore(loop.state())
    assert torch.equal(twin.lam, loop.lam) and torch.equal(twin.mean, loop.mean)


@pytest.mark.parametrize("form", ["cos", "abs", "square", "negative"])
@pytest.mark.parametrize(("layers", "weights"), [("first", None), ("deep", None), ("deep", [0, 1, 3])])
def test_what_is_reached_is_what_the_form_pursues(form, layers, weights):
    net, (x, y) = models.build("mlp", (1, 6, 6), 3, width=0.1, seed=0), images()
    step = objectives.Step(torch.tensor(0.3), torch.Generator())
    value, log = objectives.build(f"gfa-{layers}", dict(form=form, weights=weights, target=0.2))(net, x, y, step)
    terms = gfa_terms(net, x, y, lam=0.3, layers=layers, form=form, weights=weights)
    assert value.item() == pytest.approx(terms.loss.item(), rel=1e-6)
    pursued = {"cos": lambda a: a, "abs": torch.abs, "square": torch.square, "negative": torch.neg}[form]
    means = torch.stack([pursued(a).mean() for a in terms.alignments.values()])
    shares = torch.tensor(weights or [1.0] * len(means))
    assert log[REACHED].item() == pytest.approx(((means * shares).sum() / shares.sum()).item(), rel=1e-5)
    assert REACHED not in objectives.build(f"gfa-{layers}", {})(net, x, y, step)[1]


@pytest.mark.parametrize(("objective", "target"), [("gfa-first", 0.5), ("gfa-deep", 0.4)])
def test_the_target_is_held_and_the_task_is_learnt(objective, target):
    record = fit(objective, target)
    rows = record["history"]
    assert record["status"] == "finished" and rows[-1]["val_accuracy"] > 0.9
    assert [row["train_reached"] for row in rows[-2:]] == pytest.approx([target] * 2, abs=0.06)
    assert [row["goal"] for row in rows] == pytest.approx([target * min(1, (i + 1) / 12 / 0.6) for i in range(12)])
    assert len({row["lam"] for row in rows}) == 12 and all(0.02 <= row["lam"] <= 20 for row in rows)


def test_the_name_says_the_target_and_the_profiles_schedule_is_left_out():
    run = make("smoke", "gfa-first", target=0.25, seed=3)
    assert run.name().startswith("digits-cnn-gfa-first-target0.25-seed3-") and (run.lam, run.warmup, run.target) == (0.0, 0.0, 0.25)
    assert make("smoke", "gfa-first", target=None) == make("smoke", "gfa-first") and make("smoke", "gfa-first").lam == 0.5
    full = make("paper", "gfa-deep")
    assert (full.target, full.lam) == (0.4, 0.02) and make("paper", "gfa-deep", target=0.4, lam=0.02) == full
    assert make("paper", "gfa-deep", target=0.3).lam == 0, "a target of one's own begins at the usual λ"
    own = make("paper", "gfa-deep", lam=0.6, warmup=1.0)
    assert (own.target, own.lam, own.warmup) == (None, 0.6, 1.0), "λ of one's own takes the place of the profile's target"
    with_none = TrainConfig(objective="gfa-first", options={"target": None})
    assert with_none.digest() == TrainConfig(objective="gfa-first").digest() and with_none.target is None
    assert len({TrainConfig(objective="gfa-deep", options={"target": one}).name() for one in (1, 1.0)}) == 1
    assert config.reference(run) == config.reference(make("smoke", "gfa-first", seed=3))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (dict(target=0.2, lam=0.01), "lam must be left out, or from 0.02 to 20, where target is given"),
        (dict(target=0.2, lam=21), "lam must be left out, or from 0.02 to 20, where target is given"),
        (dict(target=0.2, warmup=0.5), "warmup must be left out, or 0, where target is given"),
        (dict(target=0.2, weights=[1, -1, 1, 1, 1]), "weights must be at least 0"),
        (dict(target=0.2, weights=[0, 0]), "weights must be at least 0, and one of them above 0"),
    ],
)
def test_what_the_loop_cannot_go_with_is_refused(settings, words):
    with pytest.raises(ValueError, match=words):
        make("smoke", "gfa-deep", **settings)


def test_an_objective_of_ones_own_must_log_what_it_reached():
    run = replace(SMALL, objective="gfa-first", options={"target": 0.2}, epochs=1)
    with pytest.raises(ValueError, match="target needs an objective that logs 'reached', .* logs loss, number"):
        training.fit(
            run, dataset=digits(), objective=lambda m, x, y, s: (m(x).square().mean(), {"number": 1.0}), device="cpu", progress=False
        )


def test_a_recorded_step_follows_the_loop():
    """λ is a tensor that the recorded step reads: nothing is recorded but that it is read."""
    outcomes = []
    for wrap in (lambda step: step, lambda step: cuda_graph.GraphedStep(step, StandIn())):
        model = models.build("cnn", (1, 8, 8), 10, width=0.2, seed=0).train()
        run = replace(SMALL, objective="gfa-deep", options={"target": 0.5})
        step = wrap(TrainingStep(model, make_optimizer(run, model), objectives.build("gfa-deep", run.options)))
        loop, generator, lams = ClosedLoop(0.5, torch.device("cpu")), torch.Generator(), []
        for i in range(8):
            loop.update(step(*images(8, (1, 8, 8), 10, seed=i), loop.lam, 1e-3, generator), i / 8)
            lams.append(loop.lam.item())
        outcomes.append((lams, torch.cat([p.detach().flatten() for p in model.parameters()])))
    (plain, expected), (lams, weights) = outcomes
    assert lams == pytest.approx(plain, rel=1e-5) and len(set(lams)) == 8
    assert (weights - expected).norm() <= 1e-5 * expected.norm()


def test_where_the_loop_starts_is_a_setting():
    """From a λ that is small enough the task is learnt first; the usual start stays what it was."""
    lam = {}
    for start in (0.0, 0.02, 0.3, 1.0):
        record = fit("gfa-deep", 0.4, lam=start, epochs=1)
        lam[start] = record["history"][0]["lam"]
        assert record["config"]["lam"] == start
    assert lam[0.0] == lam[0.3] and lam[0.02] < lam[0.3] < lam[1.0]
    run = make("smoke", "gfa-deep", target=0.4, lam=0.02)
    assert "-target0.4-lam0.02-" in run.name() and run.name() != make("smoke", "gfa-deep", target=0.4).name()
