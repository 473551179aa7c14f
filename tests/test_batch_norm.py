"""Batch normalisation after the first layer: the alignments of a batch sum to nothing, until its statistics are fixed."""

from contextlib import nullcontext

import pytest
import torch
from torch import nn

from deepdefense import batch_norm, models, objectives
from deepdefense.gfa import gfa_terms

X, Y = torch.rand(12, 3, 16, 16, generator=torch.Generator().manual_seed(0)), torch.arange(12) % 4


def resnet():
    return models.build("resnet18", (3, 16, 16), 4, width=0.125, seed=0)


@pytest.mark.parametrize("loss", ["mse", "ce", "margin"])
def test_in_training_mode_the_weighted_alignment_is_zero_wherever_batch_normalisation_follows_alone(loss):
    found = batch_norm.mean_alignment(resnet().train(), X, Y, layers="deep", loss=loss)
    alone = [name for name in found if name == "body.conv1" or name.endswith("conv2")]
    assert len(alone) == 9 and max(abs(found[name]) for name in alone) < 1e-4  # 0 but for the eps of the normalisation
    assert abs(found["body.fc"]) > 0.01  # which no normalisation follows


def test_scaling_the_batch_changes_nothing_but_in_evaluation_mode_it_does():
    net = resnet().train()
    assert torch.allclose(net.body(X), net.body(3 * X), atol=1e-3)
    assert abs(batch_norm.mean_alignment(net.eval(), X, Y)["body.conv1"]) > 0.01


def test_without_gradients_it_is_zero():
    constant = nn.Sequential(nn.Flatten(), nn.Linear(768, 4))
    nn.init.zeros_(constant[1].weight)
    assert list(batch_norm.mean_alignment(constant, X, Y).values()) == [0.0]


def test_fixed_statistics_are_used_kept_and_the_mode_comes_back():
    net = resnet()
    net.body.bn1.eval()
    net.body.layer1.train()
    modes = [module.training for module in net.modules()]
    running = [buffer.clone() for buffer in net.buffers()]
    with batch_norm.fixed_statistics(net):
        inside = net(X)
    assert modes == [module.training for module in net.modules()]
    assert all(torch.equal(a, b) for a, b in zip(running, net.buffers(), strict=True))
    assert torch.equal(inside, net.eval()(X))


def test_the_mode_comes_back_after_an_error():
    net = resnet().train()
    with pytest.raises(ValueError), batch_norm.fixed_statistics(net):
        net(X[:, :1])
    assert all(module.training for module in net.modules())


def test_the_objective_with_fixed_statistics_is_the_loss_in_evaluation_mode():
    net = resnet().train()
    step = objectives.Step(2.0, torch.Generator())
    loss, _ = objectives.build("gfa-first", {"statistics": "fixed"})(net, X, Y, step)
    assert loss.item() == pytest.approx(gfa_terms(net.eval(), X, Y, lam=2.0).loss.item(), rel=1e-6)


@pytest.mark.parametrize("statistics", ["fixed", "batch"])
def test_gfa_aligns_every_image_with_fixed_statistics_and_pays_with_some_without(statistics):
    net = resnet().train()
    objective = objectives.build("gfa-first", {"statistics": statistics})
    optimizer = torch.optim.Adam(net.parameters(), lr=3e-3)
    for _ in range(40):
        optimizer.zero_grad()
        objective(net, X, Y, objectives.Step(20.0, torch.Generator()))[0].backward()
        optimizer.step()
    with batch_norm.fixed_statistics(net) if statistics == "fixed" else nullcontext():
        aligned = gfa_terms(net, X, Y, lam=0.0).alignments["body.conv1"]
        weighted = batch_norm.mean_alignment(net, X, Y)["body.conv1"]
    if statistics == "fixed":
        assert aligned.min() > 0.5 and weighted > 0.5
    else:
        assert aligned.median() > 0.5 and aligned.min() < -0.2 and abs(weighted) < 1e-4  # one image is given up for the others


def test_other_statistics_are_refused():
    with pytest.raises(ValueError, match="statistics must be one of batch, fixed; got 'running'"):
        objectives.build("gfa-deep", {"statistics": "running"})
