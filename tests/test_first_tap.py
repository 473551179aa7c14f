"""The first tap is the image as the network sees it, whatever layer follows and whatever is done to the image before."""

import pytest
import torch
import torch.nn.functional as F
from nets import Shared, images, seeded
from torch import nn

from deepdefense import models, taps
from deepdefense.attacks.features import inner_layers
from deepdefense.gfa import gfa_terms, layer_gradients, measure_alignment

X, Y = images(5, (3, 6, 6))
X = X.double()


class OwnConv(nn.Module):
    """A convolution that no class of torch's tells."""

    def __init__(self, inputs=3, outputs=4):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs, 3, 3))

    def forward(self, x):
        return F.conv2d(x, self.weight, padding=1)


class ByRows(nn.Module):
    """An LSTM over the rows of the image."""

    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(18, 7, batch_first=True)

    def forward(self, x):
        return self.lstm(x.transpose(1, 2).flatten(2))[0][:, -1]


class Attention(nn.Module):
    """Self-attention over the rows; its output layer is an nn.Linear that never runs as a module."""

    def __init__(self):
        super().__init__()
        self.attention = nn.MultiheadAttention(18, 3, batch_first=True)

    def forward(self, x):
        rows = x.transpose(1, 2).flatten(2)
        return self.attention(rows, rows, rows, need_weights=False)[0].flatten(1)


class Do(nn.Module):
    """`function` as a layer."""

    def __init__(self, function, *parts):
        super().__init__()
        self.function, self.parts = function, nn.ModuleList(parts)

    def forward(self, x):
        return self.function(x, *self.parts)


def behind(*first, size=144):
    """The layers `first`, then softplus and a linear layer, in eval mode."""
    return seeded(lambda: nn.Sequential(*[make() for make in first], nn.Softplus(), nn.Flatten(), nn.Linear(size, 3))).eval()


def by_hand(prepare, rest, x=X, loss="mse"):
    """Alignment at prepare(x), (B,), by torch alone."""
    h = prepare(x).detach().requires_grad_()
    z = rest(h)
    value = (z - F.one_hot(Y, 3)).square().sum() if loss == "mse" else F.cross_entropy(z, Y, reduction="sum")
    (g,) = torch.autograd.grad(value, h)
    return F.cosine_similarity(h.detach().flatten(1), g.flatten(1))


def first(net, name=None, x=X, **options):
    """The first alignment of `net`, the same by all roads."""
    found = {**gfa_terms(net, x, Y, lam=1.0, layers="first", **options).alignments}
    (key, a), measured = *found.items(), measure_alignment(net, x, Y, layers="first", **options)
    assert list(measured) == [key] and torch.allclose(measured[key], a.detach(), atol=1e-12)
    assert name is None or key == name
    return a.detach()


@pytest.mark.parametrize(
    ("make", "size"), [(OwnConv, 144), (ByRows, 7), (Attention, 108), (lambda: Do(lambda x: F.interpolate(x, 8)), 192)]
)
def test_whatever_comes_first_the_image_is_the_tap(make, size):
    net = behind(make, size=size)
    assert torch.allclose(first(net, taps.IMAGE), by_hand(lambda x: x, net), atol=1e-12)
    scaled = nn.Sequential(Do(lambda x: (x - 0.5) / 0.5), net)
    assert torch.allclose(first(scaled, taps.IMAGE), by_hand(lambda x: 2 * x - 1, net), atol=1e-12), "scaling inside counts"


PREPARED = {
    "nothing": lambda x: x,
    "symmetric": lambda x: 2 * x - 1,
    "from the other side": lambda x: -(0.5 - x) * 2.0,
    "mean and deviation": lambda x: (x - torch.tensor([0.4, 0.5, 0.6]).view(3, 1, 1)) / torch.tensor([[[0.2]], [[0.3]], [[0.1]]]),
    "in place": lambda x: x.sub_(0.5).div_(0.25),
    "clipped": lambda x: x.clamp(0, 1) - 0.5,
    "each image by its own statistics": lambda x: (x - x.mean((1, 2, 3), keepdim=True)) / (x.std((1, 2, 3), keepdim=True) + 1e-3),
    "quantised, straight through": lambda x: x + ((x * 7).round() / 7 - x).detach(),
    "normalised": lambda x: F.instance_norm(x) + 1,
    "turned over": lambda x: (x * 2).flip(1, 2).permute(0, 1, 3, 2).contiguous() - 1,
    "other channels first": lambda x: x[:, [2, 1, 0]] - torch.tensor([0.4, 0.5, 0.6]).view(3, 1, 1),
}


@pytest.mark.parametrize("prepare", list(PREPARED))
def test_the_tap_does_not_depend_on_the_class_of_the_layer(prepare):
    """An nn.Conv2d and an own convolution with the same weights see the same image."""
    own = behind(OwnConv)
    conv = nn.Conv2d(3, 4, 3, padding=1, bias=False)
    conv.weight = own[0].weight
    known = nn.Sequential(conv, *own[1:])
    before = Do(PREPARED[prepare])
    expected = by_hand(lambda x: PREPARED[prepare](x.clone()), own)
    assert torch.allclose(first(nn.Sequential(before, known), "1.0"), expected, atol=1e-12)
    assert torch.allclose(first(nn.Sequential(before, own), taps.IMAGE), expected, atol=1e-12)


def test_batch_normalisation_of_the_image_is_part_of_how_it_is_seen():
    own, norm = behind(OwnConv), seeded(lambda: nn.BatchNorm2d(3))
    for mode in (True, False):
        net = nn.Sequential(norm, own).train(mode)
        assert torch.allclose(first(net), by_hand(norm, own), atol=1e-12)


