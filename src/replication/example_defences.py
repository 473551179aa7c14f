"""Defences to try the chapter "Test your own defence" on: functions without arguments that return what it evaluates.

Such a function returns (model, x, y): any nn.Module from images in [0, 1] to logits, images (N, C, H, W) and labels
(N,); or (model, name) with the name of a data set, whose test images are then used.
"""

from pathlib import Path

import numpy as np
import safetensors.torch
import torch
import torch.nn.functional as F
from torch import nn

from deepdefense import data, models
from deepdefense.masking import substitutes


def plain_digits() -> tuple[nn.Module, str]:
    """A small CNN trained without any defence on scikit-learn's digits, in a few seconds."""
    digits = data.load("digits")
    model = models.build("cnn", digits.in_shape, classes=10, width=0.5, seed=0)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    generator = torch.Generator().manual_seed(0)
    for _ in range(5):
        for x, y in data.batches(digits.train, 64, generator=generator):
            loss = F.cross_entropy(model(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return model.eval(), "digits"


def trained_resnet18() -> tuple[nn.Module, str]:
    """The CIFAR-10 ResNet-18 that the package pyautoattack carries: a model that no one here trained.

    The package does not say how it was trained. Not adversarially at 8/255: that leaves nothing of it (data/results/checked).
    """
    import pyautoattack
    from pyautoattack.examples.resnet import ResNet18

    model = ResNet18()
    weights = Path(pyautoattack.__file__).parent / "examples" / "model_test.pt"
    model.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
    return model.eval(), "cifar10"


class Quantised(nn.Module):
    """`model` on images whose pixels are rounded to one of `levels` values: the gradient is zero wherever there is one."""

    def __init__(self, model: nn.Module, levels: int = 8):
        super().__init__()
        self.model, self.levels = model, levels

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.model((x * (self.levels - 1)).round() / (self.levels - 1))


def quantised_digits() -> tuple[nn.Module, str]:
    """The network of `plain_digits` behind a rounding of its images: a defence that masks the gradient and defends nothing."""
    model, dataset = plain_digits()
    return Quantised(model).eval(), dataset


def trained_digits() -> tuple[nn.Module, str]:
    """A small CNN after adversarial training on digits (Madry et al. 2018), at eps 0.1, in some seconds: an honest defence."""
    digits = data.load("digits")
    fresh = models.build("cnn", digits.in_shape, classes=10, width=0.5, seed=0)
    return substitutes.adversarial(fresh, digits.train.images(), digits.train.y, eps=0.1, steps=120, lr=3e-3), "digits"


COLOUR_SCALING = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}


def torchvision_digits(folder: Path) -> tuple[Path, Path]:
    """torchvision's ResNet-18, trained on digits in three equal colours, as people have such a network: (weights, images).

    In `folder`: its state dict as net.safetensors, and the test images as digits.npz. The images were scaled as ImageNet's are.
    """
    import torchvision

    digits = data.load("digits")
    mean, std = (torch.tensor(COLOUR_SCALING[name]).view(3, 1, 1) for name in ("mean", "std"))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = torchvision.models.resnet18(num_classes=10)
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)
    generator = torch.Generator().manual_seed(0)
    for _ in range(2):
        for x, y in data.batches(digits.train, 64, generator=generator):
            loss = F.cross_entropy(net((x.expand(-1, 3, -1, -1) - mean) / std), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    weights, images = folder / "net.safetensors", folder / "digits.npz"
    safetensors.torch.save_file(net.state_dict(), weights)
    np.savez(images, x=digits.test.images().expand(-1, 3, -1, -1).numpy(), y=digits.test.y.numpy())
    return weights, images
