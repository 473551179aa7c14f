"""Every attack on what people hand over: models that write into their input, other layouts, types and flags, NaN.

All suites' attacks, few steps each, against the same attack on the plain case.
"""

import copy
import math
from functools import partial

import pytest
import torch
from defences import small_images
from nets import Normalised, hooks, images
from test_every_suite import CLASSES, NAMES, SHAPE, every_attack
from test_inference import pair
from torch import nn

from deepdefense import attacks, evaluate
from deepdefense.attacks import libraries
from deepdefense.attacks.contract import AttackError, check_output, distances, in_range, rounding, takes_eps
from deepdefense.inference import wrong

EPS = 0.2
FREE = [name for name in NAMES if not name.startswith("with more")]  # these bring networks and guides of their own
BOUNDED = [name for name in NAMES if takes_eps(every_attack()[name][0])]


def run(name, model, x, y, eps=EPS):
    attack, _ = every_attack()[name]
    return attack(model, x, y, seed=3, **({"eps": eps} if takes_eps(attack) else {}))


@pytest.fixture(scope="module")
def network():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        return Normalised(SHAPE[0], CLASSES).eval()


def case(model, n=4):
    x = images(n, SHAPE, CLASSES, 5)[0]
    with torch.no_grad():
        return x, model(x.clone()).argmax(1)


@pytest.mark.parametrize("name", FREE)
@pytest.mark.parametrize("how", ["mul_", "clamp_"])  # the other ways: test_inference
def test_a_model_that_writes_into_its_input(name, how):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(2)
        writes, honest = pair(how, channels=SHAPE[0], classes=CLASSES)
    x, y = case(honest)
    before = x.clone()
    x_adv = run(name, writes, x, y)
    assert torch.equal(x, before) and hooks(writes) == 0
    assert torch.allclose(x_adv, run(name, honest, x, y), atol=1e-5)


def inference(x):
    with torch.inference_mode():
        return x.clone()


FORMS = {
    "NHWC, permuted": lambda x: x.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2),
    "channels last": lambda x: x.to(memory_format=torch.channels_last),
    "a slice of something larger": lambda x: torch.cat([x, x], 3)[..., : x.shape[3]],
    "wants a gradient": lambda x: x.clone().requires_grad_(),
    "computed": lambda x: x.clone().requires_grad_() * 1,
    "Parameter": lambda x: nn.Parameter(x.clone()),
    "of inference mode": inference,
}


@pytest.mark.parametrize("name", NAMES)
def test_layout_and_flags_of_the_images(name, network):
    x, y = case(network)
    expected = run(name, network, x, y)
    for form, make in FORMS.items():
        given = make(x)
        x_adv = run(name, network, given, inference(y) if "inference" in form else y)
        assert torch.equal(x_adv, expected) and type(x_adv) is torch.Tensor and not x_adv.requires_grad, form
        assert torch.equal(given, x) and (given.grad is None if given.is_leaf else True), form


class Cast(nn.Module):
    """A network of weights of one type that answers in another; it takes images of any."""

    def __init__(self, net, weights, logits):
        super().__init__()
        self.net, self.weights, self.logits = copy.deepcopy(net).to(weights), weights, logits

    def forward(self, x):
        return self.net(x.to(self.weights)).to(self.logits)


TYPES = [
    (torch.bfloat16, torch.bfloat16),
    (torch.float32, torch.bfloat16),
    (torch.float32, torch.float16),
    (torch.float32, torch.float64),
    (torch.float64, torch.float64),
]


@pytest.mark.parametrize("name", FREE)
def test_types_of_weights_and_logits(name, network):
    _, norm = every_attack()[name]
    for weights, logits in TYPES:
        model = Cast(network, weights, logits)
        x, y = case(model)
        x_adv = run(name, model, x, y)
        assert x_adv.dtype == torch.float32 and x_adv.min() >= 0 and x_adv.max() <= 1
        if name in BOUNDED:
            assert distances(x, x_adv, norm).max() <= EPS + rounding(x, EPS, norm)
        if torch.float64 in (weights, logits) and weights != torch.float64:  # the same model but for the cast
            assert torch.equal(x_adv, run(name, network, x, y))


@pytest.mark.parametrize("name", FREE)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_float64_as_the_default_type(name, dtype, network):
    x, y = case(network)
    x, model = x.to(dtype), copy.deepcopy(network).to(dtype)
    expected = run(name, model, x, y)
    torch.set_default_dtype(torch.float64)
    try:
        x_adv = run(name, model, x, y)
        assert torch.get_default_dtype() == torch.float64
    finally:
        torch.set_default_dtype(torch.float32)
    assert x_adv.dtype == dtype and torch.allclose(x_adv, expected, atol=1e-6)


