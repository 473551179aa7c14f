"""The standard suite: the authors' AutoAttack image by image, with its warnings kept, and nothing left behind."""

import logging
import sys

import pytest
import torch
from defences import Linear, Masked, Small, around_grey, labelled, small_images
from hypothesis import given, settings
from hypothesis import strategies as st
from nets import global_random_state, hooks
from pyautoattack import AutoAttack, checks
from pyautoattack.square import SquareAttack

from deepdefense import attacks
from deepdefense.attacks import autoattack
from deepdefense.attacks.contract import TOLERANCE, distances
from deepdefense.evaluation import standard_suite
from replication import example_defences

AUTHORS = {"linf": "Linf", "l2": "L2"}
PARTS = {"APGD-CE": "apgd", "APGD-T": "apgd_targeted", "FAB-T": "fab", "Square": "square"}


def robust(result):
    """Right before and after all parts, (N,) bool."""
    return result.clean & (result.broken_by < 0)


def authors(model, x, y, *, norm, eps, seed, batch_size, steps, queries):
    """The authors' own evaluation, with fewer steps: (x_adv, y_adv)."""
    theirs = AutoAttack(model, norm=AUTHORS[norm], eps=eps, seed=seed)
    for attack in (theirs.apgd, theirs.apgd_targeted):
        attack.n_iter = steps
        attack.n_iter_2, attack.n_iter_min = max(int(0.22 * steps), 1), max(int(0.06 * steps), 1)
        attack.size_decr = max(int(0.03 * steps), 1)
    theirs.fab.n_iter, theirs.square.n_queries = steps, queries
    with torch.random.fork_rng(devices=[]):
        return theirs.run_standard_evaluation(x, y, batch_size=batch_size)


@pytest.mark.parametrize(("norm", "eps"), [("linf", 0.02), ("l2", 0.12)])
def test_same_images_as_the_authors(norm, eps):
    model, x, y = small_images(20, wrong=(3, 11))
    options = dict(norm=norm, eps=eps, seed=5, batch_size=7, steps=10, queries=60)
    x_adv, y_adv = authors(model.eval(), x, y, **options)
    ours = standard_suite.standard(model, x, y, **options)
    assert torch.equal(ours.x_adv, x_adv) and torch.equal(ours.prediction, y_adv)
    assert 0 < robust(ours).sum() < ours.clean.sum() == 18
    assert list(ours.cost) == list(autoattack.PARTS)


def test_same_images_as_the_authors_resnet():
    """The ResNet-18 of the package, on two crops of a photograph."""
    from sklearn.datasets import load_sample_images

    model, _ = example_defences.trained_resnet18()
    photo = torch.from_numpy(load_sample_images().images[1].copy()).permute(2, 0, 1).float() / 255
    x = torch.stack([photo[:, 200:232, 300:332], photo[:, 100:132, 100:132]])
    x, y = labelled(model, x)
    options = dict(norm="linf", eps=2 / 255, seed=0, batch_size=2, steps=1, queries=3)
    x_adv, y_adv = authors(model, x, y, **options)
    ours = standard_suite.standard(model, x, y, **options)
    assert torch.equal(ours.x_adv, x_adv) and torch.equal(ours.prediction, y_adv)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_same_settings_as_the_authors(norm):
    """Every setting of the four attacks is that of version "standard", whatever that says."""
    theirs = AutoAttack(Small(), norm=AUTHORS[norm], eps=0.1, seed=4)
    common = autoattack._common(norm, 0.1, 4, torch.zeros(1))
    for part, name in PARTS.items():
        their, our = vars(getattr(theirs, name)), vars(autoattack.MAKERS[part](None, common, 10, None))
        own = {
            "model",
            "predict",
            "logger",
            "device",
            "targeted",
            "y_target",
        }  # the authors set `targeted` when they run FAB-T
        assert {k: v for k, v in our.items() if k not in own} == {k: v for k, v in their.items() if k not in own}
    assert autoattack.MAKERS["FAB-T"](None, common, 10, None).targeted


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_linear_model_exactly(norm):
    """Right until the exact distance to the next class, wrong beyond it."""
    model = Linear()
    x, y = labelled(model, around_grey(16))
    distance = model.distance(x, y, norm)
    eps = distance.median().item()
    result = standard_suite.standard(model, x, y, eps=eps, norm=norm, steps=20, queries=30)
    clear = (distance / eps - 1).abs() > 0.01
    assert torch.equal(robust(result)[clear], (distance > eps)[clear]) and clear.sum() > 12
    assert distances(x, result.x_adv, norm).max() <= eps + TOLERANCE


