"""The architectures: `build(name, in_shape, classes)` -> a classifier from images in [0, 1] to logits.

Scaling happens inside. The tap points are the inputs of the weight layers; `model.tap_names` lists them in forward order.
"""

import math
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

from . import taps
from .vit import VisionTransformer

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "softplus": lambda: nn.Softplus(beta=10),
    "silu": nn.SiLU,
    "gelu": nn.GELU,
}
SCALINGS = ("symmetric", "unit")


class Classifier(nn.Module):
    """`body((x − shift) / scale)`: x (B, C, H, W) in [0, 1] -> logits (B, K)."""

    shift: Tensor
    scale: Tensor

    def __init__(self, body: nn.Module, in_shape: Sequence[int], shift: Sequence[float], scale: Sequence[float]):
        super().__init__()
        self.in_shape = tuple(in_shape)
        self.register_buffer("shift", torch.tensor(shift, dtype=torch.float32).view(-1, 1, 1))
        self.register_buffer("scale", torch.tensor(scale, dtype=torch.float32).view(-1, 1, 1))
        self.body = body

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[1:] != self.in_shape:
            raise ValueError(f"this model takes images of shape (B, {', '.join(map(str, self.in_shape))}), got {tuple(x.shape)}")
        return self.body(self.scaled(x))

    def scaled(self, x: Tensor) -> Tensor:
        """The images as the first layer sees them, (x − shift)/scale."""
        return (x - self.shift) / self.scale

    @property
    def tap_names(self) -> list[str]:
        """Names of the weight layers in forward order; the first one's input is the scaled image."""
        return taps.tap_names(self)


def _cnn(in_shape, classes, width, activation) -> nn.Module:
    """Three stride-2 3×3 convolutions and two linear layers; 32-64-128 channels and 256 units at width 1."""
    channels, height, wide = in_shape
    c1, c2, c3, hidden = (max(1, round(width * n)) for n in (32, 64, 128, 256))
    for _ in range(3):
        height, wide = (height + 1) // 2, (wide + 1) // 2
    return nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(channels, c1, 3, stride=2, padding=1),
            act1=activation(),
            conv2=nn.Conv2d(c1, c2, 3, stride=2, padding=1),
            act2=activation(),
            conv3=nn.Conv2d(c2, c3, 3, stride=2, padding=1),
            act3=activation(),
            flatten=nn.Flatten(),
            fc1=nn.Linear(c3 * height * wide, hidden),
            act4=activation(),
            fc2=nn.Linear(hidden, classes),
        )
    )


def _mlp(in_shape, classes, width, activation) -> nn.Module:
    """Two hidden layers, 512 and 256 units at width 1."""
    inputs = in_shape[0] * in_shape[1] * in_shape[2]
    h1, h2 = (max(1, round(width * n)) for n in (512, 256))
    return nn.Sequential(
        OrderedDict(
            flatten=nn.Flatten(),
            fc1=nn.Linear(inputs, h1),
            act1=activation(),
            fc2=nn.Linear(h1, h2),
            act2=activation(),
            fc3=nn.Linear(h2, classes),
        )
    )


def _narrow(net, channels: Sequence[int], classes: int) -> None:
    """Give torchvision's ResNet-18 `net`, whose widths are fixed, four stages of these numbers of channels."""
    from torchvision.models.resnet import BasicBlock

    net.inplanes, net.bn1 = channels[0], nn.BatchNorm2d(channels[0])
    for number, planes in enumerate(channels, 1):
        setattr(net, f"layer{number}", net._make_layer(BasicBlock, planes, 2, stride=1 if number == 1 else 2))
    net.fc = nn.Linear(channels[-1], classes)
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")


def _resnet18(in_shape, classes, width, activation) -> nn.Module:
    """torchvision's ResNet-18 (He et al. 2016) with the CIFAR stem: a 3×3 stride-1 convolution and no max-pooling."""
    import torchvision  # here, because it takes a second to import

    net = torchvision.models.resnet18(weights=None, num_classes=classes)
    if width != 1:
        _narrow(net, [max(1, round(width * n)) for n in (64, 128, 256, 512)], classes)
    first = net.bn1.num_features
    net.conv1 = nn.Conv2d(in_shape[0], first, 3, stride=1, padding=1, bias=False)
    nn.init.kaiming_normal_(net.conv1.weight, mode="fan_out", nonlinearity="relu")  # as torchvision starts its own
    net.maxpool = nn.Identity()
    return net


