"""A folder belongs to the objective and the model that its run was made with: another of the caller's own is never given old numbers."""

from dataclasses import replace
from functools import partial

import pytest
import torch
from nets import Normalised, digits, seeded
from torch import nn

from deepdefense import training
from deepdefense.training import TrainConfig
from deepdefense.training.step import TrainingStep

SMALL = TrainConfig(model="mlp", width=0.05, epochs=2, batch_size=50, lr=5e-3, val_size=20, val_steps=1, val_eps=0.1)


def fit(folder, run=SMALL, **options):
    return training.fit(run, folder=folder, dataset=digits(), device="cpu", progress=False, **options)


def weights(model):
    return torch.cat([t.detach().flatten().float() for t in model.state_dict().values()])


def scaled(factor):
    def objective(model, x, y, step):
        return factor * model(x).square().mean(), {}

    return objective


def shrunk(model, x, y, step):
    return model(x).abs().mean(), {}


def by_default(model, x, y, step, power=2):
    return model(x).abs().pow(power).mean(), {}


def by_another_default(power):
    def objective(model, x, y, step, power=power):
        return model(x).abs().pow(power).mean(), {}

    return objective


class Towards:
    """An object that is called, with a tensor and perhaps a network of its own."""

    def __init__(self, point, network=None):
        self.point, self.network = point, network

    def __call__(self, model, x, y, step):
        wanted = self.point if self.network is None else self.network(x).detach()
        return (model(x) - wanted).square().mean(), {}


def teacher(seed):
    return Towards(0.0, seeded(Normalised, seed).float().eval())


PAIRS = {
    "other code": (scaled(1.0), shrunk),
    "other closure": (scaled(1.0), scaled(2.0)),
    "other tensor": (scaled(torch.tensor([1.0, 2.0]).mean()), scaled(torch.tensor([1.0, 2.5]).mean())),
    "other default": (by_another_default(2), by_another_default(3)),
    "other bound argument": (partial(by_default, power=2), partial(by_default, power=3)),
    "other attribute": (Towards(torch.zeros(10)), Towards(torch.ones(10))),
    "other network inside": (teacher(0), teacher(1)),
    "one of its own, then the configuration's": (scaled(1.0), None),
    "the configuration's, then one of its own": (None, scaled(1.0)),
}


@pytest.fixture(scope="module", autouse=True)
def _loaded():
    fit(None)  # what takes seconds to load


@pytest.mark.parametrize("pair", PAIRS.values(), ids=list(PAIRS))
def test_another_objective_is_refused_in_the_folder_of_the_first(pair, tmp_path):
    one, other = pair
    run = replace(SMALL, epochs=1)
    record = fit(tmp_path, run, objective=one).record
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(ValueError, match="holds a run with another objective than the one given; use another folder or delete it"):
        fit(tmp_path, run, objective=other)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    assert fit(tmp_path, run, objective=one).record == record


def test_the_same_function_made_again_is_the_same(tmp_path, monkeypatch):
    record = fit(tmp_path, objective=scaled(torch.tensor(2.0))).record
    monkeypatch.setattr(TrainingStep, "__call__", None)
    assert fit(tmp_path, objective=scaled(torch.tensor(2.0))).record == record


def test_an_interrupted_run_goes_on_with_its_own_objective_and_with_no_other(tmp_path, monkeypatch):
    whole = fit(None, objective=scaled(2.0))
    inner, calls = TrainingStep.__call__, iter(range(10**9))

    def interrupted(*arguments):
        if next(calls) == 5:
            raise KeyboardInterrupt
        return inner(*arguments)

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(TrainingStep, "__call__", interrupted)
        fit(tmp_path, objective=scaled(2.0))
    with pytest.raises(ValueError, match="another objective"):
        fit(tmp_path, objective=scaled(3.0))
    assert torch.equal(weights(fit(tmp_path, objective=scaled(2.0)).last), weights(whole.last))


