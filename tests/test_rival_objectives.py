"""The defences beside the paper's: each against its authors' formula, written out here with torch alone, and against finite differences."""

import inspect
import math
import warnings
from copy import deepcopy
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from nets import Normalised, digits, global_random_state, images, seeded
from test_cuda_graph import StandIn
from torch import nn
from torch.nn.utils.parametrizations import weight_norm

from deepdefense import models, objectives, training
from deepdefense.gfa import gfa_terms
from deepdefense.objectives import gfa_fixed_scale
from deepdefense.objectives.closed_loop import REACHED
from deepdefense.training import TrainConfig, cuda_graph, load_model
from deepdefense.training.step import TrainingStep, make_optimizer
from replication.profiles import make

EPS, ALPHA = 0.1, 0.03
ATTACK = dict(eps=EPS, alpha=ALPHA, attack_steps=2)
CASES = {  # every option that changes what is differentiated
    "tangential-gnr": {},
    "gradalign": dict(eps=EPS, detach_clean=False),
    "cure": dict(h=0.7),
    "mart": ATTACK,
    "gfa-first-fixed-scale": {},
    "gfa-deep-fixed-scale": dict(form="square"),
    "pgd-at-gfa-first": ATTACK,
    "pgd-at-gfa-deep": dict(ATTACK, form="abs"),
    "pgd-at-tangential": ATTACK,
}
LOSSES = {name: ["ce"] if name == "mart" else ["mse", "ce"] for name in CASES}
BOTH = [(name, loss) for name, losses in LOSSES.items() for loss in losses]


def generator():
    return torch.Generator().manual_seed(0)


def step(lam=0.7):
    return objectives.Step(lam, generator())


def smooth(seed=0):
    """A well-bent network with second derivatives everywhere, on 36 numbers, in float64; it sees images as they are."""
    net = seeded(lambda: nn.Sequential(nn.Flatten(), nn.Linear(36, 7), nn.Tanh(), nn.Linear(7, 3)), seed)
    with torch.no_grad():
        net[1].weight.mul_(3)
    return net


def batch():
    x, y = images(5)
    return x.double(), y


def mean_loss(net, x, y, loss):
    """By hand, per sample."""
    z = net(x)
    return (z - F.one_hot(y, 3)).square().sum(1) if loss == "mse" else z.logsumexp(1) - z[torch.arange(len(y)), y]


def gradient(net, x, y, loss):
    """Of each sample's loss at x, differentiable once more."""
    x = x.clone().requires_grad_()
    return torch.autograd.grad(mean_loss(net, x, y, loss).sum(), x, create_graph=True)[0]


def signed_steps(net, x, y, loss, start, sizes, eps=EPS):
    """Steps along the sign of the gradient, each clipped to the ball and to [0, 1]."""
    x_adv = (start.clamp(x - eps, x + eps)).clamp(0, 1)
    for size in sizes:
        x_adv = (x_adv + size * gradient(net, x_adv, y, loss).sign().detach()).clamp(x - eps, x + eps).clamp(0, 1)
    return x_adv.detach()


def uniform(x, rng, eps=EPS):
    return x + eps * (2 * torch.rand(x.shape, generator=rng, dtype=x.dtype) - 1)


