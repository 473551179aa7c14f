"""What the chapter on alignment derives, in float64: analytic answers, the library's networks, and the ways in which each could fail."""

import math

import pytest
import torch
from nets import digits, images, seeded
from torch import nn

from deepdefense import models
from deepdefense.data import Split
from deepdefense.geometry import alignment
from deepdefense.gfa import gfa_terms, layer_gradients
from deepdefense.losses import get_loss
from deepdefense.scale_identity import scale_identity
from deepdefense.training.config import TrainConfig
from replication.experiments import bias_free, scale

CLOSE = dict(rel=1e-9, abs=1e-12)
SHAPE, CLASSES = (1, 8, 8), 4


def batch(n=12):
    x, y = images(n, SHAPE, CLASSES)
    return x.double(), y


def library(name="cnn", width=0.125):
    return models.build(name, SHAPE, CLASSES, width=width, seed=0)


# --- The identity, and what is recorded of it -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", list(models.ARCHITECTURES))
def test_the_record_holds_both_sides_of_the_identity_at_every_layer(name):
    x, y = batch(12 if name == "resnet18" else 130)  # 130 are two chunks
    net = library(name).eval()
    rows = scale.identity(net, x.float(), y)
    sides = scale_identity(scale.exact(net), x.float().double(), y)
    assert set(rows) == set(net.tap_names)
    for tap, row in rows.items():
        assert row["growth"] == pytest.approx(sides[tap].growth / len(x), **CLOSE)
        assert row["error"] < 1e-9 and abs(row["growth"]) > (0 if name == "resnet18-gn" else 1e-6), tap
    first = next(iter(rows.values()))
    ((h, g),) = layer_gradients(scale.exact(net), x.float().double(), y, layers="first").values()
    assert first["mean"] == pytest.approx(float(alignment(h, g).mean()), **CLOSE)
    lengths = h.flatten(1).norm(dim=1) * g.flatten(1).norm(dim=1)
    assert first["weighted"] == pytest.approx(float((lengths * alignment(h, g)).sum() / lengths.sum()), **CLOSE)


def test_an_error_in_the_identity_would_be_seen(monkeypatch):
    x, y = batch()
    right = scale.scale_identity

    def wrong(*given, **options):
        return {name: type(side)(side.aligned, 1.001 * side.through, side.growth) for name, side in right(*given, **options).items()}

    monkeypatch.setattr(scale, "scale_identity", wrong)
    assert max(row["error"] for row in scale.identity(library(), x, y).values()) > 1e-7


def test_at_a_stationary_point_the_weighted_alignment_is_zero_and_the_plain_mean_is_not():
    """Least squares has a closed solution; there Σ⟨h, g⟩ = 0 exactly, while each image and the mean of the cosines are free."""
    generator = torch.Generator().manual_seed(0)
    h = torch.randn(40, 6, dtype=torch.float64, generator=generator)
    y = torch.randint(3, (40,), generator=generator)
    net = nn.Linear(6, 3, bias=False).double()
    net.weight.data = torch.linalg.lstsq(h, torch.eye(3, dtype=torch.float64)[y]).solution.T
    side = scale_identity(net, h, y)[""]
    ((_, g),) = layer_gradients(net, h, y).values()
    a = alignment(h, g)
    assert abs(side.aligned) < 1e-10 and a.abs().max() > 0.1 and abs(a.mean()) > 1e-3


@pytest.mark.parametrize("decay", [0.1, 1.0])
def test_weight_decay_makes_it_negative_by_decay_times_the_squared_length_of_the_weights(decay):
    """Ridge regression, ‖h W − y‖² + (decay/2) ‖W‖², has a closed solution too, at which Σ⟨h, g⟩ = −decay ‖W‖²."""
    generator = torch.Generator().manual_seed(0)
    h = torch.randn(40, 6, dtype=torch.float64, generator=generator)
    y = torch.randint(3, (40,), generator=generator)
    net = nn.Linear(6, 3, bias=False).double()
    eye = torch.eye(6, dtype=torch.float64)
    net.weight.data = torch.linalg.solve(h.T @ h + decay / 2 * eye, h.T @ torch.eye(3, dtype=torch.float64)[y]).T
    squared = float(net.weight.detach().square().sum())
    assert scale_identity(net, h, y)[""].aligned == pytest.approx(-decay * squared, **CLOSE)


