"""What GFA makes of a model that writes into its images, of numbers in other formats, and of what torch differentiates only once."""

import subprocess
import sys
from fractions import Fraction

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from nets import TwoLayer, hooks, images, seeded, vectors
from torch import nn

from deepdefense import taps
from deepdefense.batch_norm import mean_alignment
from deepdefense.gfa import gfa_loss, gfa_terms, measure_alignment

X, Y = images(5, (1, 6, 6))
X = X.double()


def core(layer=nn.Softplus):
    return seeded(lambda: nn.Sequential(nn.Flatten(), nn.Linear(36, 9), layer(), nn.Linear(9, 3))).eval()


class OwnLinear(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(3, 36))

    def forward(self, x):
        return F.softplus(x.flatten(1)) @ self.weight.T


class Prepared(nn.Module):
    """`prepare`, which returns the images that `net` sees."""

    def __init__(self, prepare, net):
        super().__init__()
        self.prepare, self.net = prepare, net

    def forward(self, x):
        return self.net(self.prepare(x))


def quantise_in_place(x):
    with torch.no_grad():
        x.mul_(2).round_().div_(2)
    return x


def copied_over(x):
    with torch.no_grad():
        x.copy_((x * 2).round() / 2)
    return x


def through_data(x):
    x.data.mul_(2).round_().div_(2)
    return x


def clamped(x):
    return x.clamp_(0.2, 0.8)


def normalised_in_place(x):
    x -= 0.5
    x /= 0.25
    return x


def through_numpy(x):
    x.detach().numpy()[:] = (x.detach().numpy() * 2).round() / 2
    return x


WRITERS = {
    quantise_in_place: lambda x: x + ((x * 2).round() / 2 - x).detach(),
    copied_over: lambda x: x + ((x * 2).round() / 2 - x).detach(),
    through_data: lambda x: x + ((x * 2).round() / 2 - x).detach(),
    through_numpy: lambda x: x + ((x * 2).round() / 2 - x).detach(),
    clamped: lambda x: x.clamp(0.2, 0.8),
    normalised_in_place: lambda x: (x - 0.5) / 0.25,
}


@pytest.mark.parametrize("net", [core, lambda: seeded(OwnLinear)])
@pytest.mark.parametrize("writes", list(WRITERS), ids=lambda f: f.__name__)
def test_a_model_that_writes_into_its_images_is_measured_as_one_that_does_not(writes, net):
    net = net()
    writer, twin = Prepared(writes, net), Prepared(WRITERS[writes], net)
    own = X.clone()
    calls = {
        "loss": lambda model, x: gfa_loss(model, x, Y, lam=0.7),
        "terms": lambda model, x: next(iter(gfa_terms(model, x, Y, lam=0.7, loss="ce").alignments.values())),
        "measure": lambda model, x: next(iter(measure_alignment(model, x, Y, layers="first", batch_size=2).values())),
        "mean": lambda model, x: torch.tensor(next(iter(mean_alignment(model, x, Y).values()))),
        "with a gradient": lambda model, x: gfa_loss(model, x.clone().requires_grad_() * 1, Y, lam=0.7),
    }
    for name, call in calls.items():
        found = call(writer, own)
        assert torch.equal(own, X), f"{name}: the caller's images changed"
        assert torch.allclose(found, call(twin, X.clone()), atol=1e-12), name
    a, b = (torch.autograd.grad(gfa_loss(model, own, Y, lam=0.7), list(net.parameters())) for model in (writer, twin))
    assert all(torch.allclose(p, q, atol=1e-12) for p, q in zip(a, b, strict=True)) and torch.equal(own, X)


