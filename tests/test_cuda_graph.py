"""A recorded step: its buffers are tested with a stand-in that calls the step again, the real thing where there is a GPU."""

from copy import deepcopy
from dataclasses import replace

import pytest
import torch
from nets import digits, images

from deepdefense import models, objectives, training
from deepdefense.training import TrainConfig, cuda_graph
from deepdefense.training.step import TrainingStep, make_optimizer

SMALL = TrainConfig(model="cnn", width=0.2, epochs=2, batch_size=32, lr=5e-3, val_size=30, val_steps=2, val_eps=0.1)
CASES = ["standard", "gfa-first", "gfa-deep", "pgd-at", "gnr", "trades"]
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")


class StandIn:
    """Replays by calling the recorded function into the memory of the first result; counts what it is asked."""

    def __init__(self, refuse=None):
        self.calls, self.refuse = [], refuse

    def warm_up(self, step):
        self.calls.append("warm up")
        return step()

    def record(self, step, generator):
        self.calls.append("record")
        if self.refuse:
            raise RuntimeError(self.refuse)
        self.step, self.result = step, {}
        return self.result

    def replay(self):
        self.calls.append("replay")
        self.result.update(self.step())


def batches(sizes):
    return [images(size, (1, 8, 8), 10, seed=seed) for seed, size in enumerate(sizes)]


def run(objective, step_of, sizes, lr_of=lambda i: 5e-3 / (1 + i), optimizer="adam"):
    """Weights and log after a step on each batch, with λ and rate changing from step to step."""
    config = replace(SMALL, objective=objective, optimizer=optimizer)
    model = models.build("cnn", (1, 8, 8), 10, width=0.2, seed=0).train()
    step = step_of(TrainingStep(model, make_optimizer(config, model), objectives.build(objective, {})))
    generator = torch.Generator().manual_seed(3)
    logs = [step(x, y, 0.1 * i, lr_of(i), generator) for i, (x, y) in enumerate(batches(sizes))]
    return torch.cat([p.detach().flatten() for p in model.parameters()]), logs, step


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
@pytest.mark.parametrize("objective", CASES)
def test_replayed_steps_give_what_plain_steps_give(objective, optimizer):
    sizes = [8] * 6 + [5] + [8] * 2
    plain, expected, _ = run(objective, lambda step: step, sizes, optimizer=optimizer)
    recorder = StandIn()
    weights, logs, step = run(objective, lambda step: cuda_graph.GraphedStep(step, recorder), sizes, optimizer=optimizer)
    assert recorder.calls == ["warm up"] * 3 + ["record"] + ["replay"] * 5 and step.replayed == 5 and step.reason is None
    assert (weights - plain).norm() <= 1e-5 * plain.norm(), "λ is a float32 number in the buffer"
    for log, wanted in zip(logs, expected, strict=True):
        assert log.keys() == wanted.keys() and next(iter(log)) == "loss"
        assert all(torch.allclose(log[key], wanted[key], rtol=1e-4, atol=1e-6) for key in log)
    assert len({log["loss"].item() for log in logs}) == len(logs), "what was logged must not be overwritten by the next replay"


def test_a_step_that_cannot_be_recorded_goes_on_plainly_and_says_so():
    recorder = StandIn(refuse="operation not permitted when stream is capturing\nmore")
    with pytest.warns(UserWarning, match="no CUDA graph: the step could not be recorded: operation not permitted"):
        weights, _, step = run("gfa-deep", lambda step: cuda_graph.GraphedStep(step, recorder), [8] * 7)
    assert torch.allclose(weights, run("gfa-deep", lambda step: step, [8] * 7)[0], atol=1e-6)
    assert step.reason.endswith("capturing") and recorder.calls == ["warm up"] * 3 + ["record"], "asked once, not at each step"


def test_without_a_gpu_the_run_says_why_and_keeps_the_reason(tmp_path):
    with pytest.warns(UserWarning, match="no CUDA graph: a CUDA graph needs a CUDA GPU, and this run is on cpu"):
        asked = training.fit(SMALL, dataset=digits(), device="cpu", progress=False, cuda_graph=True, folder=tmp_path)
    plain = training.fit(SMALL, dataset=digits(), device="cpu", progress=False)
    assert asked.record["cuda_graph"]["steps_replayed"] == 0 and "on cpu" in asked.record["cuda_graph"]["reason_against"]
    assert "cuda_graph" not in plain.record and asked.name == plain.name
    assert all(torch.equal(p, q) for p, q in zip(asked.last.parameters(), plain.last.parameters(), strict=True))


def test_the_optimizer_reads_its_rate_from_a_tensor():
    model = models.build("mlp", (1, 8, 8), 10, width=0.1, seed=0)
    parameter = [torch.nn.Parameter(p.detach().clone()) for p in model.parameters()]
    optimizer = torch.optim.SGD(parameter, lr=torch.tensor(0.1))
    step = TrainingStep(model, optimizer, None)
    held = optimizer.param_groups[0]["lr"]
    step.set_rate(0.25)
    assert optimizer.param_groups[0]["lr"] is held and held.item() == 0.25
    step.set_rate(held)
    assert held.item() == 0.25


@needs_gpu
@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
@pytest.mark.parametrize("objective", CASES)
def test_a_real_graph_trains_as_the_plain_step_does(objective, optimizer):
    run = replace(SMALL, objective=objective, optimizer=optimizer, lam=0.1 if objective[:2] in ("gf", "gn") else 0.0)
    plain = training.fit(run, dataset=digits(), device="cuda", progress=False)
    graphed = training.fit(run, dataset=digits(), device="cuda", progress=False, cuda_graph=True)
    told = graphed.record["cuda_graph"]
    assert told["reason_against"] is None and told["steps_replayed"] > 0
    for one, other in zip(plain.record["history"], graphed.record["history"], strict=True):
        assert one["train_loss"] == pytest.approx(other["train_loss"], rel=1e-3)


@needs_gpu
def test_an_objective_that_waits_for_the_gpu_is_not_recorded():
    def objective(model, x, y, step):
        loss = model(x).square().mean()
        return loss * (1 if loss.item() > 0 else 2), {}

    with pytest.warns(UserWarning, match="could not be recorded"):
        run = training.fit(SMALL, dataset=digits(), objective=objective, device="cuda", progress=False, cuda_graph=True)
    assert run.record["status"] in ("finished", "collapsed") and run.record["cuda_graph"]["reason_against"]


def test_the_optimizers_on_the_device_have_their_state_there():
    model = models.build("mlp", (1, 8, 8), 10, width=0.1, seed=0)
    optimizer = make_optimizer(replace(SMALL, optimizer="sgd"), model, on_device=True)
    assert isinstance(optimizer.param_groups[0]["lr"], torch.Tensor) and optimizer.param_groups[0]["fused"]
    twin = deepcopy(model)
    assert isinstance(make_optimizer(SMALL, twin).param_groups[0]["lr"], float)
