"""Labels and answers that are not what a loss per sample needs are refused in one sentence; every integer type of label is right."""

import pytest
import torch
from nets import TwoLayer, seeded, vectors
from torch import nn

from deepdefense.arguments import check_labels, positive
from deepdefense.batch_norm import mean_alignment
from deepdefense.gfa import gfa_loss, gfa_terms, layer_gradients, measure_alignment
from deepdefense.losses import LOSSES, get_loss, targeted_margin

NET, (X, Y) = seeded(TwoLayer), vectors(3)  # as many samples as classes: what broadcasts has the right shape
Z = NET(X).detach()
CALLS = {
    "gfa_loss": lambda y: gfa_loss(NET, X, y, lam=0.5),
    "gfa_terms": lambda y: gfa_terms(NET, X, y, lam=0.5, layers="deep", loss="ce").loss,
    "layer_gradients": lambda y: layer_gradients(NET, X, y)["head"][1],
    "measure_alignment": lambda y: measure_alignment(NET, X, y)["head"],
    "mean_alignment": lambda y: torch.tensor(mean_alignment(NET, X, y)["encoder.dense"]),
    **{name: lambda y, loss=loss: loss(Z, y) for name, loss in LOSSES.items()},
    "targeted_margin": lambda y: targeted_margin(Z, y, torch.zeros(3, dtype=torch.int64)),
    "target": lambda y: targeted_margin(Z, torch.zeros(3, dtype=torch.int64), y),
}
BAD = {
    "column": (Y[:, None], r"each of 3 samples, shape \(3,\), got shape \(3, 1\); take (y|target)\.squeeze\(1\)"),
    "row": (Y[None], r"got shape \(1, 3\)"),
    "one for all": (Y[:1], r"got shape \(1,\)"),
    "scalar": (Y[0], r"got shape \(\)"),
    "too few": (Y[:2], r"got shape \(2,\)"),
    "one-hot": (torch.eye(3)[Y], r"got shape \(3, 3\); if its rows are one-hot, take (y|target)\.argmax\(1\)"),
    "whole one-hot": (torch.eye(3, dtype=torch.int64)[Y], "one-hot"),
    "ignored": (torch.tensor([0, -100, 1]), "these range from -100 to 1"),
    "negative": (torch.tensor([0, -1, 1]), "these range from -1 to 1"),
    "too large": (torch.tensor([0, 3, 1]), "from 0 to 2; these range from 0 to 3"),
    "float": (Y.double(), r"whole numbers \(any integer type\), got torch.float64"),
    "bool": (Y > 0, "got torch.bool"),
    "list": (Y.tolist(), "got list"),
}


@pytest.mark.parametrize("call", list(CALLS))
def test_other_labels_are_refused_by_every_function(call):
    for name, (y, words) in BAD.items():
        with pytest.raises(ValueError, match=words) as error:
            CALLS[call](y)
        assert "\n" not in str(error.value), name


@pytest.mark.parametrize("call", list(CALLS))
def test_labels_of_every_integer_type_are_right(call):
    expected = CALLS[call](Y)
    for kind in (torch.int32, torch.int16, torch.int8, torch.uint8):
        assert torch.equal(CALLS[call](Y.to(kind)), expected), kind


def test_labels_are_checked_before_the_model_runs():
    class Never(TwoLayer):
        def forward(self, x):
            raise AssertionError("the model ran")

    for call in (lambda y: gfa_loss(seeded(Never), X, y, lam=1), lambda y: measure_alignment(seeded(Never), X, y)):
        with pytest.raises(ValueError, match="one class index"):
            call(Y[:, None])


def test_values_are_looked_at_only_where_that_is_free_unless_asked():
    assert check_labels(torch.tensor([0, 9]), 2, values=False).tolist() == [0, 9]
    with pytest.raises(ValueError, match="from 0 to 4; these range from 0 to 9"):
        check_labels(torch.tensor([0, 9]), 2, 5)
    meta = torch.zeros(2, dtype=torch.uint8, device="meta")  # a device that has no values to look at
    assert check_labels(meta, 2, 5).dtype == torch.int64