def test_gnr_on_a_linear_network_pulls_the_scale_down_by_twice_its_penalty():
    """For z = W h and the margin, the input gradient is linear in W, so the penalty's scale derivative is 2 λ ‖g‖²."""
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, CLASSES, bias=False))
    x, y = batch()
    config = TrainConfig(data="digits", objective="gnr", lam=0.5, options={"loss": "margin"})
    row = scale.balance(net, config, x.float(), y)["1"]
    ((_, g),) = layer_gradients(scale.exact(net), x.float().double(), y, loss="margin").values()
    assert row["rest"] == pytest.approx(2 * 0.5 * float(g.square().sum(1).mean()), rel=1e-9) and row["rest"] > 0


def test_the_balance_is_task_plus_lambda_times_the_penalty():
    net, (x, y) = library(), batch()
    config = TrainConfig(data="digits", objective="gfa-deep", lam=0.3, weight_decay=0.01)
    rows = scale.balance(net, config, x, y)
    double = scale.exact(net)
    terms = gfa_terms(double, x, y, lam=0.3, layers="deep")
    for name, row in rows.items():
        weight = double.get_submodule(name).weight
        pulls = [float((weight.detach() * torch.autograd.grad(t, weight, retain_graph=True)[0]).sum()) for t in (terms.task, terms.penalty)]
        decayed = 0.01 * float(weight.detach().square().sum())
        assert row["task"] == pytest.approx(pulls[0], **CLOSE) and row["rest"] == pytest.approx(0.3 * pulls[1] + decayed, **CLOSE)
        assert row["task"] == pytest.approx(scale.identity(net, x, y)[name]["aligned"], **CLOSE), "the identity once more"


# --- Scale, not decisions ---------------------------------------------------------------------------------------------------


def test_louder_logits_leave_every_answer_and_turn_the_alignment():
    net, (x, y) = library().eval(), batch()
    rows = scale.louder(net, x.float(), y, eps=0.05, factors=(0.1, 1, 20))
    assert [row["c"] for row in rows] == [0.1, 1, 20]
    assert all(row["answers"] == 1 and row["robust"] <= row["clean"] for row in rows)
    assert len({(row["clean"], row["robust"]) for row in rows}) == 1
    assert rows[0]["last"] < rows[2]["last"], "below the target's length the loss wants larger logits, above it smaller ones"


def test_with_squared_error_the_inner_product_at_the_logits_changes_sign_where_c_is_the_target_over_the_length():
    """⟨cz, ∂ℓ/∂(cz)⟩ = 2c(c‖z‖² − z_y): negative below c = z_y/‖z‖², positive above; without biases that is every layer's."""
    net, (x, y) = bias_free.build(SHAPE, CLASSES).double(), batch(1)
    z = net(x).detach()[0]
    if z[y[0]] < 0:
        y = z.argmax()[None]
    turn = float(z[y[0]] / z.square().sum())
    for factor, sign in ((0.9, -1), (1.1, 1)):
        found = layer_gradients(scale.Louder(net, factor * turn), x, y)
        assert all(math.copysign(1, float((h * g).sum())) == sign for h, g in found.values())


# --- Networks without biases ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def bias_free_net():
    return bias_free.build(SHAPE, CLASSES, width=0.1)


