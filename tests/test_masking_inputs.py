"""Masking reports of models and images that are not float32, contiguous and finite: the right report, or one sentence first."""

from fractions import Fraction
from functools import partial

import masked_nets
import numpy as np
import pytest
import torch
from nets import Plane, images
from torch import nn

from deepdefense import attacks, evaluate, masking
from deepdefense.masking import gradient_checks, rival_checks, substitutes, tested_model
from deepdefense.masking.nine_checks import _made

EPS = 0.1
SETTINGS = masking.Settings(steps=3, draws=20, queries=20, readouts=12, targets=1, restarts=1)
QUICK = dict(eps=EPS, settings=SETTINGS)


def digits(n=40):
    test = masked_nets.digits().test[:n]
    return test.images(), test.y


def verdicts(found):
    return {check.number: check.verdict for check in found.checks}


@pytest.fixture(scope="module")
def usual():
    return masking.report(masked_nets.plain(), *digits(), **QUICK)


# --- no answer is no right answer -----------------------------------------------------------------------------------------


class Silent(nn.Module):
    """Always right about the images x of class c, and NaN elsewhere."""

    def __init__(self, c, x):
        super().__init__()
        self.c, self.clean = c, x.flatten(1)

    def forward(self, v):
        z = v.flatten(1).mean(1, keepdim=True) + nn.functional.one_hot(torch.tensor(self.c), 10)
        moved = torch.cdist(v.flatten(1), self.clean, p=torch.inf).amin(1) > 1e-3
        return z.masked_fill(moved[:, None], torch.nan)


def still(model, x, y, *, eps, seed):
    return x


def shift(model, x, y, *, eps, seed):
    return (x + eps).clamp(0, 1)


@pytest.mark.parametrize("c", [0, 1])
def test_nan_is_a_mistake_whatever_the_class(c):
    x, y = torch.rand(35, 1, 8, 8, generator=torch.Generator().manual_seed(0)), torch.full((35,), c)
    model = Silent(c, x)
    tested = tested_model.build(model, x, y, eps=EPS, white_box={"still": still}, settings=SETTINGS)
    assert tested_model.predict(model, shift(model, x, y, eps=EPS, seed=0), 10).tolist() == [-1] * 35
    assert tested.broken(shift).all() and not tested.broken(still).any() and tested.silent["images"] == 35
    draws = rival_checks.random_draws(tested, 20)
    assert draws.tolist() == [20] * 35 and tested.silent["points"] == 700
    for check in (rival_checks.check_random(tested, 20), rival_checks.check_black_box(tested, {"shift": shift})):
        assert check.verdict == "fail" and "35 of 35" in check.reason


def test_a_check_says_that_the_model_gave_no_answer():
    x, y = torch.rand(35, 1, 8, 8, generator=torch.Generator().manual_seed(0)), torch.zeros(35, dtype=torch.long)
    tested = tested_model.build(Silent(0, x), x, y, eps=EPS, white_box={"still": still}, settings=SETTINGS)
    check = _made(tested, partial(rival_checks.check_black_box, tested, {"shift": shift}))
    assert check.numbers["images without an answer"] == 35
    assert check.reason.endswith("The model's logits are NaN for 35 perturbed images; they count as mistakes.")
    quiet = _made(tested, partial(rival_checks.check_black_box, tested, {"still": still}))
    assert "NaN" not in quiet.reason and "images without an answer" not in quiet.numbers


class NanWhere(nn.Module):
    """The plain net, NaN for images whose mean is above a limit."""

    def __init__(self, limit):
        super().__init__()
        self.net, self.limit = masked_nets.plain(), limit

    def forward(self, x):
        return self.net(x).masked_fill((x.flatten(1).mean(1) > self.limit)[:, None], torch.nan)


