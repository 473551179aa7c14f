"""SAM's sharpness: linear networks have it in closed form."""

import pytest
import torch
from nets import images
from torch import nn

from deepdefense import models
from deepdefense.scale_identity import scale_identity
from replication.experiments.flatness import weight_rise


def one(inputs=5, classes=3):
    generator = torch.Generator().manual_seed(0)
    net = nn.Linear(inputs, classes, bias=False).double()
    net.weight.data = torch.randn(classes, inputs, generator=generator, dtype=torch.float64)
    return net, torch.rand(1, inputs, generator=generator, dtype=torch.float64), torch.tensor([1])


@pytest.mark.parametrize("rho", [0.01, 0.3])
def test_squared_error_of_a_linear_network_rises_to_the_square_of_residual_plus_reach(rho):
    """max over ‖E‖ ≤ r of ‖(W + E)x − y‖² = (‖Wx − y‖ + r‖x‖)², and one step reaches it."""
    net, x, y = one()
    residual = (net(x) - torch.eye(3, dtype=torch.float64)[y]).norm().item()
    reach = rho * net.weight.norm().item() * x.norm().item()
    found = weight_rise(net, x, y, rho=rho)
    expected = (residual + reach) ** 2 - residual**2
    assert found["sam"] == pytest.approx(expected, rel=1e-12) and found["worst"] == pytest.approx(expected, rel=1e-9)
    assert found["loss"] == pytest.approx(residual**2)


def test_the_margin_of_a_linear_network_rises_by_radius_times_gradient():
    net, x, y = one()
    net.weight.data[1] += 10  # right, and no other class becomes the largest wrong one
    found = weight_rise(net, x, y, rho=0.01, loss="margin")
    assert found["sam"] == pytest.approx(0.01 * net.weight.norm().item() * 2**0.5 * x.norm().item(), rel=1e-12)
    assert found["accuracy"] == found["accuracy_worst"] == 1


def test_more_steps_find_no_less_it_grows_with_the_radius_and_the_model_is_left_alone():
    net = models.build("cnn", (1, 8, 8), 4, width=0.125, seed=0).train()
    x, y = images(8, (1, 8, 8), 4)
    kept = {name: value.clone() for name, value in net.state_dict().items()}
    small, large = (weight_rise(net, x, y, rho=rho) for rho in (0.02, 0.1))
    assert 0 < small["sam"] <= small["worst"] < large["worst"] and large["sam"] <= large["worst"]
    assert net.training and all(torch.equal(value, kept[name]) for name, value in net.state_dict().items())
    assert all(p.grad is None for p in net.parameters())
    with pytest.raises(ValueError, match="rho must be a number above 0"):
        weight_rise(net, x, y, rho=0)


def test_a_stationary_point_that_one_step_cannot_leave_rises_by_nothing():
    net, x, y = one()
    net.weight.data = torch.linalg.lstsq(x, torch.eye(3, dtype=torch.float64)[y]).solution.T
    found = weight_rise(net.requires_grad_(False), torch.zeros_like(x), y, rho=0.1)
    assert found["sam"] == found["worst"] == 0.0


def test_alignment_sets_a_floor_under_the_rise():
    """ρ ‖w‖ ‖∇L‖ ≥ ρ ⟨w, ∇L⟩ = ρ Σ over layers of the weighted alignments, in a network without biases and for a small ρ."""
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 6, bias=False), nn.ReLU(), nn.Linear(6, 4, bias=False)).double()
    for layer in net:
        if isinstance(layer, nn.Linear):
            layer.weight.data *= 3  # overshoots: the loss rises with the scale
    x, y = images(8, (1, 8, 8), 4)
    aligned = sum(side.aligned for side in scale_identity(net, x.double(), y).values()) / len(x)
    rho = 1e-6
    assert aligned > 1 and weight_rise(net, x.double(), y, rho=rho)["sam"] >= rho * aligned * (1 - 1e-4)
