"""Each known defect of torchattacks 3.5.1, shown in the raw attack, and that what stands for it here is free of it."""

import gc
import inspect
import weakref
from functools import partial

import piecewise as pw
import pytest
import torch
import torchattacks
from nets import Normalised, global_random_state
from torch import nn

from deepdefense import attacks
from deepdefense.attacks.contract import distances
from deepdefense.attacks.paper import BOUNDED, BOUNDED_L2, MINIMUM_NORM, SUITE_PAPER, UNUSABLE, fab
from deepdefense.evaluation import protocol

# Every attack of the paper's list at a size for tests.
SMALL = {
    "PGD": dict(steps=4),
    "APGD": dict(steps=6),
    "APGDT": dict(steps=6),
    "FAB": dict(steps=5),
    "Square": dict(queries=30),
    "PGDL2": dict(steps=4),
    "DeepFool": dict(steps=10),
    "EADEN": dict(steps=8, searches=3, const=0.1),
    "EADL1": dict(steps=8, searches=3, const=0.1),
    "CW": dict(steps=12),
}
EPS = {"PGDL2": 0.5}


def small(name, eps=0.1):
    radius = {} if name in MINIMUM_NORM else {"eps": EPS.get(name, eps)}
    return partial(SUITE_PAPER[name], **SMALL.get(name, {}), **radius)


def wrong(model, x, y):
    with torch.no_grad():
        return model(x).argmax(1) != y


def case(n=8, **options):
    model = pw.affine(**options)
    x = pw.greys(n)
    with torch.no_grad():
        return model, x, model(x).argmax(1)


class Recorder(nn.Module):
    """Passes images on to a model and keeps the first few batches that it saw."""

    def __init__(self, model):
        super().__init__()
        self.model, self.seen = model, []

    def forward(self, x):
        self.seen.append(x.detach().clone())
        return self.model(x)


def test_every_name_of_the_paper_has_an_attack():
    paper = {"FGSM", "PGD", "APGD", "APGDT", "FAB", "Square", "DeepFool", "EADEN"}
    assert paper <= set(SUITE_PAPER) and set(UNUSABLE) <= set(SUITE_PAPER)
    assert SUITE_PAPER == BOUNDED | BOUNDED_L2 | MINIMUM_NORM
    for name, reason in UNUSABLE.items():
        attack = SUITE_PAPER[name]
        assert getattr(attack, "func", attack).__name__ in reason


# What all of them do: no range check, modes, gradients, memory


@pytest.mark.parametrize("name", sorted(SUITE_PAPER))
def test_images_outside_the_range(name):
    model, x, y = case()
    raw = getattr(torchattacks, name)
    if name in ("FGSM", "PGD", "PGDL2", "DeepFool"):  # the check is missing in the class that all share
        raw(model)(2 * x, y)
    with pytest.raises(ValueError, match=r"must lie in \[0, 1\]"):
        small(name)(model, 2 * x, y)


@pytest.mark.parametrize("name", sorted(SUITE_PAPER))
def test_mode_parameters_gradients_and_random_state(name):
    """torchattacks leaves every module in train mode if the whole model was, and gradients in the parameters."""
    model = Normalised(dropout=0.5).train()
    model.norm.eval()
    model.drop.eval()
    model.head.weight.requires_grad_(False)
    x = pw.greys(3, (1, 8, 8))
    y = torch.tensor([0, 1, 2])
    before = global_random_state(), {k: v.clone() for k, v in model.state_dict().items()}
    x_adv = small(name)(model, x, y)
    assert model.training and model.conv.training and not model.norm.training and not model.drop.training
    assert all(p.grad is None for p in model.parameters()) and not x_adv.requires_grad
    assert not model.head.weight.requires_grad and model.conv.weight.requires_grad
    assert global_random_state() == before[0]
    assert all(torch.equal(v, before[1][k]) for k, v in model.state_dict().items())


