"""Small networks and data for the tests, none of them built by the library: what a user would bring along."""

import random
from dataclasses import replace

import numpy as np
import torch
from torch import nn

from deepdefense import data


class TwoLayer(nn.Module):
    """W₂ tanh(W₁ x + b₁) + b₂ on vectors; its layers have names of their own."""

    def __init__(self, inputs=5, hidden=4, classes=3):
        super().__init__()
        self.encoder = nn.ModuleDict({"dense": nn.Linear(inputs, hidden)})
        self.head = nn.Linear(hidden, classes)

    def forward(self, x):
        return self.head(torch.tanh(self.encoder["dense"](x)))


class Residual(nn.Module):
    """One hidden tensor feeds two layers, whose outputs are added."""

    def __init__(self):
        super().__init__()
        self.stem, self.main, self.shortcut = nn.Linear(5, 4), nn.Linear(4, 4), nn.Linear(4, 4, bias=False)
        self.head = nn.Linear(4, 3)

    def forward(self, x):
        h = torch.tanh(self.stem(x))
        return self.head(torch.tanh(self.main(h) + self.shortcut(h)))


class Shared(nn.Module):
    """The same layer runs twice, each time on another tensor."""

    def __init__(self):
        super().__init__()
        self.twice, self.head = nn.Linear(5, 5), nn.Linear(5, 3)

    def forward(self, x):
        return self.head(torch.tanh(self.twice(torch.tanh(self.twice(x)))))


class Normalised(nn.Module):
    """Convolution, batch normalisation and dropout on images of any size, for what depends on the mode."""

    def __init__(self, channels=1, classes=10, dropout=0.0):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(channels, 4, 3, stride=2, padding=1), nn.BatchNorm2d(4)
        self.drop, self.head = nn.Dropout(dropout), nn.Linear(4, classes)

    def forward(self, x):
        h = torch.relu(self.norm(self.conv(x)))
        return self.head(self.drop(h.mean((2, 3))))


class Plane(nn.Module):
    """Two classes divided by w·x + b = 0, class 1 on the positive side. No parameters: w and b are plain tensors."""

    def __init__(self, w, b):
        super().__init__()
        self.w, self.b = w, b

    def forward(self, x):
        score = x.flatten(1) @ self.w + self.b
        return torch.stack([torch.zeros_like(score), score], 1)


def seeded(make, seed=0):
    """`make()` with weights from `seed`, in float64."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return make().double()


def vectors(n=6, inputs=5, classes=3, seed=0):
    """(x (n, inputs) float64 in [0, 1], y (n,))"""
    generator = torch.Generator().manual_seed(seed)
    x = torch.rand(n, inputs, generator=generator, dtype=torch.float64)
    return x, torch.randint(classes, (n,), generator=generator)


def images(n=6, shape=(1, 6, 6), classes=3, seed=0):
    """(x (n, *shape) float32 in [0, 1], y (n,))"""
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(n, *shape, generator=generator), torch.randint(classes, (n,), generator=generator)


def digits(train=200, val=50, test=100):
    """The first images of each part of the digits."""
    full = data.load("digits")
    return replace(full, train=full.train[:train], val=full.val[:val], test=full.test[:test])


def global_random_state():
    """The state of every global generator of the CPU, comparable with ==."""
    name, keys, *rest = np.random.get_state()  # noqa: NPY002 (the legacy state is what a library might touch)
    return torch.get_rng_state().tolist(), (name, keys.tolist(), rest), random.getstate()


def hooks(model):
    """How many hooks the modules of `model` carry."""
    return sum(len(m._forward_pre_hooks) + len(m._forward_hooks) + len(m._backward_hooks) for m in model.modules())
