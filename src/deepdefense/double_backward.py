"""Convolutions and linear layers that are cheap to differentiate twice, put in the place of torch's while a model runs.

    with TwiceDifferentiable(x) as layers:
        logits = model(x)                               # any module: calls of conv2d and linear are caught
    with layers.inputs_only():
        g = torch.autograd.grad(loss.sum(), x, create_graph=True)
    (loss.mean() + penalty(g)).backward()               # the same gradients as torch's, to rounding

What torch's own layers do that these do not:
- the derivative of a convolution's input gradient with respect to its weight is taken by torch as a convolution with batch and
  channels exchanged, dilated by the stride; it is the ordinary weight gradient, with the cotangent in the image's place;
- the second derivative of a ReLU, a map of zeros, is filled and added by torch; it is left out;
- the input gradient of a convolution over few channels (an image) is slow in oneDNN; one matrix product and a fold do it;
- the last backward pass goes on to the image, which no weight needs.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from weakref import WeakSet

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.autograd.graph import Node
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.overrides import TorchFunctionMode

THIN = 4  # at most so many input channels: the matrix product wins on a CPU
conv_backward = torch.ops.aten.convolution_backward


def depends_only_on(value: Tensor, x: Tensor) -> bool:
    """Is `x` the one leaf that takes a gradient from `value`? Then no weight does."""
    if value is x:
        return True
    if value.grad_fn is None:
        return not value.requires_grad
    seen: set[Node] = set()
    stack: list[Node | None] = [value.grad_fn]
    while stack:
        node = stack.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        leaf = getattr(node, "variable", None)
        if leaf is not None and leaf is not x:
            return False
        stack.extend(parent for parent, _ in node.next_functions)
    return True


@contextmanager
def second_derivatives(model: nn.Module) -> Iterator[None]:
    """Within, a forward pass takes those of torch's kernels that have a second derivative: for attention, and for LSTM and GRU on a GPU."""
    recurrent = torch.backends.cudnn.enabled and any(isinstance(module, nn.RNNBase) for module in model.modules())
    with sdpa_kernel(SDPBackend.MATH):
        torch.backends.cudnn.enabled &= not recurrent
        try:
            yield
        finally:
            torch.backends.cudnn.enabled |= recurrent


_looked_at: WeakSet[nn.Module] = WeakSet()  # models whose graph had second derivatives: one walk over it is enough


def check_second_derivative(model: nn.Module, grads: Sequence[Tensor]) -> None:
    """A ValueError if the graph of `grads` holds an operation of `model` that torch cannot differentiate again."""
    if model in _looked_at:
        return
    seen: set[Node] = set()
    stack = [g.grad_fn for g in grads]
    while stack:
        node = stack.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        reason = _no_derivative(node)
        if reason:
            raise ValueError(
                f"GFA needs second derivatives, and a part of the model has none: {reason}; put another operation in its place"
            )
        stack.extend(parent for parent, _ in node.next_functions)
    _looked_at.add(model)


def _no_derivative(node) -> str | None:
    """What torch would say on differentiating through `node`, if it is one of those that only raise an error."""
    if node.name().startswith("CompiledFunction"):
        return "it was compiled (torch.compile)"
    if node.name() not in ("torch::autograd::NotImplemented", "torch::autograd::Error"):
        return None
    try:
        node(torch.zeros(()))
    except RuntimeError as error:
        return str(error).splitlines()[0]
    return node.name()


class _Pass:
    """What the layers of a pass must know in their backward passes. It holds no tensor: their graph holds it."""

    weights_wanted = True


class TwiceDifferentiable(TorchFunctionMode):
    """While active, `conv2d` and `linear` are those of this file. x: the images, a leaf made for this pass alone.

    With x=None the images may belong to somebody else, and the last backward pass reaches them.
    """

    def __init__(self, x: Tensor | None):
        super().__init__()
        self.x, self.state = x, _Pass()
        self._is_root: dict[int, tuple[Tensor, bool]] = {}
        self._found_one_behind_weights = False

    def __torch_function__(self, func, types, args=(), kwargs=None):
        call = _CALLS.get(func)
        if call is not None and torch._C._functorch.peek_interpreter_stack() is None:  # torch.func takes none of these layers
            result = call(self, *args, **(kwargs or {}))
            if result is not None:
                return result
        return func(*args, **(kwargs or {}))

    @contextmanager
    def inputs_only(self) -> Iterator[None]:
        """Within, a backward pass gives gradients of layer inputs and spares those of weights."""
        self.state.weights_wanted = False
        try:
            yield
        finally:
            self.state.weights_wanted = True

    def is_root(self, value: Tensor) -> bool:
        """Does `value` come from the images alone? Past the first layer that does not, only known tensors are asked again."""
        if self.x is None:
            return False
        known = self._is_root.get(id(value))
        if known is None and not self._found_one_behind_weights:
            known = self._is_root[id(value)] = (value, depends_only_on(value, self.x))  # kept alive, so the id stays its own
            self._found_one_behind_weights = not known[1]
        return known is not None and known[1]


