"""What an evaluation refuses at the door: one sentence for each, and nothing is touched by the looking."""

import pytest
import torch
from defences import Linear, Masked, around_grey, labelled, small_images
from nets import Normalised, global_random_state, hooks

from deepdefense import attacks, evaluate
from deepdefense.evaluation import preconditions

MODEL, X, Y = small_images(6)

IMAGES = {
    "array": (X.numpy(), Y, "x must be a torch.Tensor, got ndarray"),
    "vectors": (X.flatten(1), Y, r"images \(N, C, H, W\), got shape \(6, 108\)"),
    "bytes": ((X * 255).byte(), Y, "got torch.uint8; divide by 255"),
    "half": (X.half(), Y, "float32 or float64"),
    "none": (X[:0], Y[:0], "there are no images"),
    "grey levels": (
        X * 255,
        Y,
        r"must lie in \[0, 1\]; these range from .* Put scaling and normalisation inside the model",
    ),
    "symmetric": (2 * X - 1, Y, r"must lie in \[0, 1\]"),
    "NaN": (torch.where(X > 0.99, torch.nan, X), Y, "x holds NaN"),
    "short": (X, Y[:5], "one label for each of the 6 images"),
    "one-hot": (X, torch.eye(10)[Y], "one label for each"),
    "float labels": (X, Y.float(), "whole numbers, got torch.float32"),
    "negative": (X, Y - 20, "at least 0"),
    "too large": (X, Y + 20, "the model has 10, the largest label is"),
}


class Returns(torch.nn.Module):
    """Answers with what `make` makes of the logits."""

    def __init__(self, make):
        super().__init__()
        self.make, self.model = make, MODEL

    def forward(self, x):
        return self.make(self.model(x))


def fails(z):
    raise RuntimeError("expected scalar type Half")


MODELS = {
    "function": (MODEL.forward, "model must be a torch.nn.Module, got method"),
    "raises": (
        Returns(fails),
        r"failed on images of shape \(6, 3, 6, 6\) and type torch.float32: RuntimeError: expected scalar",
    ),
    "tuple": (Returns(lambda z: (z, z)), "must return a tensor of logits, got tuple"),
    "scores": (
        Returns(lambda z: z[:, 0]),
        r"must return logits \(N, K\) with K at least 2: for 6 images it gave shape \(6,\)",
    ),
    "one image": (Returns(lambda z: z[:1]), r"gave shape \(1, 10\)"),
    "classes": (Returns(lambda z: (z > 0).long()), "floating-point logits, got torch.int64"),
    "probabilities": (
        Masked(MODEL, "probabilities"),
        "returns probabilities .* attacks need the logits before the softmax",
    ),
    "NaN": (Masked(MODEL, "nan"), "NaN or infinite for [1-6] of 6 clean images"),
    "noise": (Masked(MODEL, "noise"), "not deterministic: two passes .* allow_random=True"),
    "batch": (Masked(MODEL, "batch"), "depends on the other images of its batch"),
    "detached": (Masked(MODEL, "detached"), "no gradient with respect to its input"),
}


@pytest.mark.parametrize("case", IMAGES)
def test_images_refused(case):
    x, y, said = IMAGES[case]
    with pytest.raises(preconditions.DoorError, match=said) as raised:
        evaluate(MODEL, x, y, eps=0.1, suites="standard", progress=False)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("case", MODELS)
def test_models_refused(case):
    model, said = MODELS[case]
    x = X.clone()
    x[:, 0, 0, 0] = 0.98  # bright enough for "NaN"
    before = global_random_state()
    with pytest.raises(preconditions.DoorError, match=said):
        evaluate(model, x, Y, eps=0.1, suites="standard", progress=False)
    assert before == global_random_state()


def test_nan_far_down_the_list_is_found():
    x = 0.9 * torch.rand(150, 3, 6, 6, generator=torch.Generator().manual_seed(0))
    x[140, 0, 0, 0] = 0.98
    with pytest.raises(preconditions.DoorError, match="NaN or infinite for 1 of 150"):
        evaluate(Masked(MODEL, "nan"), x, torch.zeros(150, dtype=torch.long), eps=0.1, suites="standard", progress=False)


def test_a_model_that_mixes_its_batch_may_be_given_single_images():
    mixing = Masked(MODEL, "batch")
    report = evaluate(mixing, X, Y, eps=0.1, suites={"own": {"FGSM": attacks.fgsm}}, batch_size=1, progress=False)
    with torch.no_grad():
        alone = torch.cat([mixing(image[None]) for image in X]).argmax(1)
    assert report.prediction.tolist() == alone.tolist()


def test_random_models_come_in_by_a_keyword():
    noisy = Masked(MODEL, "noise")
    assert preconditions.check_model(noisy, X, Y, allow_random=True) is False
    assert preconditions.check_model(MODEL, X, Y) is True


def test_dropout_is_no_randomness_in_eval_mode_and_modes_come_back():
    model = Normalised(channels=3, dropout=0.5).train()
    model.norm.eval()
    assert preconditions.check_model(model, X, Y) is True
    assert model.training and model.drop.training and not model.norm.training and hooks(model) == 0
    assert all(parameter.requires_grad for parameter in model.parameters())


@pytest.mark.parametrize("scale", [1e-4, 1, 1e6])
def test_scaled_logits_pass(scale):
    model = Linear()
    with torch.no_grad():
        model.W *= scale
        model.b *= scale
    x, y = labelled(model, around_grey())
    assert preconditions.check_model(model, x, y) is True


def test_log_probabilities_are_logits():
    assert preconditions.check_model(Returns(lambda z: z.log_softmax(1)), X, Y) is True
