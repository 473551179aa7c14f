"""What an evaluation refuses at the door: one sentence for each, and nothing is touched by the looking."""

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from defences import Linear, Masked, around_grey, labelled, small_images
from nets import Normalised, global_random_state, hooks
from torch.utils.checkpoint import checkpoint

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
    "short": (X, Y[:5], "one class index for each of 6 samples"),
    "one-hot": (X, torch.eye(10)[Y], "one class index for each"),
    "float labels": (X, Y.float(), r"whole numbers \(any integer type\), got torch.float32"),
    "negative": (X, Y - 20, "at least 0"),
    "too large": (X, Y + 20, "class indices from 0 to 9; these range from 2[0-9] to 2[0-9]"),
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
    "tuple": (Returns(lambda z: (z, z)), r"must return a tensor of logits \(N, K\), got tuple"),
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


class Does(torch.nn.Module):
    """Answers with `forward_of(self, x)`; has a normalisation, a free tensor and a count of passes, to see what is left of them."""

    def __init__(self, forward_of):
        super().__init__()
        self.forward_of, self.model, self.norm = forward_of, copy.deepcopy(MODEL), torch.nn.BatchNorm2d(3)
        self.prompt = torch.nn.Parameter(torch.zeros(1, 3, 6, 6))
        self.register_buffer("passes", torch.zeros(()))

    def forward(self, x):
        self.passes += 1
        return self.forward_of(self, x)


def minus(self, x):
    x -= 0.5
    return self.model(x)


def unseen_by_autograd(self, x):
    x.data.mul_(0.5)
    return self.model(x)


def through_numpy(self, x):
    x.numpy()[:] = 0.5
    return self.model(x)


def only_once(self, x):
    if self.passes > 1:
        raise RuntimeError("the cache is full")
    return self.model(x)


def other_classes_later(self, x):
    return self.model(x) if self.passes < 2 else self.model(x)[:, :9]


def a_pair_if_differentiated(self, x):
    return (self.model(x), x) if torch.is_grad_enabled() else self.model(x)


