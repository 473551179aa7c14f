"""Minimum-norm attacks against exact distances, and the minimum over them."""

import math
from functools import partial

import foolbox
import piecewise as pw
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from nets import global_random_state
from torch import nn

from deepdefense import data, losses, models
from deepdefense.attacks import ScaledLogits, ddn, deepfool_l2, deepfool_linf, ead, fmn_linf, l2_margin, minimum_over, summary, tighten
from deepdefense.attacks.contract import distances
from deepdefense.attacks.suites import MINIMUM
from deepdefense.cost import count_passes

en = partial(ead, steps=40, searches=5, const=0.1)
l1 = partial(ead, rule="l1", beta=1e-2, steps=60, searches=5, const=0.1)
near_ddn = partial(ddn, init_eps=0.1, steps=60)
ATTACKS = {
    "deepfool_l2": ("l2", deepfool_l2),
    "deepfool_linf": ("linf", deepfool_linf),
    "ddn": ("l2", near_ddn),
    "ddn-gap": ("l2", partial(near_ddn, gap=10.0)),
    "l2_margin": ("l2", l2_margin),
    "fmn_linf": ("linf", partial(fmn_linf, steps=60)),
    "ead-en": ("l1", en),
    "ead-l1": ("l1", l1),
}
TINY = {name: (norm, partial(attack, steps=8)) for name, (norm, attack) in ATTACKS.items()}


def wrong(model, x, y):
    with torch.no_grad():
        return model(x).argmax(1) != y


def labelled(model, x):
    with torch.no_grad():
        return x, model(x).argmax(1)


class Slab(nn.Module):
    """Class 0 while |u·(x − ½)| ≤ r, class 1 outside: a two-layer ReLU net, at distance (r − |u·(x − ½)|) / ‖u‖."""

    def __init__(self, u, r):
        super().__init__()
        self.u, self.r = nn.Parameter(u), r

    def forward(self, x):
        t = (x.flatten(1) - 0.5) @ self.u
        return torch.stack([torch.full_like(t, self.r), torch.relu(t) + torch.relu(-t)], 1)


class Constant(nn.Module):
    """Always class 1, with gradients that are exactly zero."""

    def forward(self, x):
        return 0 * x.flatten(1)[:, :3] + torch.tensor([0.0, 1.0, 0.0])


@pytest.mark.parametrize("name", ["deepfool_l2", "deepfool_linf", "fmn_linf", "l2_margin"])
def test_affine_multi_class(name):
    norm, attack = ATTACKS[name]
    model = pw.affine()
    x, y = labelled(model, pw.greys(16))
    ratio = distances(x, attack(model, x, y), norm) / pw.affine_distance(model, x, y, norm)
    assert wrong(model, attack(model, x, y), y).all()
    assert ratio.min() > 1 - 1e-5 and ratio.max() < 1.03
    tight = distances(x, tighten(model, x, y, attack(model, x, y)), norm) / pw.affine_distance(model, x, y, norm)
    assert tight.min() > 1 - 1e-5 and tight.max() < 1.01


@pytest.mark.parametrize("name", ["deepfool_l2", "deepfool_linf", "ddn", "ddn-gap", "l2_margin", "fmn_linf", "ead-l1"])
def test_affine_two_classes(name):
    norm, attack = ATTACKS[name]
    model = pw.affine(classes=2)
    x, y = labelled(model, pw.greys(8, seed=1))
    found = attack(model, x, y)
    ratio = distances(x, found, norm) / pw.affine_distance(model, x, y, norm)
    assert wrong(model, found, y).all()
    assert ratio.min() > 1 - 1e-5 and ratio.median() < 1.03
    tight = distances(x, tighten(model, x, y, found), norm) / pw.affine_distance(model, x, y, norm)
    assert tight.median() < 1.02 and tight.max() < 1.05


