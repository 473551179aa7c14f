"""A folder of masking checks, or of substitutes, answers only for the very code, networks and attacks that made what it holds."""

from dataclasses import replace

import masked_nets
import pytest
import torch
from torch import nn

from deepdefense import masking
from deepdefense.masking import substitutes

EPS = 0.1
SETTINGS = masking.Settings(steps=2, draws=10, queries=10, readouts=10, targets=1, restarts=1)


class Defence(nn.Module):
    """The plain net on images with their values raised to a power: the weights say nothing of it."""

    def __init__(self, power=1.0):
        super().__init__()
        self.net, self.power = masked_nets.plain(), power

    def forward(self, x):
        return self.net(x.clamp(min=1e-6) ** self.power)


def digits(n=40):
    test = masked_nets.digits().test[:n]
    return test.images(), test.y


def report(folder, model=None, **options):
    x, y = digits()
    quiet = dict(black_box={}, adaptive={}, settings=SETTINGS) | options
    return masking.report(model or Defence(), x, y, eps=EPS, folder=folder, **quiet)


def shifted(by):
    def attack(model, x, y, *, eps, seed):
        return (x + by * eps).clamp(0, 1)

    return attack


def accuracy(found):
    return found[3].data["accuracy"]


def test_an_attack_of_ones_own_is_known_by_what_it_closes_over(tmp_path, capsys):
    weak = report(tmp_path, black_box={"shift": shifted(0.0)})
    assert "results are read from" not in capsys.readouterr().err
    strong = report(tmp_path, black_box={"shift": shifted(-1.0)})
    assert accuracy(weak)["shift"] == 1.0 > accuracy(strong)["shift"]
    assert strong.to_dict() == report(None, black_box={"shift": shifted(-1.0)}).to_dict()
    capsys.readouterr()
    assert report(tmp_path, black_box={"shift": shifted(-1.0)}).to_dict() == strong.to_dict()
    assert "8 of 8 results are read from" in capsys.readouterr().err


class Shift:
    """An attack with an attribute."""

    def __init__(self, by):
        self.by = by

    def __call__(self, model, x, y, *, eps, seed):
        return (x + self.by * eps).clamp(0, 1)


@pytest.mark.parametrize("of", ["white_box_attacks", "black_box", "adaptive"])
def test_an_attack_is_known_by_its_attributes(tmp_path, of):
    number = {"white_box_attacks": 3, "black_box": 3, "adaptive": 8}[of]
    options = {} if of == "black_box" else {"black_box": {"other": shifted(0.5)}}
    found = [report(tmp_path, **options | {of: {"shift": Shift(by)}})[number].data["accuracy"]["shift"] for by in (0.0, -1.0)]
    assert found[0] == 1.0 > found[1]


def test_a_defence_edited_at_equal_weights_is_another_model(tmp_path):
    report(tmp_path, Defence(1.0))
    with pytest.raises(ValueError, match="holds results of another model: the weights are the same"):
        report(tmp_path, Defence(3.0))


def test_a_defence_that_differs_on_a_few_images_only_is_another_model(tmp_path):
    x, y = digits()

    class Table(nn.Module):
        """The plain net, but for images that it knows by heart."""

        def __init__(self, known):
            super().__init__()
            self.net, self.known = masked_nets.plain(), known

        def forward(self, v):
            logits = self.net(v)
            for image, label in self.known:
                logits = logits + 50 * nn.functional.one_hot(label, 10) * (v == image).flatten(1).all(1, keepdim=True)
            return logits

    report(tmp_path, Table([]))
    with pytest.raises(ValueError, match="holds results of another model: .*logits on the clean images"):
        report(tmp_path, Table([(x[9], y[0])]))


def test_a_substitute_edited_at_equal_weights_is_another(tmp_path):
    def transferred(network):
        return report(tmp_path, substitutes={"other": network})[5].data["accuracy"]["other"]

    honest, blind = Defence(), masked_nets.Quantised(masked_nets.plain(), levels=2)
    near = transferred(honest)
    assert transferred(blind) != near
    blind.levels = 200  # an attribute, and no weight
    assert report(tmp_path, substitutes={"other": blind}).to_dict() == report(None, substitutes={"other": blind}).to_dict()


def test_other_settings_are_other_checks(tmp_path):
    assert report(tmp_path)[4].data["draws"] == 10
    assert report(tmp_path, settings=replace(SETTINGS, draws=12))[4].data["draws"] == 12


# --- substitutes ------------------------------------------------------------------------------------------------------


def trained(folder, make, model=None, **options):
    train = masked_nets.digits().train[:100]
    return substitutes.standard_set(model or Defence(), make, train.images(), train.y, eps=EPS, folder=folder, steps=3, **options)


def same(found, other):
    x, _ = digits(10)
    return [torch.equal(found[name](x), other[name](x)) for name in found]


def test_another_architecture_is_another_set_of_substitutes(tmp_path, capsys):
    with_relu, with_tanh = (lambda kind=kind: masked_nets.small_net(kind, hidden=8) for kind in (nn.ReLU, nn.Tanh))
    relu, tanh = trained(tmp_path, with_relu), trained(tmp_path, with_tanh)  # as many weights, under the same names
    assert not any(same(relu, tanh)) and all(same(tanh, trained(None, with_tanh)))
    capsys.readouterr()
    assert all(same(tanh, trained(tmp_path, with_tanh))) and all(same(relu, trained(tmp_path, with_relu)))
    assert capsys.readouterr().err.count("3 of 3 results are read from") == 2
    wide = trained(tmp_path, lambda: masked_nets.small_net(nn.ReLU, hidden=9))
    assert wide["plain"][1].out_features == 9


def test_substitutes_of_an_edited_defence_are_not_read(tmp_path):
    def make():
        return masked_nets.small_net(nn.ReLU, hidden=8)

    trained(tmp_path, make, Defence(1.0))
    with pytest.raises(ValueError, match="holds results of another model"):
        trained(tmp_path, make, Defence(2.0))
    with pytest.raises(ValueError, match="holds results with lr = None, not 0.1"):
        trained(tmp_path, make, Defence(1.0), lr=0.1)


def test_a_model_of_which_no_copy_can_be_trained_is_no_substitute(monkeypatch, capsys):
    train = masked_nets.digits().train[:200]
    net = masked_nets.small_net(nn.ReLU)
    old = net.forward
    net.forward = lambda x: old(x)
    with pytest.raises(ValueError, match=r"the model \(Sequential\) cannot be trained: the forward of the model was replaced"):
        substitutes.undefended(net, train.images(), train.y, steps=2)
    frozen = masked_nets.small_net(nn.ReLU).requires_grad_(False)
    substitutes.undefended(frozen, train.images(), train.y, steps=2)
    assert not any(parameter.requires_grad for parameter in frozen.parameters())
    monkeypatch.setattr(substitutes, "standard_set", lambda *_, **__: {"plain": frozen})
    assert list(substitutes.for_data(net, "digits", eps=EPS)) == ["plain"]
    assert "no undefended copy of the model is made to transfer from: the forward" in capsys.readouterr().err