def test_raw_modes():
    model = Normalised(dropout=0.5).train()
    model.norm.eval()
    torchattacks.FGSM(model)(pw.greys(3, (1, 8, 8)), torch.tensor([0, 1, 2]))
    assert model.norm.training


@pytest.mark.parametrize(
    "make",
    [
        lambda m: torchattacks.CW(m, steps=2),
        lambda m: torchattacks.EADEN(m, max_iterations=10, binary_search_steps=1),
        lambda m: torchattacks.DeepFool(m, steps=2),
        lambda m: torchattacks.FAB(m, steps=2),
    ],
)
def test_raw_gradients_in_parameters(make):
    model, x, y = case()
    make(model)(x, y)
    assert model.out.weight.grad is not None and model.out.weight.grad.abs().sum() > 0


def test_memory():
    """A raw attack and its model are in a reference cycle, so the model outlives its last name; ours lets go."""
    gc.disable()
    try:
        model, x, y = case()
        kept = weakref.ref(model)
        torchattacks.FGSM(model)(x, y)
        del model
        assert kept() is not None
        for name in ("FGSM", "APGDT", "FAB", "DeepFool", "EADEN"):
            model, x, y = case()
            kept = weakref.ref(model)
            small(name)(model, x, y)
            del model
            assert kept() is None, name
    finally:
        gc.enable()
        gc.collect()


# The bounded ones


@pytest.mark.parametrize("name", sorted(BOUNDED | BOUNDED_L2))
def test_ball_range_and_eps_zero(name):
    model, x, y = case(12)
    x = torch.cat([x[:6], x[6:].round()])
    for eps in (0.0, 0.02, 0.3):
        x_adv = partial(SUITE_PAPER[name], **SMALL.get(name, {}))(model, x, y, eps=eps)
        assert distances(x, x_adv, "l2" if name == "PGDL2" else "linf").max() <= eps + 1e-6
        assert x_adv.min() >= 0 and x_adv.max() <= 1
        if eps == 0:
            assert torch.equal(x_adv, x)
    one = small(name)(model, x[:1], y[:1])
    assert one.shape == x[:1].shape and small(name)(model, x[:0], y[:0]).shape == x[:0].shape


@pytest.mark.parametrize("name", ["APGD", "APGDT", "Square"])
def test_same_noise_for_every_batch(name):
    """Raw, the global generator starts anew in each call and stays so; ours starts at `seed` and puts it back."""
    model, x, y = case()
    recorder = Recorder(model)
    first = []
    for _ in range(2):
        recorder.seen.clear()
        torch.manual_seed(len(first) + 5)
        raw = {"APGD": partial(torchattacks.APGD, steps=2), "APGDT": partial(torchattacks.APGDT, steps=2, n_classes=4)}
        raw |= {"Square": partial(torchattacks.Square, n_queries=2)}
        raw[name](recorder, eps=1e-3)(x, y)
        first.append((next(seen - x for seen in recorder.seen if not torch.equal(seen, x)), torch.get_rng_state()))
    assert torch.equal(first[0][0], first[1][0]) and torch.equal(first[0][1], first[1][1])
    ours = []
    for seed in (0, 1, 1):
        recorder.seen.clear()
        small(name, eps=1e-3)(recorder, x, y, seed=seed)
        ours.append(next(seen - x for seen in recorder.seen if seen.shape == x.shape and not torch.equal(seen, x)))
    assert not torch.equal(ours[0], ours[1]) and torch.equal(ours[1], ours[2])


def test_the_evaluator_gives_each_batch_a_seed_of_its_own():
    model, x, y = case()
    seeds = []

    def attack(model, x, y, *, eps, seed):
        seeds.append(seed)
        return x

    protocol.robust_accuracy(model, x, y, attack, eps=0.1, chunk=3)
    assert len(seeds) == 3 == len(set(seeds))