def test_images_that_are_overwritten_after_they_were_used_are_refused():
    class After(OwnLinear):
        def forward(self, x):
            z = F.linear(x.flatten(1), self.weight)
            with torch.no_grad():
                x.zero_()
            return z

    with pytest.raises(ValueError, match="changed in place later on"):
        measure_alignment(seeded(After), X, Y, layers="first")
    both = Prepared(lambda x: (x * 3).flatten(1) + x.add_(1).flatten(1), nn.Sequential(nn.Linear(36, 3)).double())
    with pytest.raises(ValueError, match="changes its image in place and uses it unchanged too"):
        measure_alignment(both, X, Y, layers="first")


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("loss", ["mse", "ce", "margin"])
def test_every_float_format_gives_the_alignment_of_float64_to_its_precision(dtype, loss):
    """The weights are rounded first, so that all that is left is arithmetic; whole model, weights alone, logits alone."""
    net = core().to(dtype)
    x = X.to(dtype)
    exact = core().to(dtype).double()
    expected = gfa_terms(exact, x.double(), Y, lam=0.5, layers="deep", loss=loss)
    gradients = torch.autograd.grad(expected.loss, list(exact.parameters()))
    tolerance = 4 * torch.finfo(dtype).eps ** (1 if dtype.itemsize > 2 else 0.9)
    casting, answering = Prepared(lambda v: v.to(dtype), net), nn.Sequential(exact, Cast(dtype))
    for model, given in ((net, x), (casting, x.float()), (answering, x.double())):
        terms = gfa_terms(model, given, Y, lam=0.5, layers="deep", loss=loss)
        assert terms.task.dtype == torch.promote_types(dtype, torch.float32)
        assert terms.loss.item() == pytest.approx(expected.loss.item(), rel=5 * tolerance)
        measured = measure_alignment(model, given, Y, loss=loss)
        for a, b, c in zip(terms.alignments.values(), measured.values(), expected.alignments.values(), strict=True):
            assert (a - c).abs().max() < tolerance * 5 and (b - c).abs().max() < tolerance * 5
        got = torch.autograd.grad(terms.loss, list(model.parameters()))
        norm = max(g.norm() for g in gradients)
        assert all((p.double() - q).norm() < 20 * tolerance * norm for p, q in zip(got, gradients, strict=True))


class Cast(nn.Module):
    def __init__(self, dtype):
        super().__init__()
        self.dtype = dtype

    def forward(self, z):
        return z.to(self.dtype)


def test_images_and_weights_of_different_formats_are_named():
    for call in (lambda net, x: gfa_loss(net, x, Y, lam=1), lambda net, x: measure_alignment(net, x, Y)):
        with pytest.raises(ValueError, match="images of type torch.float32; its weights are torch.float64: convert one of them"):
            call(core(), X.float())
        with pytest.raises(ValueError, match="images of type torch.float64; its weights are torch.bfloat16"):
            call(core().bfloat16(), X)


def test_a_default_format_of_float64_changes_nothing():
    net, wide, losses = core().float(), core(), ("mse", "ce", "margin")
    expected = [gfa_loss(net, X.float(), Y, lam=0.5, layers="deep", loss=loss) for loss in losses]
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        found = [gfa_loss(net, X.float(), Y, lam=0.5, layers="deep", loss=loss) for loss in losses]
        measured = measure_alignment(wide, X, Y)
    finally:
        torch.set_default_dtype(before)
    assert all(torch.equal(a, b) for a, b in zip(expected, found, strict=True))
    assert all(torch.equal(a, b) for a, b in zip(measured.values(), measure_alignment(wide, X, Y).values(), strict=True))


def test_gradients_that_are_too_small_for_float16_are_said():
    """A confident network: the gradient of its cross-entropy is below what float16 can hold, but not bfloat16."""
    y = torch.zeros(5, dtype=torch.int64)
    net = core()
    net[3].bias.data.copy_(torch.tensor([12.0, 0, 0]))
    for call in (
        lambda n, x: measure_alignment(n, x, y, loss="ce"),
        lambda n, x: gfa_terms(n, x, y, lam=1, layers="deep", loss="ce").alignments,
    ):
        exact, coarse = call(net, X), call(core_like(net).bfloat16(), X.bfloat16())
        assert all((a - coarse[name]).abs().max() < 0.1 and a.abs().max() > 0.1 for name, a in exact.items())
        with pytest.raises(
            ValueError, match="the gradient of 5 of 5 images is too small for float16 at layer '1'; take float32 or bfloat16"
        ):
            call(core_like(net).half(), X.half())


def core_like(net):
    twin = core()
    twin.load_state_dict(net.state_dict())
    return twin


class Rows(nn.Module):
    """Attention over the rows of an image, as a function or as torch's module."""

    def __init__(self, how):
        super().__init__()
        self.how = how
        self.qkv, self.head = nn.Linear(6, 18), nn.Linear(36, 3)
        self.attention = nn.MultiheadAttention(6, 2, batch_first=True)
        self.layer = nn.TransformerEncoderLayer(6, 2, 8, dropout=0.0, batch_first=True, activation=F.softplus)

    def forward(self, x):
        rows = x[:, 0]
        if self.how == "module":
            h = self.attention(rows, rows, rows, need_weights=False)[0]
        elif self.how == "layer":
            h = self.layer(rows)
        else:
            q, k, v = self.qkv(rows).chunk(3, -1)
            h = F.scaled_dot_product_attention(q, k, v) if self.how == "function" else torch.softmax(q @ k.mT / 6**0.5, -1) @ v
        return self.head(h.flatten(1))


