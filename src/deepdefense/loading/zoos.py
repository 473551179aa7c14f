"""Networks of other libraries by name, and what they lack: weights that somebody trained, and the scaling of the images."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from ..arguments import is_number
from . import weights

USUAL = 1000  # classes of ImageNet
IMAGENET = "--mean 0.485,0.456,0.406 --std 0.229,0.224,0.225"


class Scaled(nn.Module):
    """`network((x − mean) / std)`: x (B, C, H, W) in [0, 1] -> logits. mean, std: one number each, or one a channel."""

    mean: Tensor
    std: Tensor

    def __init__(self, network: nn.Module, mean: Sequence[float], std: Sequence[float]):
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32).view(-1, 1, 1))
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32).view(-1, 1, 1))
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        return self.network((x - self.mean) / self.std)


def check_scaling(mean: Sequence[float] | None, std: Sequence[float] | None) -> None:
    """A ValueError unless both are None, or lists of as many numbers, std above 0."""
    if mean is None and std is None:
        return
    good = mean is not None and std is not None and len(mean) == len(std) > 0 and all(map(is_number, (*mean, *std))) and min(std) > 0
    if not good:
        raise ValueError(f"mean and std must be given together, one number each or one a channel, std above 0; got {mean} and {std}")


def _torchvision(name: str, classes: int) -> nn.Module:
    import torchvision  # here, because it takes a second to import

    known = torchvision.models.list_models(module=torchvision.models)
    if name not in known:
        raise ValueError(f"torchvision has no classifier {name!r}; it has {', '.join(known[:4])}, … (torchvision.models.list_models())")
    network: nn.Module = torchvision.models.get_model(name, weights=None, num_classes=classes)
    return network


def _timm(name: str, classes: int) -> nn.Module:
    try:
        import timm
    except ImportError as error:
        raise ValueError(f"timm:{name} needs the package timm, which is not installed: pip install timm ({error})") from error
    if name not in timm.list_models():
        raise ValueError(f"timm has no model {name!r}; timm.list_models() names those that it has")
    network: nn.Module = timm.create_model(name, pretrained=False, num_classes=classes)
    return network


ZOOS = {"torchvision": _torchvision, "timm": _timm}


def network(zoo: str, name: str, classes: int | None, state: Mapping[str, Tensor] | None, scaled: bool) -> nn.Module:
    """The network `name` of the library `zoo`, with random weights, in eval mode, on the CPU.

    classes: by default as many as the weights have
    state, scaled: the weights that will be put into it, and whether the scaling of its images is known. Where one of them is
    missing a ValueError says how to give it: neither is guessed, since an evaluation of the wrong one looks like any other
    """
    made = ZOOS[zoo](name, classes or USUAL)  # first, so that a wrong name is said before what it lacks
    if state is None:
        raise ValueError(f"{zoo}:{name} comes without weights, and an untrained network is no defence: give --weights FILE")
    if not scaled:
        raise ValueError(
            f"{zoo}:{name} has no scaling of the images inside; say which one it was trained with: {IMAGENET} is ImageNet's, "
            "--mean 0 --std 1 leaves images in [0, 1] as they are"
        )
    found = weights.classes(made, state) if classes is None else None
    return (made if found in (None, USUAL) else ZOOS[zoo](name, found)).eval()