@pytest.mark.parametrize("name", ["APGD", "APGDT", "FAB", "Square"])
def test_failure_is_the_clean_image_and_success_is_the_prediction(name):
    """Raw and ours alike give the clean image back, so an image that did not move has not passed as attacked."""
    model, x, y = case()
    raw = getattr(torchattacks, name)(model, eps=1e-5, **({"n_queries": 5} if name == "Square" else {"steps": 2}))
    raw.n_target_classes = 3
    assert torch.equal(raw(x, y), x)
    assert torch.equal(small(name, eps=1e-5)(model, x, y), x)
    assert protocol.robust_accuracy(model, x, y, small(name), eps=1e-5) == 1.0
    assert protocol.robust_accuracy(model, x, y, small(name), eps=0.5) < 0.5


@pytest.mark.parametrize("name", ["APGD", "APGDT"])
def test_ten_steps(name):
    assert inspect.signature(getattr(torchattacks, name)).parameters["steps"].default == 10
    assert inspect.signature(getattr(attacks, name.lower())).parameters["steps"].default == 100
    assert torchattacks.AutoAttack(pw.affine(), n_classes=4)._autoattack.attacks[0].steps == 10


def test_apgdt_expects_ten_classes():
    model, x, y = case()
    with pytest.raises(IndexError):
        torchattacks.APGDT(model, eps=1e-5)(x, y)
    assert wrong(model, small("APGDT", eps=0.5)(model, x, y), y).all()
    with pytest.raises(IndexError):
        torchattacks.APGDT(pw.affine(classes=3), eps=0.5, n_classes=3)(x, y.clamp(max=2))
    few = pw.affine(classes=3)
    assert wrong(few, small("APGDT", eps=0.5)(few, x, y.clamp(max=2)), y.clamp(max=2)).all()


@pytest.mark.parametrize(("raw", "ours", "margin"), [("FGSM", "FGSM", False), ("PGD", "PGD", True)])
def test_saturated_softmax(raw, ours, margin):
    """Cross-entropy of logits × 10⁴ has no gradient left: FGSM and PGD find nothing, PGD on the margin all."""
    model, x, y = case(scale=1e4)
    reach = pw.affine_distance(model, x, y, "linf") < 0.2
    assert reach.all()
    options = dict(random_start=False) if raw == "PGD" else {}
    assert not wrong(model, getattr(torchattacks, raw)(model, eps=0.2, **options)(x, y), y).any()
    assert wrong(model, attacks.loss_pgd(model, x, y, eps=0.2, loss="margin"), y).all()


class Peak(nn.Module):
    """Class 1 only where the pixel has moved up by 0.15 to 0.28 from 0.5; its logit peaks at 0.2."""

    def forward(self, x):
        moved = x.flatten(1).mean(1) - 0.5
        return torch.stack([torch.zeros_like(moved), 0.065 - (moved - 0.215).abs()], 1) * 10


def test_last_iterate():
    """A step up to the wrong class, a step back to the right one: the last iterate forgets what the first had found."""
    model, x, y = Peak(), torch.full((1, 1, 1, 1), 0.5), torch.tensor([0])
    options = dict(eps=0.5, alpha=0.25, steps=2, random_start=False)
    anchored = nn.Sequential(nn.Identity(), model)
    anchored.register_parameter("anchor", nn.Parameter(torch.zeros(1)))
    assert not wrong(model, torchattacks.PGD(anchored, **options)(x, y), y).any()
    assert wrong(model, attacks.loss_pgd(model, x, y, loss="ce", **options), y).all()


def test_fab_layout_and_l1():
    """Raw FAB crashes on channels-last images, and in L1; ours takes both layouts and is the authors' code."""
    model, x, y = Normalised(channels=3), pw.greys(4, (3, 8, 8)), torch.tensor([0, 1, 2, 3])
    y = model.eval()(x).argmax(1)
    last = x.to(memory_format=torch.channels_last)
    with pytest.raises(RuntimeError, match="view size is not compatible"):
        torchattacks.FAB(model, eps=0.1, steps=2)(last, y)
    with pytest.raises(UnboundLocalError):
        torchattacks.FAB(model, norm="L1", eps=0.1, steps=2)(x, y)
    torch.testing.assert_close(small("FAB")(model, last, y), small("FAB")(model, x, y))