def same(net, value, expected):
    """Values and gradients of all weights agree to rounding."""
    assert value.item() == pytest.approx(expected.item(), rel=1e-10)
    mine, theirs = (torch.autograd.grad(total, list(net.parameters()), retain_graph=True) for total in (value, expected))
    for one, other in zip(mine, theirs, strict=True):
        assert torch.allclose(one, other, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("loss", ["mse", "ce"])
@pytest.mark.parametrize("detach_clean", [True, False])
@pytest.mark.parametrize("attack_start", ["uniform", "zero"])
def test_gradalign_is_its_formula(loss, detach_clean, attack_start):
    net, (x, y), rng = smooth(), batch(), generator()
    options = dict(loss=loss, eps=EPS, attack_start=attack_start, detach_clean=detach_clean)
    value, log = objectives.build("gradalign", options)(net, x, y, step())
    start = uniform(x, rng) if attack_start == "uniform" else x
    x_adv = signed_steps(net, x, y, loss, start, [1.25 * EPS])
    at_x, at_eta = gradient(net, x, y, loss).flatten(1), gradient(net, uniform(x, rng), y, loss).flatten(1)
    at_x = at_x.detach() if detach_clean else at_x
    cosine = ((at_x / at_x.norm(dim=1, keepdim=True)) * (at_eta / at_eta.norm(dim=1, keepdim=True))).sum(1)
    task = mean_loss(net, x_adv, y, loss).mean()
    assert 1 - cosine.mean() > 1e-3 and log["penalty"].item() == pytest.approx(1 - cosine.mean().item(), rel=1e-10)
    same(net, value, task + 0.7 * (1 - cosine.mean()))


def test_an_image_without_a_gradient_counts_for_nothing_in_gradalign():
    """The first image is far on the flat side of the only ReLU; the rest are on its slope, where the function is linear."""
    net = seeded(lambda: nn.Sequential(nn.Flatten(), nn.Linear(36, 1), nn.ReLU(), nn.Linear(1, 3)))
    x, y = batch()
    with torch.no_grad():
        net[1].weight.fill_(1.0)
        net[1].bias.fill_(-9.0)
    x[0], x[1:] = 0.0, x[1:].clamp(min=0.6)
    _, log = objectives.build("gradalign", dict(eps=0.01, loss="ce"))(net, x, y, step())
    assert log["penalty"].item() == pytest.approx(0, abs=1e-12), "with the first image it would be 1/5"
    x[:] = 0.0
    value, log = objectives.build("gradalign", dict(eps=0.01, loss="ce"))(net, x, y, step())
    value.backward()
    assert log["penalty"].item() == 0 and all(p.grad.isfinite().all() for p in net.parameters())


@pytest.mark.parametrize("loss", ["mse", "ce"])
def test_cure_is_its_formula(loss):
    net, (x, y) = smooth(), batch()
    value, log = objectives.build("cure", dict(loss=loss, h=0.7))(net, x, y, step())
    clean = gradient(net, x, y, loss)
    z = clean.detach().sign() / math.sqrt(36)  # no entry is 0
    penalty = (gradient(net, x + 0.7 * z, y, loss) - clean).square().sum((1, 2, 3)).mean()
    assert penalty > 1e-4 and log["penalty"].item() == pytest.approx(penalty.item(), rel=1e-10)
    same(net, value, mean_loss(net, x, y, loss).mean() + 0.7 * penalty)


def test_cure_sees_no_curvature_in_a_linear_network_trained_by_its_margin():
    """The gradient of a linear network's logit difference is the same everywhere."""
    net, (x, y) = seeded(lambda: nn.Sequential(nn.Flatten(), nn.Linear(36, 2))), batch()
    _, log = objectives.build("cure", dict(loss="margin", h=3))(net, x, y % 2, step())
    assert log["penalty"].item() < 1e-25


def test_mart_is_its_formula():
    net, (x, y), rng = smooth(), batch(), generator()
    value, log = objectives.build("mart", dict(ATTACK, beta=2.5))(net, x, y, step())
    start = x + 0.001 * torch.randn(x.shape, generator=rng, dtype=x.dtype)
    x_adv = signed_steps(net, x, y, "ce", start, [ALPHA] * 2)
    rows = torch.arange(len(y))
    p, q = net(x).softmax(1), net(x_adv).softmax(1)
    ranked = q.argsort(1)
    wrong = torch.where(ranked[:, -1] == y, ranked[:, -2], ranked[:, -1])
    assert (ranked[:, -1] == y).any() and (ranked[:, -1] != y).any(), "both cases of the largest wrong class"
    boosted = -q[rows, y].log() - (1.0001 - q[rows, wrong]).log()
    weighted = (p * (p.log() - q.log())).sum(1) * (1 - p[rows, y])
    assert log["penalty"].item() == pytest.approx(weighted.mean().item(), rel=1e-10)
    same(net, value, boosted.mean() + 2.5 * weighted.mean())


def test_mart_has_no_form_for_squared_error():
    with pytest.raises(ValueError, match="^loss must be ce, since MART is made of probabilities; got 'mse'$"):
        make("smoke", "mart", loss="mse")
    assert make("smoke", "mart").loss == "ce"


@pytest.mark.parametrize("loss", ["mse", "ce"])
def test_tangential_gnr_leaves_the_part_along_the_seen_image_alone(loss):
    """The image seen is 2x − 1; GNR, whose gradient is twice as long, is four times both parts together."""
    net, (x, y) = models.build("mlp", (1, 6, 6), 3, width=0.02, activation="softplus", seed=0).double(), batch()
    value, log = objectives.build("tangential-gnr", {"loss": loss})(net, x, y, step())
    seen = (2 * x - 1).flatten(1)
    g = gradient(net.body, 2 * x - 1, y, loss).flatten(1)
    along = (g * seen).sum(1).square() / seen.square().sum(1)
    squares = g.square().sum(1) - along
    assert log["penalty"].item() == pytest.approx(squares.mean().item(), rel=1e-10)
    same(net, value, mean_loss(net, x, y, loss).mean() + 0.7 * squares.mean())
    whole = objectives.build("gnr", {"loss": loss})(net, x, y, step())[1]["penalty"]
    assert whole.item() == pytest.approx(4 * (squares + along).mean().item(), rel=1e-10) and along.mean() > 1e-3 * squares.mean()


@pytest.mark.parametrize("loss", ["mse", "ce"])
def test_penalties_on_clean_images_join_the_loss_on_attacked_ones(loss):
    net, (x, y), rng = smooth(), batch(), generator()
    options = dict(ATTACK, loss=loss)
    task = mean_loss(net, signed_steps(net, x, y, loss, uniform(x, rng), [ALPHA] * 2), y, loss).mean()
    g = gradient(net, x, y, loss).flatten(1)
    cosine = F.cosine_similarity(x.flatten(1), g)
    same(net, objectives.build("pgd-at-gfa-first", options)(net, x, y, step())[0], task + 0.7 * (1 - cosine).mean())
    across = (g.norm(dim=1) * (1 - cosine.square()).sqrt()).square()
    same(net, objectives.build("pgd-at-tangential", options)(net, x, y, step())[0], task + 0.7 * across.mean())
    deep = gfa_terms(net, x, y, lam=1.0, layers="deep", loss=loss, form="negative", weights=[1.0, 2.0])
    value, log = objectives.build("pgd-at-gfa-deep", dict(options, form="negative", weights=[1, 2], target=0.3))(net, x, y, step())
    same(net, value, task + 0.7 * deep.penalty)
    first, second = (a.mean() for a in deep.alignments.values())
    assert log[REACHED].item() == pytest.approx(-(first + 2 * second).item() / 3, rel=1e-10)


@pytest.mark.parametrize("layers", ["first", "deep"])
@pytest.mark.parametrize("loss", ["mse", "ce"])
def test_a_fixed_scale_is_weight_normalisation_with_constant_lengths(layers, loss):
    net, (x, y) = smooth(), batch()
    twin = deepcopy(net)
    for module in (twin[1], twin[3]):
        weight_norm(module, dim=None).parametrizations.weight.original0.requires_grad_(False).fill_(math.sqrt(len(module.weight) / 3))
    value, _ = objectives.build(f"gfa-{layers}-fixed-scale", {"loss": loss})(net, x, y, step())
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "'deep' has no tap at these modules", UserWarning)  # torch's own parametrisation
        expected = gfa_terms(twin, x, y, lam=0.7, layers=layers, loss=loss).loss
    assert value.item() == pytest.approx(expected.item(), rel=1e-12)
    value.backward()
    for mine, normed in ((net[1], twin[1]), (net[3], twin[3])):
        assert mine.weight.norm().item() == pytest.approx(math.sqrt(len(mine.weight) / 3), rel=1e-12)
        assert torch.allclose(mine.weight, normed.weight, rtol=1e-12)
        assert abs((mine.weight * mine.weight.grad).sum()) < 1e-14 < mine.weight.grad.norm(), "no gradient along the weights"
    expected.backward()
    assert torch.allclose(net[1].bias.grad, twin[1].bias.grad, rtol=1e-9, atol=1e-12)
    assert list(net.state_dict()) == list(smooth().state_dict()), "an ordinary network"


