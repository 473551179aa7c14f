"""The GFA loss against a reference written out by hand, and its gradients against finite differences, in float64."""

import itertools
import math

import pytest
import torch
import torch.nn.functional as F
from nets import Normalised, TwoLayer, seeded, vectors

from deepdefense import models
from deepdefense.gfa import gfa_loss, gfa_terms, measure_alignment
from deepdefense.losses import LOSSES, get_loss

FORMS = {"cos": lambda a: 1 - a, "abs": lambda a: 1 - abs(a), "square": lambda a: 1 - a * a, "negative": lambda a: 1 + a}
LAYERS = {"first": ["encoder.dense"], "deep": ["encoder.dense", "head"]}


def by_hand(net, x, y, *, lam, layers, form, loss, reduction="sum", weights=None, detach_features=False):
    """Loss and alignments of a `TwoLayer`, with the inner gradients ∂ℓ/∂x and ∂ℓ/∂h as formulas, not by autograd."""
    w1, b1, w2, b2 = net.encoder["dense"].weight, net.encoder["dense"].bias, net.head.weight, net.head.bias
    h = torch.tanh(x @ w1.T + b1)
    z = h @ w2.T + b2
    target = torch.eye(z.shape[1], dtype=z.dtype)[y]
    if loss == "mse":
        task, dz = ((z - target) ** 2).sum(1), 2 * (z - target)
    else:
        p = z.exp() / z.exp().sum(1, keepdim=True)
        task, dz = -(target * p.log()).sum(1), p - target
    dh = dz @ w2
    dx = (dh * (1 - h**2)) @ w1
    pairs = [(x, dx), (h, dh)][: len(LAYERS[layers])]
    pairs = [(v.detach() if detach_features else v, g) for v, g in pairs]
    aligned = [(v * g).sum(1) / ((v**2).sum(1).sqrt() * (g**2).sum(1).sqrt()) for v, g in pairs]
    penalty = sum(w * FORMS[form](a) for w, a in zip(weights or [1] * len(aligned), aligned, strict=True))
    return (task + lam * penalty / (len(pairs) if reduction == "mean" else 1)).mean(), aligned


def gradients(net, loss):
    return torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(net.parameters()))])


@pytest.mark.parametrize(("layers", "loss", "form"), list(itertools.product(LAYERS, ["mse", "ce"], FORMS)))
def test_loss_and_weight_gradients_equal_the_reference(layers, loss, form):
    net, (x, y) = seeded(TwoLayer, 1), vectors(seed=1)
    for reduction, weights, detach in itertools.product(["sum", "mean"], [None, [0.3, 2.0]], [False, True]):
        weights = weights and weights[: len(LAYERS[layers])]
        options = dict(layers=layers, form=form, loss=loss, reduction=reduction, weights=weights, detach_features=detach)
        expected, aligned = by_hand(net, x, y, lam=0.7, **options)
        terms = gfa_terms(net, x, y, lam=0.7, **options)
        assert list(terms.alignments) == LAYERS[layers]
        for a, b in zip(terms.alignments.values(), aligned, strict=True):
            assert torch.allclose(a, b, atol=1e-12)
        assert torch.allclose(terms.loss, expected, atol=1e-12), options
        assert torch.allclose(terms.loss, terms.task + 0.7 * terms.penalty, atol=1e-12)
        assert torch.allclose(gradients(net, terms.loss), gradients(net, expected), atol=1e-11), options
        assert torch.equal(terms.logits, net(x))


def test_the_choices_differ():
    """A reference that ignored an option in the same way as the library would agree with it; so tell them apart."""
    net, (x, y) = seeded(TwoLayer, 1), vectors(seed=1)

    def total(**options):
        terms = gfa_terms(net, x, y, lam=0.7, **{"layers": "deep", **options})
        return terms.loss.item(), gradients(net, terms.loss)

    value, gradient = total()
    others = [dict(form=f) for f in ("abs", "square", "negative")] + [dict(loss="ce"), dict(loss="margin")]
    others += [dict(reduction="mean"), dict(weights=[1, 2]), dict(weights=[2, 1]), dict(layers="first")]
    values = [value, *(total(**options)[0] for options in others)]
    assert len({round(v, 9) for v in values}) == len(values)
    stopped_value, stopped_gradient = total(detach_features=True)
    assert stopped_value == value, "stopping the feature's gradient must not change the value"
    assert (stopped_gradient - gradient).abs().max() > 1e-3
    first = [total(layers="first", detach_features=d)[1] for d in (False, True)]
    assert torch.equal(*first), "the image depends on no weight, so FIRST has nothing to stop"