def test_each_part_gets_what_is_left():
    model, x, y = small_images(20, wrong=(3, 11))
    result = standard_suite.standard(model, x, y, eps=0.02, batch_size=6, steps=10, queries=60)
    left = result.clean
    assert torch.equal(left, torch.arange(20)[:, None].ne(torch.tensor([3, 11])).all(1))
    for number, part in enumerate(autoattack.PARTS):
        assert torch.equal(result.attacked(part), left) and result.cost[part]["images"] == left.sum()
        left = left & (result.broken_by != number)
    assert torch.equal(left, robust(result)) and list(result.cost) == list(autoattack.PARTS)
    assert result.cost["Square"]["backward"] == 0 < result.cost["APGD-CE"]["backward"]
    moved = distances(x, result.x_adv, "linf") > 0
    assert torch.equal(moved, result.broken_by >= 0)


def test_nothing_left_for_the_later_parts():
    model, x, y = small_images(6)
    result = standard_suite.standard(model, x, y, eps=0.5, steps=5, queries=10)
    assert not robust(result).any() and set(result.cost) < set(autoattack.PARTS)
    assert not result.attacked("Square").any()


def test_model_and_random_state_stay(tmp_path):
    model, x, y = small_images(8)
    model.train()
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    model.head.bias.requires_grad_(False)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    state, x_before = global_random_state(), x.clone()
    tracer = sys.gettrace()
    standard_suite.standard(model, x, y, eps=0.02, steps=3, queries=10, folder=tmp_path)
    for part in (attacks.apgd_ce, attacks.apgd_t, attacks.fab_t):
        part(model, x, y, eps=0.02, steps=2)
    attacks.square(model, x, y, eps=0.02, queries=5)
    assert state == global_random_state() and torch.equal(x, x_before) and sys.gettrace() is tracer
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert model.training and model.conv.training and not model.head.bias.requires_grad and model.conv.weight.requires_grad
    assert all((parameter.grad == 1).all() for parameter in model.parameters()) and hooks(model) == 0


def test_the_tracer_comes_back():
    """The authors' check for dynamic models switches tracing off for good; the suite gives it back."""
    model, x, y = small_images(4)

    def tracer(frame, event, argument):
        return None

    before = sys.gettrace()
    try:
        sys.settrace(tracer)
        checks.check_dynamic(model, x, logger=logging.getLogger("raw"))
        raw = sys.gettrace()
        sys.settrace(tracer)
        standard_suite._model_warnings(model, x, y)
        ours = sys.gettrace()
    finally:
        sys.settrace(before)
    assert raw is None and ours is tracer


class Dynamic(Small):
    """Takes a gradient on its way forward."""

    def forward(self, x):
        with torch.enable_grad():
            z = x.detach().requires_grad_()
            (g,) = torch.autograd.grad(super().forward(z).sum(), z)
        return super().forward(x + 0 * g)


def test_one_dynamic_model_does_not_mark_the_next():
    """The authors count calls over the life of the process, so that every later model is called dynamic; the suite
    does not."""
    model, x, y = small_images(4)
    kinds = {"dynamic" in text for text in standard_suite._model_warnings(Dynamic(), x, y)}
    assert kinds == {True}
    log = autoattack.Log()
    checks.check_dynamic(model, x, logger=log)
    assert "dynamic" in log.messages[0]
    assert standard_suite._model_warnings(model, x, y) == []


@pytest.mark.parametrize(
    ("step", "scale", "kinds"),
    [
        ("round", 1, {"zero gradient", "Square better than white-box"}),
        ("noise", 0.3, {"random model"}),
        ("probabilities", 1, {"probabilities"}),
        ("none", 1, set()),
    ],
)
def test_warnings_become_part_of_the_result(step, scale, kinds, capsys, caplog):
    model, x, _ = small_images(12)
    model = Masked(model, step, scale).eval()
    x, y = labelled(model, x)
    result = standard_suite.standard(model, x, y, eps=0.1, steps=3, queries=40, batch_size=5)
    assert kinds == {warning["kind"] for warning in result.warnings}
    if step == "round":
        zero = next(warning for warning in result.warnings if warning["kind"] == "zero gradient")
        assert zero["part"] == "APGD-T" and zero["times"] == 18 and "zero gradient" in zero["message"]  # 9 targets, 2 batches
    said = capsys.readouterr()
    assert said.out == "" and said.err == "" and not caplog.records