@pytest.mark.parametrize("limit", [-1.0, 0.3])
@pytest.mark.parametrize("way", ["distilled", "undefended"])
def test_a_substitute_of_a_model_that_answers_nan_names_the_model(limit, way):
    train = masked_nets.digits().train[:300]
    fresh = masked_nets.small_net(nn.ReLU, hidden=8)
    with pytest.raises(ValueError, match=r"the model \(NanWhere\) has NaN or infinite logits on \d+ of 128 training images") as said:
        if way == "distilled":
            substitutes.distilled(NanWhere(limit), fresh, train.images(), steps=20)
        else:
            substitutes.undefended(NanWhere(limit), train.images(), train.y, steps=20)
    assert "lr" not in str(said.value)


def test_a_report_of_a_model_that_answers_nan_says_so_first():
    with pytest.raises(ValueError, match="NaN or infinite for 32 of 32 clean images"):
        masking.report(NanWhere(-1.0), *digits(), **QUICK)


# --- float64 ----------------------------------------------------------------------------------------------------------------


class Insists(nn.Module):
    """The plain net, which will have nothing but float32, each `way` in its own manner."""

    def __init__(self, way):
        super().__init__()
        self.net, self.way, self.mean = masked_nets.plain(), way, [torch.full((1, 1, 8, 8), 0.0)]

    def forward(self, x):
        if self.way == "assertion":
            assert x.dtype == torch.float32, "float32, please"
        if self.way == "bare assertion":
            assert x.dtype == torch.float32
        if self.way == "value error" and x.dtype != torch.float32:
            raise ValueError("only float32 is supported")
        if self.way == "not implemented" and x.dtype != torch.float32:
            raise NotImplementedError
        if self.way == "backward":
            x = OnlyFloat.apply(x)
        if self.way == "buffer":
            x = (x.flatten(1) @ torch.eye(64)).view_as(x)  # made in float32 at each call
        if self.way == "casts":
            return self.net(x.to(self.net[1].weight.dtype)).float()
        return self.net(x)

    def __deepcopy__(self, memo):
        if self.way == "no copy":
            raise TypeError("cannot pickle this")
        new = Insists(self.way)
        new.net = nn.Sequential(*[type(m)(m.in_features, m.out_features) if isinstance(m, nn.Linear) else type(m)() for m in self.net])
        new.net.load_state_dict(self.net.state_dict())
        return new


class OnlyFloat(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, gradient):
        if gradient.dtype != torch.float32:
            raise KeyError("no kernel for float64")
        return gradient


WAYS = {
    "assertion": "AssertionError: float32, please",
    "bare assertion": "AssertionError",
    "value error": "only float32 is supported",
    "not implemented": "NotImplementedError",
    "backward": "no kernel for float64",
    "buffer": "double",
    "casts": "the model answers float64 images in float32",
    "no copy": "cannot pickle this",
}


@pytest.mark.parametrize("way", WAYS)
def test_a_model_that_insists_on_float32_gets_a_report_without_float64(way, usual):
    tested = tested_model.build(Insists(way), *digits(), eps=EPS, white_box={"still": still}, settings=SETTINGS)
    check = gradient_checks.check_invariance(tested)
    assert check.numbers["broken in float64 only"] is None and check.data["float64 accuracy"] is None
    assert WAYS[way] in check.data["float64 missing"] and "broken in float64 only" not in {rule.name for rule in check.rules}
    assert check.reason.endswith(f"Float64 could not be tried: {check.data['float64 missing']}.")
    assert usual[2].data["float64 missing"] is None


def test_the_rest_of_the_report_goes_on_and_is_written(tmp_path, usual):
    found = masking.report(Insists("assertion"), *digits(), folder=tmp_path, **QUICK)
    assert masking.MaskingReport.read(tmp_path).to_dict() == found.to_dict()
    assert verdicts(found) == verdicts(usual)


# --- layout, flags, types ---------------------------------------------------------------------------------------------------