def finite_differences(net, loss, step=1e-5):
    """Central differences of `loss()` in every weight of `net`."""
    found = []
    for p in net.parameters():
        flat = p.data.view(-1)
        for i in range(len(flat)):
            kept = flat[i].item()
            flat[i] = kept + step
            up = loss().item()
            flat[i] = kept - step
            found.append((up - loss().item()) / (2 * step))
            flat[i] = kept
    return torch.tensor(found, dtype=torch.float64)


@pytest.mark.parametrize(("layers", "loss"), [("first", "ce"), ("deep", "mse")])
def test_weight_gradients_of_a_cnn_equal_finite_differences(layers, loss):
    net = models.build("cnn", (1, 4, 4), 3, width=0.04, activation="softplus", seed=0).double()
    x, y = vectors(4, 16)
    x = x.view(4, 1, 4, 4)

    def call():
        return gfa_loss(net, x, y, lam=0.8, layers=layers, loss=loss)

    expected, got = finite_differences(net, call), gradients(net, call())
    assert torch.allclose(got, expected, rtol=1e-6, atol=1e-8), (got - expected).abs().max()
    assert all(g.abs().max() > 0 for g in torch.autograd.grad(call(), list(net.parameters())))


def test_weight_gradients_under_batch_normalisation_equal_finite_differences():
    """In training mode the samples are coupled; the inner gradient is then that of the batch's summed loss."""
    net = seeded(lambda: Normalised(classes=3)).train()
    net.norm.track_running_stats = False
    x, y = vectors(4, 16)
    x = x.view(4, 1, 4, 4)

    def call():
        return gfa_loss(net, x, y, lam=0.8, layers="deep")

    expected, got = finite_differences(net, call, step=1e-6), gradients(net, call())
    assert torch.allclose(got, expected, rtol=1e-4, atol=1e-7), (got - expected).abs().max()


@pytest.mark.parametrize("loss", list(LOSSES))
def test_lam_zero_is_plain_training(loss):
    net, (x, y) = seeded(TwoLayer, 1), vectors(seed=1)
    plain = get_loss(loss)(net(x), y).mean()
    total = gfa_loss(net, x, y, lam=0, layers="deep", loss=loss)
    assert torch.equal(total, plain) and torch.allclose(gradients(net, total), gradients(net, plain), atol=1e-15)


def test_losses_by_their_definitions():
    z, y = torch.tensor([[1.0, 3.0, 0.5], [2.0, -1.0, 0.0]], dtype=torch.float64), torch.tensor([0, 0])
    assert LOSSES["mse"](z, y).tolist() == [0 + 9 + 0.25, 1 + 1 + 0]
    assert LOSSES["margin"](z, y).tolist() == [2.0, -2.0]
    first = math.log(math.exp(1) + math.exp(3) + math.exp(0.5)) - 1
    assert LOSSES["ce"](z, y)[0].item() == pytest.approx(first, abs=1e-12)
    assert LOSSES["mse"](z, y).mean().item() == pytest.approx(3 * F.mse_loss(z, F.one_hot(y, 3).double()).item())


def test_measure_alignment_agrees_with_the_terms_at_any_batch_size():
    net, (x, y) = seeded(TwoLayer, 1), vectors(7)
    terms = gfa_terms(net, x, y, lam=0, layers="deep", loss="ce")
    with torch.no_grad():
        measured = [measure_alignment(net, x, y, loss="ce", batch_size=size) for size in (1, 3, 7, 500)]
    for found in measured:
        assert list(found) == LAYERS["deep"]
        for name, a in found.items():
            assert a.shape == (7,) and not a.requires_grad
            assert torch.allclose(a, terms.alignments[name].detach(), atol=1e-12)


@pytest.mark.parametrize("lam", [-1, math.nan, math.inf, "1", None])
def test_a_bad_lam_is_refused(lam):
    with pytest.raises(ValueError, match="lam must be a finite number of at least 0"):
        gfa_loss(seeded(TwoLayer), *vectors(), lam=lam)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (dict(form="cosine"), ["form", "cos, abs, square, negative", "'cosine'"]),
        (dict(reduction="max"), ["reduction", "sum, mean", "'max'"]),
        (dict(loss="l2"), ["loss", "mse, ce, margin", "'l2'"]),
        (dict(layers="all"), ["layers", "'first'", "'deep'", "'all'"]),
        (dict(layers=["head", "tail"]), ["'tail'", "encoder.dense", "head"]),
        (dict(layers=[]), ["empty"]),
        (dict(layers="deep", weights=[1]), ["weights", "2", "encoder.dense", "got 1"]),
    ],
)
def test_bad_options_are_named(options, words):
    with pytest.raises(ValueError) as error:
        gfa_loss(seeded(TwoLayer), *vectors(), lam=1, **options)
    assert all(word in str(error.value) for word in words), error.value