def test_goes_on_after_a_kill(tmp_path, monkeypatch):
    model, x, y = small_images(14)
    options = dict(eps=0.02, batch_size=5, steps=5, queries=30, seed=1)
    whole = standard_suite.standard(model, x, y, **options, folder=tmp_path / "whole")
    calls = []

    def dies(*arguments):
        calls.append(arguments[0])
        if len(calls) == 5:
            raise KeyboardInterrupt
        return original(*arguments)

    original = standard_suite._batch
    monkeypatch.setattr(standard_suite, "_batch", dies)
    with pytest.raises(KeyboardInterrupt):
        standard_suite.standard(model, x, y, **options, folder=tmp_path / "cut")
    assert len(list((tmp_path / "cut").glob("*.safetensors"))) == 4
    resumed = standard_suite.standard(model, x, y, **options, folder=tmp_path / "cut")
    pieces = len(list((tmp_path / "whole").glob("*.safetensors")))
    assert len(calls) == pieces + 1
    for name in ("x_adv", "prediction", "clean", "broken_by"):
        assert torch.equal(getattr(whole, name), getattr(resumed, name))
    again = standard_suite.standard(model, x, y, **options, folder=tmp_path / "whole")
    assert again.cost == whole.cost and again.warnings == whole.warnings and len(calls) == pieces + 1
    with pytest.raises(ValueError, match=r"holds results with eps = 0.02, not 0.03; use another folder"):
        standard_suite.standard(model, x, y, **{**options, "eps": 0.03}, folder=tmp_path / "cut")
    with pytest.raises(ValueError, match="holds results with model = "):
        standard_suite.standard(Small(seed=1), x, y, **options, folder=tmp_path / "cut")


def test_progress_is_shown(capsys):
    model, x, y = small_images(4)
    standard_suite.standard(model, x, y, eps=0.02, steps=2, queries=5, progress=True)
    assert "16/16" in capsys.readouterr().err


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("classes", [2, 3])
def test_few_classes(classes, norm):
    """With two or three classes the margin stands in for the targeted DLR loss: exact on a linear model, and said."""
    model = Linear(classes=classes)
    x, y = labelled(model, around_grey(10))
    distance = model.distance(x, y, norm)
    eps = distance.median().item()
    clear = (distance / eps - 1).abs() > 0.01
    for attack in (attacks.apgd_t, *([attacks.apgdt] if norm == "linf" else [])):
        x_adv = attack(model, x, y, eps=eps, steps=20, **({"norm": norm} if attack is attacks.apgd_t else {}))
        assert torch.equal((model(x_adv).argmax(1) != y)[clear], (distance <= eps)[clear]) and clear.sum() > 6
    result = standard_suite.standard(model, x, y, eps=eps, norm=norm, steps=20, queries=5)
    assert torch.equal(robust(result)[clear], (distance > eps)[clear])
    (said,) = (w for w in result.warnings if w["part"] == "APGD-T")
    assert said["kind"] == "few classes" and "the margin stood in" in said["message"]
    four = Linear(classes=4)
    said = standard_suite.standard(four, *labelled(four, x), eps=0.01, norm=norm, steps=3, queries=5).warnings
    assert "few classes" not in {w["kind"] for w in said}