def forms():
    x, y = digits()
    nhwc = x.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)
    wide = torch.zeros(40, 1, 8, 16)
    wide[..., ::2] = x
    return {
        "channels last": (x.to(memory_format=torch.channels_last), y),
        "permuted NHWC": (nhwc, y),
        "every second column": (wide[..., ::2], y),
        "requires grad": (x.clone().requires_grad_(), y),
        "a parameter": (nn.Parameter(x.clone()), y),
        "int32 labels": (x, y.int()),
        "uint8 labels": (x, y.to(torch.uint8)),
    }


@pytest.mark.parametrize("form", forms())
def test_images_in_any_form_give_the_same_report(form, usual):
    x, y = forms()[form]
    found = masking.report(masked_nets.plain(), x, y, **QUICK)
    assert found.to_dict() == usual.to_dict()


def colours(n=32):
    x = torch.rand(n, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 10)).eval()
    return net, x, net(x).argmax(1)


def test_colour_images_in_channels_last_give_the_same_report():
    net, x, y = colours()
    shared = dict(eps=0.02, settings=SETTINGS)
    one = masking.report(net, x, y, **shared)
    assert masking.report(net, x.to(memory_format=torch.channels_last), y, **shared).to_dict() == one.to_dict()
    assert masking.report(net, x.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2), y, **shared).to_dict() == one.to_dict()


class Cast(nn.Module):
    """The plain net in one type, its logits in another."""

    def __init__(self, weights, logits):
        super().__init__()
        self.net, self.weights, self.logits = masked_nets.small_net(nn.ReLU), weights, logits
        self.net.load_state_dict(masked_nets.plain().state_dict())
        self.net.to(weights)

    def forward(self, x):
        return self.net(x.to(self.weights)).to(self.logits)


TYPES = [(torch.bfloat16, torch.float32), (torch.bfloat16, torch.bfloat16), (torch.float32, torch.float16), (torch.float32, torch.float64)]


@pytest.mark.parametrize(("weights", "logits"), TYPES, ids=str)
def test_low_precision_gets_a_report(weights, logits, tmp_path, usual):
    found = masking.report(Cast(weights, logits), *digits(), folder=tmp_path, **QUICK)
    assert found.attacked == usual.attacked >= 30
    same = {number: verdict for number, verdict in verdicts(found).items() if number not in (1, 2)}  # gradients of 8 bits
    assert same == {number: verdict for number, verdict in verdicts(usual).items() if number not in (1, 2)}
    assert abs(found[3].data["white-box accuracy"] - usual[3].data["white-box accuracy"]) < 0.1


def test_a_model_that_does_not_take_the_images_says_so_before_any_work():
    x, y = digits()
    with pytest.raises(ValueError, match="the model failed on images of shape"):
        masking.report(masked_nets.small_net(nn.ReLU).to(torch.bfloat16), x, y, **QUICK)
    with pytest.raises(ValueError, match="x must be float32 or float64 in"):
        masking.report(masked_nets.plain(), x.bfloat16(), y, **QUICK)
    with pytest.raises(ValueError, match="x must be float32 or float64 in"):
        masking.report(masked_nets.plain(), (255 * x).to(torch.uint8), y, **QUICK)


# --- few classes ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("classes", [2, 3])
def test_two_or_three_classes_get_all_checks(classes):
    x, _ = images(40, (1, 6, 6))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = nn.Sequential(nn.Flatten(), nn.Linear(36, 16), nn.ReLU(), nn.Linear(16, classes)).eval()
    y = net(x).argmax(1)
    found = masking.report(net, x, y, eps=0.02, substitutes={"itself": net}, warnings=[], settings=SETTINGS)
    assert [check.verdict for check in found.checks if check.number != 7].count("not applicable") == 0
    assert ("dlr" in found[2].data["loss accuracy"]) == (classes == 3)
    if classes == 2:
        with pytest.raises(ValueError, match="training_loss 'dlr' needs at least 3 classes, and the model has 2"):
            masking.report(net, x, y, eps=0.02, settings=masking.preset("quick", training_loss="dlr"))