@pytest.mark.parametrize(("name", "width"), [("cnn", 0.5), ("cnn", 1.0), ("mlp", 0.5)])
def test_the_fixed_lengths_are_those_of_fresh_weights(name, width):
    weights = gfa_fixed_scale.weights_of(models.build(name, (3, 32, 32), 10, width=width, seed=1))
    assert len(weights) == {"cnn": 5, "mlp": 3}[name]
    for key, weight in weights.items():
        assert weight.norm().item() == pytest.approx(gfa_fixed_scale.fixed_length(weight), rel=0.04), key


@pytest.mark.parametrize(("name", "loss"), BOTH)
def test_gradients_of_the_weights_are_finite_differences(name, loss):
    """The attack's signs do not change over so small a step."""
    net, (x, y) = smooth(seed=3), batch()
    objective = objectives.build(name, dict(CASES[name], loss=loss))
    objective(net, x, y, step())[0].backward()
    rng = torch.Generator().manual_seed(9)
    direction = [torch.randn(p.shape, generator=rng, dtype=p.dtype) for p in net.parameters()]
    slope = sum((p.grad * d).sum() for p, d in zip(net.parameters(), direction, strict=True))

    def along(t):
        moved = deepcopy(net)
        with torch.no_grad():
            for p, d in zip(moved.parameters(), direction, strict=True):
                p += t * d
        return objective(moved, x, y, step())[0].item()

    h = 1e-5
    assert slope.item() == pytest.approx((along(h) - along(-h)) / (2 * h), rel=1e-5)