@pytest.mark.parametrize("how", ["function", "module", "layer"])
def test_attention_is_differentiated_twice(how):
    net = seeded(lambda: Rows(how)).train()
    terms = gfa_terms(net, X, Y, lam=2.0)
    wanted = [p for p in net.parameters()]
    got = torch.autograd.grad(terms.loss, wanted, allow_unused=True)
    if how == "function":
        twin = seeded(lambda: Rows("by hand")).train()
        expected = torch.autograd.grad(gfa_terms(twin, X, Y, lam=2.0).loss, list(twin.parameters()), allow_unused=True)
        assert all((a is None and b is None) or torch.allclose(a, b, atol=1e-10) for a, b in zip(got, expected, strict=True))
        return
    p, g = next((p, g) for p, g in zip(wanted, got, strict=True) if g is not None and g.dim() == 2 and g.abs().max() > 1e-4)
    at = divmod(int(g.abs().argmax()), g.shape[1])
    values = []
    for step in (1e-5, -1e-5):
        p.data[at] += step
        values.append(gfa_terms(net, X, Y, lam=2.0).loss.item())
        p.data[at] -= step
    assert g[at].item() == pytest.approx((values[0] - values[1]) / 2e-5, rel=1e-5)


def test_the_kernels_are_chosen_for_the_pass_alone():
    before = torch.backends.cuda.flash_sdp_enabled(), torch.backends.cudnn.enabled
    gfa_loss(seeded(lambda: Rows("function")), X, Y, lam=1)
    gfa_loss(nn.Sequential(nn.Flatten(), nn.LSTM(36, 4), Take(), nn.Linear(4, 3)).double(), X, Y, lam=1).backward()
    assert (torch.backends.cuda.flash_sdp_enabled(), torch.backends.cudnn.enabled) == before


class Take(nn.Module):
    def forward(self, pair):
        return pair[0]


def test_hardsigmoid_is_differentiated_twice():
    """Against the same function of clamps, whose derivatives torch has."""
    ours = gfa_loss(net := core(nn.Hardsigmoid), X, Y, lam=2.0)
    plain = gfa_loss(twin := core(lambda: Clamps()), X, Y, lam=2.0)
    assert torch.allclose(ours, plain, atol=1e-12)
    for a, b in zip(*(torch.autograd.grad(v, list(n.parameters())) for v, n in ((ours, net), (plain, twin))), strict=True):
        assert torch.allclose(a, b, atol=1e-12)


class Clamps(nn.Module):
    def forward(self, x):
        return (x / 6 + 0.5).clamp(0, 1)


class Once(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return 2 * x

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, g):
        return 2 * g


class Doubled(nn.Module):
    def forward(self, x):
        return Once.apply(x)


@pytest.mark.parametrize(
    ("layer", "words"),
    [
        (lambda: nn.Hardsigmoid(inplace=True), "hardsigmoid_backward is not implemented"),
        (Doubled, "differentiate twice"),
    ],
)
def test_what_has_no_second_derivative_is_said_before_any_work(layer, words):
    net = core(layer)
    for _ in range(2):
        with pytest.raises(ValueError, match=f"GFA needs second derivatives, and a part of the model has none: .*{words}"):
            gfa_loss(net, X, Y, lam=1)
    assert hooks(net) == 0
    assert measure_alignment(net, X, Y)["1"].isfinite().all(), "one derivative is enough to measure"


@pytest.mark.parametrize("how", ["whole", "in place", "a part"])
def test_a_compiled_model_is_named(how):
    net = core()
    if how == "in place":
        net.compile(backend="eager")
    elif how == "whole":
        net = torch.compile(net, backend="eager")
    else:
        net[1] = torch.compile(net[1], backend="eager")
    for call in (lambda: gfa_loss(net, X, Y, lam=1), lambda: measure_alignment(net, X, Y), lambda: mean_alignment(net, X, Y)):
        with pytest.raises(ValueError, match="the model is compiled .*hand over the module that it was made from"):
            call()


def test_a_compiled_function_within_the_model_is_named():
    net = Prepared(torch.compile(lambda x: x.sin(), backend="aot_eager"), core())
    with pytest.raises(ValueError, match="GFA needs second derivatives, .*compiled"):
        gfa_loss(net, X, Y, lam=1)


def test_inference_mode_is_overruled():
    net, (x, y) = seeded(TwoLayer), vectors()
    expected = gfa_terms(net, x, y, lam=0.5, layers="deep")
    with torch.inference_mode():
        inside, labels = x.clone(), y.clone()
        found = gfa_terms(net, inside, labels, lam=0.5, layers="deep")
        measured = measure_alignment(net, inside, labels)
    assert torch.equal(found.loss, expected.loss) and not inside.requires_grad
    assert all(torch.equal(measured[name], a.detach()) for name, a in expected.alignments.items())


