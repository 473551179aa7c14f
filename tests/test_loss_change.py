"""How much the loss can rise near an image, against linear models, where the worst case is known."""

import pytest
import torch
from nets import TwoLayer, seeded, vectors

from deepdefense.geometry import alignment, decompose, unit
from deepdefense.losses import get_loss
from replication.experiments.loss_change import attack_parts, curvature, worst_rise

RADIUS = 0.3


def linear(classes, inputs=7, seed=0):
    """(W (K, D), f) with f(h) = h Wᵀ, float64."""
    W = torch.randn(classes, inputs, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return W, lambda h: h @ W.T


def points(n=6, inputs=7, classes=2, seed=1):
    h, y = vectors(n, inputs, classes, seed)
    return 2 * h - 1, y


def part(v, h, within):
    """The vectors `v` as far as `within` admits them."""
    radial, tangential = decompose(v, h)
    return {"all": v, "radial": radial, "tangential": tangential}[within]


@pytest.mark.parametrize("within", ["all", "tangential", "radial"])
def test_the_margin_of_two_classes_rises_by_radius_times_the_length_of_its_gradient(within):
    W, f = linear(2)
    h, y = points()
    gradient = W[1 - y] - W[y]
    expected = RADIUS * part(gradient, h, within).norm(dim=1)
    assert torch.allclose(worst_rise(f, h, y, radius=RADIUS, loss="margin", within=within), expected, rtol=1e-9)


@pytest.mark.parametrize("within", ["all", "tangential", "radial"])
def test_squared_error_of_a_single_direction_is_a_parabola_and_the_far_end_is_found(within):
    """f(h) = ⟨v, h⟩ c: along v the loss is (s − s*)²‖c‖² + constant, so the worst is at the end away from s*."""
    v, c = linear(2)[0][0], torch.tensor([1.0, -0.5, 2.0], dtype=torch.float64)
    h, y = points(classes=3)
    reach = RADIUS * part(v.expand_as(h), h, within).norm(dim=1)
    bottom = c[y] / c.square().sum()
    expected = c.square().sum() * (2 * (h @ v - bottom).abs() * reach + reach.square())
    found = worst_rise(lambda h: (h @ v)[:, None] * c, h, y, radius=RADIUS, loss="mse", within=within)
    assert torch.allclose(found, expected, rtol=1e-9)


def test_along_the_radius_squared_error_of_a_linear_model_is_worst_at_an_end():
    W, f = linear(4)
    h, y = points(classes=4)
    residual = f(h) - torch.nn.functional.one_hot(y, 4)
    moved = unit(h) @ W.T
    first, second = 2 * (residual * moved).sum(1), moved.square().sum(1)
    expected = RADIUS * first.abs() + RADIUS**2 * second
    assert torch.allclose(worst_rise(f, h, y, radius=RADIUS, within="radial"), expected, rtol=1e-9)


@pytest.mark.parametrize("loss", ["mse", "ce", "margin"])
def test_no_tangential_perturbation_of_a_thousand_does_worse_than_the_one_found(loss):
    net = seeded(lambda: TwoLayer(inputs=7))
    h, y = points(classes=3)
    found = worst_rise(net, h, y, radius=RADIUS, loss=loss)
    value = get_loss(loss)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        start = value(net(h), y)
        for _ in range(1000):
            noise = torch.randn(h.shape, generator=generator, dtype=h.dtype)
            delta = RADIUS * unit(decompose(noise, h)[1])
            assert (value(net(h + delta), y) - start <= found + 1e-9).all()
    assert (found <= worst_rise(net, h, y, radius=RADIUS, loss=loss, within="all") + 1e-6).all()


def test_a_constant_network_rises_by_nothing():
    h, y = points(classes=3)
    for within in ("all", "tangential", "radial"):
        assert torch.equal(worst_rise(lambda h: 0 * h[:, :3], h, y, radius=1.0, within=within), torch.zeros(len(h), dtype=h.dtype))


def test_a_rise_is_never_negative_even_at_a_maximum():
    h, y = torch.zeros(1, 4, dtype=torch.float64) + 1, torch.tensor([0])
    peak = lambda h: torch.stack([(h - 1).square().sum(1), 0 * h[:, 0]], 1)  # noqa: E731 (margin −‖h − 1‖², largest at h)
    for within in ("all", "tangential", "radial"):
        assert worst_rise(peak, h, y, radius=0.5, loss="margin", within=within).item() == 0


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (dict(within="sideways"), "within must be one of all, tangential, radial; got 'sideways'"),
        (dict(radius=0.0), "radius must be a number above 0, got 0.0"),
        (dict(radius=float("nan")), "radius must be a number above 0"),
        (dict(loss="zero-one"), "loss must be one of"),
    ],
)
def test_bad_settings_are_named(settings, words):
    h, y = points()
    with pytest.raises(ValueError, match=words):
        worst_rise(linear(2)[1], h, y, **({"radius": 1.0} | settings))