def test_a_model_finds_its_own_default_type():
    class Makes(nn.Module):
        def forward(self, x):
            assert torch.zeros(()).dtype == torch.float64
            return x.flatten(1)[:, :4]

    torch.set_default_dtype(torch.float64)
    try:
        for attack in (attacks.fgsm, partial(attacks.apgd_t, steps=3), attacks.loss_pgd):
            attack(Makes(), torch.rand(2, 1, 6, 6, dtype=torch.float32), torch.tensor([0, 1]), eps=0.1)
    finally:
        torch.set_default_dtype(torch.float32)


class Breaks(nn.Module):
    """Right by little on the images x, whose labels are y; a hair away from them `answer` stands in for the logits."""

    def __init__(self, x, y, classes, answer):
        super().__init__()
        self.x, self.y, self.classes, self.answer = x, y, classes, answer
        self.inner, self.last = nn.Linear(x[0].numel(), 16), nn.Linear(16, classes)

    def forward(self, v):
        far = (v.flatten(1)[:, None] - self.x.flatten(1)[None]).norm(dim=2)
        distance, nearest = far.min(1)
        right = nn.functional.one_hot(self.y[nearest], self.classes)
        outer = self.last(torch.relu(self.inner(v.flatten(1))))
        logits = 0.02 * right + outer - outer.detach()
        moved = distance > 1e-3
        logits[moved] = self.answer(logits[moved])
        return logits


def both_infinite(logits):
    return torch.full_like(logits, math.inf)


ANSWERS = {
    "NaN": lambda logits: logits * math.nan,  # a NaN gradient too
    "NaN, without a gradient": lambda logits: torch.full_like(logits, math.nan),
    "one NaN": lambda logits: torch.cat([logits[:, :-1], logits[:, -1:] * math.nan], 1),
    "+∞ twice": both_infinite,
    "−∞": lambda logits: -both_infinite(logits),
}


@pytest.mark.parametrize("name", [name for name in BOUNDED if name in FREE])
@pytest.mark.parametrize("c", [0, 3])
def test_no_answer_is_a_mistake_whatever_the_class(name, c):
    """Wherever an attack goes that may move, there is no answer: it has found one, for class 0 as for any other."""
    x = images(3, SHAPE, CLASSES, 4)[0]
    y = torch.full((3,), c)
    for kind, answer in ANSWERS.items():
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            model = Breaks(x, y, CLASSES, answer).eval()
        with torch.no_grad():
            assert not wrong(model(x), y).any()
        x_adv = run(name, model, x, y)
        assert x_adv.isfinite().all()
        with torch.no_grad():
            assert wrong(model(x_adv), y).all(), kind


@pytest.mark.parametrize("c", [0, 3])
def test_no_answer_is_a_mistake_for_hard_labels_and_for_what_transfers(c, network):
    x = images(3, SHAPE, CLASSES, 4)[0]
    y = torch.full((3,), c)
    model = Breaks(x, y, CLASSES, ANSWERS["NaN"]).eval()
    for attack in (attacks.rays, attacks.transfer({"other": network}, steps=2), partial(attacks.loss_pgd, loss="ce", steps=2)):
        assert wrong(model(attack(model, x, y, eps=EPS)), y).all()


@pytest.mark.parametrize("name", [name for name in BOUNDED if name in FREE])
def test_infinite_logits_that_are_an_answer(name):
    """A class that is ruled out by −∞, and a right answer of +∞, stop no attack and are no mistakes."""

    class Rules(nn.Module):
        def __init__(self, net, value):
            super().__init__()
            self.net, self.value = net, value

        def forward(self, x):
            logits = self.net(x)
            return torch.cat([logits[:, :4], torch.full_like(logits[:, :1], self.value)], 1)

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        net = Normalised(SHAPE[0], CLASSES).eval()
    for value in (-math.inf, math.inf):
        model = Rules(net, value)
        x = images(4, SHAPE, CLASSES, 5)[0]
        y = model(x).argmax(1)
        assert (y == 4).all() == (value > 0)
        x_adv = run(name, model, x, y)
        assert x_adv.isfinite().all() and (value < 0 or not wrong(model(x_adv), y).any())