def test_a_layer_whose_first_axis_is_no_batch_is_named():
    net = seeded(lambda: nn.Sequential(Split(), nn.Linear(6, 2), nn.Softplus(), Join(), nn.Linear(12, 3)))
    with pytest.raises(ValueError, match=r"input of layer '1' has shape \(30, 6\): its first axis must be the batch of 5"):
        measure_alignment(net, X, Y)
    assert list(measure_alignment(net, X, Y, layers="first")) == [taps.IMAGE]


class Split(nn.Module):
    def forward(self, x):
        return x.reshape(-1, 6)


class Join(nn.Module):
    def forward(self, x):
        return x.reshape(-1, 12)


def test_importing_gfa_does_not_load_the_compiler():
    code = "import sys, deepdefense.gfa; print('torch._dynamo' in sys.modules)"
    plain = "import sys, torch, torch.nn.attention; print('torch._dynamo' in sys.modules)"
    ours, torchs = (subprocess.run([sys.executable, "-c", c], capture_output=True, text=True, check=True).stdout for c in (code, plain))
    assert ours == torchs


@pytest.mark.parametrize(
    "lam", [np.float32(0.5), np.float64(0.5), np.array(0.5), Fraction(1, 2)], ids=["float32", "float64", "array", "fraction"]
)
def test_lam_of_any_kind_of_number(lam):
    assert torch.equal(gfa_loss(core(), X, Y, lam=lam), gfa_loss(core(), X, Y, lam=0.5))


def test_a_batch_size_is_a_whole_number_of_any_kind():
    once = measure_alignment(core(), X, Y)
    for size in (np.int64(2), 2.0):
        assert all(torch.allclose(a, once[name]) for name, a in measure_alignment(core(), X, Y, batch_size=size).items())
    for size in (0, -1, 1.5, "2"):
        with pytest.raises(ValueError, match="batch_size must be a whole number of at least 1"):
            measure_alignment(core(), X, Y, batch_size=size)


@pytest.mark.parametrize("layers", ["first", "deep"])
def test_a_batch_of_one_value_a_channel_has_no_statistics_here_either(layers):
    net = core(lambda: nn.BatchNorm1d(9)).double().train()
    with pytest.raises(ValueError, match="Expected more than 1 value per channel"):
        net(X[:1])
    with pytest.raises(ValueError, match="Expected more than 1 value per channel"):
        gfa_loss(net, X[:1], Y[:1], lam=0.5, layers=layers)
    assert gfa_loss(net, X[:2], Y[:2], lam=0.5, layers=layers).isfinite()


class Ensemble(nn.Module):
    """The mean of several networks; together: in one call of torch.func.vmap."""

    def __init__(self, together):
        super().__init__()
        nets = [core(nn.ReLU), seeded(lambda: nn.Sequential(nn.Flatten(), nn.Linear(36, 9), nn.ReLU(), nn.Linear(9, 3)), seed=1)]
        self.together, self.nets, self.base = together, nn.ModuleList(nets), [nets[0]]

    def forward(self, x):
        if not self.together:
            return torch.stack([net(x) for net in self.nets]).mean(0)
        names = [name for name, _ in self.base[0].named_parameters()]
        stacked = {name: torch.stack([net.get_parameter(name) for net in self.nets]) for name in names}
        return torch.func.vmap(lambda weights: torch.func.functional_call(self.base[0], weights, (x,)))(stacked).mean(0)


def test_an_ensemble_by_vmap_is_the_ensemble():
    found = []
    for together in (False, True):
        net = Ensemble(together)
        terms = gfa_terms(net, X, Y, lam=0.5)
        terms.loss.backward()
        found.append([terms.loss.detach(), *(p.grad for p in net.nets.parameters())])
    assert len(found[0]) == 9 and all(torch.allclose(a, b) for a, b in zip(*found, strict=True))


def test_a_head_that_the_logits_do_not_come_from_is_named():
    class TwoHeads(nn.Module):
        def __init__(self):
            super().__init__()
            self.net, self.hidden, self.aside = core(), nn.Linear(3, 4).double(), nn.Linear(4, 2).double()

        def forward(self, x):
            z = self.net(x)
            self.said = self.aside(self.hidden(z).relu())
            return z

    with pytest.raises(ValueError, match="no gradient at 'aside' .*or a head that the logits do not come from.*; name other layers"):
        gfa_loss(TwoHeads(), X, Y, lam=0.5, layers="deep")