def test_an_attack_that_needs_more_than_two_classes_is_left_out_of_the_readouts_with_a_word():
    claims = {loss: partial(attacks.loss_pgd, loss=loss, steps=5) for loss in ("dlr", "ce")}
    found = masking.report(masked_nets.plain(), *digits(), white_box_attacks=claims, adaptive={}, black_box={}, **QUICK)
    assert set(found[7].data["success"]) == {"ce", "random guessing"}
    assert found[7].reason.endswith("take 'margin' instead).") and "Left out, since readouts have two classes: dlr (" in found[7].reason
    only = masking.report(masked_nets.plain(), *digits(), white_box_attacks={"dlr": claims["dlr"]}, adaptive={}, black_box={}, **QUICK)[7]
    assert only.verdict == "not applicable" and "needs at least 3 classes" in only.reason


# --- models that leave layers out -----------------------------------------------------------------------------------------


class LeavesOut(nn.Module):
    """The plain net with one layer skipped now and then, in eval mode too."""

    def __init__(self, share):
        super().__init__()
        self.net, self.share = masked_nets.plain(), share

    def forward(self, x):
        first, second, head = self.net[1], self.net[3], self.net[5]
        h = torch.relu(first(x.flatten(1)))
        if torch.rand(()) > self.share:
            h = torch.relu(second(h))
        return head(h)


@pytest.mark.parametrize("share", [0.5, 0.02])
def test_stochastic_depth_gets_a_report(share):
    x, y = digits(60)
    found = masking.report(LeavesOut(share), x, y, **QUICK)
    assert len(found.checks) == 9 and "orthogonal PGD, clean" in found[8].data["only"]
    assert masking.report(LeavesOut(share), x, y, **QUICK).to_dict() == found.to_dict()


def test_an_attack_that_fails_on_a_model_without_chance_is_an_error():
    def broken(model, x, y, *, eps, seed):
        raise ValueError("a fault of its own")

    with pytest.raises(ValueError, match="a fault of its own"):
        masking.report(masked_nets.plain(), *digits(), black_box={"broken": broken}, adaptive={}, **QUICK)


# --- decided before any attack ----------------------------------------------------------------------------------------------


class Pair(nn.Module):
    def forward(self, x):
        return x.flatten(1)[:, :10], x


def test_what_cannot_be_used_is_said_before_any_attack(monkeypatch):
    x, y = digits()
    net = masked_nets.plain()

    def never(*_arguments, **_settings):
        raise AssertionError("an attack was run")

    shared = {"eps": EPS, "white_box_attacks": {"never": never}}
    few, small = (nn.Sequential(nn.Flatten(), nn.Linear(*sizes)) for sizes in ((64, 3), (9, 10)))
    cases = {
        "settings": (dict(settings=masking.Settings(steps=1e2)), "steps must be a whole number of at least 1, got 100.0"),
        "draws": (dict(settings=masking.Settings(draws=0)), "draws must be a whole number"),
        "loss": (dict(settings=masking.Settings(training_loss="huber")), "loss must be one of"),
        "black box": (dict(black_box={"half": torch.ones(3).bool()}), r"black_box: 'half' must be a function .* or the mask \(40,\)"),
        "adaptive": (dict(adaptive={"none": None}), "adaptive: 'none' must be a function"),
        "list": (dict(black_box=[still]), "black_box must be a dictionary of attacks by name, got list"),
        "substitute": (dict(substitutes={"few": few}), "'few' must answer an image with 10 logits"),
        "shape": (dict(substitutes={"small": small}), "'small' failed on an image of shape"),
        "type": (dict(substitutes={"name": "resnet"}), "'name' must be a torch.nn.Module, got str"),
        "pair": (dict(substitutes={"pair": Pair()}), "'pair' must answer an image with 10 logits, got a tuple"),
        "minimum norm": (dict(adaptive={"near": attacks.deepfool_linf}), r"adaptive: 'near' must be .* it takes no eps"),
        "no seed": (dict(black_box={"own": lambda model, x, y, *, eps: x}), r"black_box: 'own' must be .* it takes no seed"),
        "preset": (dict(settings="quick"), r"settings must be masking.Settings\(...\), or masking.preset\('quick'\); got 'quick'"),
        "seed": (dict(settings=masking.Settings(seed=0.5)), "seed must be a whole number; got 0.5"),
        "about": (dict(about={"when": torch.ones(())}), r"about\['when'\] is tensor.*JSON cannot hold"),
        "about, own entry": (dict(about={"settings": "mine"}), r"about\['settings'\] would be lost"),
        "warnings": (dict(warnings="none"), "warnings must be a list of texts"),
    }
    for options, sentence in cases.values():
        with pytest.raises(ValueError, match=sentence):
            masking.report(net, x, y, **shared, **options)
    with pytest.raises(ValueError, match="y must hold class indices from 0 to"):
        masking.report(Plane(torch.ones(64), torch.tensor(0.0)), x, torch.full_like(y, 5), eps=EPS)