@pytest.mark.parametrize(
    ("height", "width", "fits"),
    [(size, size, size not in (12, 14, 18, 19, 24)) for size in (5, 7, 10, 11, 12, 13, 14, 17, 18, 19, 23, 24, 25, 28)]
    + [(32, 36, False), (12, 7, False), (20, 33, True), (33, 20, True)],
)
def test_square_in_l2_on_any_size(height, width, fits):
    """The authors' own where it runs, bit for bit; where it does not, the same with squares that fit."""
    shape = (1, height, width)
    model = Linear(shape, dtype=torch.float32)
    x, y = labelled(model, around_grey(4, shape).float())
    eps = 2 * model.distance(x, y, "l2").max().item()

    def theirs():
        attack = SquareAttack(lambda v: model(v).clone(), norm="L2", eps=eps, n_queries=8, resc_schedule=False, device="cpu")
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            torch.manual_seed(0)
            return attack.perturb(x.clone(), y)

    x_adv = attacks.square(model, x, y, eps=eps, norm="l2", queries=8)
    moved = distances(x, x_adv, "l2") > 0
    assert torch.equal(moved, model(x_adv).argmax(1) != y)
    if fits:
        assert torch.equal(theirs(), x_adv)
    else:
        with pytest.raises(RuntimeError, match="broadcast shape|size of tensor"):
            theirs()
        start = autoattack._square_inside()(model, norm="L2", eps=eps, n_queries=0, device="cpu", resc_schedule=False)
        start.init_hyperparam(x)
        with torch.random.fork_rng(devices=[]):
            laid = start.attack_single_run(x, y)[1] - x
        assert torch.allclose(laid.flatten(1).norm(dim=1), torch.tensor(eps), rtol=1e-3)
        side, first = height // 5, (height - height // 5 * 5) // 2
        last = [first + (length - first) // side * side for length in (height, width)]
        assert (laid[:, :, first : last[0], first : last[1]] != 0).all() and (laid != 0).sum() == 4 * (
            (last[0] - first) * (last[1] - first)
        )


def test_a_model_that_returns_its_input_is_not_written_into():
    """Square writes −∞ into the logits that it is given."""
    x, y = around_grey(4, (1, 5, 5)), torch.arange(4)
    before = x.clone()
    attacks.square(torch.nn.Flatten(), x, y, eps=0.01, queries=4)
    assert torch.equal(x, before)


@settings(max_examples=6)
@given(
    part=st.sampled_from(sorted(PARTS)),
    norm=st.sampled_from(["linf", "l2"]),
    eps=st.floats(1e-3, 1.0),
    seed=st.integers(0, 2**31 - 1),
    double=st.booleans(),
)
def test_parts_stay_in_the_ball(part, norm, eps, seed, double):
    attack = {"APGD-CE": attacks.apgd_ce, "APGD-T": attacks.apgd_t, "FAB-T": attacks.fab_t, "Square": attacks.square}[part]
    model, x, y = small_images(3)
    if double:
        model, x = model.double(), x.double()
    x = x.round(decimals=1)  # some pixels at 0 and 1
    few = {"queries": 8} if part == "Square" else {"steps": 2}
    x_adv = attack(model, x, y, eps=eps, norm=norm, seed=seed, **few)
    assert x_adv.dtype == x.dtype and x_adv.shape == x.shape
    assert distances(x, x_adv, norm).max() <= eps + TOLERANCE and x_adv.min() >= 0 and x_adv.max() <= 1
    assert torch.equal(x_adv, attack(model, x, y, eps=eps, norm=norm, seed=seed, **few))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (dict(norm="l1"), "norm must be one of linf, l2; got 'l1'"),
        (dict(eps=0), "eps must be above 0"),
        (dict(eps=8), "for linf at most 1; got 8"),
        (dict(batch_size=0), "batch_size must be a whole number of at least 1"),
        (dict(x=torch.zeros(0, 3, 6, 6), y=torch.zeros(0, dtype=torch.long)), "no images"),
        (dict(x=torch.rand(2, 9), y=torch.zeros(2, dtype=torch.long)), r"images \(B, C, H, W\)"),
        (dict(x=2 * torch.ones(2, 3, 6, 6), y=torch.zeros(2, dtype=torch.long)), r"\[0, 1\]"),
        (dict(x=torch.rand(2, 3, 4, 4), y=torch.zeros(2, dtype=torch.long), norm="l2"), "at least 5 × 5"),
    ],
)
def test_bad_input(change, said):
    model, x, y = small_images(2)
    arguments = dict(x=x, y=y, eps=0.1) | change
    with pytest.raises(ValueError, match=said):
        standard_suite.standard(model, arguments.pop("x"), arguments.pop("y"), **arguments)


def test_parts_refuse_no_steps_and_take_no_images():
    model, x, y = small_images(2)
    with pytest.raises(ValueError, match="steps must be a whole number of at least 1, got 0"):
        attacks.apgd_ce(model, x, y, eps=0.1, steps=0)
    assert attacks.square(model, x[:0], y[:0], eps=0.1).shape == (0, 3, 6, 6)
