"""What each objective minimises, what it costs, and that on real images it does what it is for."""

from copy import deepcopy
from dataclasses import replace

import pytest
import torch
from nets import Normalised, digits, global_random_state, images, seeded

from deepdefense import attacks, data, models, objectives
from deepdefense import training as training_module
from deepdefense.cost import step_cost
from deepdefense.gfa import gfa_terms
from deepdefense.losses import get_loss
from deepdefense.training import TrainConfig


def step(lam=0.0):
    return objectives.Step(lam, torch.Generator().manual_seed(0))


@pytest.mark.parametrize("loss", ["mse", "ce"])
def test_standard_is_the_mean_loss(loss):
    net, (x, y) = models.build("cnn", (1, 6, 6), 3, width=0.1, seed=0), images()
    value, log = objectives.build("standard", {"loss": loss})(net, x, y, step())
    assert torch.equal(value, get_loss(loss)(net(x), y).mean()) and torch.equal(log["task"], value)


@pytest.mark.parametrize("layers", ["first", "deep"])
def test_gfa_is_the_gfa_loss_with_the_lam_of_the_step(layers):
    net, (x, y) = models.build("cnn", (1, 6, 6), 3, width=0.1, seed=0), images()
    options = dict(form="abs", reduction="mean", loss="ce", detach_features=True)
    value, log = objectives.build(f"gfa-{layers}", options)(net, x, y, step(0.3))
    terms = gfa_terms(net, x, y, lam=0.3, layers=layers, **options)
    assert torch.equal(value, terms.loss) and torch.equal(log["penalty"], terms.penalty)
    assert torch.equal(log["alignment"], terms.alignments["body.conv1"].mean())


def test_adversarial_training_is_the_loss_at_the_end_of_the_attack():
    net, (x, y) = seeded(lambda: Normalised(classes=3)).float().train(), images(30)
    twin, seen = deepcopy(net), []
    common = dict(eps=0.1, alpha=0.15, loss="ce")
    x_adv, best = (
        attacks.loss_pgd(twin, x, y, steps=3, keep_best=keep_best, generator=step().generator, **common) for keep_best in (False, True)
    )
    assert not torch.equal(x_adv, best), "the last iterate is the one to train on"
    net.register_forward_pre_hook(lambda module, args: seen.append((module.training, args[0])))
    state = global_random_state()
    value, _ = objectives.build("pgd-at", {"attack_steps": 3, **common})(net, x, y, step())
    assert global_random_state() == state and net.training and value.requires_grad
    assert not any(training for training, _ in seen[:-1]), "attacked in eval mode, trained in training mode"
    assert seen[-1][0] and torch.equal(seen[-1][1], x_adv)
    assert torch.equal(value, get_loss("ce")(twin(x_adv), y).mean())


def linear(classes=3):
    """A linear softmax network, of which every gradient is a formula."""
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(36, classes)).double()
    with torch.no_grad():
        net[1].weight.copy_(torch.randn(classes, 36, generator=torch.Generator().manual_seed(5)) / 3)
        net[1].bias.copy_(torch.linspace(-0.2, 0.3, classes))
    return net


@pytest.mark.parametrize("loss", ["mse", "ce"])
def test_gradient_norm_regularisation_of_a_linear_network_is_a_formula(loss):
    net, (x, y) = linear(), images()
    x = x.double()
    value, log = objectives.build("gnr", {"loss": loss})(net, x, y, step(0.7))
    w, b, target = net[1].weight, net[1].bias, torch.eye(3, dtype=torch.float64)[y]
    z = x.flatten(1) @ w.T + b
    residual = 2 * (z - target) if loss == "mse" else z.softmax(1) - target
    expected = get_loss(loss)(z, y).mean() + 0.7 * (residual @ w).square().sum(1).mean()
    assert value.item() == pytest.approx(expected.item(), rel=1e-12)
    assert log["task"].item() + 0.7 * log["penalty"].item() == pytest.approx(value.item(), rel=1e-12)
    for one, other in zip(*(torch.autograd.grad(total, list(net.parameters())) for total in (value, expected)), strict=True):
        assert torch.allclose(one, other, rtol=1e-10, atol=1e-12)
    assert all(p.grad is None for p in net.parameters()) and not x.requires_grad


