"""What an evaluation cannot work with, said at the door in one sentence, before any attack runs."""

import torch
from torch import Tensor, nn

from ..inference import frozen, seeded

SAMPLE = 32  # images that the model is tried on


class DoorError(ValueError):
    """Model or images are not what an evaluation needs; the message says what is wrong and what to do."""


def _require(condition, message: str) -> None:
    if not condition:
        raise DoorError(message)


def check_images(x: Tensor, y: Tensor) -> None:
    """x must be (N, C, H, W), float, in [0, 1]; y (N,) whole numbers of at least 0, on the same device."""
    for name, value in (("x", x), ("y", y)):
        _require(isinstance(value, Tensor), f"{name} must be a torch.Tensor, got {type(value).__name__}")
    _require(x.dim() == 4, f"x must hold images (N, C, H, W), got shape {tuple(x.shape)}")
    _require(
        x.dtype in (torch.float32, torch.float64),
        f"x must be float32 or float64 in [0, 1], got {x.dtype}" + ("; divide by 255" if x.dtype == torch.uint8 else ""),
    )
    _require(len(x) and x.numel(), f"there are no images: x has shape {tuple(x.shape)}")
    _require(y.shape == x.shape[:1], f"y must hold one label for each of the {len(x)} images, got shape {tuple(y.shape)}")
    whole = not (y.is_floating_point() or y.is_complex() or y.dtype == torch.bool)
    _require(whole, f"y must hold class indices as whole numbers, got {y.dtype}")
    _require(y.device == x.device, f"x is on {x.device} and y on {y.device}; they must be on one device")
    _require(not x.isnan().any(), "x holds NaN")
    _require(
        x.min() >= 0 and x.max() <= 1,
        f"images must lie in [0, 1]; these range from {x.min():.4g} to {x.max():.4g}. "
        "Put scaling and normalisation inside the model, so that eps means the same for every model",
    )
    _require(y.min() >= 0, f"labels must be at least 0, got {y.min()}")


def check_logits(logits: Tensor, y: Tensor) -> None:
    """logits must be (N, K) with K above every label, finite, and no probabilities."""
    _require(isinstance(logits, Tensor), f"the model must return a tensor of logits, got {type(logits).__name__}")
    _require(
        logits.dim() == 2 and len(logits) == len(y) and logits.shape[1] >= 2,
        f"the model must return logits (N, K) with K at least 2: for {len(y)} images it gave shape {tuple(logits.shape)}",
    )
    _require(logits.is_floating_point(), f"the model must return floating-point logits, got {logits.dtype}")
    _require(
        y.max() < logits.shape[1],
        f"labels must be below the number of classes: the model has {logits.shape[1]}, the largest label is {y.max()}",
    )
    bad = (~logits.isfinite()).any(1)
    _require(not bad.any(), f"the model's logits are NaN or infinite for {int(bad.sum())} of {len(y)} clean images")
    sums_to_one = ((logits.sum(1) - 1).abs() < 1e-3).all()
    _require(
        not ((logits >= 0).all() and sums_to_one),
        "the model returns probabilities (each row is at least 0 and sums to 1); attacks need the logits before the "
        "softmax, because its flat ends hide the gradient",
    )


def check_model(model: nn.Module, x: Tensor, y: Tensor, *, allow_random: bool = False) -> bool:
    """Try `model` on a few images; returns whether two passes agree.

    allow_random: let a model in whose two passes differ. The checks run in eval mode and leave everything as it was.
    """
    _require(isinstance(model, nn.Module), f"model must be a torch.nn.Module, got {type(model).__name__}")
    for parameter in model.parameters():
        _require(
            parameter.device == x.device,
            f"the model is on {parameter.device} and the images on {x.device}; move one of them",
        )
    x, y = x[:SAMPLE], y[:SAMPLE]
    with frozen(model), seeded(x.device, 0):
        with torch.no_grad():
            try:
                first = model(x.clone())
            except Exception as error:
                raise DoorError(
                    f"the model failed on images of shape {tuple(x.shape)} and type {x.dtype}: {type(error).__name__}: {error}"
                ) from error
            check_logits(first, y)
            first = first.clone()
            second = model(x.clone())
            spread = (first.max() - first.min()).clamp(min=1e-12)
            difference = (first - second).abs().max()
            same = bool(difference <= 1e-4 * spread)
            _require(
                same or allow_random,
                "the model is not deterministic: two passes over the same images differ by up to "
                f"{difference:.3g} in a logit. Make it deterministic, or let it in with allow_random=True; each number "
                "is then one draw, and the report says so",
            )
            alone = torch.cat([model(image[None].clone()) for image in x[:4]]) if same else first[:4]
            _require(
                (first[:4] - alone).abs().max() <= 1e-2 * spread,
                "the model's answer to an image depends on the other images of its batch; evaluate it with "
                "batch_size=1, or fix what the images share",
            )
        with torch.enable_grad():
            attached = model(x[:1].clone().requires_grad_()).requires_grad
        _require(
            attached,
            "the model's output has no gradient with respect to its input (a no_grad or detach inside?); "
            "give the model without it, or with a differentiable stand-in: gradient attacks have nothing to go by",
        )
    return same
