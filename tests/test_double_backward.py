"""Layers that are cheap to differentiate twice give torch's own gradients; whatever they do not know, they leave alone."""

import gc
from copy import deepcopy

import pytest
import torch
import torch.nn.functional as F
from nets import Normalised, Residual, Shared, TwoLayer, images, seeded, vectors
from torch import nn

from deepdefense import models, taps
from deepdefense.cost import FlopCount
from deepdefense.double_backward import TwiceDifferentiable, depends_only_on
from deepdefense.geometry import alignment, plain_alignment
from deepdefense.gfa import FORMS, gfa_loss, gfa_terms
from deepdefense.losses import get_loss

TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-5}  # relative, in the L2 norm of each parameter's gradient


def plain_terms(net, x, y, *, lam, layers="first", form="cos", loss="mse", reduction="sum", weights=None, detach_features=False):
    """The GFA loss in torch's own layers and operations alone."""
    logits, caught = taps.forward(net, x.detach().requires_grad_(), layers)
    task = get_loss(loss)(logits, y)
    grads = torch.autograd.grad(task.sum(), [tap.value for tap in caught], create_graph=True)
    stop = (lambda h: h.detach()) if detach_features else (lambda h: h)
    pairs = [(stop(tap.value).flatten(1), g.flatten(1)) for tap, g in zip(caught, grads, strict=True)]
    per_layer = [w * FORMS[form](plain_alignment(h, g)) for w, (h, g) in zip(weights or [1] * len(pairs), pairs, strict=True)]
    penalty = torch.stack(per_layer).sum(0)
    return (task + lam * (penalty / len(pairs) if reduction == "mean" else penalty)).mean()


def compare(net, x, y, **options):
    """Largest relative difference of a parameter's gradient, ours against torch's, after one step of each."""
    twin = deepcopy(net)
    ours, plain = gfa_loss(net, x, y, **options), plain_terms(twin, x, y, **options)
    ours.backward()
    plain.backward()
    assert torch.allclose(ours, plain, rtol=TOLERANCE[x.dtype], atol=0)
    for value, expected in zip(net.buffers(), twin.buffers(), strict=True):
        assert torch.allclose(value, expected), "running statistics"
    worst, largest = 0.0, max(q.grad.norm() for q in twin.parameters() if q.grad is not None)
    for p, q in zip(net.parameters(), twin.parameters(), strict=True):
        assert (p.grad is None) == (q.grad is None)
        if p.grad is not None:
            worst = max(worst, ((p.grad - q.grad).norm() / q.grad.norm().clamp(min=1e-4 * largest)).item())
    return worst


def network(name, dtype, size=12, **options):
    net = models.build(name, (3, size, size), 5, seed=0, **options).to(dtype)
    with torch.no_grad():
        for module in net.modules():
            if isinstance(module, nn.BatchNorm2d):  # not the fresh ones and zeros
                module.weight.uniform_(0.5, 1.5, generator=torch.Generator().manual_seed(1))
                module.bias.uniform_(-0.5, 0.5, generator=torch.Generator().manual_seed(2))
    x, y = images(6, (3, size, size), 5)
    return net.train(), x.to(dtype), y


@pytest.mark.parametrize("dtype", list(TOLERANCE), ids=str)
@pytest.mark.parametrize("layers", ["first", "deep"])
@pytest.mark.parametrize("name", ["cnn", "mlp", "resnet18"])
def test_gradients_equal_the_plain_formula(name, layers, dtype):
    net, x, y = network(name, dtype)
    assert compare(net, x, y, lam=0.7, layers=layers) <= TOLERANCE[dtype]


@pytest.mark.parametrize("dtype", list(TOLERANCE), ids=str)
@pytest.mark.parametrize("form", list(FORMS))
@pytest.mark.parametrize("loss", ["mse", "ce", "margin"])
def test_for_every_form_and_loss(form, loss, dtype):
    net, x, y = network("cnn", dtype, width=0.5)
    options = dict(layers="deep", form=form, loss=loss, weights=[1, 0.5, 0, 2, 0.3])
    for detach in (False, True):
        net.zero_grad()
        assert compare(net, x, y, lam=0.7, detach_features=detach, reduction="mean", **options) <= TOLERANCE[dtype]


@pytest.mark.parametrize("activation", ["softplus", "silu", "gelu"])
def test_other_activations_keep_their_second_derivatives(activation):
    net, x, y = network("cnn", torch.float64, width=0.3, activation=activation)
    assert compare(net, x, y, lam=0.7, layers="deep") <= 1e-10