def test_a_view_lets_go_of_model_and_images(network):
    x, y = case(network)
    with libraries.viewed(network, x, 0) as view:
        view.attacked(x, y, EPS, "linf")
        view(x * math.nan)
    assert view._attacked is None and not view._model


@pytest.mark.parametrize(("norm", "eps"), [("linf", 8 / 255), ("linf", 1.0), ("l2", 0.5), ("l2", 3.0), ("l2", 40.0)])
@pytest.mark.parametrize("shape", [(1, 2, 2), (3, 32, 32), (3, 224, 224)])
def test_the_ball_is_held_to_rounding_at_any_size(norm, eps, shape):
    generator = torch.Generator().manual_seed(0)
    x = 0.25 + 0.5 * torch.rand(4, *shape, generator=generator)
    delta = torch.randn(4, *shape, generator=generator)
    delta = delta.sign() if norm == "linf" else delta / delta.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
    for name in ("honest", "too far"):
        length = eps if name == "honest" else eps * 1.001 + 1e-5
        x_adv = (x.double() + length * delta.double()).float()
        big = x_adv.amax() > 1 or x_adv.amin() < 0
        if name == "honest" and not big:
            assert check_output(x, x_adv, eps, name, norm) is not None
        elif name == "too far":
            with pytest.raises(AttackError, match="too far left the ball"):
                check_output(x, x_adv, eps, name, norm)
    assert rounding(x, eps, norm) <= 1e-4 * max(eps, 0.1)


def test_half_precision_images_are_held_to_theirs():
    x = torch.rand(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    for dtype in (torch.bfloat16, torch.float16):
        low = (0.1 + 0.8 * x).to(dtype)
        check_output(low, (low.float() + 8 / 255).to(dtype), 8 / 255, "honest")
        with pytest.raises(AttackError, match="left the ball"):
            check_output(low, (low.float() + 0.05).to(dtype), 8 / 255, "far")


@pytest.mark.parametrize("value", [1.0000001, 1 + 4e-7, -1e-8, -2e-7])
def test_a_rounding_error_beyond_the_range_is_put_right(value, network):
    x, y = case(network)
    x[0, 0, 0, 0] = value
    assert torch.equal(in_range(x), x.clamp(0, 1)) and x[0, 0, 0, 0] == torch.tensor(value)
    for attack in (attacks.fgsm, attacks.loss_pgd, partial(attacks.apgd_ce, steps=2)):
        assert torch.equal(attack(network, x, y, eps=0.1), attack(network, x.clamp(0, 1), y, eps=0.1))
    assert check_output(x.clamp(0, 1), x, 0.1, "own").max() <= 1


@pytest.mark.parametrize(("value", "words"), [(1.00001, "1.00001"), (-1e-3, "-0.001"), (math.nan, "nan"), (255.0, "255")])
def test_more_than_a_rounding_error_is_named(value, words, network):
    x, y = case(network)
    x[0, 0, 0, 0] = value
    with pytest.raises(ValueError, match="images must lie in") as error:
        attacks.loss_pgd(network, x, y, eps=0.1)
    assert words in str(error.value)
    with pytest.raises(AttackError):
        check_output(x.nan_to_num(0).clamp(0, 1), x, torch.inf, "own")


@pytest.fixture
def elsewhere():
    """Another default device, as `torch.set_default_device("cuda")` makes one; on this one no number can be computed."""
    torch.set_default_device("meta")
    yield
    torch.set_default_device(None)


def test_another_default_device_changes_nothing(elsewhere, tmp_path):
    with torch.device("cpu"):
        model, x, y = small_images(6)
        own = {
            "restarts": partial(attacks.restarted_pgd, steps=2),
            "targets": partial(attacks.multi_targeted_pgd, steps=2),
            "tangential": partial(attacks.tangential_pgd, steps=2),
            "orthogonal": partial(attacks.orthogonal_pgd, steps=2),
            "features": partial(attacks.feature_pgd, steps=2),
            "labels": partial(attacks.rays, queries=20),
            "distance": partial(attacks.l2_margin, steps=2, searches=2),
        }
        usual = evaluate(model, x, y, eps=0.1, suites={"own": own}, progress=False)
    found = [evaluate(model, x, y, eps=0.1, suites={"own": own}, folder=tmp_path, progress=False) for _ in range(2)]
    for report in found:
        assert all((report.outcomes[key].loss == outcome.loss)[outcome.attacked].all() for key, outcome in usual.outcomes.items())
    assert found[1].taken["pieces"] == found[1].taken["of"] == 7
