"""The architectures: shapes, scaling inside, seeds, names of the tap points, messages."""

import pytest
import torch
import torchvision
from nets import images
from torch import nn

from deepdefense import models

SHAPES = [(1, 8, 8), (1, 28, 28), (3, 32, 32), (2, 5, 7)]


@pytest.mark.parametrize("name", list(models.ARCHITECTURES))
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_from_images_to_logits(name, shape):
    net = models.build(name, shape, 4, seed=0).eval()
    x, _ = images(2, shape)
    assert net(x).shape == (2, 4) and torch.isfinite(net(x)).all()
    assert torch.allclose(net(x)[:1], net(x[:1]), atol=1e-5), "the answer for one image must not depend on the others"


@pytest.mark.parametrize(
    ("name", "taps"),
    [
        ("cnn", ["body.conv1", "body.conv2", "body.conv3", "body.fc1", "body.fc2"]),
        ("mlp", ["body.fc1", "body.fc2", "body.fc3"]),
    ],
)
def test_tap_names_are_the_weight_layers(name, taps):
    assert models.build(name, (1, 8, 8), 3).tap_names == taps


def test_layer_sizes_are_those_of_the_paper_and_scale_with_the_width():
    def sizes(name, shape, **options):
        return [tuple(p.shape) for p in models.build(name, shape, 10, **options).parameters() if p.dim() > 1]

    assert sizes("mlp", (1, 28, 28)) == [(512, 784), (256, 512), (10, 256)]
    assert sizes("mlp", (1, 28, 28), width=0.25) == [(128, 784), (64, 128), (10, 64)]
    convolutions = [(32, 3, 3, 3), (64, 32, 3, 3), (128, 64, 3, 3)]
    assert sizes("cnn", (3, 32, 32)) == [*convolutions, (256, 2048), (10, 256)]
    assert sizes("cnn", (1, 5, 3), width=1e-9) == [(1, 1, 3, 3)] * 3 + [(1, 1), (10, 1)]


def test_resnet18_is_torchvisions_but_for_the_stem():
    net, original = models.build("resnet18", (3, 16, 16), 7, seed=3).body, torchvision.models.resnet18(num_classes=7)
    shapes, wanted = ({k: v.shape for k, v in m.state_dict().items()} for m in (net, original))
    assert shapes.pop("conv1.weight") == (64, 3, 3, 3) and wanted.pop("conv1.weight") == (64, 3, 7, 7)
    assert shapes == wanted
    original.conv1, original.maxpool = nn.Conv2d(3, 64, 3, 1, 1, bias=False), nn.Identity()
    original.load_state_dict(net.state_dict())
    x, _ = images(2, (3, 16, 16))
    assert torch.equal(net.eval()(x), original.eval()(x))


@pytest.mark.parametrize(
    ("scaling", "expected"),
    [
        ("symmetric", lambda x: 2 * x - 1),
        ("unit", lambda x: x),
        (([0.2, 0.4], [0.5, 2.0]), lambda x: torch.stack([(x[:, 0] - 0.2) / 0.5, (x[:, 1] - 0.4) / 2], 1)),
    ],
    ids=["symmetric", "unit", "mean and std"],
)
def test_scaling_happens_inside(scaling, expected):
    net = models.build("mlp", (2, 3, 3), 3, scaling=scaling)
    x, _ = images(4, (2, 3, 3))
    seen = []
    net.body.register_forward_pre_hook(lambda _module, args: seen.append(args[0]))
    net(x)
    assert torch.allclose(seen[0], expected(x), atol=1e-6)


@pytest.mark.parametrize("name", list(models.ARCHITECTURES))
def test_a_seed_fixes_the_weights_and_spares_the_global_generator(name):
    def weights(seed):
        return torch.cat([p.detach().flatten() for p in models.build(name, (1, 8, 8), 3, seed=seed).parameters()])

    state = torch.get_rng_state()
    one, again, other = weights(5), weights(5), weights(6)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(one, again) and not torch.equal(one, other)
    drawn = weights(None)
    assert not torch.equal(torch.get_rng_state(), state) and not torch.equal(drawn, weights(None))