@pytest.mark.parametrize("name", ["deepfool_l2", "deepfool_linf", "ddn", "ddn-gap", "l2_margin", "fmn_linf"])
def test_slab(name):
    norm, attack = ATTACKS[name]
    u = torch.randn(16, generator=torch.Generator().manual_seed(3))
    model, x = Slab(u, 0.8), pw.greys(12, low=0.4, high=0.6)
    y = torch.zeros(12, dtype=torch.long)
    exact = (0.8 - ((x.flatten(1) - 0.5) @ u).abs()) / u.norm(1 if norm == "linf" else 2)
    found = attack(model, x, y)
    ratio = distances(x, found, norm) / exact
    assert wrong(model, found, y).all() and ratio.min() > 1 - 1e-5 and ratio.max() < 1.05


@pytest.mark.parametrize(("norm", "attacks"), [("l2", ["deepfool_l2", "ddn"]), ("linf", ["deepfool_linf", "fmn_linf"])])
def test_relu_nets(norm, attacks):
    """No attack gets below the exact distance, and the minimum over them comes within 5 % of it in the median."""
    ratios = []
    for seed in (1, 2):
        model = pw.relu_net(seed)
        x, y = labelled(model, pw.greys(10, (1, 2, 2), 0.1, 0.9, seed))
        exact = pw.exact_distance(model, x, y, norm)
        found = minimum_over(model, x, y, {name: ATTACKS[name][1] for name in attacks}, norm)
        for distance in found.by_attack.values():
            assert (distance > exact * (1 - 1e-4)).all()
        ratios.append(found.distance / exact)
    assert torch.cat(ratios).median() < 1.05


@pytest.mark.parametrize("seed", [1, 4])
def test_l2_margin_comes_to_the_exact_distance_of_relu_nets(seed):
    """Alone, with [0, 1] in the way of dark and bright pixels: within 0.3 % in the median."""
    model = pw.relu_net(seed)
    x, y = labelled(model, pw.greys(12, (1, 2, 2), -0.3, 1.3, seed).clamp(0, 1))
    exact = pw.exact_distance(model, x, y, "l2")
    ratio = distances(x, tighten(model, x, y, l2_margin(model, x, y)), "l2") / exact
    assert ratio.min() > 1 - 1e-4 and ratio.median() < 1.003 and (ratio < 1.05).float().mean() > 0.9


@pytest.mark.parametrize("name", ["ddn-gap", "l2_margin"])
def test_the_size_of_the_logits_does_not_matter(name):
    _, attack = TINY[name]
    model = pw.relu_net(1)
    x, y = labelled(model, pw.greys(8, (1, 2, 2), 0.1, 0.9))
    expected = attack(model, x, y)
    for factor in (2.0**-13, 2.0**13):
        torch.testing.assert_close(attack(ScaledLogits(model, factor), x, y), expected, atol=1e-5, rtol=0)


@pytest.fixture(scope="module")
def mse_mlp():
    """A small network of squared error: logits of 0.1 to 1, with 60 images that it gets right."""
    digits = data.load("digits")
    net = models.build("mlp", digits.in_shape, 10, width=0.25, seed=0)
    optimizer, generator = torch.optim.Adam(net.parameters(), lr=2e-3), torch.Generator().manual_seed(0)
    for _ in range(4):
        for x, y in data.batches(digits.train, 64, generator=generator):
            loss = losses.mse(net(x), y).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    part = digits.test[:80]
    right = ~wrong(net.eval(), part.images(), part.y)
    return net, part.images()[right][:60], part.y[right][:60]


def test_with_squared_error_scaled_logits_and_the_margin_come_nearer(mse_mlp):
    model, x, y = mse_mlp
    found = minimum_over(model, x, y, MINIMUM["l2"], "l2")
    assert found.distance.isfinite().all()
    ratio = {name: distance / found.distance for name, distance in found.by_attack.items()}
    median = {name: r.median().item() for name, r in ratio.items()}
    assert median["DDN"] > 1.03 and median["DDN, scaled logits"] < 1.01 and median["L2 margin"] < 1.005
    assert max(ratio, key=lambda name: ratio[name].mean()) == "DDN" and ratio["L2 margin"].max() < 1.1


