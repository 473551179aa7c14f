"""What an evaluation cannot work with, said at the door in one sentence, before any attack runs."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ..arguments import check_labels, check_logits_type
from ..attacks.contract import check_gradients_possible, in_range
from ..inference import frozen, seeded
from ..losses import ce, margin

SAMPLE = 32  # images that the model is tried on
LONGEST = 300  # characters of a foreign error's message that are shown
# Losses whose gradient is looked at: what most attacks climb, and what has no saturation of its own.
CLIMBED = {"cross-entropy": ce, "margin": margin}
# What to do about an error of the model, by words of its message; else what is said of the trial that it ended.
ADVICE = {
    "call numpy()": "use torch's operations in place of numpy's, through which no gradient passes",
    "use_reentrant": "call torch.utils.checkpoint with use_reentrant=False",
    "in-place operation": "make that operation out of place",
    "modified by an inplace operation": "make that operation out of place",
    "out of memory": "give evaluate a smaller batch_size",
}


class DoorError(ValueError):
    """Model or images are not what an evaluation needs; the message says what is wrong and what to do."""


@dataclass(frozen=True)
class Examined:
    """What was found of a model that may come in.

    deterministic: two passes agree. warnings: as in a report, {"part", "kind", "message", "times"} each
    """

    deterministic: bool
    warnings: tuple[dict, ...] = ()


def _require(condition, message: str) -> None:
    if not condition:
        raise DoorError(message)


@contextmanager
def _at_the_door() -> Iterator[None]:
    try:
        yield
    except ValueError as error:
        raise DoorError(str(error)) from None


def check_images(x: Tensor, y: Tensor) -> Tensor:
    """`x`, which must be (N, C, H, W), float, and in [0, 1] but for rounding, which is moved onto its ends.

    Comes as a plain, contiguous tensor that takes no gradient, whatever kind of tensor was given.

    y must hold (N,) whole numbers of at least 0, on the same device.
    """
    _require(isinstance(x, Tensor), f"x must be a torch.Tensor, got {type(x).__name__}")
    _require(x.dim() == 4, f"x must hold images (N, C, H, W), got shape {tuple(x.shape)}")
    _require(
        x.dtype in (torch.float32, torch.float64),
        f"x must be float32 or float64 in [0, 1], got {x.dtype}" + ("; divide by 255" if x.dtype == torch.uint8 else ""),
    )
    _require(len(x) and x.numel(), f"there are no images: x has shape {tuple(x.shape)}")
    with _at_the_door():
        check_labels(y, len(x), values=True)
    _require(y.device == x.device, f"x is on {x.device} and y on {y.device}; they must be on one device")
    _require(not x.isnan().any(), "x holds NaN")
    try:
        return in_range(x.detach().as_subclass(Tensor).contiguous())
    except ValueError as error:
        inside = "Put scaling and normalisation inside the model, so that eps means the same for every model"
        raise DoorError(f"{error}. {inside}") from None


def check_logits(logits: Tensor, y: Tensor) -> None:
    """logits must be (N, K) with K above every label, finite, and no probabilities."""
    with _at_the_door():
        check_logits_type(logits, len(y))
        check_labels(y, len(y), logits.shape[1], values=True)
    bad = (~logits.isfinite()).any(1)
    _require(not bad.any(), f"the model's logits are NaN or infinite for {int(bad.sum())} of {len(y)} clean images")
    total = _shared_out(logits)
    _require(
        total is None,
        f"the model returns probabilities (each row is at least 0 and sums to {total}); attacks need the logits before the "
        "softmax, because its flat ends hide the gradient",
    )


def _shared_out(logits: Tensor) -> int | None:
    """What the rows of `logits` (N, K) share out among the classes, if each is at least 0 and all have one whole sum: 1 for
    probabilities, M for those of M networks added up, 100 for per cent; None for logits."""
    sums = logits.double().sum(1)
    total = round(sums[0].item())
    if total < 1 or (logits < 0).any() or (total > 1 and (logits == logits[0]).all()):  # a constant is no probability
        return None
    rounding = 1e-2 if any((logits == logits.to(kind)).all() for kind in (torch.bfloat16, torch.float16)) else 1e-3
    return total if ((sums - total).abs() < rounding * total).all() else None


def check_model(model: nn.Module, x: Tensor, y: Tensor, *, allow_random: bool = False) -> bool:
    """Try `model` on a few images; returns whether two passes agree. See `examine`."""
    return examine(model, x, y, allow_random=allow_random).deterministic


def examine(model: nn.Module, x: Tensor, y: Tensor, *, allow_random: bool = False, sliced: bool = False) -> Examined:
    """Try `model` on the first images of x (N, C, H, W) in all ways that an evaluation uses it; a DoorError where one fails.

    It must answer the same twice (unless allow_random), to each image alone as among others, take a hook, and let a gradient
    reach the images; where that gradient is zero or NaN, a warning is returned. All in eval mode; modes, buffers, gradient flags
    and the random states are afterwards as they were.
    sliced: the model will be given its images in slices, whose gradients are computed by `torch.utils.checkpoint`
    """
    check_origin(model, x)
    x, y = (tensor[:SAMPLE].detach().clone().as_subclass(Tensor) for tensor in (x, y))
    y = y.long()
    with ExitStack() as stack:
        stack.enter_context(_unchanged(model))
        with _trial("cannot be put into eval mode", "give the nn.Module itself, or one of your own that calls it"):
            stack.enter_context(frozen(model))
        stack.enter_context(seeded(x.device, 0, model))
        with _trial("takes no hook, by which its passes are counted", "give the nn.Module itself, or one of your own that calls it"):
            model.register_forward_hook(lambda *_: None).remove()
        same = _check_answers(model, x, y, allow_random)
        warnings = _check_gradients(model, x, y)
        if sliced:
            with torch.enable_grad(), _trial("cannot be given its images in slices", "batch_size must be at least chunk"):
                images = x.clone().requires_grad_()
                checkpoint(model, images, use_reentrant=False).sum().backward()
    return Examined(same, tuple(warnings))


def check_origin(model: nn.Module, x: Tensor) -> None:
    """A DoorError unless the model is a module on the images' device, and neither it nor the call comes from inference mode."""
    _require(isinstance(model, nn.Module), f"model must be a torch.nn.Module, got {type(model).__name__}")
    _require(
        not isinstance(model, torch.jit.ScriptModule),
        "the model is a TorchScript module, which takes no hooks; give the module that it was scripted from, or an "
        "nn.Module of your own that calls it",
    )
    for parameter in model.parameters():
        _require(
            parameter.device == x.device,
            f"the model is on {parameter.device} and the images on {x.device}; move one of them",
        )
    with _at_the_door():
        check_gradients_possible()
    made = [name for name, tensor in (*model.named_parameters(), *model.named_buffers()) if tensor.is_inference()]
    _require(
        not made,
        f"the model's tensor {made[0] if made else ''} was made within torch.inference_mode() and takes no part in gradients; "
        "make the model outside, or give copy.deepcopy(model), taken outside",
    )