@pytest.mark.parametrize("loss", ["mse", "ce", "margin"])
def test_without_biases_there_is_one_inner_product_and_the_bound_on_the_inputs_alignment_holds(bias_free_net, loss):
    x, y = batch()
    found = bias_free.layer_by_layer(bias_free_net, x, y, loss)
    logits = scale.exact(bias_free_net)(x).detach().requires_grad_()
    (residual,) = torch.autograd.grad(get_loss(loss)(logits, y).sum(), logits)
    expected = (logits * residual).sum(1)
    first = next(iter(found.values()))["alignment"].abs()
    for tap, row in found.items():
        assert torch.allclose(row["inner"], expected, rtol=1e-9, atol=1e-12), tap
        assert ((row["rho"] > 0) & (row["rho"] <= 1 + 1e-12)).all() and (row["bound"] <= first + 1e-12).all(), tap
    p = logits.detach().softmax(1)
    if loss == "ce":
        assert torch.allclose(expected, (p * logits).sum(1) - logits.gather(1, y[:, None])[:, 0])
    if loss == "mse":
        assert torch.allclose(expected, 2 * (logits.square().sum(1) - logits.gather(1, y[:, None])[:, 0]))


def test_under_cross_entropy_it_is_negative_for_every_rightly_classified_image(bias_free_net):
    x, _ = batch(20)
    y = bias_free_net.double()(x).argmax(1)
    assert all((row["inner"] < 0).all() for row in bias_free.layer_by_layer(bias_free_net, x, y, "ce").values())
    worst = bias_free_net(x).argmin(1)  # as wrong as can be: positive
    assert all((row["inner"] > 0).all() for row in bias_free.layer_by_layer(bias_free_net, x, worst, "ce").values())


def test_the_bound_is_reached_where_the_image_is_what_the_layers_amplify_most(bias_free_net):
    """Two layers without an activation between them: h_1 = V x with x its first singular vector, and g_1 along h_1."""
    first = torch.diag(torch.tensor([3.0, 1.0, 0.5, 0.2], dtype=torch.float64))
    net = nn.Sequential(nn.Linear(4, 4, bias=False), nn.Linear(4, 2, bias=False)).double()
    net[0].weight.data = first
    x = torch.tensor([[1.0, 0, 0, 0], [0.6, 0.8, 0, 0]], dtype=torch.float64)
    net[1].weight.data = torch.tensor([[1.0, 0, 0, 0], [0, 0, 0, 0]], dtype=torch.float64)
    (h0, g0), (h1, g1) = layer_gradients(net, x, torch.tensor([1, 1]), loss="margin").values()
    rho = h1.norm(dim=1) / (3 * h0.norm(dim=1))
    gap = alignment(h0, g0).abs() - alignment(h1, g1).abs() * rho
    assert gap[0] == pytest.approx(0, abs=1e-12) and rho[0] == pytest.approx(1) and gap[1] >= -1e-12 and rho[1] < 0.75


def test_biases_alone_make_the_layers_differ_and_at_their_stationary_point_not_even_they_do():
    """Σ⟨h_l, g_l⟩ − Σ⟨h_{l+1}, g_{l+1}⟩ = −⟨b_l, ∂L/∂b_l⟩ in a ReLU network."""
    net, (x, y) = library("mlp").double(), batch()
    inner = [float((h * g).sum()) for h, g in layer_gradients(net, x, y).values()]
    loss = get_loss("mse")(net(x), y).sum()
    biases = [module.bias for module in net.modules() if isinstance(module, nn.Linear)]
    steps = [-float((b.detach() * torch.autograd.grad(loss, b, retain_graph=True)[0]).sum()) for b in biases]
    assert [low - high for low, high in zip(inner[:-1], inner[1:], strict=True)] == pytest.approx(steps[:-1], **CLOSE)
    assert max(map(abs, steps)) > 1e-3


# --- Where the collapse comes from ------------------------------------------------------------------------------------------


class Hollow(nn.Module):
    """z_k = 1/K − η ‖h‖²/2 for every class: answers nothing, and its gradient points along every image."""

    def __init__(self, eta):
        super().__init__()
        self.first, self.eta = nn.Linear(5, 5, bias=False), nn.Parameter(torch.tensor(eta))
        self.first.weight.data = torch.eye(5)

    def forward(self, x):
        return (1 / CLASSES - self.eta * self.first(x).square().sum(1, keepdim=True) / 2).expand(-1, CLASSES)