def test_the_margin_ascent_costs_what_it_says(mse_mlp):
    model, x, y = mse_mlp
    with count_passes(model) as passes:
        l2_margin(model, x[:20], y[:20])
    assert 20 * 60 < passes.backward < 20 * 11 * (18 + 9)


def foolbox_ead(model, x, y, **options):
    seen = foolbox.PyTorchModel(model, (0, 1), device="cpu")
    return foolbox.attacks.EADAttack(**options).run(seen, x, foolbox.criteria.Misclassification(y))


@pytest.mark.parametrize(("rule", "early"), [("en", True), ("l1", True), ("en", False)])
def test_ead_is_foolboxs_on_each_image_alone(mse_mlp, rule, early):
    model, x, y = mse_mlp[0], mse_mlp[1][:5], mse_mlp[2][:5]
    settings = dict(steps=20, initial_stepsize=0.05, initial_const=0.1, regularization=1e-2, decision_rule=rule.upper())
    settings |= dict(binary_search_steps=10, abort_early=early)
    theirs = torch.cat([foolbox_ead(model, x[i : i + 1], y[i : i + 1], **settings) for i in range(len(x))])
    options = dict(rule=rule, steps=20, searches=10, stepsize=0.05, const=0.1, beta=1e-2, early=early)
    ours = ead(model, x, y, **options)
    success = wrong(model, theirs, y)
    assert success.sum() >= 4 and torch.equal(wrong(model, ours, y), success)
    torch.testing.assert_close(ours[success], (x + 1.001 * (theirs - x)).clamp(0, 1)[success], atol=2e-4, rtol=0)


class Beside(nn.Module):
    """The model, but for images whose first pixel is 1: those are right, and the more so the more they are moved."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, x):
        spoilt = x[:, :1, 0, 0] > 0.99
        steep = 1e3 * (x.flatten(1)[:, 1:].sum(1, keepdim=True) - 30) ** 2
        return torch.where(spoilt, torch.eye(10)[0] * steep, self.model(x))


def test_ead_stops_each_image_by_itself_where_foolbox_stops_all(mse_mlp):
    """A neighbour whose loss rises ends foolbox's searches for everybody; ours are the same alone and in company."""
    model, x = Beside(mse_mlp[0]).eval(), mse_mlp[1][:5].clone()
    x[:, 0, 0, 0], x[2, 0, 0, 0] = 0, 1
    y, others = model(x).argmax(1), torch.tensor([0, 1, 3, 4])
    options = dict(steps=40, const=0.1)
    ours = torch.cat([ead(model, x[i : i + 1], y[i : i + 1], **options) for i in range(5)])
    torch.testing.assert_close(ead(model, x, y, **options), ours, atol=2e-4, rtol=0)
    theirs = foolbox_ead(model, x, y, steps=40, initial_const=0.1, regularization=1e-3)
    assert wrong(model, ours, y)[others].all()
    assert (distances(x, theirs, "l1") > 1.1 * distances(x, ours, "l1"))[others].all()


def test_ead_works_no_more_than_foolbox_with_its_stop(mse_mlp):
    model, x, y = mse_mlp[0], mse_mlp[1][:20], mse_mlp[2][:20]
    counts = []
    for run in (lambda: ead(model, x, y), lambda: foolbox_ead(model, x, y, steps=100, regularization=1e-3)):
        with count_passes(model) as passes:
            run()
        counts.append(passes.forward + passes.backward)
    assert counts[0] < counts[1] < 20 * 2700


def test_exact_distances_agree_with_affine():
    """The enumeration itself, where hidden units never switch: the net is affine on the box."""
    net = pw.relu_net(0, inputs=4, hidden=3, classes=3)
    net.hidden.bias.data += net.hidden.weight.data.abs().sum(1) + 1
    twin = pw.Affine(net.out.weight.data @ net.hidden.weight.data, net.out.weight.data @ net.hidden.bias.data + net.out.bias.data)
    x = pw.greys(4, (1, 2, 2), 0.45, 0.55)
    twin.out.bias.data -= twin(x).mean(0).detach()
    net.out.bias.data = twin.out.bias.data - net.out.weight.data @ net.hidden.bias.data
    y = net(x).argmax(1)
    for norm in ("linf", "l2", "l1"):
        torch.testing.assert_close(pw.exact_distance(net, x, y, norm).float(), pw.affine_distance(twin, x, y, norm))