@contextmanager
def _unchanged(model: nn.Module) -> Iterator[None]:
    """Afterwards every module is in the mode it was in, and every buffer is the tensor, with the values, that it was."""
    modes = {module: module.training for module in model.modules()}
    buffers = [(m, name, b, b.clone()) for m in modes for name, b in m._buffers.items() if b is not None]
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode
        with torch.no_grad():
            for module, name, buffer, values in buffers:
                module._buffers[name] = buffer
                if not torch.equal(buffer, values):  # an untouched one is not written to
                    buffer.copy_(values)


@contextmanager
def _trial(what: str, advice: str = "") -> Iterator[None]:
    """Turn any error of the model's own into a DoorError: what the model did, the error, what to do about it."""
    try:
        yield
    except DoorError:
        raise
    except Exception as error:
        message = " ".join(str(error).split()).rstrip(".")
        known = next((words for part, words in ADVICE.items() if part in message), advice)
        if len(message) > LONGEST:
            message = f"{message[:LONGEST]} …"
        said = f"the model {what}: {type(error).__name__}" + (f": {message}" if message else "")
        raise DoorError(f"{said}; {known}" if known else said) from error


def _answer(model: nn.Module, x: Tensor, what: str, advice: str = "") -> Tensor:
    """What the model answers to x."""
    with _trial(what, advice):
        return model(x.detach())