GROUPS = 8  # of channels, in a group normalisation; fewer where the channels do not divide by it


def _resnet18_gn(in_shape, classes, width, activation) -> nn.Module:
    """The same network and first weights with group normalisation (Wu & He 2018), where no image of a batch acts on another."""
    net = _resnet18(in_shape, classes, width, activation)
    for parent in list(net.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.BatchNorm2d):
                channels = child.num_features
                setattr(parent, name, nn.GroupNorm(math.gcd(GROUPS, channels), channels))
    return net


def _vit(in_shape, classes, width, activation) -> nn.Module:
    """A small vision transformer: patches of 4×4, 6 blocks of 3 heads and 192 channels at width 1."""
    return VisionTransformer(in_shape, classes, channels=3 * max(1, round(width * 64)), activation=activation)


ARCHITECTURES = {"cnn": _cnn, "mlp": _mlp, "resnet18": _resnet18, "resnet18-gn": _resnet18_gn, "vit": _vit}


def _check_statistics(mean: Sequence[float], std: Sequence[float], channels: int) -> None:
    if len(mean) not in (1, channels) or len(std) != len(mean) or not min(std) > 0:
        raise ValueError(f"scaling must give {channels} means and as many deviations above 0; got {mean} and {std}")


def check(name: str, *, width: float, activation: str) -> None:
    """A ValueError in one sentence if there is no such model."""
    if name not in ARCHITECTURES:
        raise ValueError(f"model must be one of {', '.join(ARCHITECTURES)}; got {name!r}")
    if activation not in ACTIVATIONS:
        raise ValueError(f"activation must be one of {', '.join(ACTIVATIONS)}; got {activation!r}")
    if not 0 < width < math.inf:
        raise ValueError(f"width must be a finite number above 0, got {width}")
    if name.startswith("resnet18") and activation != "relu":
        raise ValueError(f"{name} comes with activation 'relu' only; got {activation!r}")


def build(
    name: str,
    in_shape: Sequence[int],
    classes: int,
    *,
    width: float = 1.0,
    activation: str = "relu",
    scaling: str | tuple[Sequence[float], Sequence[float]] = "symmetric",
    seed: int | None = None,
) -> Classifier:
    """A freshly initialised classifier, on the CPU.

    name: "cnn", "mlp", "resnet18", "resnet18-gn" or "vit"; in_shape: (C, H, W); classes: K; width: factor on all layer widths
    activation: "relu", "softplus" (beta 10), "silu" or "gelu"
    scaling: "symmetric" to [−1, 1] (the paper's), "unit" for none, or (mean, std) per channel
    seed: initialise from this seed, leaving the global generator as it was; None draws from the global generator
    """
    check(name, width=width, activation=activation)
    if len(in_shape) != 3 or min(in_shape) < 1 or classes < 2:
        raise ValueError(f"in_shape must be (C, H, W) and classes at least 2; got {tuple(in_shape)} and {classes}")
    if isinstance(scaling, str) and scaling not in SCALINGS:
        raise ValueError(f"scaling must be one of {', '.join(SCALINGS)} or a (mean, std) pair; got {scaling!r}")
    if not isinstance(scaling, str):
        _check_statistics(*scaling, channels=in_shape[0])
    shift, scale = {"symmetric": ([0.5], [0.5]), "unit": ([0.0], [1.0])}[scaling] if isinstance(scaling, str) else scaling
    with torch.random.fork_rng(devices=[], enabled=seed is not None):
        if seed is not None:
            torch.manual_seed(seed)
        body = ARCHITECTURES[name](in_shape, classes, width, ACTIVATIONS[activation])
    return Classifier(body, in_shape, shift, scale)


def restore(
    name: str, in_shape: Sequence[int], classes: int, weights: Mapping[str, Tensor], *, width: float = 1.0, activation: str = "relu"
) -> Classifier:
    """The classifier of `build` with `weights`, a state dict of such a one, scaling among them; on the CPU, in eval mode."""
    scaling = weights["shift"].flatten().tolist(), weights["scale"].flatten().tolist()
    model = build(name, in_shape, classes, width=width, activation=activation, scaling=scaling, seed=0)
    model.load_state_dict(weights)
    return model.eval()