def test_a_layout_with_the_batch_behind_is_not_the_tap():
    """Six rows for six images, so that no shape tells the two axes apart."""
    net = behind(lambda: Do(lambda x, lstm: lstm((2 * x - 1).transpose(1, 2).flatten(2).transpose(0, 1))[0][-1], nn.LSTM(18, 7)), size=7)
    x, y = torch.cat([X, X[:1]]), torch.cat([Y, Y[:1]])
    found = measure_alignment(net, x, y, layers="first")[taps.IMAGE]
    assert torch.allclose(found[:5], first(net), atol=1e-12) and torch.allclose(found[5], found[0], atol=1e-12)


SPLIT = {
    "two scalings": lambda x, a, b: a(2 * x - 1) + b(x / 0.3),
    "a skip around the scaling": lambda x, a, b: a(2 * x - 1) + b(x),
    "a learnt gate": lambda x, a, b: a(x * torch.sigmoid(b(x).mean((1, 2, 3), keepdim=True))),
    "gamma": lambda x, a, b: a((x + 0.1).pow(0.5)) + b(x),
    "a constant over the image": lambda x, a, b: a(torch.ones(3, 1, 1).double() / (x + 1)) + b(x),
}


@pytest.mark.parametrize("kind", [OwnConv, lambda: nn.Conv2d(3, 4, 3, padding=1, bias=False)])
@pytest.mark.parametrize("how", list(SPLIT))
def test_where_the_image_takes_two_roads_its_whole_gradient_counts(how, kind):
    parts = [seeded(kind, 1), seeded(kind, 2)]
    net = nn.Sequential(Do(SPLIT[how], *parts), *behind())
    assert torch.allclose(first(net), by_hand(lambda x: x, net), atol=1e-12)


def test_the_gradient_reaches_the_weights_of_an_own_layer():
    """Against finite differences: the loss turns the gradient at the image, through the layer that "first" knows nothing of."""
    net = behind(OwnConv)
    terms = gfa_terms(net, X, Y, lam=3.0)
    (got,) = torch.autograd.grad(terms.loss, net[0].weight)
    at = (1, 2, 0, 1)
    values = []
    for step in (1e-5, -1e-5):
        net[0].weight.data[at] += step
        values.append(gfa_terms(net, X, Y, lam=3.0).loss.item())
        net[0].weight.data[at] -= step
    assert got[at].item() == pytest.approx((values[0] - values[1]) / 2e-5, rel=1e-5)


def test_deep_begins_with_the_image_and_names_what_it_passes_over():
    net = seeded(lambda: nn.Sequential(OwnConv(), nn.Softplus(), nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(64, 3)))
    with pytest.warns(UserWarning, match="'deep' has no tap at these modules, .*: '0'$"):
        terms = gfa_terms(net, X, Y, lam=1.0, layers="deep")
    assert list(terms.alignments) == [taps.IMAGE, "2", "5"]
    with pytest.warns(UserWarning, match=r"'0.attention', '0.attention.out_proj'$"):
        assert list(measure_alignment(behind(Attention, size=108), X, Y)) == [taps.IMAGE, "3"]
    with pytest.warns(UserWarning, match="'0.lstm'$"):
        assert list(layer_gradients(behind(ByRows, size=7), X, Y)) == [taps.IMAGE, "3"]


@pytest.mark.filterwarnings("error")
def test_where_nothing_is_passed_over_nothing_is_said():
    for name in set(models.ARCHITECTURES) - {"vit"}:  # whose learnt positions belong to no layer, and that is said
        net = models.build(name, (3, 8, 8), 3, width=0.1, seed=0).eval()
        gfa_terms(net, *images(3, (3, 8, 8)), lam=1.0, layers="deep")


def test_the_image_can_be_asked_for_by_name():
    net = behind(OwnConv)
    found = measure_alignment(net, X, Y, layers=[taps.IMAGE, "3"])
    assert list(found) == [taps.IMAGE, "3"] and torch.allclose(found[taps.IMAGE], by_hand(lambda x: x, net), atol=1e-12)


def test_a_network_without_any_known_layer_has_its_image():
    net = seeded(lambda: nn.Sequential(OwnConv(outputs=3), nn.Softplus(), nn.AdaptiveAvgPool2d(1), nn.Flatten()))
    assert torch.allclose(first(net, taps.IMAGE), by_hand(lambda x: x, net), atol=1e-12)
    with pytest.raises(ValueError, match="no linear or convolution layer to tap; take 'first'"):
        measure_alignment(net, X, Y)


def test_features_are_those_behind_the_image():
    assert inner_layers(behind(OwnConv), X) == ["3"] and inner_layers(behind(lambda: nn.Conv2d(3, 4, 3, padding=1)), X) == ["3"]


def test_without_gradients_the_taps_are_the_same_and_carry_no_graph():
    net = seeded(Shared)
    x = torch.rand(4, 5).double()
    with torch.no_grad():
        logits, plain = taps.forward(net, x, "deep")
    _, caught = taps.forward(net, x.clone().requires_grad_(), "deep")
    assert [tap.name for tap in plain] == [tap.name for tap in caught] and not logits.requires_grad
    assert all(torch.equal(a.value, b.value) and not a.value.requires_grad for a, b in zip(plain, caught, strict=True))


def test_an_image_that_is_cut_off_is_said():
    net = nn.Sequential(Do(lambda x: x.detach()), behind(OwnConv))
    with pytest.raises(ValueError, match="no gradient at .*no_grad or detach inside"):
        gfa_terms(net, X, Y, lam=1.0)