def _kind(answer) -> str:
    return f"a tensor of shape {tuple(answer.shape)}" if isinstance(answer, Tensor) else f"a {type(answer).__name__}"


def _check_answers(model: nn.Module, x: Tensor, y: Tensor, allow_random: bool) -> bool:
    """Two passes over all images, and one over each of a few alone; returns whether the first two agree."""
    kind = f"of shape {tuple(x.shape)} and type {x.dtype}"
    with torch.no_grad():
        first = _answer(model, x, f"failed on images {kind}")
        check_logits(first, y)
        second = _answer(model, x, f"failed on a second pass over images {kind}")
        _require(
            _kind(first) == _kind(second),
            f"the model answered {_kind(first)} in one pass and {_kind(second)} in the next over the same images",
        )
        check_logits(second, y)
        spread = (first.max() - first.min()).clamp(min=1e-12)
        difference = (first - second).abs().max()
        same = bool(difference <= 1e-4 * spread)
        _require(
            same or allow_random,
            "the model is not deterministic: two passes over the same images differ by up to "
            f"{difference:.3g} in a logit. Make it deterministic, or let it in with allow_random=True; each number "
            "is then one draw, and the report says so",
        )
        alone = [_answer_alone(model, x[i : i + 1], y[i : i + 1], first.shape[1]) for i in range(min(4, len(x)))]
        _require(
            not same or (first[:4] - torch.cat(alone)).abs().max() <= 1e-2 * spread,
            "the model's answer to an image depends on the other images of its batch; evaluate it with "
            "batch_size=1, or fix what the images share",
        )
    return same


def _answer_alone(model: nn.Module, image: Tensor, y: Tensor, classes: int) -> Tensor:
    """The logits (1, K) of a single image: attacks leave finished images out, so that any number of them may be passed."""
    advice = "it must take any number of images: no batch size may be written in, and squeeze() wants a dimension"
    logits = _answer(model, image, f"failed on a single image, of shape {tuple(image.shape)}", advice)
    wanted = f"a tensor of shape {(1, classes)}"
    _require(
        _kind(logits) == wanted,
        f"the model must answer a single image with {wanted}, but answered {_kind(logits)}; {advice}",
    )
    check_logits(logits, y)
    return logits


def _check_gradients(model: nn.Module, x: Tensor, y: Tensor) -> list[dict]:
    """Take the gradient of each of the losses with respect to the images; warnings where it is zero or not a number."""
    warnings = []
    advice = "give the model without what keeps a gradient from being taken, or with a differentiable stand-in for it"
    for name, loss in CLIMBED.items():
        images = x.clone().requires_grad_()
        with torch.enable_grad(), _trial("failed when a gradient with respect to its input was asked for", advice):
            logits = model(images)  # anew for each loss: a compiled model keeps no graph for a second backward pass
            check_logits(logits, y)
            total = loss(logits.to(torch.promote_types(logits.dtype, torch.float32)), y).sum()
            (gradient,) = torch.autograd.grad(total, images, allow_unused=True) if total.requires_grad else (None,)
        if gradient is None:
            raise DoorError(
                "the model's output has no gradient with respect to its input (a no_grad, inference_mode or detach inside?); "
                "give the model without it, or with a differentiable stand-in: gradient attacks have nothing to go by"
            )
        flat = gradient.flatten(1)
        zero, undefined = int((flat == 0).all(1).sum()), int((~flat.isfinite()).any(1).sum())
        if zero:
            message = f"the gradient of the {name} is exactly zero for {zero} of {len(x)} images tried before the attacks: "
            message += "an attack that follows it does not move there (masked gradients?)"
            warnings.append({"part": "door", "kind": "zero gradient", "message": message, "times": zero})
        if undefined:
            message = f"the gradient of the {name} is NaN or infinite for {undefined} of {len(x)} images tried before the attacks"
            warnings.append({"part": "door", "kind": "undefined gradient", "message": message, "times": undefined})
    return warnings