class NoDerivative(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.clone()


def overwritten(self, x):
    z = torch.sigmoid(self.model(x))
    y = z * 2
    z.add_(1)
    return 3 * y


ANY_NUMBER = "it must take any number of images: no batch size may be written in, and squeeze"
TRIALS = {
    "written through numpy": (through_numpy, "numpy"),
    "second pass": (only_once, "failed on a second pass over images .*: RuntimeError: the cache is full"),
    "other classes": (other_classes_later, r"answered a tensor of shape \(6, 10\) in one pass and a tensor of shape \(6, 9\) in the next"),
    "squeeze()": (lambda self, x: self.model(x).squeeze(), rf"a single image with .* \(1, 10\), but answered .* \(10,\); {ANY_NUMBER}"),
    "batch size": (lambda self, x: self.model(x).view(6, 10), f"failed on a single image, of shape .* invalid for input .*; {ANY_NUMBER}"),
    "pairs": (lambda self, x: self.model(x.view(3, 2, 3, 6, 6).flatten(0, 1)), f"failed on a single image, .*; {ANY_NUMBER}"),
    "numpy": (lambda self, x: self.model(torch.from_numpy(np.sqrt(x.numpy()))), "when a gradient .* asked for: .*; use torch's operations"),
    "reentrant": (
        lambda self, x: checkpoint(self.model, x, use_reentrant=True),
        "when a gradient .*; call torch.utils.checkpoint with use_reentrant=False",
    ),
    "overwritten": (overwritten, "when a gradient .*; make that operation out of place"),
    "no derivative": (
        lambda self, x: self.model(NoDerivative.apply(x)),
        "when a gradient .*: NotImplementedError: .*; give the model without what keeps .* differentiable stand-in",
    ),
    "a pair": (a_pair_if_differentiated, r"must return a tensor of logits \(N, K\), got tuple"),
    "free tensor": (lambda self, x: self.model(x.detach() + self.prompt), "no gradient with respect to its input"),
    "another leaf": (
        lambda self, x: self.model(x.detach() + torch.zeros_like(x, requires_grad=torch.is_grad_enabled())),
        "no gradient with respect to its input",
    ),
    "long error": (lambda self, x: fails_at_length(), "ValueError: line line .* …$"),
}  # fmt: skip


def fails_at_length():
    raise ValueError("line\n" * 500)


def state(model):
    return (
        [(name, module.training) for name, module in model.named_modules()],
        [(name, parameter.requires_grad) for name, parameter in model.named_parameters()],
        {name: value.clone() for name, value in model.state_dict().items()},
    )


def assert_untouched(model, before):
    modes, flags, tensors = state(model)
    assert (modes, flags) == before[:2] and hooks(model) == 0
    assert all(torch.equal(value, before[2][name]) for name, value in tensors.items())


@pytest.mark.parametrize("case", TRIALS)
def test_what_fails_in_a_later_trial_is_one_sentence_and_leaves_the_model_as_it_was(case):
    forward_of, said = TRIALS[case]
    model = Does(forward_of).train()
    model.norm.eval()
    model.prompt.requires_grad_(False)
    before, images = state(model), X.clone()
    with pytest.raises(preconditions.DoorError, match=said) as raised:
        evaluate(model, X, Y, eps=0.1, suites="gradient", progress=False)
    assert "\n" not in str(raised.value) and len(str(raised.value)) < 700
    assert_untouched(model, before)
    assert torch.equal(X, images)


TWINS = {
    "x -= mean": (minus, lambda self, x: self.model(x - 0.5)),
    "inplace ReLU": (lambda self, x: self.model(F.relu(x - 0.2, inplace=True)), lambda self, x: self.model(F.relu(x - 0.2))),
    "under no_grad": (unseen_by_autograd, lambda self, x: self.model(x + (0.5 * x - x).detach())),
}


@pytest.mark.parametrize("case", TWINS)
def test_a_model_that_writes_into_its_input_is_its_twin_that_does_not(case):
    images, reports = X.clone(), []
    for forward_of in TWINS[case]:
        y = Does(forward_of)(X.clone()).argmax(1)
        reports.append(evaluate(Does(forward_of), X, y, eps=0.1, suites="gradient", progress=False))
        assert torch.equal(X, images)
    assert 0 < reports[0].clean.sum() and (reports[0].robust() == reports[1].robust()).all()
    for key, outcome in reports[0].outcomes.items():
        assert (outcome.success == reports[1].outcomes[key].success).all()


def test_a_model_that_may_come_in_is_left_as_it_was_too():
    def statistics(norm, x):
        return F.batch_norm(x, norm.running_mean, norm.running_var, training=True)

    model = Does(lambda self, x: self.model(x) + 0 * statistics(self.norm, x).sum())
    before = state(model)
    assert preconditions.check_model(model, X, Y, allow_random=True) is True
    assert_untouched(model, before)


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
def test_torchscript_and_exported_programs_are_named_and_may_come_in_within_a_module():
    small = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(108, 10)).eval()
    scripted, traced = torch.jit.script(small), torch.jit.trace(small, X)
    for model in (scripted, traced):
        with pytest.raises(preconditions.DoorError, match="TorchScript module, which takes no hooks; give the module .* of your own"):
            evaluate(model, X, Y, eps=0.1, suites="gradient", progress=False)
    y, within = small(X).argmax(1), Does(lambda self, x: scripted(x))
    kept = [evaluate(model, X, y, eps=0.05, suites="gradient", progress=False).robust().tolist() for model in (small, within)]
    assert kept[0] == kept[1]
    with pytest.raises(
        preconditions.DoorError, match="cannot be given its images in slices: RuntimeError: .*; batch_size must be at least chunk"
    ):
        evaluate(within, X, y, eps=0.05, suites="gradient", batch_size=4, progress=False)
    assert len(evaluate(within, X[:4], y[:4], eps=0.05, suites="gradient", batch_size=4, progress=False).label) == 4


def test_a_module_that_knows_no_eval_mode():
    class Fixed(torch.nn.Module):
        def eval(self):
            raise NotImplementedError("Calling eval() is not supported yet.")

        def forward(self, x):
            return MODEL(x)

    with pytest.raises(preconditions.DoorError, match="cannot be put into eval mode: NotImplementedError: Calling eval.* of your own"):
        preconditions.check_model(Fixed(), X, Y)


def test_inference_mode_is_named_and_not_blamed_on_the_model():
    with torch.inference_mode():
        with pytest.raises(preconditions.DoorError, match=r"called within torch.inference_mode\(\).*Lightning.*call it outside"):
            evaluate(MODEL, X, Y, eps=0.1, suites="gradient", progress=False)
        with torch.inference_mode(False):
            assert preconditions.check_model(MODEL, X, Y) is True
        made = Normalised(channels=3)
        images = X.clone()
    assert all(parameter.requires_grad for parameter in made.parameters())
    with pytest.raises(preconditions.DoorError, match=r"tensor \S+ was made within torch.inference_mode\(\)"):
        preconditions.check_model(made, X, Y)
    assert all(parameter.requires_grad for parameter in made.parameters()), "frozen, and not set free again"
    assert preconditions.check_model(copy.deepcopy(made), images, Y) is True, "what the sentence advises"
    made = Normalised(channels=3)
    with torch.inference_mode():
        made.norm.running_mean = torch.zeros(4)
    with pytest.raises(preconditions.DoorError, match="tensor norm.running_mean was made within"):
        preconditions.check_model(made, X, Y)