def parts_at(delta_of, classes=2):
    """(h, y, g, delta, parts) for a linear model; delta_of(h, g) makes the perturbation."""
    W, f = linear(classes)
    h, y = points(classes=classes)
    g = 2 * (f(h) - torch.nn.functional.one_hot(y, classes)) @ W
    delta = delta_of(h, g)
    return h, y, g, delta, attack_parts(f, h, y, delta, g)


def noise(h, g):
    return 0.1 * torch.randn(h.shape, generator=torch.Generator().manual_seed(5), dtype=h.dtype)


def test_first_order_parts_add_up_to_the_whole():
    h, y, g, delta, parts = parts_at(noise)
    assert torch.allclose(parts["first order radial"] + parts["first order tangential"], (g * delta).sum(1), rtol=1e-12)
    assert torch.allclose(parts["cosine"], alignment(delta, g), rtol=1e-12)
    assert torch.allclose(parts["radial share"], alignment(h, delta).square(), rtol=1e-12)


def test_a_radial_perturbation_is_all_radial_and_a_tangential_one_not_at_all():
    radial = parts_at(lambda h, g: 0.2 * h)[-1]
    assert torch.allclose(radial["radial share"], torch.ones(6, dtype=torch.float64))
    assert torch.allclose(radial["mse radial"], radial["mse whole"]) and radial["mse tangential"].abs().max() < 1e-12
    tangential = parts_at(lambda h, g: decompose(g, h)[1])[-1]
    assert tangential["radial share"].max() < 1e-24 and tangential["first order radial"].abs().max() < 1e-12
    assert torch.allclose(tangential["mse tangential"], tangential["mse whole"])


def test_the_parts_of_a_linear_margin_add_up_and_those_of_squared_error_are_exact():
    h, y, g, delta, parts = parts_at(noise)
    assert torch.allclose(parts["margin radial"] + parts["margin tangential"], parts["margin whole"], atol=1e-12)
    W = linear(2)[0]
    for name, moved in zip(("whole", "radial", "tangential"), (delta, *decompose(delta, h)), strict=True):
        assert torch.allclose(parts[f"mse {name}"], (g * moved).sum(1) + (moved @ W.T).square().sum(1), atol=1e-12)


def test_no_perturbation_changes_nothing_and_divides_nothing_by_zero():
    parts = parts_at(lambda h, g: torch.zeros_like(h))[-1]
    assert all(torch.equal(value, torch.zeros_like(value)) for value in parts.values())


def test_curvature_of_a_linear_model():
    """Squared error bends by 2‖W d‖², whatever the step; a margin of two classes not at all."""
    W, f = linear(2)
    h, y = points()
    d = unit(noise(h, None))
    for step in (0.1, 1.0):
        assert torch.allclose(curvature(f, h, y, d, step=step), 2 * (d @ W.T).square().sum(1), rtol=1e-9)
        assert curvature(f, h, y, d, step=step, loss="margin").abs().max() < 1e-10


def test_images_may_have_any_shape():
    W, f = linear(3, inputs=12)
    h, y = points(inputs=12, classes=3)
    shaped = h.view(-1, 3, 2, 2)
    for within in ("all", "tangential", "radial"):
        flat = worst_rise(f, h, y, radius=RADIUS, within=within)
        assert torch.allclose(worst_rise(lambda v: f(v.flatten(1)), shaped, y, radius=RADIUS, within=within), flat)
