"""The tangential attack against linear programs, and its promise: orthogonal to the image as the network sees it, always."""

import masked_nets
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from nets import Plane, global_random_state
from scipy.optimize import linprog
from test_adaptive import Linear
from torch import nn

from deepdefense import models
from deepdefense.attacks import loss_pgd, suite_adaptive, tangential_pgd
from deepdefense.attacks.contract import AttackError
from deepdefense.attacks.linf_ascent import box
from deepdefense.attacks.tangential import _check_tangential, image_direction, steepest
from deepdefense.evaluation.sliced_model import Sliced
from deepdefense.losses import margin


def program(w, u, low, high):
    """max ⟨w, δ⟩ with δ in the box and ⟨u, δ⟩ = 0, by scipy."""
    found = linprog(-w, A_eq=u[None], b_eq=[0.0], bounds=np.stack([low, high], 1), method="highs")
    assert found.success
    return -found.fun


def planes(eps, origin, shape=(1, 4, 4), seed=0):
    """A two-class linear model that no image in the ball fools, images with pixels at 0 and 1 among them, and the optima."""
    g = torch.Generator().manual_seed(seed)
    x = torch.rand(6, *shape, generator=g, dtype=torch.float64)
    x[:3] = (2 * x[:3] - 0.5).clamp(0, 1)
    w = torch.randn(x[0].numel(), generator=g, dtype=torch.float64)
    low, high = (side.flatten(1) - x.flatten(1) for side in box(x, eps))
    best = [program(w.numpy(), (x[i] - origin).flatten().numpy(), low[i].numpy(), high[i].numpy()) for i in range(len(x))]
    return Plane(w, -100.0), x, torch.zeros(6, dtype=torch.long), torch.tensor(best, dtype=torch.float64)


@pytest.mark.parametrize("eps", [0.03, 0.4])
@pytest.mark.parametrize("origin", [0.0, 0.5])
def test_on_a_linear_model_it_reaches_the_optimum_of_the_linear_program(eps, origin):
    model, x, y, best = planes(eps, origin)
    x_adv = tangential_pgd(model, x, y, eps=eps, origin=origin)
    gain = margin(model(x_adv), y) - margin(model(x), y)
    torch.testing.assert_close(gain, best, rtol=1e-9, atol=0)
    free = margin(model(loss_pgd(model, x, y, eps=eps)), y) - margin(model(x), y)
    assert (gain < 0.999 * free).any()  # the plane costs something, or this shows nothing


@given(st.integers(0, 10_000))
def test_a_step_is_the_optimum_of_its_linear_program(seed):
    g = torch.Generator().manual_seed(seed)
    w, u, low, high = (torch.randn(1, 9, generator=g, dtype=torch.float64) for _ in range(4))
    u[0, :2], w[0, 2:4] = 0, 0
    low, high = -low.abs(), high.abs()
    s = steepest(w, u, low, high, torch.zeros(1, dtype=torch.float64))
    assert ((s >= low - 1e-12) & (s <= high + 1e-12)).all() and (u * s).sum().abs() < 1e-12
    assert (w * s).sum().item() == pytest.approx(program(*(t[0].numpy() for t in (w, u, low, high))), rel=1e-9)


def test_without_a_gradient_no_step_and_without_a_direction_the_sign():
    w, low, high = torch.tensor([[1.0, -2.0, 0.0]]), torch.full((1, 3), -0.1), torch.full((1, 3), 0.2)
    zero = torch.zeros(1)
    assert torch.equal(steepest(0 * w, w, low, high, zero), torch.zeros(1, 3))
    assert torch.equal(steepest(w, 0 * w, low, high, zero), torch.tensor([[0.2, -0.1, 0.0]]))


class Watched(nn.Module):
    """The model, with every image kept that it is shown."""

    def __init__(self, model):
        super().__init__()
        self.model, self.shown = model, []

    def forward(self, x):
        self.shown.append(x.detach().clone())
        return self.model(x)


def seen(model, x):
    """The image as the first layer of one of our networks sees it."""
    return model.scaled(x).double().flatten(1)


