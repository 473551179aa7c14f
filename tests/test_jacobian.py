"""Directions of the Jacobian: known for a linear model, and the same as the gradients of the losses for a bent one."""

import pytest
import torch
import torch.nn.functional as F
from nets import TwoLayer, seeded, vectors

from deepdefense.geometry import alignment, decompose
from deepdefense.gfa import measure_alignment
from deepdefense.losses import get_loss
from replication.experiments.jacobian import RANDOM, class_gradients, logit_directions, restrained

NAMES = ["training residual", "cross-entropy residual", "margin", "other classes", "random"]


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def linear(classes=4, inputs=6):
    W = torch.randn(classes, inputs, generator=generator(3), dtype=torch.float64)
    h, y = vectors(5, inputs, classes)
    return W, (lambda h: h @ W.T), 2 * h - 1, y


def test_the_jacobian_of_a_linear_model_is_its_matrix():
    W, f, h, _ = linear()
    logits, jacobian = class_gradients(f, h)
    assert torch.allclose(logits, h @ W.T) and torch.allclose(jacobian, W.expand(5, 4, 6))
    assert not logits.requires_grad and not jacobian.requires_grad


def test_the_jacobian_of_images_is_flattened():
    W, f, h, _ = linear(inputs=12)
    _, jacobian = class_gradients(lambda v: f(v.flatten(1)), h.view(5, 3, 2, 2))
    assert torch.allclose(jacobian, W.expand(5, 4, 12))


def test_directions_of_logits_by_hand():
    logits, y = torch.tensor([[1.0, 3.0, 2.0], [0.0, -1.0, 4.0]], dtype=torch.float64), torch.tensor([0, 2])
    found = logit_directions(logits, y, generator())
    assert list(found) == NAMES and [v.shape[1] for v in found.values()] == [1, 1, 1, 1, RANDOM]
    assert all(torch.allclose(v.norm(dim=2), torch.ones(v.shape[:2], dtype=torch.float64)) for v in found.values())
    half = 2**-0.5
    assert torch.allclose(found["margin"][:, 0], torch.tensor([[-half, half, 0], [half, 0, -half]], dtype=torch.float64))
    assert torch.allclose(found["other classes"][:, 0], torch.tensor([[-half, 0, half], [0, half, -half]], dtype=torch.float64))
    residual = torch.tensor([[0.0, 3.0, 2.0], [0.0, -1.0, 3.0]], dtype=torch.float64)
    assert torch.allclose(found["training residual"][:, 0], F.normalize(residual))


def test_two_classes_have_no_other_class():
    assert list(logit_directions(torch.tensor([[1.0, 0.0]]), torch.tensor([0]), generator())) == [
        name for name in NAMES if name != "other classes"
    ]


def test_a_linear_model_pulls_each_direction_back_through_its_matrix():
    W, f, h, y = linear()
    found = restrained(f, h, y, generator())
    assert list(found) == NAMES
    chosen = logit_directions(h @ W.T, y, generator())
    training = chosen["training residual"][:, 0] @ W
    for name, values in found.items():
        pulled = chosen[name] @ W  # (B, n, D)
        expected = {
            "alignment": F.cosine_similarity(pulled, h[:, None], dim=2),
            "length": pulled.norm(dim=2),
            "tangential length": torch.stack([decompose(v, h)[1].norm(dim=1) for v in pulled.unbind(1)], 1),
            "with training gradient": F.cosine_similarity(pulled, training[:, None], dim=2),
        }
        for key, value in expected.items():
            assert torch.allclose(values[key], value.mean(1), rtol=1e-9, atol=1e-12), (name, key)


@pytest.mark.parametrize(("name", "loss"), [("training residual", "mse"), ("cross-entropy residual", "ce"), ("margin", "margin")])
def test_a_residual_pulled_back_is_the_gradient_of_its_loss(name, loss):
    net = seeded(lambda: TwoLayer(inputs=6, classes=4))
    h, y = vectors(8, 6, 4)
    found = restrained(net, h, y, generator())[name]
    (expected,) = measure_alignment(net, h, y, layers="first", loss=loss).values()
    assert torch.allclose(found["alignment"], expected, rtol=1e-9, atol=1e-12)


def test_the_training_gradient_is_that_of_squared_error():
    net = seeded(lambda: TwoLayer(inputs=6, classes=4))
    h, y = vectors(8, 6, 4)
    found = restrained(net, h, y, generator())
    (g,) = torch.autograd.grad((net(h.requires_grad_()) - F.one_hot(y, 4)).square().sum(), h)
    (margin,) = torch.autograd.grad(get_loss("margin")(net(h), y).sum(), h)
    assert torch.allclose(found["training residual"]["alignment"], alignment(h.detach(), g), rtol=1e-9, atol=1e-12)
    assert torch.allclose(found["training residual"]["with training gradient"], torch.ones(8, dtype=h.dtype))
    assert torch.allclose(found["margin"]["with training gradient"], alignment(margin, g), rtol=1e-9, atol=1e-12)


def test_random_directions_are_those_of_the_generator():
    _, f, h, y = linear()
    once, again, other = (restrained(f, h, y, generator(seed))["random"]["length"] for seed in (0, 0, 1))
    assert torch.equal(once, again) and not torch.equal(once, other)