def test_the_input_gradient_is_in_units_of_the_image():
    """Scaled to [-1, 1] the input is twice as long and its gradient half: a fourth of the penalty."""
    net, (x, y) = models.build("cnn", (1, 6, 6), 3, width=0.1, scaling="symmetric", seed=0).double(), images()
    x = x.double()
    inside = net.body
    outer = objectives.build("gnr", {})(net, x, y, step(1.0))[1]["penalty"]
    inner = objectives.build("gnr", {})(inside, 2 * x - 1, y, step(1.0))[1]["penalty"]
    assert outer.item() == pytest.approx(4 * inner.item(), rel=1e-10)


def test_trades_of_a_linear_network_is_a_formula():
    """One step from x + 0.001 · N(0, 1): the gradient of KL(p ‖ softmax(z')) in z' is softmax(z') − p."""
    net, (x, y) = linear(), images()
    x = x.double()
    options = dict(eps=0.1, alpha=0.03, attack_steps=1, beta=2.5, loss="ce")
    value, log = objectives.build("trades", options)(net, x, y, step())
    noise = torch.randn(x.shape, generator=step().generator, dtype=x.dtype)
    w, b = net[1].weight, net[1].bias
    logits = lambda images: images.flatten(1) @ w.T + b  # noqa: E731
    start = (x + 0.001 * noise).clamp(0, 1)
    uphill = ((logits(start).softmax(1) - logits(x).softmax(1)) @ w).view_as(x)
    x_adv = (x + ((start + 0.03 * uphill.sign()) - x).clamp(-0.1, 0.1)).clamp(0, 1).detach()
    p, q = logits(x).softmax(1), logits(x_adv).softmax(1)
    moved = (p * (p.log() - q.log())).sum(1).mean()
    expected = get_loss("ce")(logits(x), y).mean() + 2.5 * moved
    assert value.item() == pytest.approx(expected.item(), rel=1e-12) and log["penalty"].item() == pytest.approx(moved.item())
    for one, other in zip(*(torch.autograd.grad(total, list(net.parameters())) for total in (value, expected)), strict=True):
        assert torch.allclose(one, other, rtol=1e-10, atol=1e-12)


def test_trades_attacks_in_eval_mode_and_trains_in_training_mode():
    net, (x, y), seen = seeded(lambda: Normalised(classes=3)).float().train(), images(30), []
    net.register_forward_pre_hook(lambda module, args: seen.append((module.training, args[0])))
    state = global_random_state()
    value, _ = objectives.build("trades", dict(eps=0.1, alpha=0.05, attack_steps=3))(net, x, y, step())
    assert [training for training, _ in seen] == [False] * 4 + [True, True] and net.training and value.requires_grad
    assert global_random_state() == state and torch.equal(seen[4][1], x)
    assert 0.05 < (seen[5][1] - x).abs().max() <= 0.1 + 1e-6 and seen[5][1].min() >= 0 and seen[5][1].max() <= 1
    for name, value in {"loss": "mse", "beta": 6.0, "eps": 8 / 255, "attack_steps": 10, "alpha": 2 / 255}.items():
        assert objectives.option_defaults("trades")[name] == value


# Forward passes, counted by hand: see below.
COSTS = {"standard": 3, "gfa-first": 6, "gfa-deep": 6, "pgd-at": 17, "gnr": 6, "trades": 2 * 10 + 1 + 6}
COSTS |= {"tangential-gnr": 6, "gradalign": 2 + 3 + 2 + 6, "cure": 12, "mart": 2 * 10 + 6, "pgd-at-tangential": 17 + 6}
COSTS |= {"gfa-first-fixed-scale": 6, "gfa-deep-fixed-scale": 6, "pgd-at-gfa-first": 17 + 6, "pgd-at-gfa-deep": 17 + 6}