@pytest.mark.parametrize(("name", "scaling"), [("cnn", "symmetric"), ("mlp", "unit"), ("cnn", ([0.4, 0.5, 0.6], [0.2, 0.25, 0.3]))])
def test_every_iterate_is_orthogonal_to_what_the_network_sees(name, scaling):
    """⟨h(x'), h(x)⟩ = ⟨h(x), h(x)⟩ to 10⁻⁶, in float32 at the size of CIFAR-10, whatever the scaling."""
    model = models.build(name, (3, 32, 32), 10, width=0.1, scaling=scaling, seed=0).eval()
    x = torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(9))
    x[0] = (2 * x[0] - 0.5).clamp(0, 1)
    y, watched = model(x).argmax(1), Watched(model)
    low, high = box(x, 8 / 255)
    tangential_pgd(watched, x, y, steps=6, restarts=2, seed=1)
    h, checked = seen(model, x), 0
    for x_adv in watched.shown[1:]:
        if x_adv.shape == x.shape:
            delta = seen(model, x_adv) - h
            assert ((x_adv >= low) & (x_adv <= high)).all()
            assert ((delta * h).sum(1).abs() <= 1e-6 * delta.norm(dim=1) * h.norm(dim=1)).all()
            checked += bool((delta.norm(dim=1) > 0.5).all())
    assert checked > 12


def test_the_direction_is_that_of_the_image_as_the_network_sees_it():
    model = models.build("cnn", (3, 8, 8), 4, width=0.1, seed=0)
    x = torch.rand(2, 3, 8, 8)
    torch.testing.assert_close(image_direction(model, x), 4 * image_direction(model, x, origin=0.5))
    padded = nn.Sequential(nn.ReflectionPad2d(1), nn.Conv2d(3, 2, 3), nn.Flatten(), nn.Linear(128, 4))
    assert torch.equal(image_direction(padded, x), x.double()), "what is made of the image by more than scaling is not the image"
    assert torch.equal(image_direction(Linear(torch.ones(2, 192), torch.zeros(2)), x), x.double())


def test_a_model_that_takes_few_images_at_a_time_gives_the_same():
    model = models.build("cnn", (1, 8, 8), 4, width=0.1, seed=0).eval()
    x = torch.rand(5, 1, 8, 8, generator=torch.Generator().manual_seed(3))
    y = model(x).argmax(1)
    torch.testing.assert_close(image_direction(Sliced(model, 2), x), image_direction(model, x))
    sliced = tangential_pgd(Sliced(model, 2), x, y, steps=5)
    torch.testing.assert_close(sliced, tangential_pgd(model, x, y, steps=5), atol=1e-4, rtol=0)


class Rounds(nn.Module):
    """Eight grey levels, and then the layers given."""

    def __init__(self, *layers):
        super().__init__()
        self.layers = nn.Sequential(*layers)

    def forward(self, x):
        return self.layers((7 * x).round() / 7)


def test_an_image_that_is_rounded_or_cut_up_has_the_direction_of_what_was_not():
    x, y = torch.rand(2, 1, 4, 4), torch.tensor([0, 1])
    for rounds in (Rounds(nn.Flatten(), nn.Linear(16, 2)), Rounds(nn.Unfold(2), nn.Linear(9, 2), nn.Flatten(), nn.Linear(8, 2))):
        torch.testing.assert_close(image_direction(rounds, x), 49 * x.double(), rtol=1e-6, atol=0)
        assert "tangential PGD" in suite_adaptive(rounds, x)
        tangential_pgd(rounds, x, y, steps=2)


def test_an_image_that_the_network_sees_as_zeros_is_attacked_freely():
    model, x, y, _ = planes(0.1, 0.5)
    grey = torch.full_like(x, 0.5)
    found = tangential_pgd(model, grey, y, eps=0.1, origin=0.5)
    torch.testing.assert_close(margin(model(found), y), margin(model(grey + 0.1 * model.w.sign().view(1, 4, 4)), y))


def test_it_stands_beside_free_pgd_on_a_trained_network_and_repeats():
    """Nearly as strong as free PGD, the finding that it is there for; the same result whatever the global seed."""
    net, part = masked_nets.plain(), masked_nets.digits().test[:60]
    x, y, state = part.images(), part.y, global_random_state()
    broken = net(tangential_pgd(net, x, y, eps=masked_nets.EPS, seed=1)).argmax(1) != y
    free = net(loss_pgd(net, x, y, eps=masked_nets.EPS, steps=40)).argmax(1) != y
    assert broken.sum() >= 0.6 * free.sum() > 0
    again = tangential_pgd(net, x, y, eps=masked_nets.EPS, seed=1)
    assert torch.equal(again, tangential_pgd(net, x, y, eps=masked_nets.EPS, seed=1)) and global_random_state() == state


def test_what_leaves_the_plane_is_an_error():
    x = torch.full((1, 1, 2, 2), 0.5)
    with pytest.raises(AttackError, match="left the plane"):
        _check_tangential(x, x + 0.01, x.double())
    with pytest.raises(ValueError, match="restarts must be"):
        tangential_pgd(Plane(torch.ones(4), 0.0), x, torch.zeros(1, dtype=torch.long), restarts=0)