@settings(max_examples=12)
@given(seed=st.integers(0, 10_000), scale=st.sampled_from([1e-3, 1.0, 1e4]), dark=st.booleans())
@pytest.mark.parametrize("name", TINY)
def test_promises(name, seed, scale, dark):
    """In [0, 1]; wrong by prediction or else the clean image; model and global random state untouched."""
    _, attack = TINY[name]
    model = pw.affine(pixels=9, classes=3, seed=seed, scale=scale).train()
    model.out.bias.requires_grad_(False)
    x = pw.greys(4, (1, 3, 3), 0.0, 1.0, seed)
    x = x.round() if dark else x
    y = torch.randint(3, (4,), generator=torch.Generator().manual_seed(seed))
    before, weights, kept = global_random_state(), model.out.weight.clone(), x.clone()
    found = attack(model, x, y, seed=seed)
    assert found.min() >= 0 and found.max() <= 1 and found.shape == x.shape and found.dtype == x.dtype
    still = ~wrong(model, found, y) | wrong(model, x, y)
    assert torch.equal(found[still], x[still]) and torch.equal(x, kept)
    assert model.training and model.out.weight.requires_grad and not model.out.bias.requires_grad
    assert model.out.weight.grad is None and torch.equal(model.out.weight, weights)
    assert global_random_state() == before and not found.requires_grad


@pytest.mark.parametrize("name", TINY)
def test_constant_model_is_a_failure(name):
    norm, attack = TINY[name]
    model, x = Constant(), pw.greys(4)
    y = torch.tensor([1, 1, 1, 0])
    assert torch.equal(attack(model, x, y), x)
    found = minimum_over(model, x, y, {name: attack}, norm)
    assert found.correct.tolist() == [True, True, True, False] and found.winner.tolist() == [-1] * 4
    assert found.distance[:3].isinf().all() and found.distance[3].isnan() and torch.equal(found.x_adv, x)
    short = summary(found.distance[found.correct])
    assert short.failed == 1 and short.median == math.inf and short.to_dict()["median"] is None


class Overflows(nn.Module):
    """Class `right` on the clean images, and NaN for every class (or for one) on all others."""

    def __init__(self, right, clean, only_one=False):
        super().__init__()
        self.right, self.clean, self.only_one = right, clean.flatten(1), only_one

    def forward(self, x):
        logits = torch.zeros(len(x), 3)
        logits[:, self.right] = 1
        logits = logits + x.flatten(1).sum(1, keepdim=True) * torch.tensor([0.0, 0.01, 0.02])
        moved = torch.cdist(x.flatten(1), self.clean).amin(1, keepdim=True) > 1e-4
        return logits.masked_fill(moved & (torch.tensor([False, False, True]) | (not self.only_one)), torch.nan)


@pytest.mark.parametrize("only_one", [False, True])
@pytest.mark.parametrize("right", [0, 1])
@pytest.mark.parametrize("name", TINY)
def test_no_answer_is_no_right_answer(name, right, only_one):
    """NaN among the logits of a moved image is a mistake, of class 0 as of any other, and nearest at hand."""
    norm, attack = TINY[name]
    x = pw.greys(3)
    model, y = Overflows(right, x, only_one), torch.full((3,), right, dtype=torch.uint8)
    found = minimum_over(model, x, y, {name: attack}, norm)
    assert found.correct.all() and found.distance.isfinite().all() and found.winner.tolist() == [0] * 3
    assert model(found.x_adv).isnan().any(1).all() and found.x_adv.isfinite().all()