def test_fab_beyond_eps():
    """No minimum-norm attack: what FAB finds beyond eps comes back clean, in ours too. DeepFool has the distance."""
    model, x, y = case()
    exact = pw.affine_distance(model, x, y, "linf")
    below, above = exact.sort().values[3:5]
    eps = float(below + above) / 2 * 1.05
    found = wrong(model, small("FAB", eps=eps)(model, x, y), y)
    assert torch.equal(found, exact < eps)
    raw = torchattacks.FAB(model, eps=eps, n_classes=4)(x, y)
    assert torch.equal(raw[exact > eps * 1.1], x[exact > eps * 1.1])
    assert wrong(model, attacks.deepfool_linf(model, x, y), y).all()


@pytest.mark.parametrize("name", ["FAB", "PGDL2"])
def test_l2(name):
    """In L2, the robust accuracy of an affine model of two classes is exact."""
    model, x, y = case(classes=2)
    exact = pw.affine_distance(model, x, y, "l2")
    eps = float(exact.sort().values[3:5].mean())
    attack = partial(fab, norm="l2", steps=30) if name == "FAB" else partial(attacks.pgd_l2, steps=30)
    x_adv = attack(model, x, y, eps=eps)
    assert distances(x, x_adv, "l2").max() <= eps + 1e-6
    clear = (exact / eps - 1).abs() > 0.05
    assert torch.equal(wrong(model, x_adv, y)[clear], (exact < eps)[clear])
    assert attack(model, x, y, eps=2.0).shape == x.shape  # an L2 radius above 1 is one


# The minimum-norm ones


class Cubic(nn.Module):
    """Logit of class 1: (pixel − 0.9)³, ever flatter towards the boundary."""

    def __init__(self):
        super().__init__()
        self.anchor = nn.Parameter(torch.zeros(1))

    def forward(self, x):
        t = x.flatten(1).mean(1) - 0.9
        return torch.stack([torch.zeros_like(t), t**3], 1) + self.anchor


def test_deepfool_fails_without_a_word():
    """Raw DeepFool overshoots each step, and they shrink below float32 before they cross; ours, the whole way."""
    model, x = Cubic(), pw.greys(4, (1, 1, 1))
    y = torch.zeros(4, dtype=torch.long)
    raw = torchattacks.DeepFool(model)(x, y)
    assert not wrong(model, raw, y).any() and not torch.equal(raw, x)
    assert wrong(model, attacks.deepfool_l2(model, x, y), y).all()


def test_deepfool_takes_errors_for_distance_zero():
    model, x, y = case()
    y[0] = (y[0] + 1) % 4
    raw = torchattacks.DeepFool(model)(x, y)
    assert torch.equal(raw[0], x[0]) and wrong(model, raw, y)[0]  # a success at distance 0, by the prediction
    found = attacks.minimum_over(model, x, y, {"DeepFool": attacks.deepfool_l2}, "l2")
    assert not found.correct[0] and found.distance[0].isnan() and found.distance[1:].isfinite().all()


def test_deepfool_one_image_and_class_at_a_time():
    model, x, y = case(16)
    recorder = Recorder(model)
    torchattacks.DeepFool(recorder)(x, y)
    raw = len(recorder.seen)
    assert {len(seen) for seen in recorder.seen} == {1}
    recorder.seen.clear()
    attacks.deepfool_l2(recorder, x, y)
    assert len(recorder.seen) < raw / 3