def _pair(value) -> tuple[int, int] | None:
    if isinstance(value, int):
        return value, value
    if isinstance(value, tuple | list) and all(isinstance(v, int) for v in value) and len(value) in (1, 2):
        return (value[0], value[-1])
    return None


def _autocast(first: Tensor, *others: Tensor | None) -> list[Tensor | None]:
    """What autocast would make of the arguments of a convolution or a product."""
    tensors = (first, *others)
    kind = first.device.type
    if not torch.is_autocast_enabled(kind):
        return list(tensors)
    dtype = torch.get_autocast_dtype(kind)
    return [t.to(dtype) if t is not None and t.is_floating_point() else t for t in tensors]


def _conv2d(mode, input, weight, bias=None, stride=1, padding=0, dilation=1, groups=1):
    geometry = (_pair(stride), _pair(padding), _pair(dilation))
    if input.dim() != 4 or None in geometry or not torch.is_grad_enabled():
        return None
    root = mode.is_root(input)
    input, weight, bias = _autocast(input, weight, bias)
    return _Convolution.apply(input, weight, bias, (*geometry, groups), mode.state, root)


def _linear(mode, input, weight, bias=None):
    if input.dim() != 2 or not torch.is_grad_enabled():
        return None
    root = mode.is_root(input)
    input, weight, bias = _autocast(input, weight, bias)
    return _Linear.apply(input, weight, bias, mode.state, root)


def _relu(mode, input, inplace=False):
    return _ReLU.apply(input, inplace) if torch.is_grad_enabled() and input.requires_grad else None


def _batch_norm(mode, input, running_mean, running_var, weight=None, bias=None, training=False, momentum=0.1, eps=1e-5):
    usual = input.dtype in (torch.float32, torch.float64) and input.numel() > input.shape[1]  # torch refuses a single value a channel
    if not (training and weight is not None and bias is not None and usual and torch.is_grad_enabled()):
        return None
    return _BatchNorm.apply(input, weight, bias, running_mean, running_var, momentum, eps, mode.state)


def _hardsigmoid(mode, input, inplace=False):
    return None if inplace or not torch.is_grad_enabled() else F.relu6(input + 3) / 6  # torch's own has no second derivative


_CALLS = {torch.conv2d: _conv2d, F.linear: _linear, F.relu: _relu, torch.relu: _relu, Tensor.relu: _relu, F.batch_norm: _batch_norm}
_CALLS[F.hardsigmoid] = _hardsigmoid


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, weight, bias, geometry, state, root):
        ctx.save_for_backward(x, weight)
        ctx.geometry, ctx.state, ctx.root = geometry, state, root
        return torch.conv2d(x, weight, bias, *geometry)

    @staticmethod
    def backward(ctx, cotangent):
        x, weight = ctx.saved_tensors
        to_x, to_weight, to_bias = ctx.needs_input_grad[:3]
        wanted = ctx.state.weights_wanted
        dx = dw = db = None
        if to_x and not (wanted and ctx.root):
            dx = _InputGradient.apply(cotangent, weight, x.detach(), ctx.geometry, ctx.state)
        if wanted and to_weight:
            dw = _weight_gradient(cotangent, x, weight, ctx.geometry)
        if wanted and to_bias:
            db = cotangent.sum((0, 2, 3))
        return dx, dw, db, None, None, None


class _InputGradient(torch.autograd.Function):
    """(cotangent, weight) -> Σ over output positions: linear in either, so its own backward is two convolutions."""

    @staticmethod
    def forward(ctx, cotangent, weight, x, geometry, state):
        ctx.save_for_backward(cotangent, weight)
        ctx.geometry, ctx.state = geometry, state
        stride, padding, dilation, groups = geometry
        if x.shape[1] <= THIN and groups == 1 and x.device.type == "cpu":
            columns = torch.bmm(weight.flatten(1).t().expand(len(x), -1, -1), cotangent.flatten(2))  # (B, C·k·k, positions)
            return F.fold(columns, x.shape[2:], weight.shape[2:], dilation, padding, stride)
        only = [True, False, False]
        return conv_backward(cotangent, x, weight, None, stride, padding, dilation, False, (0, 0), groups, only)[0]

    @staticmethod
    def backward(ctx, direction):
        cotangent, weight = ctx.saved_tensors
        to_cotangent, to_weight = ctx.needs_input_grad[:2]
        along = torch.conv2d(direction, weight, None, *ctx.geometry) if to_cotangent else None
        wanted = to_weight and ctx.state.weights_wanted
        return along, _weight_gradient(cotangent, direction, weight, ctx.geometry) if wanted else None, None, None, None