def test_images_that_the_model_does_not_answer_count_as_wrong_from_the_start():
    x, y = pw.greys(3), torch.zeros(3, dtype=torch.int32)
    found = minimum_over(Overflows(0, x[:2]), x, y, {"DeepFool": deepfool_l2}, "l2")
    assert found.correct.tolist() == [True, True, False] and found.distance[2].isnan()
    broken = x.clone()
    broken[1] = torch.nan  # an attack that breaks its image has shown nothing
    model, label = pw.affine(), pw.affine()(x).argmax(1)
    lost = minimum_over(model, x, label, {"breaks": lambda model, x, y, seed: broken}, "l2")
    assert lost.distance.isinf().all() and torch.equal(lost.x_adv, x)
    assert not tighten(model, x.requires_grad_(), label, broken).requires_grad


@pytest.mark.parametrize("name", TINY)
def test_batch_of_one_and_neighbours(name):
    """An image's result is its own: alone, among others, and beside one that cannot be attacked."""
    _, attack = TINY[name]
    model = pw.affine()
    x, y = labelled(model, pw.greys(5))
    y[2] = (y[2] + 1) % 4
    together = attack(model, x, y)
    alone = torch.cat([attack(model, x[i : i + 1], y[i : i + 1]) for i in range(5)])
    torch.testing.assert_close(together, alone, atol=2e-4, rtol=0)
    assert torch.equal(together[2], x[2])
    assert attack(model, x[:0], y[:0]).shape == (0, 1, 4, 4)


@pytest.mark.parametrize("attack", [deepfool_l2, deepfool_linf])
def test_deepfool_leaves_a_tie(attack):
    """An image on the boundary has no gap to close, and counts as right by the order of the classes."""
    model, x = pw.affine(classes=2), pw.greys(3)
    model.out.weight.data, model.out.bias.data = model.out.weight.data.round(), torch.zeros(2)
    model.out.weight.data[1, 0] = model.out.weight.data[0, 0] + 2
    model.out.weight.data[1, 1:] = model.out.weight.data[0, 1:]
    x[:, :, 0, 0] = 0
    y = torch.zeros(3, dtype=torch.long)
    assert not wrong(model, x, y).any()
    found = attack(model, x, y)
    assert wrong(model, found, y).all() and (found - x).abs().max() < 1e-4


@pytest.mark.parametrize("name", ["deepfool_l2", "ddn", "ddn-gap", "l2_margin", "fmn_linf", "ead-l1"])
def test_float64(name):
    _, attack = TINY[name]
    model = pw.affine().double()
    x, y = labelled(model, pw.greys(3).double())
    found = attack(model, x, y)
    assert found.dtype == torch.float64 and wrong(model, found, y).all()


class Answers(nn.Module):
    """The model's logits in another type."""

    def __init__(self, model, dtype):
        super().__init__()
        self.model, self.dtype = model, dtype

    def forward(self, x):
        return self.model(x).to(self.dtype)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
@pytest.mark.parametrize("name", ATTACKS)
def test_logits_of_any_type_and_images_in_any_layout(name, dtype):
    norm, attack = ATTACKS[name]
    model = Answers(pw.affine(pixels=12, seed=2), dtype)
    x, y = labelled(model, pw.greys(4, (3, 2, 2)))
    x = x.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2).requires_grad_()
    found = minimum_over(model, x, y.int(), {name: attack}, norm)
    success = found.distance.isfinite()
    assert success.all() or (dtype == torch.bfloat16 and success.sum() >= 2)  # so coarse that ties can stop an attack
    assert torch.equal(wrong(model, found.x_adv, y), success) and not found.x_adv.requires_grad


def test_fmn_comes_to_rest_on_the_boundary():
    """foolbox's L∞ FMN stops a rounding error before a flat boundary and reports nothing; ours finds every image."""
    model = pw.affine()
    x, y = labelled(model, pw.greys(24))
    seen = foolbox.PyTorchModel(model.eval(), (0, 1), device="cpu")
    raw = foolbox.attacks.LInfFMNAttack().run(seen, x, foolbox.criteria.Misclassification(y))
    assert not wrong(model, raw, y).all()
    assert wrong(model, fmn_linf(model, x, y), y).all()