class Own(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(64, 10)

    def forward(self, x):
        return self.layer(x.flatten(1))


class Halved(Own):
    def forward(self, x):
        return super().forward(x) / 2


def test_a_model_of_other_code_is_refused_and_of_the_same_is_read_back(tmp_path):
    record = fit(tmp_path, model=Own()).record
    assert fit(tmp_path, model=Own()).record == record
    for other in (Halved(), None):
        with pytest.raises(ValueError, match="holds a run with another model than the one given"):
            fit(tmp_path, model=other)


def loss_of(model, x, y):
    return nn.functional.cross_entropy(model(x), y)


NO_OBJECTIVE = {
    "loss alone": (lambda model, x, y, step: loss_of(model, x, y), r"returned a tensor of shape \(\)"),
    "a loss for each": (lambda model, x, y, step: (model(x).square().mean(1), {}), r"as loss a tensor of shape \(50,\)"),
    "no gradient": (lambda model, x, y, step: (loss_of(model, x, y).detach(), {}), r"as loss a tensor of shape \(\) without a gradient"),
    "a float": (lambda model, x, y, step: (loss_of(model, x, y).item(), {}), "as loss a float"),
    "no log": (lambda model, x, y, step: (loss_of(model, x, y), None), "returned a NoneType beside the loss"),
    "text in the log": (lambda model, x, y, step: (loss_of(model, x, y), {"kind": "ce"}), "returned a str as 'kind'"),
    "a list of numbers in the log": (lambda model, x, y, step: (loss_of(model, x, y), {"z": model(x).mean(0)}), r"shape \(10,\) as 'z'"),
}


@pytest.mark.parametrize("case", NO_OBJECTIVE)
def test_what_an_objective_must_return_is_said(case):
    objective, said = NO_OBJECTIVE[case]
    with pytest.raises(ValueError, match=rf"an objective must return \(loss, {{name: number}}\).*{said}"):
        fit(None, objective=objective)


def replaced(forward_of):
    """A network whose forward was replaced from outside."""
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    net.forward = forward_of(net)
    return net


class Hidden(nn.Module):
    def __init__(self):
        super().__init__()
        self.nets = [nn.Sequential(nn.Flatten(), nn.Linear(64, 10))]

    def forward(self, x):
        return self.nets[0](x)


def empty(part):
    return replace(digits(), **{part: digits().val[:0]})


UNTRAINABLE = {
    "configuration": (dict(run=SMALL.to_dict()), "config must be a TrainConfig, got dict; TrainConfig"),
    "data": (dict(dataset=torch.utils.data.TensorDataset(torch.zeros(3))), "dataset must be a deepdefense.data.Dataset, got TensorDataset"),
    "nothing to validate on": (dict(dataset=empty("val")), "there are none in val"),
    "nothing to test on": (dict(dataset=empty("test")), "there are none in test"),
    "nothing to train on": (dict(dataset=empty("train")), "there are none in train"),
    "objective by name": (dict(objective="gfa-first"), "objective must be a function .* got 'gfa-first'"),
    "model by name": (dict(model="cnn"), "model must be a torch.nn.Module, got str"),
    "networks in a list": (dict(model=Hidden()), r"the model \(Hidden\) cannot be trained: it has no parameters .*nn.ModuleList"),
    "frozen": (dict(model=nn.Sequential(nn.Flatten(), nn.Linear(64, 10)).requires_grad_(False)), "none of its parameters takes a gradient"),
    "forward replaced": (
        dict(model=replaced(lambda net: lambda x, old=net.forward: old(2 * x - 1))),
        "the forward of the model was replaced by a function that holds the model itself",
    ),
    "forward replaced, in a closure": (
        dict(model=replaced(lambda net: lambda x: type(net).forward(net, x))),
        "the forward of the model was replaced",
    ),
}


@pytest.mark.parametrize("case", UNTRAINABLE)
def test_what_cannot_be_trained_is_said_before_any_work(case):
    options, said = UNTRAINABLE[case]
    options = {"run": SMALL, "dataset": digits(), "objective": shrunk} | options
    with pytest.raises(ValueError, match=said):
        training.fit(options.pop("run"), device="cpu", progress=False, **options)


def test_a_forward_that_holds_no_module_of_its_own_may_stand_in():
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 10), nn.ReLU())
    net[2].forward = lambda x: x
    assert fit(None, model=net, run=replace(SMALL, epochs=1)).record["best_epoch"] == 1
