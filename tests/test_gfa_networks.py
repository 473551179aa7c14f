"""GFA on any network: taps of one's own, residual and shared layers, and what may not be left behind."""

import pytest
import torch
from nets import Normalised, Residual, Shared, TwoLayer, hooks, images, seeded, vectors
from torch import nn

from deepdefense import models, taps
from deepdefense.gfa import gfa_loss, gfa_terms, measure_alignment


def tapped(net, x, layers):
    """{name: value} of the taps, from a forward pass."""
    return {tap.name: tap.value for tap in taps.forward(net, x.requires_grad_(), layers)[1]}


def test_taps_are_the_layer_inputs_in_forward_order():
    net, (x, _) = seeded(TwoLayer), vectors()
    found = tapped(net, x, ["head", "encoder.dense"])
    assert list(found) == taps.tap_names(net) == ["encoder.dense", "head"]
    assert found["encoder.dense"] is x
    assert torch.equal(found["head"], torch.tanh(net.encoder["dense"](x)))
    assert list(tapped(net, x, "first")) == ["encoder.dense"] and list(tapped(net, x, ["head"])) == ["head"]


def test_any_submodule_can_be_a_tap():
    net, (x, y) = nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 3)).double(), vectors()
    assert list(gfa_terms(net, x, y, lam=1, layers=["1"]).alignments) == ["1"]
    with pytest.raises(ValueError, match="no linear or convolution layer"):
        gfa_loss(nn.Sequential(nn.Flatten()), x, y, lam=1, layers="deep")


def test_a_tensor_that_feeds_two_layers_counts_once():
    net, (x, y) = seeded(Residual), vectors()
    terms = gfa_terms(net, x, y, lam=1, layers="deep")
    assert list(terms.alignments) == ["stem", "main", "head"]
    h = torch.tanh(net.stem(x)).detach().requires_grad_()
    z = net.head(torch.tanh(net.main(h) + net.shortcut(h)))
    (g,) = torch.autograd.grad((z - torch.eye(3).double()[y]).square().sum(), h)
    expected = nn.functional.cosine_similarity(h, g)
    assert torch.allclose(terms.alignments["main"], expected, atol=1e-12), "the gradient through both layers"
    assert list(gfa_terms(net, x, y, lam=1, layers=["shortcut"]).alignments) == ["shortcut"]


def test_a_layer_that_runs_twice_is_two_taps():
    net, (x, y) = seeded(Shared), vectors()
    terms = gfa_terms(net, x, y, lam=1, layers="deep")
    assert len(terms.alignments) == 3 and terms.penalty.item() == pytest.approx(
        sum((1 - a).mean().item() for a in terms.alignments.values())
    )
    h = torch.tanh(net.twice(x)).detach().requires_grad_()
    (g,) = torch.autograd.grad((net.head(torch.tanh(net.twice(h))) - torch.eye(3).double()[y]).square().sum(), h)
    second = list(terms.alignments.values())[1]
    assert torch.allclose(second, nn.functional.cosine_similarity(h, g), atol=1e-12)
    assert list(gfa_terms(net, x, y, lam=1, layers="first").alignments) == ["twice"]


class Changing(TwoLayer):
    def forward(self, x):
        h = torch.tanh(self.encoder["dense"](x))
        z = self.head(h)
        h.add_(1)
        return z


class Unreached(TwoLayer):
    def forward(self, x):
        return self.encoder["dense"](x)


class ByKeyword(TwoLayer):
    def forward(self, x):
        return self.head(torch.tanh(self.encoder["dense"](input=x)))


class Failing(TwoLayer):
    def forward(self, x):
        self.encoder["dense"](x)
        raise RuntimeError("broken on purpose")


def test_a_tap_that_is_changed_in_place_is_refused():
    with pytest.raises(ValueError, match="'head' is changed in place"):
        gfa_loss(seeded(Changing), *vectors(), lam=1, layers="deep")


def test_a_tap_that_forward_never_reaches_is_named():
    for layers in (["head"], ["encoder.dense", "head"]):
        with pytest.raises(ValueError, match="head"):
            gfa_loss(seeded(Unreached), *vectors(), lam=1, layers=layers)


def test_a_layer_called_by_keyword_is_not_passed_over():
    net, (x, y) = seeded(ByKeyword), vectors()
    assert list(gfa_terms(net, x, y, lam=1, layers="first").alignments) == ["encoder.dense"]


@pytest.mark.parametrize(("net", "layers"), [(TwoLayer, "deep"), (Failing, "deep"), (Changing, "deep"), (TwoLayer, ["head", "tail"])])
def test_no_hooks_stay_behind(net, layers):
    net = seeded(net)
    for call in (gfa_loss, gfa_terms):
        try:
            call(net, *vectors(), lam=1, layers=layers)
        except (ValueError, RuntimeError):
            assert type(net) is not TwoLayer or layers != "deep"
    try:
        with taps.record(net, ["head", "tail"]):
            pass
    except (KeyError, ValueError):
        pass
    assert hooks(net) == 0


def test_nothing_is_written_into_gradients_and_no_grad_is_overruled():
    net, (x, y) = seeded(TwoLayer), vectors()
    with torch.no_grad():
        loss = gfa_loss(net, x, y, lam=1, layers="deep")
        measure_alignment(net, x, y)
    assert loss.requires_grad and not x.requires_grad
    assert all(p.grad is None for p in net.parameters())
    loss.backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in net.parameters())


def test_an_image_that_requires_grad_keeps_its_graph():
    net, (x, y) = seeded(TwoLayer), vectors()
    free = x.clone().requires_grad_()
    gfa_loss(net, free * 1.0, y, lam=1).backward()
    assert free.grad is not None and free.grad.abs().sum() > 0


def test_frozen_weights_can_still_be_measured():
    net, (x, y) = seeded(TwoLayer), vectors()
    free = measure_alignment(net, x, y)
    assert all(torch.equal(a, free[name]) for name, a in measure_alignment(net.requires_grad_(False), x, y).items())


@pytest.mark.parametrize("mode", ["train", "eval"])
def test_resnet18_in_either_mode_gives_finite_gradients(mode):
    net = getattr(models.build("resnet18", (3, 8, 8), 4, seed=0), mode)()
    x, y = images(3, (3, 8, 8), 4)
    terms = gfa_terms(net, x, y, lam=0.5, layers="deep")
    terms.loss.backward()
    assert len(terms.alignments) == 18, "the three shortcuts share their input with the block's first convolution"
    gradients = [p.grad for p in net.parameters()]
    assert all(g is not None and torch.isfinite(g).all() for g in gradients)
    assert sum(g.abs().sum() for g in gradients) > 0


def test_batch_normalisation_runs_in_the_mode_of_the_model():
    net, (x, y) = Normalised(classes=3), images()
    before = net.norm.running_mean.clone()
    measure_alignment(net.eval(), x, y)
    assert torch.equal(net.norm.running_mean, before)
    gfa_loss(net.train(), x, y, lam=1)
    assert not torch.equal(net.norm.running_mean, before)