def test_foolbox_l2_fmn_never_projects():
    """Its projection divides a norm by itself and so returns what it was given, outside the radius."""
    x, far = torch.zeros(2, 1, 2, 2), torch.ones(2, 1, 2, 2)
    ball = foolbox.attacks.L2FMNAttack()
    import eagerpy

    projected = ball.project(eagerpy.astensor(far), eagerpy.astensor(x), eagerpy.astensor(torch.full((2,), 0.1))).raw
    assert torch.equal(projected, far) and projected.flatten(1).norm(dim=1).min() > 0.1
    right = foolbox.attacks.LInfFMNAttack()
    projected = right.project(eagerpy.astensor(far), eagerpy.astensor(x), eagerpy.astensor(torch.full((2,), 0.1))).raw
    torch.testing.assert_close(projected.amax(), torch.tensor(0.1))


def test_foolbox_ead_fails_as_black_images():
    x, y = pw.greys(2), torch.tensor([1, 1])
    seen = foolbox.PyTorchModel(Constant().eval(), (0, 1), device="cpu")
    raw = foolbox.attacks.EADAttack(steps=3, binary_search_steps=2).run(seen, x, foolbox.criteria.Misclassification(y))
    assert torch.equal(raw, torch.zeros_like(x))
    assert torch.equal(ead(Constant(), x, y, steps=3, searches=2), x)