@pytest.mark.parametrize("name", CASES)
def test_a_step_leaves_all_else_as_it_was(name):
    """Batch normalisation is in training mode where it is trained and in eval mode under attack; no global generator is drawn from."""
    net, (x, y) = seeded(lambda: Normalised(classes=3)).float().train(), images(30)
    before, copy, state, modes = net.norm.weight.detach().clone(), x.clone(), global_random_state(), []
    net.norm.register_forward_pre_hook(lambda module, args: modes.append(module.training))
    value, log = objectives.build(name, CASES[name])(net, x, y, step())
    value.backward()
    assert global_random_state() == state and torch.equal(x, copy) and net.training and torch.equal(net.norm.weight, before)
    assert all(p.requires_grad and p.grad.isfinite().all() for p in net.parameters())
    assert all(not number.requires_grad for number in log.values()) and {"task", "penalty"} <= log.keys()
    steps = {"gradalign": 1, "cure": 0, "mart": 2}.get(name, 2 if name.startswith("pgd-at") else 0)
    assert modes[:steps] == [False] * steps and all(modes[steps:]) and len(modes) > steps
    fixed = {"statistics": "fixed"} if "statistics" in objectives.option_defaults(name) else {}
    if fixed:
        mean = net.norm.running_mean.clone()
        objectives.build(name, {**CASES[name], **fixed})(net, x, y, step())
        assert torch.equal(net.norm.running_mean, mean)


BASE = TrainConfig(model="mlp", width=0.2, epochs=8, batch_size=60, lr=5e-3, val_size=100, val_steps=5, val_eps=0.15)
TRAINED = {
    "standard": {},
    "tangential-gnr": dict(lam=8.0, warmup=0.5),
    "gradalign": dict(lam=0.2, options=dict(eps=0.15)),
    "cure": dict(lam=2.0, warmup=0.5),
    "mart": dict(options=dict(eps=0.15, alpha=0.06, attack_steps=4)),
    "pgd-at-tangential": dict(lam=1.0, options=dict(eps=0.15, alpha=0.06, attack_steps=4)),
}


