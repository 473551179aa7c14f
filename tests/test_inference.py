"""How a model is run: what counts as an answer, and a model that cannot reach the caller's memory."""

import copy
import math

import numpy as np
import pytest
import torch
from nets import Normalised, hooks, images
from torch import nn

from deepdefense.evaluation.sliced_model import Sliced
from deepdefense.inference import answers, frozen, predict, private, wrong
from deepdefense.training.validation import accuracy

NAN, INF = math.nan, math.inf


@pytest.mark.parametrize(
    ("logits", "answer"),
    [
        ([1.0, 3, 2], 1),
        ([2.0, 2, 1], 0),  # of equals the first, as argmax
        ([0.0, 0, 0], 0),
        ([-INF, -5, -7], 1),  # classes that are ruled out
        ([0.0, -INF, 1], 2),
        ([0.0, INF, 1], 1),
        ([NAN, 1, 2], -1),
        ([1, 2, NAN], -1),
        ([NAN, NAN, NAN], -1),
        ([NAN, INF, 0], -1),
        ([INF, INF, 0], -1),
        ([0, INF, INF], -1),
        ([-INF, -INF, -INF], -1),
    ],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_what_counts_as_an_answer(logits, answer, dtype):
    rows = torch.tensor([[0.0, 1, 0], logits], dtype=dtype)
    assert answers(rows).tolist() == [1, answer]
    for y in range(3):
        assert wrong(rows, torch.tensor([1, y])).tolist() == [False, y != answer]


def test_an_answer_is_the_argmax_wherever_the_logits_are_finite():
    logits = torch.randint(-2, 3, (1000, 4), generator=torch.Generator().manual_seed(0)).float()
    assert torch.equal(answers(logits), logits.argmax(1))


class Undefined(nn.Module):
    """NaN for the images whose first pixel is above a half."""

    def forward(self, x):
        return x.flatten(1)[:, 1:4].masked_fill(x.flatten(1)[:, :1] > 0.5, NAN)


def test_no_answer_is_minus_one_and_never_right():
    class Split:
        def __init__(self, x, y):
            self.x, self.y = x, y

        def images(self):
            return self.x

    x, _ = images(40)
    silent = x.flatten(1)[:, 0] > 0.5
    prediction = predict(Undefined(), x, batch_size=7)
    assert 0 < silent.sum() < 40 and torch.equal(prediction == -1, silent)
    for y in (prediction.clamp(min=0), torch.zeros(40).long()):
        right = ((x.flatten(1)[:, 1:4].argmax(1) == y) & ~silent).float().mean().item()
        assert accuracy(Undefined(), Split(x, y)) == right


def multiplies(x):
    with torch.no_grad():
        x.mul_(2).round_().div_(2)
    return x


def through_data(x):
    x.data.copy_((x.data * 2).round() / 2)
    return x


def through_numpy(x):
    x.detach().numpy()[:] = (x.detach() * 2).round().numpy() / 2
    return x


def clamps(x):
    return x.clamp_(0.2, 0.8)


def normalises(x):
    return x.sub_(0.5).div_(0.25)


WRITES = {"mul_": multiplies, ".data": through_data, "numpy": through_numpy, "clamp_": clamps, "sub_": normalises}
ON_COPIES = {
    **dict.fromkeys(["mul_", ".data", "numpy"], lambda x: x + ((x * 2).round() / 2 - x).detach()),
    "clamp_": lambda x: x.clamp(0.2, 0.8),
    "sub_": lambda x: (x - 0.5) / 0.25,
}


class Prepares(nn.Module):
    """A network behind what `prepare` does to the images."""

    def __init__(self, prepare, channels=1, classes=3):
        super().__init__()
        self.net, self.prepare = Normalised(channels, classes), prepare

    def forward(self, x):
        return self.net(self.prepare(x))


def pair(name, **options):
    """(a model that writes into its input, the same that does not)"""
    writes = Prepares(WRITES[name], **options).eval()
    honest = copy.deepcopy(writes)
    honest.prepare = ON_COPIES[name]
    return writes, honest


@pytest.mark.parametrize("name", WRITES)
@pytest.mark.parametrize("cut", [1, 4, 6])
def test_a_model_that_writes_into_its_input_is_the_one_that_does_not(name, cut):
    (writes, honest), (x, y) = pair(name), images(6)
    before, seen = x.clone(), Sliced(writes, cut)
    with frozen(seen):
        logits = seen(x)
        assert torch.allclose(logits, honest(x), atol=1e-6) and torch.equal(seen(x), logits)
    assert torch.equal(predict(seen, x), honest(x).argmax(1))
    leaf = x.clone().requires_grad_()
    with frozen(seen):
        loss = nn.functional.cross_entropy(seen(leaf), y, reduction="sum")
        (gradient,) = torch.autograd.grad(loss, leaf)
    assert torch.equal(leaf, before) and torch.equal(x, before)
    other = x.clone().requires_grad_()
    (expected,) = torch.autograd.grad(nn.functional.cross_entropy(honest(other), y, reduction="sum"), other)
    assert torch.allclose(gradient, expected, atol=1e-6)


def test_an_honest_model_is_the_same_to_the_bit():
    net, (x, y) = Normalised(classes=3).eval(), images(6)
    plain, guarded = x.clone().requires_grad_(), x.clone().requires_grad_()
    nn.functional.cross_entropy(net(plain), y).backward()
    with private(net) as same, private(net):
        assert same is net and torch.equal(net(x=x), net(x)) and hooks(net) == 2, "nested, it copies once"
        nn.functional.cross_entropy(net(guarded), y).backward()
    assert torch.equal(plain.grad, guarded.grad) and hooks(net) == 0


def test_an_answer_outlives_the_next():
    class Reuses(nn.Module):
        """Answers into the same memory each time, as a recorded CUDA graph does."""

        def __init__(self):
            super().__init__()
            self.register_buffer("out", torch.zeros(2, 4))

        def forward(self, x):
            return self.out.copy_(x.flatten(1)[:, :4])

    x = images(6, (1, 2, 2))[0]
    assert torch.equal(predict(Reuses(), x, batch_size=2), x.flatten(1).argmax(1))
    with frozen(net := Reuses()):
        first = net(x[:2])
        net(x[2:4])
    assert torch.equal(first, x[:2].flatten(1))


@pytest.mark.filterwarnings("ignore:`torch.jit")
@pytest.mark.parametrize("make", ["script", "trace", "compile"])
def test_models_that_are_no_plain_modules(make):
    class Clamps(nn.Module):
        def __init__(self):
            super().__init__()
            self.head = nn.Linear(36, 3)

        def forward(self, x):
            return self.head(x.clamp_(0.4, 0.6).flatten(1))

    plain, (x, _) = Clamps(), images(6)
    expected = plain(x.clone())
    makers = {
        "script": torch.jit.script,
        "trace": lambda net: torch.jit.trace(net, x.clone()),
        "compile": lambda net: torch.compile(net, backend="eager"),
    }
    net, before = makers[make](plain), x.clone()
    with frozen(net), torch.no_grad():
        assert torch.equal(net(x), expected) and torch.equal(net(x), expected)
    assert torch.equal(x, before) and torch.equal(predict(net, x), expected.argmax(1)) and torch.equal(x, before)


@pytest.mark.parametrize("images_in", [torch.float32, torch.float64])
@pytest.mark.parametrize("logits_in", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
def test_logits_come_in_full_precision(images_in, logits_in):
    class Cast(nn.Module):
        def forward(self, x):
            return x.flatten(1).to(logits_in)

    x = images()[0].to(images_in)
    with private(net := Cast()):
        logits = net(x)
    both_double = images_in == logits_in == torch.float64
    assert logits.dtype == (torch.float64 if both_double else torch.float32)
    assert torch.equal(logits, x.flatten(1).to(logits_in).to(logits.dtype))


def test_what_is_no_tensor_is_handed_out_as_it_is():
    class Tuple(nn.Module):
        def forward(self, x):
            return x.sum(), {"logits": x}

    with private(net := Tuple()):
        total, found = net(images()[0])
    assert total.dim() == 0 and found["logits"].shape == (6, 1, 6, 6)


def test_a_feature_attack_may_still_listen_to_a_model_in_slices_that_is_frozen():
    net, (x, _) = Normalised(classes=3).eval(), images(6)
    seen = Sliced(net, 2)
    with frozen(net), torch.no_grad():
        assert torch.equal(seen(x), torch.cat([net(part) for part in x.split(2)]))
        handle = net.head.register_forward_hook(lambda *_: None)
        with pytest.raises(RuntimeError, match="batch_size must be at least 6"):
            seen(x)
        handle.remove()


def test_a_batch_size_of_any_kind():
    model, x = nn.Sequential(nn.Flatten(), nn.Linear(4, 3)), torch.rand(5, 1, 2, 2)
    assert torch.equal(predict(model, x, np.int64(2)), predict(model, x))
    with pytest.raises(ValueError, match="batch_size must be a whole number of at least 1; got 0"):
        predict(model, x, 0)