@pytest.mark.parametrize("activation", list(models.ACTIVATIONS))
def test_every_activation_is_used(activation):
    kinds = [type(m) for m in models.build("cnn", (1, 8, 8), 3, activation=activation).modules()]
    assert kinds.count(type(models.ACTIVATIONS[activation]())) == 4


@pytest.mark.parametrize(
    ("arguments", "options", "words"),
    [
        (("vgg", (1, 8, 8), 3), {}, ["model", "cnn, mlp, resnet18", "'vgg'"]),
        (("cnn", (1, 8, 8), 3), dict(activation="tanh"), ["activation", "relu", "'tanh'"]),
        (("cnn", (8, 8), 3), {}, ["in_shape", "(C, H, W)", "(8, 8)"]),
        (("cnn", (1, 0, 8), 3), {}, ["in_shape", "(1, 0, 8)"]),
        (("cnn", (1, 8, 8), 1), {}, ["classes", "at least 2", "1"]),
        (("cnn", (1, 8, 8), 3), dict(width=0), ["width", "above 0", "0"]),
        (("cnn", (1, 8, 8), 3), dict(width=float("inf")), ["width", "inf"]),
        (("cnn", (1, 8, 8), 3), dict(scaling="tanh"), ["scaling", "symmetric, unit", "'tanh'"]),
        (("cnn", (1, 8, 8), 3), dict(scaling=([0.5] * 3, [0.5] * 3)), ["scaling"]),
        (("cnn", (1, 8, 8), 3), dict(scaling=([0.5], [0.0])), ["scaling"]),
        (("resnet18", (1, 8, 8), 3), dict(activation="gelu"), ["resnet18", "relu"]),
    ],
)
def test_bad_arguments_are_named(arguments, options, words):
    with pytest.raises(ValueError) as error:
        models.build(*arguments, **options)
    assert all(word in str(error.value) for word in words), error.value


@pytest.mark.parametrize("shape", [(2, 3, 8, 8), (2, 1, 8, 9), (1, 8, 8)])
def test_images_of_another_shape_are_refused(shape):
    with pytest.raises(ValueError, match=r"shape \(B, 1, 8, 8\)"):
        models.build("cnn", (1, 8, 8), 3)(torch.rand(shape))


def test_a_narrower_resnet18_has_the_same_layers():
    shapes = [{k: v.shape for k, v in models.build("resnet18", (3, 16, 16), 7, width=w).state_dict().items()} for w in (1, 0.125)]
    assert list(shapes[0]) == list(shapes[1])
    assert shapes[1]["body.conv1.weight"] == (8, 3, 3, 3) and shapes[1]["body.fc.weight"] == (7, 64)
    assert shapes[1]["body.layer4.0.downsample.0.weight"] == (64, 32, 1, 1)


def test_group_normalisation_starts_as_batch_normalisation_and_keeps_images_apart():
    net, other = (models.build(name, (3, 16, 16), 7, width=0.125, seed=3) for name in ("resnet18-gn", "resnet18"))
    shared = {k: v for k, v in other.state_dict().items() if "running" not in k and "num_batches" not in k}
    assert net.state_dict().keys() == shared.keys() and all(torch.equal(v, net.state_dict()[k]) for k, v in shared.items())
    x = torch.rand(3, 3, 16, 16)
    torch.testing.assert_close(net.train()(x)[:1], net(x[:1]), rtol=1e-4, atol=1e-5)


def test_the_vit_sees_every_layer():
    net = models.build("vit", (3, 8, 8), 4, width=0.1, activation="gelu", seed=0)
    assert len(net.tap_names) == 2 + 4 * 6 and net(torch.rand(2, 3, 8, 8)).shape == (2, 4)
    again = models.restore("vit", (3, 8, 8), 4, net.state_dict(), width=0.1, activation="gelu")
    assert torch.equal(again(torch.ones(1, 3, 8, 8)), net.eval()(torch.ones(1, 3, 8, 8)))