def _weight_gradient(cotangent, x, weight, geometry):
    stride, padding, dilation, groups = geometry
    only = [False, True, False]
    return conv_backward(cotangent, x, weight, None, stride, padding, dilation, False, (0, 0), groups, only)[1]


class _Linear(torch.autograd.Function):
    """Its input gradient is one matrix product, whose own derivative torch takes well."""

    @staticmethod
    def forward(ctx, x, weight, bias, state, root):
        ctx.save_for_backward(x, weight)
        ctx.state, ctx.root = state, root
        return F.linear(x, weight, bias)

    @staticmethod
    def backward(ctx, cotangent):
        x, weight = ctx.saved_tensors
        to_x, to_weight, to_bias = ctx.needs_input_grad[:3]
        wanted = ctx.state.weights_wanted
        dx = cotangent @ weight if to_x and not (wanted and ctx.root) else None
        dw = cotangent.t() @ x if wanted and to_weight else None
        return dx, dw, cotangent.sum(0) if wanted and to_bias else None, None, None


class _ReLU(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, inplace):
        if inplace:
            ctx.mark_dirty(x)
        result = x.relu_() if inplace else x.relu()
        ctx.save_for_backward(result)
        return result

    @staticmethod
    def backward(ctx, cotangent):
        return _Masked.apply(cotangent, ctx.saved_tensors[0].detach()), None


class _Masked(torch.autograd.Function):
    """(cotangent, values) -> the cotangent where the values are above 0; piecewise constant in the values."""

    @staticmethod
    def forward(ctx, cotangent, values):
        ctx.save_for_backward(values)
        return torch.ops.aten.threshold_backward(cotangent, values, 0)

    @staticmethod
    def backward(ctx, direction):
        return _Masked.apply(direction, ctx.saved_tensors[0]), None


class _BatchNorm(torch.autograd.Function):
    """Batch normalisation by the statistics of the batch; x̂ = (x − mean) · s with s = 1/√(variance + eps)."""

    @staticmethod
    def forward(ctx, x, weight, bias, running_mean, running_var, momentum, eps, state):
        result, mean, s = torch.native_batch_norm(x, weight, bias, running_mean, running_var, True, momentum, eps)
        ctx.save_for_backward(x, weight, mean, s)
        ctx.eps, ctx.state = eps, state
        return result

    @staticmethod
    def backward(ctx, cotangent):
        x, weight, mean, s = ctx.saved_tensors
        wanted = ctx.state.weights_wanted
        dx, dw, db = _BatchNormBackward.apply(cotangent, x, weight, mean, s, ctx.eps, ctx.state)
        return dx, dw if wanted else None, db if wanted else None, None, None, None, None, None


class _BatchNormBackward(torch.autograd.Function):
    """(g, x, w) -> dx = w s P(g), Σ g x̂ and Σ g, where P(g) = g − mean(g) − x̂ · mean(g x̂), over batch and positions.

    P is its own adjoint, so for a direction v the derivative in g is w s P(v), computed like dx. With s and x̂ as functions of x,
    ∂⟨v, dx⟩/∂x = −s [ mean(g x̂) · w s P(v) + mean(v x̂) · w s P(g) + x̂ · mean(v · w s P(g)) ].
    """

    @staticmethod
    def forward(ctx, g, x, weight, mean, s, eps, state):
        dx, g_xhat, g_sum = _normalisation_backward(g, x, weight, mean, s, eps)
        ctx.save_for_backward(g, x, weight, mean, s, dx, g_xhat, g_sum)
        ctx.eps, ctx.state = eps, state
        ctx.mark_non_differentiable(g_xhat, g_sum)
        ctx.set_materialize_grads(False)
        return dx, g_xhat, g_sum

    @staticmethod
    @once_differentiable
    def backward(ctx, v, _g_xhat, _g_sum):
        g, x, weight, mean, s, dx, g_xhat, g_sum = ctx.saved_tensors
        if v is None:
            return None, None, None, None, None, None, None
        n = x.numel() // x.shape[1]
        axes, shape = (0, *range(2, x.dim())), (1, -1, *[1] * (x.dim() - 2))
        to_g, v_xhat, v_sum = _normalisation_backward(v, x, weight, mean, s, ctx.eps)
        product = s * ((v * g).sum(axes) - v_sum * g_sum / n - v_xhat * g_xhat / n)  # ⟨v, s P(g)⟩ of each channel
        scale = -s * weight * product * s / n
        to_x = torch.addcmul((-scale * mean).view(shape), x, scale.view(shape))
        to_x.addcmul_(to_g, (-s * g_xhat / n).view(shape)).addcmul_(dx, (-s * v_xhat / n).view(shape))
        return to_g, to_x, product if ctx.state.weights_wanted else None, None, None, None, None


def _normalisation_backward(g, x, weight, mean, s, eps):
    """w s P(g), Σ g x̂, Σ g."""
    return torch.ops.aten.native_batch_norm_backward(g, x, weight, None, None, mean, s, True, eps, (True, True, True))