def away(model, x, y, *, eps, seed):
    return torch.rand(x.shape, generator=torch.Generator().manual_seed(seed))


LIES = {
    "outside": (away, "left the ball"),
    "NaN": (lambda model, x, y, *, eps, seed: x * torch.nan, "left the ball"),
    "one image for all": (lambda model, x, y, *, eps, seed: x[:1], "returned images of shape"),
    "pair": (lambda model, x, y, *, eps, seed: (x, x), "returned a tuple"),
    "in place": (lambda model, x, y, *, eps, seed: x.copy_(away(model, x, y, eps=eps, seed=seed)), "left the ball"),
}


@pytest.mark.parametrize("as_what", ["white_box_attacks", "black_box", "adaptive"])
@pytest.mark.parametrize("lie", LIES)
def test_no_attack_is_taken_at_its_word(lie, as_what):
    attack, said = LIES[lie]
    empty = {"black_box": {}, "adaptive": {}, "white_box_attacks": {"still": still}}
    with pytest.raises(attacks.AttackError, match=f"mine {said}"):
        masking.report(masked_nets.plain(), *digits(), **QUICK, **(empty | {as_what: {"mine": attack}}))


def test_a_readout_is_not_solved_outside_the_ball():
    x, _ = digits(1)
    with pytest.raises(attacks.AttackError, match="mine left the ball"):
        masking.binarisation_test(masked_nets.plain(), x, {"mine": away}, eps=EPS, inner=100, guesses=10)


@pytest.mark.parametrize("eps", [np.float32(0.125), torch.tensor(0.125), Fraction(1, 8)], ids=["NumPy", "torch", "fraction"])
def test_numbers_of_any_kind(eps, tmp_path):
    shared = dict(white_box_attacks={"still": still}, black_box={}, adaptive={})
    settings = [masking.Settings(steps=1, draws=2, queries=2, readouts=1, targets=1, restarts=1, seed=seed) for seed in (np.int64(1), 1)]
    found = masking.report(masked_nets.plain(), *digits(), eps=eps, settings=settings[0], folder=tmp_path, **shared)
    again = masking.report(masked_nets.plain(), *digits(), eps=0.125, settings=settings[1], **shared)
    assert found.to_dict() == again.to_dict() == masking.MaskingReport.read(tmp_path).to_dict()


def test_an_evaluation_of_another_model_or_of_other_images_with_the_same_labels_is_refused():
    (x, y), net = digits(), masked_nets.plain()
    other = masked_nets.small_net(nn.ReLU, seed=5)
    done = evaluate(net, x, y, eps=EPS, suites={"own": {"still": still}}, progress=False)
    with pytest.raises(ValueError, match="evaluated must be a report of the same model"):
        masking.report(other, x, y, evaluated=done, **QUICK)
    with pytest.raises(ValueError, match="same 40 images; it is of others with the same labels"):
        masking.report(net, x.flip(3), y, evaluated=done, **QUICK)