def fit(name, folder=None, **settings):
    run = replace(BASE, objective=name, **settings)
    return training.fit(run, folder=folder, dataset=digits(train=600, val=150), device="cpu", progress=False)


@pytest.fixture(scope="module")
def plain():
    return fit("standard").record["history"][-1]


@pytest.mark.parametrize("name", [name for name in TRAINED if name != "standard"])
def test_they_buy_robustness(plain, name):
    record = fit(name, **TRAINED[name]).record
    last = record["history"][-1]
    assert record["status"] == "finished" and last["val_accuracy"] > 0.8
    assert last["val_robust_accuracy"] > plain["val_robust_accuracy"] + 0.03


@pytest.mark.parametrize("name", ["gfa-first-fixed-scale", "pgd-at-gfa-first"])
def test_gfa_in_other_company_aligns_too_and_follows_a_target(plain, name):
    options = {"eps": 0.05, "attack_steps": 2} if name.startswith("pgd") else {}
    record = fit(name, options={**options, "target": 0.4}).record
    last = record["history"][-1]
    assert record["status"] == "finished" and last["val_accuracy"] > 0.8 and last["val_alignment"] > plain["val_alignment"] + 0.1
    assert last["train_reached"] == pytest.approx(0.4, abs=0.1)


def test_lengths_are_held_to_the_end_and_a_stopped_run_goes_on_alike(tmp_path, monkeypatch):
    settings = dict(lam=0.3, epochs=3, optimizer="sgd", lr=0.05, weight_decay=0.01)
    whole = fit("gfa-deep-fixed-scale", folder=tmp_path / "whole", **settings)
    for key, weight in gfa_fixed_scale.weights_of(whole.last).items():
        assert weight.norm().item() == pytest.approx(gfa_fixed_scale.fixed_length(weight), rel=1e-3), key
    inner, calls = TrainingStep.__call__, iter(range(10**6))

    def stops(self, *arguments):
        if next(calls) == 25:
            raise KeyboardInterrupt
        return inner(self, *arguments)

    monkeypatch.setattr(TrainingStep, "__call__", stops)
    with pytest.raises(KeyboardInterrupt):
        fit("gfa-deep-fixed-scale", folder=tmp_path / "stopped", **settings)
    monkeypatch.undo()
    fit("gfa-deep-fixed-scale", folder=tmp_path / "stopped", **settings)
    both = [load_model(tmp_path / name, "last", device="cpu").state_dict() for name in ("whole", "stopped")]
    assert all(torch.equal(value, both[1][key]) for key, value in both[0].items()) and list(both[0]) == list(whole.last.state_dict())


@pytest.mark.parametrize("name", CASES)
def test_a_recorded_step_gives_what_a_plain_one_gives(name):
    ends = []
    for wrap in (lambda one: one, lambda one: cuda_graph.GraphedStep(one, StandIn())):
        model = models.build("cnn", (1, 8, 8), 10, width=0.2, seed=0).train()
        one = wrap(TrainingStep(model, make_optimizer(BASE, model), objectives.build(name, CASES[name])))
        rng = generator()
        for i in range(6):
            one(*images(8, (1, 8, 8), 10, seed=i), 0.1 * i, 1e-3, rng)
        ends.append(torch.cat([p.detach().flatten() for p in model.parameters()]))
    assert (ends[0] - ends[1]).norm() <= 1e-5 * ends[0].norm()


def test_options_of_gfa_at_a_fixed_scale_are_those_of_gfa():
    assert objectives.option_defaults("gfa-deep-fixed-scale") == objectives.option_defaults("gfa-deep")
    assert "layers" in inspect.signature(gfa_fixed_scale.objective).parameters