class Odd(nn.Module):
    """Grouped, dilated and same-padded convolutions, one without bias, in-place ReLU, a skip from the image, frozen weights."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 6, 3, padding=2, dilation=2, bias=False), nn.Conv2d(6, 6, 3, stride=(2, 1), padding=1, groups=3)
        self.c, self.d = nn.Conv2d(3, 6, (1, 3), padding="same"), nn.Conv2d(6, 4, 2, stride=3)
        self.norm, self.head = nn.BatchNorm2d(6, affine=False), nn.LazyLinear(5)
        self.frozen = nn.Conv2d(6, 6, 1).requires_grad_(False)

    def forward(self, x):
        h = F.relu(self.norm(self.a(x)), inplace=True) + F.relu(self.c(x)) + x.mean(1, keepdim=True)
        h = self.frozen(h).relu()
        return self.head(torch.relu(self.d(self.b(h))).flatten(1))


def test_unusual_layers():
    x, y = images(5, (3, 12, 12), 5)
    net = seeded(Odd)
    net(x.double())
    assert compare(net, x.double(), y, lam=0.7, layers="deep") <= 1e-10
    assert net.frozen.weight.grad is None


@pytest.mark.parametrize("net", [TwoLayer, Residual, Shared])
def test_vectors_through_linear_layers(net):
    x, y = vectors(8)
    assert compare(seeded(net), x, y, lam=0.7, layers="deep") <= 1e-10


@pytest.mark.parametrize("mode", ["train", "eval"])
def test_batch_normalisation_in_either_mode_and_dropout(mode):
    net = getattr(seeded(lambda: Normalised(classes=3)), mode)()
    net.norm.running_var.fill_(2.0)
    x, y = images(7)
    assert compare(net, x.double(), y, lam=0.7, layers="deep") <= 1e-10


def test_a_normalisation_whose_weight_is_zero():
    net = seeded(lambda: Normalised(classes=3)).train()
    net.norm.weight.data.copy_(torch.tensor([0.0, 1, -1, 0.5]))
    net.norm.bias.data.fill_(0.3)
    x, y = images(7)
    assert compare(net, x.double(), y, lam=0.7, layers="deep") <= 1e-10


@pytest.mark.parametrize("module", ["conv", "thin", "linear", "norm", "relu"])
def test_each_layer_alone_by_finite_differences(module):
    """The gradient of a function of the input gradient, by torch's own numerical check."""
    generator = torch.Generator().manual_seed(0)
    shape = {"conv": (2, 6, 5, 5), "thin": (2, 2, 5, 5), "linear": (3, 4)}.get(module, (3, 2, 3, 3))
    x = torch.randn(shape, generator=generator, dtype=torch.float64).requires_grad_()
    size = {"conv": (4, 6, 3, 3), "thin": (4, 2, 3, 3), "linear": (5, 4), "norm": (2,), "relu": (1,)}[module]
    w = torch.randn(size, generator=generator, dtype=torch.float64).requires_grad_()
    bias = torch.randn(size[0], generator=generator, dtype=torch.float64).requires_grad_()
    call = {
        "conv": lambda x, w: F.conv2d(x, w, bias, stride=2, padding=1),
        "thin": lambda x, w: F.conv2d(x, w, bias, stride=2, padding=1),
        "linear": lambda x, w: F.linear(x, w, bias),
        "norm": lambda x, w: F.batch_norm(x, None, None, w, bias, training=True),
        "relu": lambda x, w: F.relu(x * w),
    }[module]

    def second(x, w):
        with TwiceDifferentiable(None) as layers:
            z = call(x, w)
        with layers.inputs_only():
            (g,) = torch.autograd.grad(z.pow(3).sum(), x, create_graph=True)
        return g.tanh(), z

    assert torch.autograd.gradcheck(second, (x, w))


def test_outside_of_a_gradient_nothing_is_replaced():
    net, x, _ = network("cnn", torch.float32)
    with torch.no_grad(), TwiceDifferentiable(None):
        z = net(x)
    assert z.grad_fn is None and torch.equal(z, net(x))
    assert "Convolution" in type(nn.Conv2d(3, 4, 3)(x).grad_fn).__name__ and F.conv2d is torch.conv2d


