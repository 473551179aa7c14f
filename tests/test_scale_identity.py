"""Length-weighted alignment is the rate at which the loss grows with a layer's weights: both sides, in float64, at every tap."""

import pytest
import torch
from nets import Shared, hooks, images, seeded, vectors
from torch import nn

from deepdefense import models
from deepdefense.gfa import layer_gradients
from deepdefense.losses import LOSSES, get_loss
from deepdefense.scale_identity import scale_identity

CLOSE = dict(rel=1e-9, abs=1e-11)


def network(name):
    net = models.build(name, (3, 8, 8), 4, width=0.125, seed=0).double()
    x, y = images(6, (3, 8, 8), 4)
    return net, x.double(), y


@pytest.mark.parametrize("mode", ["train", "eval"])
@pytest.mark.parametrize("name", list(models.ARCHITECTURES))
def test_both_sides_are_equal_at_every_tap(name, mode):
    net, x, y = network(name)
    getattr(net, mode)()
    for loss in LOSSES:
        sides = scale_identity(net, x, y, loss=loss)
        pairs = layer_gradients(net, x, y, layers="deep", loss=loss)
        assert set(sides) == set(net.tap_names)
        for tap, side in sides.items():
            assert side.through == pytest.approx(side.growth, **CLOSE), (tap, loss)
            if tap in pairs:
                h, g = pairs[tap]
                assert side.aligned == pytest.approx(float((h * g).sum()), **CLOSE), (tap, loss)
        alone = [tap for tap in sides if not name.startswith("resnet18") or tap in ("body.conv1", "body.fc") or tap.endswith("conv2")]
        assert all(sides[tap].aligned == pytest.approx(sides[tap].growth, **CLOSE) for tap in alone)
        assert any(abs(side.growth) > 1e-3 for side in sides.values())


@pytest.mark.parametrize("name", ["cnn", "mlp", "resnet18"])
def test_growth_is_the_slope_of_the_loss_along_the_weights(name):
    net, x, y = network(name)
    net.eval()
    for tap, side in scale_identity(net, x, y, loss="ce").items():
        weight, values = net.get_submodule(tap).weight, []
        kept = weight.detach().clone()
        for c in (1 + 1e-7, 1 - 1e-7):
            weight.data.copy_(c * kept)
            values.append(get_loss("ce")(net(x), y).sum().item())
        weight.data.copy_(kept)
        assert side.growth == pytest.approx((values[0] - values[1]) / 2e-7, rel=1e-4, abs=1e-6), tap


def test_where_it_must_be_read_differently():
    net, x, y = network("resnet18")
    sides = scale_identity(net.eval(), x, y)
    into_block = sides["body.layer1.0.conv1"]  # the skip around it takes the same tensor
    assert abs(into_block.aligned - into_block.growth) > 1e-3
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eps = 1e-12  # the constant that keeps the right side from being 0
    trained = scale_identity(net.train(), x, y)
    followed = [side.growth for tap, side in trained.items() if tap != "body.fc"]
    assert max(map(abs, followed)) < 1e-6 and abs(trained["body.fc"].growth) > 1e-3, "batch normalisation behind it"
    twice, (v, labels) = seeded(Shared), vectors()
    side = scale_identity(twice, v, labels)["twice"]
    found = layer_gradients(twice, v, labels)
    assert side.growth == pytest.approx(sum(float((h * g).sum()) for tap, (h, g) in found.items() if tap != "head"), **CLOSE)


def test_the_model_is_left_as_it_was_and_frozen_weights_count_too():
    net, x, y = network("cnn")
    before, expected = {k: v.clone() for k, v in net.state_dict().items()}, scale_identity(net, x, y)
    assert scale_identity(net.requires_grad_(False), x, y) == expected and hooks(net) == 0
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items()) and all(p.grad is None for p in net.parameters())
    with pytest.raises(ValueError, match="one class index"):
        scale_identity(net, x, y[:, None])
    with pytest.raises(ValueError, match="no linear or convolution layer"):
        scale_identity(nn.Flatten(), torch.rand(3, 2, 2), torch.zeros(3, dtype=torch.int64))