@pytest.mark.parametrize("name", list(COSTS))
def test_the_arithmetic_of_a_step(name):
    """Forward F, backward 2F; GFA and GNR add an input gradient and its backward pass; PGD-7 adds 7 · 2F; TRADES has ten
    attack steps, the clean prediction they start from, and two images to train on; MART the same without the prediction.
    GradAlign has one attack step and two input gradients, of which one is a constant; CURE differentiates two. The first layer's
    input gradient is not needed by plain training, and tiny layers are counted whole: a tenth of slack."""
    assert set(COSTS) == set(objectives.OBJECTIVES)
    net = models.build("mlp", (1, 8, 8), 10, seed=0)
    x, y = images(16, (1, 8, 8), 10)
    objective = objectives.build(name, {"attack_steps": 7} if name.startswith("pgd-at") else {})
    before = [p.clone() for p in net.parameters()]
    cost = step_cost(net, lambda twin: objective(twin, x, y, step(0.5))[0], x)
    multiplications = sum(2 * p.numel() for p in net.parameters() if p.dim() == 2)
    assert cost["flops_per_sample"] / cost["forward_passes"] == pytest.approx(multiplications)
    assert cost["forward_passes"] == pytest.approx(COSTS[name], rel=0.1)
    assert all(torch.equal(p, q) and p.grad is None for p, q in zip(net.parameters(), before, strict=True))


BASE = TrainConfig(model="mlp", width=0.2, epochs=10, batch_size=60, lr=5e-3, val_size=100, val_steps=5, val_eps=0.15)


@pytest.fixture(scope="module")
def trained():
    """Records of small trainings on the digits, by name."""
    dataset = digits(train=600, val=150, test=300)

    def record(**settings):
        return training_module.fit(replace(BASE, **settings), dataset=dataset, device="cpu", progress=False).record

    runs = {f"gfa-{lam}": record(objective="gfa-first", lam=lam, warmup=0.5) for lam in (0.0, 0.1, 0.5)}
    runs["deep"] = record(objective="gfa-deep", lam=0.2, warmup=0.5)
    runs["standard"] = record()
    runs["gnr"] = record(objective="gnr", lam=2.0, warmup=0.5)
    runs["trades"] = record(objective="trades", options=dict(eps=0.15, alpha=0.06, attack_steps=4, beta=30))
    runs["pgd-at"] = record(objective="pgd-at", options=dict(eps=0.15, alpha=0.06, attack_steps=4))
    return runs


def aligned(record):
    return record["metrics"]["last"]["test_alignment"]


def test_a_larger_lam_aligns_more_and_keeps_the_accuracy(trained):
    first = [aligned(trained[f"gfa-{lam}"])["body.fc1"] for lam in (0.0, 0.1, 0.5)]
    assert first[0] + 0.05 < first[1] and first[1] + 0.1 < first[2], first
    assert all(run["status"] == "finished" and run["metrics"]["last"]["test_accuracy"] > 0.8 for run in trained.values())


def test_deep_aligns_every_layer(trained):
    for name, value in aligned(trained["deep"]).items():
        assert value > aligned(trained["standard"])[name] + 0.1, name


def test_without_a_penalty_gfa_is_plain_training(trained):
    rows = [[(row["val_accuracy"], row["train_task"]) for row in trained[n]["history"]] for n in ("gfa-0.0", "standard")]
    assert rows[0][-1][0] == pytest.approx(rows[1][-1][0], abs=0.03) and rows[0][0][1] == pytest.approx(rows[1][0][1], rel=1e-3)


def test_adversarial_training_buys_robustness(trained):
    robust = {name: trained[name]["history"][-1]["val_robust_accuracy"] for name in ("standard", "pgd-at")}
    assert robust["pgd-at"] > robust["standard"] + 0.05, robust


@pytest.mark.parametrize("name", ["gnr", "trades"])
def test_the_other_defences_buy_robustness_too(trained, name):
    robust = {run: trained[run]["history"][-1]["val_robust_accuracy"] for run in ("standard", name)}
    assert robust[name] > robust["standard"] + 0.03, robust


def test_every_objective_is_documented_and_takes_a_loss():
    for name, objective in objectives.OBJECTIVES.items():
        assert objectives.option_defaults(name)["loss"] == ("ce" if name == "mart" else "mse"), name
        assert getattr(objective, "func", objective).__module__.startswith("deepdefense.objectives.")
    assert data.SPECS.keys() >= {"digits"}