def test_nothing_flows_to_the_image_unless_it_is_somebody_elses():
    net, x, y = network("cnn", torch.float32)
    mine = x.clone().requires_grad_()
    gfa_loss(net, mine, y, lam=0.5).backward()
    twin, theirs = deepcopy(net), x.clone().requires_grad_()
    logits, (tap,) = taps.forward(twin, theirs, "first")
    task = get_loss("mse")(logits, y)
    (g,) = torch.autograd.grad(task.sum(), tap.value, create_graph=True)
    (task + 0.5 * (1 - plain_alignment(tap.value.flatten(1), g.flatten(1)))).mean().backward()
    assert (mine.grad - theirs.grad).norm() <= 1e-5 * theirs.grad.norm()


def test_what_comes_from_the_image_alone():
    x, w = torch.rand(2, 3, requires_grad=True), torch.rand(3, requires_grad=True)
    assert depends_only_on(x, x) and depends_only_on((x - 1) / 2, x) and depends_only_on(torch.rand(2), x)
    assert not depends_only_on(x * w, x) and not depends_only_on(w, x) and not depends_only_on((x * 2).exp() + w.sum(), x)


@pytest.mark.parametrize("scale", [1e-25, 1.0, 1e20])
def test_the_alignment_can_be_differentiated_again(scale):
    h, g = (torch.randn(3, 7, generator=torch.Generator().manual_seed(s), dtype=torch.float64) * scale for s in (0, 1))
    h, g = h.requires_grad_(), g.requires_grad_()

    def curvature(function):
        (first,) = torch.autograd.grad(function(h, g).sum(), h, create_graph=True)
        return torch.autograd.grad((first * scale).square().sum(), [h, g])

    for ours, plain in zip(curvature(alignment), curvature(plain_alignment), strict=True):
        assert torch.allclose(ours * scale, plain * scale, atol=1e-12) and ours.abs().max() > 0


def test_the_alignment_of_half_precision_vectors_is_taken_in_float32():
    h, g = (torch.randn(4, 5000, generator=torch.Generator().manual_seed(s)) for s in (0, 1))
    a = alignment(h.bfloat16(), (g + h).bfloat16())
    assert a.dtype == torch.float32
    assert torch.allclose(a, alignment(h.bfloat16().float(), (g + h).bfloat16().float()), atol=1e-6)


def test_maps_that_lie_channels_last_align_alike():
    h, g = (torch.randn(4, 6, 5, 5, generator=torch.Generator().manual_seed(s)) for s in (0, 1))
    last = [v.to(memory_format=torch.channels_last) for v in (h, g)]
    assert torch.allclose(alignment(*last), alignment(h, g), atol=1e-6)
    net, x, y = network("cnn", torch.float32)
    twin = deepcopy(net).to(memory_format=torch.channels_last)
    gfa_loss(net, x, y, lam=0.7, layers="deep").backward()
    gfa_loss(twin, x.to(memory_format=torch.channels_last), y, lam=0.7, layers="deep").backward()
    for p, q in zip(net.parameters(), twin.parameters(), strict=True):
        assert (p.grad - q.grad).norm() <= 1e-5 * p.grad.norm()


def test_a_step_costs_what_its_floor_says():
    """Counted operations: the first layer's input gradient is needed once by GFA, and never by plain training."""
    net, x, y = network("cnn", torch.float32)
    with FlopCount() as forward:
        net(x)
    with FlopCount() as first_layer:
        net.body.conv1(x)
    for layers in ("first", "deep"):
        with FlopCount() as step:
            gfa_terms(net, x, y, lam=0.5, layers=layers).loss.backward()
        assert step.total == 6 * forward.total - first_layer.total


@pytest.mark.parametrize("name", ["cnn", "mlp", "resnet18"])
def test_nothing_of_a_step_outlives_it(name):
    """The graph must not hold the mode, which holds tensors that hold the graph: no garbage collector sees such a circle."""
    net, x, y = network(name, torch.float32)

    def alive():
        gc.collect()
        kinds = map(type, gc.get_objects())
        return sum(kind.__module__ == "deepdefense.double_backward" or issubclass(kind, torch.Tensor) for kind in kinds)

    gfa_loss(net, x, y, lam=0.5, layers="deep").backward()
    before = alive()
    for _ in range(3):
        gfa_loss(net, x, y, lam=0.5, layers="deep").backward()
        gfa_loss(net, x, y, lam=0.5, layers="first")
    assert alive() == before