class Stubborn(nn.Module):
    """An affine model, but an image whose first pixel is 1 gets a margin of 10⁵ whatever its other pixels are."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, x):
        logits = self.model(x)
        held = torch.zeros_like(logits)
        held[:, 0] = 1e5
        return torch.where(x.flatten(1)[:, :1] > 0.5, held + 0 * logits, logits)


@pytest.mark.parametrize(("name", "rule"), [("EADEN", "en"), ("EADL1", "l1")])
def test_ead_lets_one_image_stop_all(name, rule):
    """Raw, a neighbour with a large margin ends every search at its first step: the image is nearly or wholly lost."""
    model, x, y = case()
    model = Stubborn(model)
    x = x.clone()
    x[:, :, 0, 0] = 0.2
    with torch.no_grad():
        y = model(x).argmax(1)
    x, y = x[:2].clone(), y[:2].clone()
    x[1, :, 0, 0], y[1] = 1.0, 0

    def apart(attack):
        x_adv = attack(x, y)[0:1]
        return distances(x[:1], x_adv, "l1").item() if wrong(model, x_adv, y[:1]).item() else float("inf")

    def raw(x, y):
        return getattr(torchattacks, name)(model, max_iterations=20, initial_const=10.0)(x, y).detach()

    def raw_alone(x, y):
        return torch.cat([raw(x[i : i + 1], y[i : i + 1]) for i in range(len(x))])

    def ours(x, y):
        return attacks.ead(model, x, y, rule=rule, steps=20, searches=6, const=0.1)

    def ours_alone(x, y):
        return torch.cat([ours(x[i : i + 1], y[i : i + 1]) for i in range(len(x))])

    assert apart(raw) > 1.5 * apart(raw_alone)
    assert apart(ours) == pytest.approx(apart(ours_alone), rel=1e-4)


def test_ead_writes_into_the_clean_image_and_leaves_the_range():
    """Raw, the first step moves the reference itself: black pixels end below 0, untouched ones differ."""
    model, x, y = case()
    x[:, :, 0] = 0
    with torch.no_grad():
        y = model(x).argmax(1)
    raw = torchattacks.EADEN(model)(x, y).detach()
    assert raw.min() < -1e-6
    moved = (raw - x).abs()
    assert ((moved > 0) & (moved < 1e-4)).float().mean() > 0.1
    ours = attacks.ead(model, x, y, steps=30, searches=5, const=0.1)
    moved = (ours - x).abs()
    assert ours.min() >= 0 and not ((moved > 0) & (moved < 1e-6)).any() and wrong(model, ours, y).all()


def test_ead_does_not_reset_between_searches():
    """Raw, the second search starts where the first one ended; ours starts each at the clean image."""
    model, x, y = case(1)
    recorder = Recorder(model)
    torchattacks.EADEN(recorder, max_iterations=10, binary_search_steps=2, initial_const=10.0, abort_early=False)(x, y)
    steps = recorder.seen[1:]  # two forward passes a step, after one for the number of classes
    assert len(steps) == 40 and not torch.allclose(steps[20], x, atol=1e-2)
    recorder.seen.clear()
    attacks.ead(recorder, x, y, steps=10, searches=2, const=10.0)
    starts = [seen for seen in recorder.seen if torch.equal(seen, x)]
    assert len(starts) >= 3  # the first prediction and the start of each search


def test_cw_with_negative_logits():
    """Its margin takes the masked right class, 0, for the largest other logit once all are negative."""
    model, x, y = case()
    model.out.bias.data += 100
    assert wrong(model, torchattacks.CW(model, steps=100)(x, y), y).all()
    model.out.bias.data -= 200  # no prediction and no distance changes
    assert not wrong(model, torchattacks.CW(model, steps=100)(x, y), y).any()
    assert wrong(model, small("CW")(model, x, y), y).all()


def test_cw_pixels_at_the_border():
    model, x, y = case()
    x = x.round().clamp(0, 1)
    with torch.no_grad():
        y = model(x).argmax(1)
    raw = torchattacks.CW(model, c=10, steps=100)(x, y)
    assert torch.equal(raw, x) and not wrong(model, raw, y).any()
    ours = attacks.ddn(model, x, y)
    assert wrong(model, ours, y).all()
