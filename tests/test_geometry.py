"""Radial and tangential parts, alignment and the first-order bound, against their definitions in float64."""

import math

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from deepdefense.geometry import alignment, decompose, first_order_change, tangential_bound, unit

SCALES = (1e-30, 1e-12, 1.0, 1e12, 1e30)  # float32 ends at about 1e-38 and 3e38: the squares of these do not fit
PRECISION = {torch.float32: 2e-6, torch.float64: 1e-13}
numbers = st.one_of(st.just(0.0), st.floats(1e-3, 1), st.floats(-1, -1e-3))


@st.composite
def tensors(draw, count):
    """`count` tensors (3, n), each at a scale of its own, and the precision to expect of them."""
    size, dtype = draw(st.integers(1, 8)), draw(st.sampled_from(list(PRECISION)))
    drawn = [draw(arrays(np.float64, (3, size), elements=numbers)) * draw(st.sampled_from(SCALES)) for _ in range(count)]
    return [torch.from_numpy(a).to(dtype) for a in drawn], PRECISION[dtype]


def norm(v):
    """L2 norm of each row, in float64."""
    return v.double().norm(dim=1)


def cosine(h, g):
    """The alignment by its definition, in float64; 0 for a zero vector."""
    length = norm(h) * norm(g)
    return torch.where(length > 0, (h.double() * g.double()).sum(1) / length.clamp(min=1e-300), 0.0)


@given(tensors(2))
def test_the_parts_add_up_and_are_orthogonal(drawn):
    (v, x), tolerance = drawn
    radial, tangential = decompose(v, x)
    assert (norm(radial + tangential - v) <= tolerance * norm(v)).all()
    assert ((radial.double() * tangential.double()).sum(1).abs() <= 4 * tolerance * norm(v) ** 2).all()
    assert (norm(tangential) <= (1 + tolerance) * norm(v)).all()


@given(tensors(2))
def test_radial_is_parallel_to_x_and_decomposing_again_changes_nothing(drawn):
    (v, x), tolerance = drawn
    radial, tangential = decompose(v, x)
    expected = cosine(v, x) * norm(v)
    assert (norm(radial - unit(x) * expected[:, None]) <= 4 * tolerance * norm(v)).all()
    for part, (again_radial, again_tangential) in [(radial, decompose(radial, x)), (tangential, decompose(tangential, x))]:
        keeps, vanishes = (again_radial, again_tangential) if part is radial else (again_tangential, again_radial)
        assert (norm(keeps - part) <= 4 * tolerance * norm(v)).all()
        assert (norm(vanishes) <= 4 * tolerance * norm(v)).all()


@given(tensors(2))
def test_alignment_is_the_cosine_at_any_scale(drawn):
    (h, g), tolerance = drawn
    a = alignment(h, g)
    assert ((a >= -1) & (a <= 1)).all()
    assert torch.allclose(a.double(), cosine(h, g), rtol=0, atol=4 * tolerance)
    assert torch.equal(alignment(g, h), a) and torch.equal(alignment(-h, g), -a)


def test_alignment_is_an_angle_over_everything_but_the_batch():
    h = torch.tensor([[[3.0, 0.0], [0.0, 4.0]], [[1.0, 0.0], [0.0, 0.0]]])
    g = torch.tensor([[[4.0, 0.0], [0.0, 3.0]], [[-2.0, 0.0], [0.0, 0.0]]])
    assert alignment(h, g).tolist() == pytest.approx([24 / 25, -1.0])


@pytest.mark.parametrize(("zero_h", "zero_g"), [(True, False), (False, True), (True, True)])
def test_a_zero_vector_has_alignment_zero_and_no_gradient(zero_h, zero_g):
    h = torch.tensor([[0.0, 0.0] if zero_h else [1.0, 2.0], [1.0, 0.0]], requires_grad=True)
    g = torch.tensor([[0.0, 0.0] if zero_g else [3.0, 1.0], [1.0, 1.0]], requires_grad=True)
    a = alignment(h, g)
    a.sum().backward()
    assert a[0] == 0 and a[1].item() == pytest.approx(math.sqrt(0.5))
    assert torch.equal(h.grad[0], torch.zeros(2)) and torch.equal(g.grad[0], torch.zeros(2))
    assert torch.isfinite(h.grad).all() and h.grad[1].abs().sum() > 0
    radial, tangential = decompose(g.detach(), torch.zeros(2, 2))
    assert torch.equal(radial, torch.zeros(2, 2)) and torch.equal(tangential, g.detach())
    assert torch.equal(unit(torch.zeros(1, 3)), torch.zeros(1, 3))