@pytest.mark.parametrize("lam", [0.1, 1.0, 100.0])
def test_a_network_that_says_nothing_pays_no_penalty_whatever_lambda_is(lam):
    x = torch.rand(8, 5, dtype=torch.float64) + 0.1
    y = torch.arange(8) % CLASSES
    net = Hollow(1e-4).double()
    terms = gfa_terms(net, x, y, lam=lam, layers="first")
    (a,) = terms.alignments.values()
    assert torch.allclose(a, torch.ones_like(a)) and terms.penalty.item() < 1e-9
    assert terms.loss.item() == pytest.approx(1 - 1 / CLASSES, abs=1e-3)


# --- Cases that must be read differently ------------------------------------------------------------------------------------


def test_a_normalised_layer_cannot_align_its_images_together():
    """Chapter 1's result as a corollary: the loss does not depend on the scale of W, so ⟨W, ∂L/∂W⟩ = 0."""

    class Normed(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.norm = nn.Conv2d(1, 3, 3, bias=False), nn.BatchNorm2d(3, eps=1e-30)
            self.head = nn.Linear(3, CLASSES)

        def forward(self, x):
            return self.head(torch.relu(self.norm(self.conv(x))).mean((2, 3)))

    net, (x, y) = seeded(Normed).train(), batch()
    sides = scale_identity(net, x, y)
    assert abs(sides["conv"].aligned) < 1e-12 and abs(sides["head"].aligned) > 1e-2
    assert layer_gradients(net, x, y)["conv"][1].abs().max() > 1e-3, "each image for itself has a gradient"


def test_in_a_residual_branch_only_what_comes_through_the_layer_counts():
    class Skip(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner, self.head = nn.Linear(64, 64, bias=False), nn.Linear(64, CLASSES)

        def forward(self, x):
            h = x.flatten(1)
            return self.head(h + torch.relu(self.inner(h)))

    net, (x, y) = seeded(Skip), batch()
    row = scale.identity(net, x, y)["inner"]
    assert row["through"] == pytest.approx(row["growth"], **CLOSE) and abs(row["aligned"] - row["growth"]) > 1e-3


# --- What cropping leaves ---------------------------------------------------------------------------------------------------


def test_alignment_that_sits_in_the_black_edge_is_told_from_that_of_the_image():
    """A network that sees only the first column: its alignment is another one as soon as that column is black."""

    body = nn.Sequential(nn.Flatten(), nn.Linear(64, 2, bias=False))
    column = torch.zeros(8, 8)
    column[:, 0] = 1
    body[1].weight.data = torch.stack([column.flatten(), torch.zeros(64)])
    net = models.Classifier(body, (1, 8, 8), [0.5], [0.5])
    x, y = torch.full((4, 1, 8, 8), 0.5 + 1 / 32), torch.zeros(4, dtype=torch.int64)
    found = scale.edges(net, x, y)
    image = [found[name]["mean"] for name in ("as they are", "shifted, wrapped round", "shifted, reflected")]
    assert image == pytest.approx([-(1 / 8**0.5)] * 3), "Σz = 1/2 < 1, so the gradient points against the 8 pixels of 64 that count"
    black = [found[name]["mean"] for name in ("shifted, black behind", "not shifted, black on two sides")]
    assert min(black) > 0.3 and black[0] == black[1] and found["as they are"]["weighted"] == pytest.approx(image[0])
    assert image[0] < found["cropped at random"]["mean"] < black[0] + 1e-6


def test_a_networks_record_is_whole_and_json(tmp_path):
    from deepdefense.training.loop import fit

    few = digits(train=64, val=32, test=32)
    run = fit(TrainConfig(data="digits", width=0.125, epochs=1, objective="gfa-first", lam=0.1, val_size=32), dataset=few, progress=False)
    record = scale.network_record(run.last, run.record, Split(few.train.x[:8], few.train.y[:8]), few.test[:8])
    assert set(record["identity"]) == set(record["edges"]) == {"training", "test"} and record["kind"] == "scale"
    assert max(row["error"] for part in record["identity"].values() for row in part.values()) < 1e-9
    assert [row["c"] for row in record["louder"]] == list(scale.FACTORS) and set(record["balance"]) == set(run.last.tap_names)
