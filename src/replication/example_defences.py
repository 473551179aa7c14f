"""Defences to try the chapter "Test your own defence" on: functions without arguments that return what it evaluates.

Such a function returns (model, x, y): any nn.Module from images in [0, 1] to logits, images (N, C, H, W) and labels
(N,); or (model, name) with the name of a data set, whose test images are then used.
"""

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

from deepdefense import data, models


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