class Gradient(torch.nn.Module):
    """A linear model behind a step that has no slope, a slope nowhere in most images, one too flat for float32, or NaN."""

    def __init__(self, step):
        super().__init__()
        self.step, self.linear = step, Linear((3, 6, 6), 10, dtype=torch.float32)

    def forward(self, x):
        if self.step == "rounded":
            return self.linear((x * 8).round() / 8)
        if self.step == "saturated":
            return 1e4 * self.linear(x)
        if self.step == "bright only":
            return self.linear(torch.where((x.flatten(1).amax(1) > 0.9).view(-1, 1, 1, 1), x, x.round()))
        if self.step == "root of 0":
            return self.linear(x + 1e-3 * ((x - x).square().sum((1, 2, 3), keepdim=True)).sqrt())
        return self.linear(x)


@pytest.mark.parametrize(
    ("step", "found"),
    [
        ("none", {}),
        ("rounded", {"cross-entropy": ("zero gradient", 6), "margin": ("zero gradient", 6)}),
        ("saturated", {"cross-entropy": ("zero gradient", 6)}),
        ("bright only", {"cross-entropy": ("zero gradient", 4), "margin": ("zero gradient", 4)}),
        ("root of 0", {"cross-entropy": ("undefined gradient", 6), "margin": ("undefined gradient", 6)}),
    ],
)
def test_a_real_gradient_is_taken_and_what_is_wrong_with_it_stands_in_the_report(step, found):
    model, x = Gradient(step), 0.8 * X
    x[:2, 0, 0, 0] = 0.95
    y = model(x).argmax(1)
    examined = preconditions.examine(model, x, y)
    said = {next(name for name in preconditions.CLIMBED if name in w["message"]): (w["kind"], w["times"]) for w in examined.warnings}
    assert said == found and examined.deterministic
    if step in ("rounded", "none"):
        suites = {"own": {"idle": lambda model, x, y, *, eps, seed=0: x}}
        report = evaluate(model, x, y, eps=0.1, suites=suites, progress=False)
        assert report.summary()["warnings"] == list(examined.warnings)
        assert all(w["part"] == "door" and f"for {w['times']} of 6 images" in w["message"] for w in examined.warnings)


SHARED_OUT = {
    "sum of three networks": (lambda z: z.softmax(1) + (2 * z).softmax(1) + (z / 2).softmax(1), 3),
    "per cent": (lambda z: 100 * z.softmax(1), 100),
    "votes": (lambda z: (500 * (z / 2).softmax(1)).floor() + z * 0 + one_vote(z, (500 * (z / 2).softmax(1)).floor()), 500),
    "bfloat16": (lambda z: (z / 3).to(torch.bfloat16).softmax(1), 1),
    "float16": (lambda z: (z / 3).to(torch.float16).softmax(1), 1),
}


def one_vote(z, votes):
    return torch.nn.functional.one_hot(z.argmax(1), 10) * (500 - votes.sum(1, keepdim=True))


@pytest.mark.parametrize("case", SHARED_OUT)
def test_probabilities_times_something_or_in_few_bits_are_probabilities(case):
    made, total = SHARED_OUT[case]
    x = torch.rand(200, 3, 6, 6, generator=torch.Generator().manual_seed(3))
    logits = made(MODEL(x).detach()).float()
    if case == "bfloat16":
        assert (logits.sum(1) - 1).abs().max() > 1e-3, "which is more than the rounding of float32"
    with pytest.raises(preconditions.DoorError, match=rf"returns probabilities \(each row is at least 0 and sums to {total}\)"):
        preconditions.check_logits(logits, logits.argmax(1))


def test_what_is_positive_or_constant_is_no_probability():
    y = torch.zeros(6, dtype=torch.long)
    for logits in (torch.rand(6, 10) * torch.arange(1, 7)[:, None], torch.full((6, 10), 0.2), torch.full((6, 10), 0.097)):
        preconditions.check_logits(logits, y)