@pytest.fixture(scope="module")
def digits_cnn():
    digits = data.load("digits")
    net = models.build("cnn", digits.in_shape, 10, width=0.25, seed=0)
    optimizer = torch.optim.Adam(net.parameters(), lr=5e-3)
    generator = torch.Generator().manual_seed(0)
    for _ in range(8):
        for x, y in data.batches(digits.train, 64, generator=generator):
            loss = nn.functional.cross_entropy(net(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    part = digits.test[:48]
    return net.eval(), part.images(), part.y


@pytest.mark.parametrize(
    ("ours", "theirs", "norm"),
    [
        (deepfool_l2, foolbox.attacks.L2DeepFoolAttack, "l2"),
        (deepfool_linf, foolbox.attacks.LinfDeepFoolAttack, "linf"),
    ],
)
def test_deepfool_agrees_with_foolbox_and_works_less(digits_cnn, ours, theirs, norm):
    model, x, y = digits_cnn
    right = ~wrong(model, x, y)
    x, y, passes = x[right], y[right], [0]
    handle = model.register_forward_hook(lambda module, args, out: passes.__setitem__(0, passes[0] + len(out)))
    mine, own = ours(model, x, y), passes[0]
    raw = theirs().run(foolbox.PyTorchModel(model, (0, 1), device="cpu"), x, foolbox.criteria.Misclassification(y))
    handle.remove()
    assert own * 3 < passes[0] - own
    a, b = distances(x, mine, norm), distances(x, raw, norm)
    assert wrong(model, mine, y).all() and wrong(model, raw, y).all()
    assert abs(a.median() / b.median() - 1) < 0.02 and (a / b).max() < 1.05


def test_minimum_over_takes_the_nearest_of_each_image(digits_cnn):
    model, x, y = digits_cnn
    y = y.clone()
    y[5] = (model(x[5:6]).argmax(1) + 1) % 10
    suite = {"DeepFool": deepfool_l2, "DDN": partial(ddn, steps=40)}
    found = minimum_over(model, x, y, suite, "l2", batch_size=20)
    assert not found.correct[5] and found.distance[5].isnan() and found.winner[5] == -1
    rows = torch.stack(list(found.by_attack.values()))[:, found.correct]
    assert torch.equal(rows.amin(0), found.distance[found.correct])
    assert (found.winner >= 0).sum() == found.correct.sum()
    torch.testing.assert_close(distances(x, found.x_adv, "l2")[found.correct], found.distance[found.correct])
    assert wrong(model, found.x_adv[found.correct], y[found.correct]).all()
    loose = minimum_over(model, x, y, suite, "l2", batch_size=48, bisections=0)
    ratio = (found.distance / loose.distance)[found.correct]
    assert ratio.max() < 1.002 and ratio.median() < 1  # the bisection only brings them nearer, to its own precision


def test_tighten_leaves_failures_and_finds_the_boundary():
    model = pw.affine(classes=2)
    x, y = labelled(model, pw.greys(4))
    label = y.view(-1, 1, 1, 1).expand_as(x)
    far = torch.where((model.out.weight[1] > model.out.weight[0]).view(1, 1, 4, 4), 1 - label, label).to(x)
    assert wrong(model, far, y).all()
    far[3] = x[3]
    near = tighten(model, x, y, far, steps=12)
    assert torch.equal(near[3], x[3])
    gap = pw.affine_distance(model, near, 1 - y, "l2") / distances(x, far, "l2").clamp_min(1e-9)
    assert wrong(model, near[:3], y[:3]).all() and (gap[:3] < 3 * 2**-12).all()


def test_summary_counts_failures():
    short = summary(torch.tensor([3.0, math.inf, 1.0, 2.0]))
    assert (short.n, short.median, short.failed) == (4, 2.0, 0.25)
    assert short.quantiles == {0.1: 1.0, 0.25: 1.0, 0.5: 2.0, 0.75: 3.0, 0.9: math.inf}
    assert summary(torch.tensor([1.0, math.inf, math.inf])).median == math.inf
    for bad in (torch.tensor([1.0, math.nan]), torch.tensor([-1.0]), torch.tensor([])):
        with pytest.raises(ValueError, match="distances"):
            summary(bad)
    with pytest.raises(ValueError, match="quantiles"):
        summary(torch.ones(2), quantiles=(0.0,))


@given(st.lists(st.floats(0, 10) | st.just(math.inf), min_size=1, max_size=20), st.floats(0.01, 1))
def test_quantile_is_the_least_that_covers_its_share(values, q):
    distance = torch.tensor(values, dtype=torch.float64)
    answer = summary(distance, quantiles=(q,)).quantiles[q]
    assert answer in distance.tolist()
    assert (distance <= answer).double().mean() >= q - 1e-12 and (distance < answer).double().mean() < q


@pytest.mark.parametrize("name", ATTACKS)
def test_labels_of_unsigned_types(name):
    model, (norm, attack) = pw.affine(pixels=12, seed=2), TINY[name]
    x, y = labelled(model, pw.greys(4, (3, 2, 2)))
    plain, other = (minimum_over(model, x, labels, {name: attack}, norm) for labels in (y, y.to(torch.uint16)))
    assert torch.equal(plain.distance, other.distance)
    assert torch.equal(attack(model, x, y.to(torch.uint32)), attack(model, x, y))


@pytest.mark.parametrize("steps", [2.5, "3", None])
@pytest.mark.parametrize("attack", [deepfool_l2, ddn, fmn_linf, ead])
def test_steps_are_whole(attack, steps):
    model, x = pw.affine(), pw.greys(2)
    with pytest.raises(ValueError, match="steps must be a whole number of at least 1, got "):
        attack(model, x, model(x).argmax(1), steps=steps)


def test_bad_input_is_named():
    model, x = pw.affine(), pw.greys(2)
    y = model(x).argmax(1)
    with pytest.raises(ValueError, match=r"lie in \[0, 1\]"):
        deepfool_l2(model, x + 1, y)
    with pytest.raises(ValueError, match="steps must be a whole number of at least 1"):
        ddn(model, x, y, steps=0)
    with pytest.raises(ValueError, match="rule must be"):
        ead(model, x, y, rule="l2")
    with pytest.raises(ValueError, match="norm must be"):
        minimum_over(model, x, y, MINIMUM["l2"], "L2")
    with pytest.raises(ValueError, match="needs an attack"):
        minimum_over(model, x, y, {}, "l2")