class Answers(nn.Module):
    def __init__(self, make):
        super().__init__()
        self.make, self.net = make, NET

    def forward(self, x):
        return self.make(self.net(x))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda z: (z, z), r"must return a tensor of logits \(N, K\), got tuple; wrap it"),
        (lambda z: {"logits": z}, "got dict"),
        (lambda z: z[:, :, None], r"for 3 images it gave shape \(3, 3, 1\)"),
        (lambda z: z[:, 0], r"gave shape \(3,\)"),
        (lambda z: z[:, :1], r"K at least 2: for 3 images it gave shape \(3, 1\)"),
        (lambda z: z[:2], r"gave shape \(2, 3\)"),
        (lambda z: z.argmax(1, keepdim=True).expand(-1, 3), "floating-point logits, got torch.int64"),
    ],
)
def test_an_answer_that_is_no_logits_is_named(make, words):
    net = Answers(make)
    for layers in ("first", "deep", ["net.head"]):
        for call in (
            lambda n, layers: gfa_loss(n, X, Y, lam=1, layers=layers),
            lambda n, layers: measure_alignment(n, X, Y, layers=layers),
        ):
            with pytest.raises(ValueError, match=words):
                call(net, layers)


@pytest.mark.parametrize("loss", list(LOSSES))
def test_losses_name_it_too(loss):
    for logits, words in (((Z, Z), "got tuple"), (Z[0], r"shape \(3,\)"), (Z[..., None], r"shape \(3, 3, 1\)")):
        with pytest.raises(ValueError, match=words):
            LOSSES[loss](logits, Y)


@pytest.mark.parametrize(
    ("x", "words"),
    [
        ((255 * X).byte(), "floating-point images .* got torch.uint8; divide by 255"),
        (X[:0], r"at least one image, .* got shape \(0, 5\)"),
        (X[0], r"got shape \(5,\)"),
        (X.tolist(), "x must be a torch.Tensor, got list"),
    ],
)
def test_images_that_are_none_are_named(x, words):
    for call in (lambda: gfa_loss(NET, x, Y, lam=1), lambda: measure_alignment(NET, x, Y), lambda: mean_alignment(NET, x, Y)):
        with pytest.raises(ValueError, match=words):
            call()


def test_a_loss_of_nan_has_no_alignment():
    """The gradient of a logit that is NaN may be 0 at the image; its alignment is not."""

    class Masked(TwoLayer):
        def forward(self, x):
            return super().forward(x).masked_fill(torch.tensor([[False], [True], [False]]), torch.nan)

    net = seeded(Masked)
    for loss in LOSSES:
        plain = measure_alignment(NET, X, Y, loss=loss)
        for found in (measure_alignment(net, X, Y, loss=loss), gfa_terms(net, X, Y, lam=1, layers="deep", loss=loss).alignments):
            for name, a in found.items():
                assert a.isnan().tolist() == [False, True, False] and torch.allclose(a[::2], plain[name][::2], atol=1e-12), (loss, name)
        assert all(v != v for v in mean_alignment(net, X, Y, layers="deep", loss=loss).values())
        assert gfa_loss(net, X, Y, lam=0, loss=loss).isnan()
    wild = torch.where(torch.arange(3)[:, None] == 1, torch.inf, X)
    assert measure_alignment(NET, wild, Y)["encoder.dense"].isnan().tolist() == [False, True, False]


@pytest.mark.parametrize("name", [["mse"], None, 3, {"mse": 1}, "hinge"])
def test_a_loss_that_is_none(name):
    with pytest.raises(ValueError, match="loss must be one of mse, ce, margin, dlr; got"):
        get_loss(name)


@pytest.mark.parametrize("given", ["0.1", None, [0.1], torch.tensor([0.1, 0.2]), 0, -1.0, float("nan")])
def test_what_is_not_above_zero(given):
    with pytest.raises(ValueError, match="alpha must be above 0, got"):
        positive(alpha=given)


@pytest.mark.parametrize("loss", LOSSES)
def test_sparse_logits_are_refused_in_a_sentence(loss):
    with pytest.raises(ValueError, match=r"must return dense logits, got torch.sparse_coo; end its forward with .to_dense\(\)"):
        LOSSES[loss](Z.to_sparse(), Y)