@pytest.mark.parametrize("scale", [1e-41, 1e-39])
def test_a_vector_too_small_for_its_derivative_does_not_poison_the_gradient(scale):
    """1/‖g‖ overflows float32 below about 3e-39: a nearly saturated softmax gives such gradients."""
    h = torch.tensor([[1.0, 2.0]], requires_grad=True)
    g = torch.tensor([[1.0, 3.0]]).mul(scale).requires_grad_()
    alignment(h, g).sum().backward()
    assert torch.isfinite(h.grad).all() and torch.isfinite(g.grad).all()


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_vector_that_is_not_finite_does_not_pass_for_a_zero_one(bad):
    assert not torch.isfinite(alignment(torch.tensor([[bad, 1.0]]), torch.ones(1, 2))).any()


@given(tensors(2))
def test_the_gradient_of_alignment_is_the_closed_form(drawn):
    """∂a/∂h = (ĝ − a ĥ) / ‖h‖, and the same with h and g exchanged."""
    (h, g), tolerance = drawn
    h, g = h.requires_grad_(), g.requires_grad_()
    alignment(h, g).sum().backward()
    with torch.no_grad():
        a = cosine(h, g)[:, None]
        for v, other in ((h, g), (g, h)):
            defined = ((norm(v) > 0) & (norm(other) > 0))[:, None]
            v_hat, other_hat = unit(v.double()), unit(other.double())
            expected = torch.where(defined, (other_hat - a * v_hat) / norm(v).clamp(min=1e-300)[:, None], 0.0)
            assert (norm(v.grad.double() - expected) * norm(v) <= 10 * tolerance).all()


@given(tensors(3))
def test_first_order_change_sums_to_the_inner_product(drawn):
    (g, x, delta), tolerance = drawn
    assume((norm(g) * norm(delta)).max() < 1e37)  # the answer itself must fit into float32
    radial, tangential = first_order_change(g, x, delta)
    total = (g.double() * delta.double()).sum(1)
    assert ((radial.double() + tangential.double() - total).abs() <= 20 * tolerance * norm(g) * norm(delta) + 1e-44).all()


@given(tensors(2), st.sampled_from(["l2", "linf"]), st.floats(0, 10), st.integers(0, 99))
def test_the_bound_is_attained_and_never_exceeded(drawn, which, eps, seed):
    (g, x), tolerance = drawn
    eps = eps if eps > 1e-3 else 0.0
    bound = tangential_bound(g, x, eps, which).double()
    g64, x64 = g.double(), x.double()
    tangential = decompose(g64, x64)[1]
    worst = eps * (unit(tangential) if which == "l2" else tangential.sign())
    slack = 20 * tolerance * eps * norm(g) * (g.shape[1] ** 0.5)
    assert ((bound - (tangential * worst).sum(1)).abs() <= slack).all(), "not attained"
    noise = torch.randn(200 * len(g), g.shape[1], generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    noise = eps * (unit(noise) if which == "l2" else noise.sign())
    change = first_order_change(g64.repeat(200, 1), x64.repeat(200, 1), noise)[1]
    assert (change <= (bound + slack).repeat(200)).all(), "exceeded"
    if which == "l2":
        expected = eps * norm(g) * (1 - cosine(g, x) ** 2).clamp(min=0).sqrt()
        assert ((bound - expected).abs() <= 3 * eps * norm(g) * tolerance**0.5).all(), "‖g_t‖ = ‖g‖ √(1 − a²)"


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: alignment(torch.ones(2, 3), torch.ones(2, 4)), ["(2, 3)", "(2, 4)", "batch"]),
        (lambda: decompose(torch.ones(3), torch.ones(3)), ["(3,)", "batch"]),
        (lambda: tangential_bound(torch.ones(1, 2), torch.ones(1, 2), -0.1), ["eps", "-0.1"]),
        (lambda: tangential_bound(torch.ones(1, 2), torch.ones(1, 2), math.nan), ["eps", "nan"]),
        (lambda: tangential_bound(torch.ones(1, 2), torch.ones(1, 2), 0.1, "l1"), ["norm", "l2", "linf", "'l1'"]),
    ],
)
def test_bad_input_is_named(call, words):
    with pytest.raises(ValueError) as error:
        call()
    assert all(word in str(error.value) for word in words), error.value
