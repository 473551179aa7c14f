"""Adaptive attacks: exact answers on linear models, the ball and [0, 1] everywhere, nothing about the model changed."""

from functools import partial

import masked_nets
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from nets import Normalised, Plane, global_random_state, hooks, images, seeded
from torch import nn

from deepdefense import attacks, evaluate, taps
from deepdefense.attacks.features import inner_layers
from deepdefense.attacks.linf_ascent import box, climb, sign_step
from deepdefense.attacks.orthogonal import project
from deepdefense.attacks.projected_gradient import ScaledLogits, trace_pgd
from deepdefense.attacks.suites import suite_adaptive
from deepdefense.attacks.transfer_attacks import has_relu
from deepdefense.inference import seeded as seeded_draws
from deepdefense.losses import LOSSES, dlr, margin, targeted_margin
from deepdefense.masking import substitutes

EPS = masked_nets.EPS


class Linear(nn.Module):
    """logits = W x + b, W (K, D), no parameters."""

    def __init__(self, w, b):
        super().__init__()
        self.w, self.b = w, b

    def forward(self, x):
        return x.flatten(1) @ self.w.T + self.b


class Functional(nn.Module):
    """ReLUs of every spelling: module, function, method; the last one in place."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = nn.Linear(36, 8), nn.Linear(8, 8), nn.Linear(8, 3)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x):
        h = self.b(F.relu(self.a(x.flatten(1))))
        h = torch.relu(h) + self.b(h).relu()
        return self.c(self.relu(h))


def plane(seed=0, size=16):
    """A two-class linear model on 4×4 images near mid-grey, with the exact L∞ distance of each image."""
    generator = torch.Generator().manual_seed(seed)
    w = torch.randn(size, generator=generator, dtype=torch.float64)
    x = 0.5 + 0.1 * (torch.rand(8, 1, 4, 4, generator=generator, dtype=torch.float64) - 0.5)
    score = x.flatten(1) @ w
    b = -score.mean()
    return Plane(w, b), x, (score + b > 0).long(), (score + b).abs() / w.abs().sum()


def linear(seed=0, classes=4, size=16):
    """A linear model with several classes on 4×4 images near mid-grey, with the exact L∞ distance: the least over pairs."""
    generator = torch.Generator().manual_seed(seed)
    w = torch.randn(classes, size, generator=generator, dtype=torch.float64)
    x = 0.5 + 0.2 * (torch.rand(8, 1, 4, 4, generator=generator, dtype=torch.float64) - 0.5)
    model = Linear(w, -(0.5 * w.sum(1)))
    logits = model(x)
    y = logits.argmax(1)
    gap = logits.gather(1, y[:, None]) - logits
    reach = (w[y][:, None, :] - w[None]).abs().sum(2)
    pairs = torch.where(reach > 0, gap / reach.clamp(min=1e-12), torch.inf)
    return model, x, y, pairs.amin(1)


def fooled(model, x_adv, y):
    model.eval()
    with torch.no_grad():
        return model(x_adv).argmax(1) != y


EXACT = {
    "margin": attacks.loss_pgd,
    "restarts": attacks.restarted_pgd,
    "scaled": partial(attacks.scaled_pgd, factors=(0.1, 10.0)),
    "multi-targeted": attacks.multi_targeted_pgd,
    "RayS": partial(attacks.rays, queries=600),
}


@pytest.mark.parametrize("name", EXACT)
def test_two_classes_fall_at_their_exact_distance(name):
    model, x, y, distance = plane()
    for row in range(4):
        one, label = x[row : row + 1], y[row : row + 1]
        assert fooled(model, EXACT[name](model, one, label, eps=1.05 * distance[row].item()), label).all()
        assert not fooled(model, EXACT[name](model, one, label, eps=0.999 * distance[row].item()), label).any()


@pytest.mark.parametrize("name", ["multi-targeted", "RayS"])
def test_several_classes_fall_at_the_least_distance_over_pairs(name):
    attack = EXACT[name]
    model, x, y, distance = linear()
    slack = 1.3 if name == "RayS" else 1.05  # RayS follows one sign vector to whatever class lies behind it
    for row in range(4):
        one, label = x[row : row + 1], y[row : row + 1]
        assert fooled(model, attack(model, one, label, eps=slack * distance[row].item()), label).all()
        assert not fooled(model, attack(model, one, label, eps=0.999 * distance[row].item()), label).any()


def test_an_ascent_prefers_a_mistake_to_a_higher_value():
    x = torch.full((2, 1, 1, 1), 0.5)

    def score(x_adv):  # image 0: a mistake only at the start, while the value rises; image 1: no mistake
        value = x_adv.flatten(1).sum(1)
        return value, (x_adv.flatten() == 0.5) & torch.tensor([True, False])

    found = climb(score, x, eps=0.4, sizes=[0.1] * 3, start=x)
    assert found.best.flatten().tolist() == pytest.approx([0.5, 0.8])
    assert found.last.flatten().tolist() == pytest.approx([0.8, 0.8])
    assert found.values.shape == (4, 2) and found.fooled.tolist() == [[True, False]] + [[False, False]] * 3


def test_a_model_that_cuts_the_graph_has_gradient_zero():
    class Cut(nn.Module):
        def forward(self, x):
            return x.detach().flatten(1)[:, :3]

    x, y = images()
    assert torch.equal(attacks.loss_pgd(Cut(), x, y, eps=0.1, random_start=False), x)


# --- losses -------------------------------------------------------------------------------------------------------------


def test_dlr_is_the_margin_over_the_spread_of_the_largest_three():
    logits = torch.tensor([[5.0, 3.0, 1.0, 0.0], [5.0, 3.0, 1.0, 0.0], [2.0, 2.0, 2.0, 0.0]])
    assert dlr(logits, torch.tensor([0, 3, 3])).tolist() == [-2 / 4, 5 / 4, 2.0]


@given(st.integers(0, 10_000), st.floats(1e-3, 1e3), st.floats(-5, 5))
def test_dlr_ignores_scale_and_shift_and_has_the_sign_of_the_margin(seed, scale, shift):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(5, 4, generator=generator, dtype=torch.float64)
    y = torch.randint(4, (5,), generator=generator)
    torch.testing.assert_close(dlr(scale * logits + shift, y), dlr(logits, y))
    assert ((dlr(logits, y) > 0) == (margin(logits, y) > 0)).all()


def test_dlr_needs_three_classes():
    with pytest.raises(ValueError, match="at least 3 classes, got 2"):
        dlr(torch.zeros(1, 2), torch.zeros(1, dtype=torch.long))


def test_the_largest_targeted_margin_is_the_margin():
    logits, y = torch.randn(6, 4, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 1, 2, 3, 0, 1])
    each = torch.stack([targeted_margin(logits, y, torch.full_like(y, t)) for t in range(4)], 1)
    assert torch.equal(each.scatter(1, y[:, None], -torch.inf).amax(1), margin(logits, y))


# --- orthogonal steps ---------------------------------------------------------------------------------------------------


@given(st.integers(0, 10_000))
def test_the_projection_lies_in_box_and_plane_and_is_the_nearest_point_there(seed):
    g = torch.Generator().manual_seed(seed)
    v, u, anchor = (torch.randn(3, 7, generator=g, dtype=torch.float64) for _ in range(3))
    u[0, :4] = 0
    u[1] *= 1e-6
    anchor = anchor.clamp(0, 1)
    low, high = box(anchor, 0.3)
    unit = u / u.norm(dim=1, keepdim=True)
    p = project(v, u, anchor, low, high)
    assert ((p >= low) & (p <= high)).all() and (unit * (p - anchor)).sum(1).abs().max() < 1e-8
    for _ in range(20):  # nearest point of a convex set: no feasible q lies on v's side of the plane through p
        q = project(torch.randn(3, 7, generator=g, dtype=torch.float64), u, anchor, low, high)
        assert ((v - p) * (q - p)).sum(1).max() < 1e-8


def test_without_a_direction_the_projection_is_the_clipped_point():
    v, anchor = torch.tensor([[2.0, 0.5]]), torch.tensor([[0.5, 0.5]])
    assert torch.equal(project(v, torch.zeros(1, 2), anchor, *box(anchor, 0.1)), torch.tensor([[0.6, 0.5]]))


@pytest.mark.parametrize("at", ["clean", "iterate"])
def test_with_two_linear_classes_the_aligned_direction_is_all_there_is(at):
    model, x, y, distance = plane()
    eps = 3 * distance.max().item()
    for loss in ("margin", "ce"):
        x_adv = attacks.orthogonal_pgd(model, x, y, eps=eps, at=at, loss=loss)
        assert not fooled(model, x_adv, y).any()
        torch.testing.assert_close(margin(model(x_adv), y), margin(model(x), y))
    assert fooled(model, attacks.loss_pgd(model, x, y, eps=eps), y).all()


def test_the_perturbation_is_orthogonal_to_the_gradient_at_the_clean_image_and_fools_a_third_class_all_the_same():
    model, x, y, distance = linear()
    eps = 4 * distance.max().item()
    x_adv = attacks.orthogonal_pgd(model, x, y, eps=eps, at="clean", training_loss="mse")
    point = x.clone().requires_grad_()
    (u,) = torch.autograd.grad(LOSSES["mse"](model(point), y).sum(), point)
    cosine = F.cosine_similarity((x_adv - x).flatten(1), u.flatten(1))
    assert cosine.abs().max() < 1e-6 and (x_adv - x).abs().max() > 0.9 * eps
    assert fooled(model, x_adv, y).all()


# --- surrogates ---------------------------------------------------------------------------------------------------------


def test_every_spelling_of_relu_is_smoothed_and_the_model_stays_as_it_was():
    model = seeded(Functional)
    x = images()[0].double()
    before, weights = model(x), [p.clone() for p in model.parameters()]

    def soft(h):
        return F.softplus(h, beta=7.0)

    h = model.b(soft(model.a(x.flatten(1))))
    expected = model.c(soft(soft(h) + soft(model.b(h))))
    torch.testing.assert_close(attacks.SmoothActivations(model, 7.0)(x), expected)
    assert torch.equal(model(x), before)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), weights, strict=True))
    assert has_relu(model, x)


def test_without_relu_there_is_nothing_to_smooth():
    model, x, y, _ = plane()
    assert not has_relu(model, x)
    with pytest.raises(ValueError, match="runs no ReLU"):
        attacks.smooth_pgd(model, x, y, eps=0.1)


class DeadZone(nn.Module):
    """Class 1 only where the mean of the image exceeds 0.5 + `rise`; below, its ReLU is dead and has no gradient."""

    def __init__(self, rise):
        super().__init__()
        self.rise = rise

    def forward(self, x):
        score = torch.relu(x.flatten(1).sum(1) - x[0].numel() * (0.5 + self.rise))
        return torch.stack([torch.full_like(score, 1e-3), score], 1)


def test_the_smooth_surrogate_crosses_a_dead_zone_where_pgd_on_the_model_stands_still():
    x, y = torch.full((3, 1, 4, 4), 0.5), torch.zeros(3, dtype=torch.long)
    model = DeadZone(rise=0.05)
    assert not fooled(model, attacks.loss_pgd(model, x, y, eps=0.1), y).any()
    assert fooled(model, attacks.smooth_pgd(model, x, y, eps=0.1), y).all()


def test_transfer_from_the_model_itself_is_the_attack_itself():
    model, (x, y) = masked_nets.plain(), digits(60)
    direct = fooled(model, attacks.loss_pgd(model, x, y, eps=EPS, random_start=False), y)
    alone = attacks.transfer({"itself": model}, random_start=False)
    assert torch.equal(fooled(model, alone(model, x, y, eps=EPS), y), direct)
    both = attacks.transfer({"other": masked_nets.small_net(nn.ReLU, seed=3), "itself": model}, random_start=False)
    assert (fooled(model, both(model, x, y, eps=EPS), y) >= direct).all()


def test_transfer_says_what_it_needs():
    with pytest.raises(ValueError, match="at least one substitute"):
        attacks.transfer({})
    with pytest.raises(ValueError, match="substitute 'a' must be a torch.nn.Module, got int"):
        attacks.transfer({"a": 3})


def test_the_model_behind_a_quantised_input_falls_to_its_undefended_self():
    masked, (x, y) = masked_nets.quantised(), digits(100)
    right = ~fooled(masked, x, y)
    direct = fooled(masked, attacks.loss_pgd(masked, x, y, eps=EPS), y)[right].float().mean()
    moved = fooled(masked, attacks.transfer({"plain": masked_nets.plain()})(masked, x, y, eps=EPS), y)[right].float().mean()
    assert direct < 0.1 and moved > 0.4


# --- features -----------------------------------------------------------------------------------------------------------


def test_inner_layers_are_the_weight_layers_behind_the_first():
    model = seeded(Functional)
    assert inner_layers(model, images()[0].double()) == ["b", "c"]
    assert inner_layers(*plane()[:2]) == []


def test_scaled_logits_do_not_change_a_feature_attack():
    (x, y), plain = digits(40), masked_nets.plain()
    names = inner_layers(plain, x)
    expected = attacks.feature_pgd(plain, x, y, eps=EPS, layers=names)
    loud = attacks.feature_pgd(masked_nets.loud(), x, y, eps=EPS, layers=[f"model.{name}" for name in names])
    assert torch.equal(fooled(plain, expected, y), fooled(plain, loud, y))


def test_features_move_away_from_the_clean_ones_or_towards_the_guides_and_either_way_fools():
    model, (x, y) = masked_nets.plain(), digits(80)
    right = ~fooled(model, x, y)
    x, y = x[right], y[right]
    guides = masked_nets.digits().train[:300]
    guides = guides.images(), guides.y
    head = model[:5]  # up to the input of the last layer

    def moved(x_adv):
        return (head(x_adv) - head(x)).norm(dim=1).mean()

    def from_guides(x_adv):
        distance = torch.cdist(head(x_adv), head(guides[0]))
        return distance.masked_fill(y[:, None] == guides[1], torch.inf).amin(1).mean()

    away = attacks.feature_pgd(model, x, y, eps=EPS, layers=["5"])
    guided = attacks.feature_pgd(model, x, y, eps=EPS, layers=["5"], guides=guides)
    with torch.no_grad():
        noise = x + EPS * (2 * torch.rand(x.shape, generator=torch.Generator().manual_seed(0)) - 1)
        assert moved(away) > 2 * moved(noise.clamp(0, 1))
        assert from_guides(guided) < 0.9 * from_guides(x)
    for x_adv in (away, guided):
        assert fooled(model, x_adv, y).float().mean() > 0.12


class LeavesOut(torch.nn.Module):
    """Its hidden layer runs with the given probability (stochastic depth, also in eval mode), its head always."""

    def __init__(self, probability):
        super().__init__()
        self.probability = probability
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.hidden, self.head = torch.nn.Linear(64, 64), torch.nn.Linear(64, 4)

    def forward(self, x):
        h = x.flatten(1)
        if torch.rand(()).item() < self.probability:
            h = h + torch.tanh(self.hidden(h))
        return self.head(h)


def test_a_layer_that_a_random_model_leaves_out_is_drawn_until_it_runs():
    x = torch.rand(6, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    y = LeavesOut(0)(x).argmax(1)
    with seeded_draws(x.device, 0):
        for probability in (0.1, 0.5):
            model = LeavesOut(probability).eval()
            assert inner_layers(model, x) == ["head"]  # the first layer that runs beside it sees the image
            for layers in (None, ["hidden", "head"]):
                x_adv = attacks.feature_pgd(model, x, y, eps=0.3, steps=3, layers=layers)
                assert (x_adv - x).abs().max() <= 0.3 + 1e-6 and not torch.equal(x_adv, x)
            logits, value = taps.forward_reaching(model, x, "hidden")
            assert torch.equal(value, x.flatten(1)) and torch.equal(logits, LeavesOut(1.1)(x))
        guides = (x, y)
        if len(y.unique()) > 1:
            attacks.feature_pgd(LeavesOut(0.3), x, y, eps=0.1, steps=2, layers=["hidden"], guides=guides)
        report = evaluate(LeavesOut(0.5), x, y, eps=0.1, suites="adaptive", allow_random=True, progress=False)
        assert "adaptive/features, away" in report.outcomes
        with pytest.raises(taps.NotReached, match="forward hands no input of its own to 'hidden'"):
            attacks.feature_pgd(LeavesOut(0), x, y, eps=0.1, steps=2, layers=["hidden"])


def test_feature_attacks_say_what_they_need():
    model, x, y, _ = plane()
    with pytest.raises(ValueError, match="no inner weight layer"):
        attacks.feature_pgd(model, x, y, eps=0.1)
    (x, y), net = digits(3), masked_nets.plain()
    with pytest.raises(ValueError, match="guides must hold an image of another class"):
        attacks.feature_pgd(net, x, y, eps=0.1, guides=(x[:1], y[:1]))


# --- what every attack keeps --------------------------------------------------------------------------------------------

QUICK = {
    "pgd ce": partial(attacks.loss_pgd, loss="ce", steps=3),
    "pgd dlr": partial(attacks.loss_pgd, loss="dlr", steps=3),
    "restarts": partial(attacks.restarted_pgd, steps=3),
    "scaled": partial(attacks.scaled_pgd, steps=2),
    "multi-targeted": partial(attacks.multi_targeted_pgd, steps=3, restarts=2),
    "orthogonal, clean": partial(attacks.orthogonal_pgd, steps=3, at="clean"),
    "orthogonal, iterate": partial(attacks.orthogonal_pgd, steps=3, at="iterate"),
    "features": partial(attacks.feature_pgd, steps=3),
    "smooth": partial(attacks.smooth_pgd, steps=3),
    "transfer": attacks.transfer({"other": seeded(partial(Normalised, classes=3)).float()}, steps=3),
    "RayS": partial(attacks.rays, queries=30),
    "Square": partial(attacks.square, queries=30),
}


@pytest.mark.parametrize("name", QUICK)
@settings(max_examples=12)
@given(eps=st.sampled_from([0.0, 8 / 255, 0.3, 1.0]), n=st.integers(0, 4), seed=st.integers(0, 10_000))
def test_every_attack_stays_in_the_ball_and_in_the_range(name, eps, n, seed):
    model = seeded(partial(Normalised, classes=3), seed).float()
    x, y = images(n, (1, 6, 6), 3, seed)
    x = x.round() if seed % 2 else x  # pixels at the ends of the range
    x_adv = QUICK[name](model, x, y, eps=eps, seed=seed)
    assert x_adv.shape == x.shape and x_adv.dtype == x.dtype and not x_adv.requires_grad
    assert n == 0 or ((x_adv - x).abs().max() <= eps + 1e-6 and x_adv.min() >= 0 and x_adv.max() <= 1)


@pytest.mark.parametrize("name", QUICK)
def test_no_attack_changes_the_model_or_the_random_state_and_each_repeats(name):
    model = seeded(partial(Normalised, classes=3, dropout=0.5)).float().train()
    model.norm.eval()
    model.conv.weight.requires_grad_(False)
    x, y = images(6, (1, 6, 6), 3)
    model(x).sum().backward()
    state = {key: value.clone() for key, value in model.state_dict().items()}
    grads = {key: None if p.grad is None else p.grad.clone() for key, p in model.named_parameters()}
    random, kept = global_random_state(), x.clone()
    first = QUICK[name](model, x, y, eps=0.2, seed=3)
    assert global_random_state() == random and hooks(model) == 0 and torch.equal(x, kept)
    assert model.training and not model.norm.training and not model.conv.weight.requires_grad
    assert model.head.weight.requires_grad
    for key, value in model.state_dict().items():
        assert torch.equal(value, state[key])
    for key, p in model.named_parameters():
        assert (p.grad is None and grads[key] is None) or torch.equal(p.grad, grads[key])
    assert torch.equal(QUICK[name](model, x, y, eps=0.2, seed=3), first)


@pytest.mark.parametrize("name", QUICK)
def test_every_attack_refuses_images_out_of_range(name):
    x, y = images()
    with pytest.raises(ValueError, match=r"images must lie in \[0, 1\]"):
        QUICK[name](seeded(partial(Normalised, classes=3)).float(), 2 * x, y, eps=0.1)


@pytest.mark.parametrize(
    "call, message",
    [
        (partial(attacks.loss_pgd, steps=0), "steps must be a whole number of at least 1, got 0"),
        (partial(attacks.multi_targeted_pgd, restarts=0), "restarts must be"),
        (partial(attacks.multi_targeted_pgd, targets=0), "targets must be"),
        (partial(attacks.orthogonal_pgd, at="start"), "at must be one of clean, iterate; got 'start'"),
        (partial(attacks.rays, queries=0), "queries must be"),
        (partial(attacks.scaled_pgd, factors=(0.0,)), "factor must be above 0, got 0.0"),
        (partial(attacks.smooth_pgd, betas=(-1.0,)), "beta must be above 0, got -1.0"),
    ],
)
def test_bad_settings_get_one_sentence(call, message):
    x, y = images()
    with pytest.raises(ValueError, match=message):
        call(seeded(partial(Normalised, classes=3)).float(), x, y, eps=0.1)


# --- the suite ----------------------------------------------------------------------------------------------------------


def test_the_suite_holds_what_applies_to_the_model():
    x, _ = digits(2)
    net = masked_nets.plain()
    everything = suite_adaptive(net, x, substitutes={"itself": net}, guides=digits(20))
    assert {
        "PGD ce",
        "PGD margin",
        "PGD dlr",
        "PGD mse",
        "features, guided",
        "smooth surrogate",
        "transfer, itself",
    } <= set(everything)
    model, small, *_ = plane()
    assert not {"PGD dlr", "features, away", "smooth surrogate"} & set(suite_adaptive(model, small))


@pytest.mark.parametrize("model", [masked_nets.plain, masked_nets.pgd_trained, masked_nets.k_winners])
def test_the_worst_case_of_the_suite_is_never_above_plain_pgd(model):
    net, (x, y) = model(), digits(60)
    suite = suite_adaptive(net, x, training_loss="ce", steps=10, restarts=1)
    broken = {name: fooled(net, attack(net, x, y, eps=EPS, seed=0), y) for name, attack in suite.items()}
    worst = torch.stack(list(broken.values())).any(0)
    plain = fooled(net, attacks.loss_pgd(net, x, y, eps=EPS, loss="ce", steps=10, alpha=EPS / 4, keep_best=False), y)
    assert (worst >= plain).all() and worst.sum() > 0


def test_a_small_factor_gives_a_saturated_softmax_its_gradient_back():
    net, (x, y) = masked_nets.loud(), digits(60)
    plain = fooled(net, attacks.loss_pgd(net, x, y, eps=EPS, loss="ce"), y).float().mean()
    scaled = fooled(net, attacks.scaled_pgd(net, x, y, eps=EPS), y).float().mean()
    assert scaled > plain + 0.3
    assert torch.equal(ScaledLogits(net, 1e-4)(x).argmax(1), net(x).argmax(1))


def test_the_trace_holds_every_step():
    net, (x, y) = masked_nets.plain(), digits(10)
    found = trace_pgd(net, x, y, eps=EPS, steps=5, loss="ce")
    assert found.values.shape == found.fooled.shape == (6, 10)
    torch.testing.assert_close(found.values[-1], LOSSES["ce"](net(found.last), y))
    assert torch.equal(found.fooled.any(0), fooled(net, found.best, y))


def test_sign_steps_are_clipped():
    x = torch.tensor([[0.95]])
    assert sign_step(x, torch.ones(1, 1), *box(x, 0.2), 0.5).item() == 1.0


# --- substitutes --------------------------------------------------------------------------------------------------------


def test_substitutes_learn_and_leave_everything_else_alone():
    train = masked_nets.digits().train[:600]
    x, y = train.images(), train.y
    make = partial(masked_nets.small_net, nn.ReLU, hidden=32)
    model, before = masked_nets.plain(), global_random_state()
    weights = [p.clone() for p in model.parameters()]
    found = substitutes.standard_set(model, make, x, y, eps=EPS, steps=80, lr=5e-3)
    found["undefended"] = substitutes.undefended(model, x, y, steps=20)
    assert global_random_state() == before
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), weights, strict=True))
    test_x, test_y = digits(200)
    for name, network in found.items():
        assert (~fooled(network, test_x, test_y)).float().mean() > 0.75, name
        assert not network.training and all(p.grad is None for p in network.parameters())
    again = substitutes.plain(make(), x, y, steps=80, lr=5e-3)
    other = substitutes.plain(make(), x, y, steps=80, lr=5e-3)
    assert all(torch.equal(a, b) for a, b in zip(again.parameters(), other.parameters(), strict=True))


def test_substitutes_are_kept_and_read_again(tmp_path, monkeypatch):
    train, net = masked_nets.digits().train[:200], masked_nets.plain()
    made = partial(substitutes.for_data, net, "digits", eps=0.1, folder=tmp_path, steps=3)
    first = made()
    assert set(first) == {"plain", "adversarially trained", "distilled", "undefended"}
    monkeypatch.setattr(substitutes, "adversarial", None)  # would fail if it were called
    monkeypatch.setattr(substitutes, "distilled", None)
    again = made()
    for name, network in first.items():
        assert not network.training and torch.equal(network(train.images()), again[name](train.images())), name
    with pytest.raises(ValueError, match="holds results with eps = 0.1, not 0.2"):
        made(eps=0.2)


def test_a_substitute_that_diverges_says_so():
    train = masked_nets.digits().train[:50]
    with pytest.raises(ValueError, match="take a lower lr"):
        substitutes.plain(masked_nets.small_net(nn.ReLU), train.images(), train.y, steps=30, lr=1e30, loss="mse")


def digits(n):
    test = masked_nets.digits().test[:n]
    return test.images(), test.y
