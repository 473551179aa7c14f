"""Nets whose robustness is an illusion, made on purpose, and two honest ones of the same kind, on the digits.

`plain` and `pgd_trained` are honest. The masked ones are `k_winners` (trained with a discontinuous activation), and
three that wrap the plain net: `loud` (logits × 10⁴), `quantised` (input rounded, no gradient) and `noisy` (in every
pass).
"""

from functools import cache

import torch
from torch import nn

from deepdefense import data
from deepdefense.masking import substitutes

EPS = 0.1


class KWinners(nn.Module):
    """Keeps the largest `share` of all activations of an image and sets the others to zero (Xiao et al. 2020)."""

    def __init__(self, share):
        super().__init__()
        self.share = share

    def forward(self, x):
        flat = x.flatten(1)
        k = max(1, round(self.share * flat.shape[1]))
        threshold = flat.topk(k, dim=1).values[:, -1:]
        return (flat * (flat >= threshold)).view_as(x)


def small_net(activation, seed=0, hidden=64):
    """A net for the digits, (B, 1, 8, 8) -> (B, 10)."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Flatten(),
            nn.Linear(64, hidden),
            activation(),
            nn.Linear(hidden, hidden),
            activation(),
            nn.Linear(hidden, 10),
        )


class Loud(nn.Module):
    """Logits × 10⁴: the softmax is saturated, cross-entropy has no gradient."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, x):
        return 1e4 * self.model(x)


class Quantised(nn.Module):
    """Each pixel rounded to one of `levels` values: the gradient is zero wherever it is defined."""

    def __init__(self, model, levels=8):
        super().__init__()
        self.model, self.levels = model, levels

    def forward(self, x):
        return self.model(torch.round(x * (self.levels - 1)) / (self.levels - 1))


class Noisy(nn.Module):
    """Gaussian noise on the image in every forward pass, in eval mode too."""

    def __init__(self, model, sigma=0.25):
        super().__init__()
        self.model, self.sigma = model, sigma

    def forward(self, x):
        return self.model((x + self.sigma * torch.randn_like(x)).clamp(0, 1))


@cache
def digits():
    return data.load("digits")


@cache
def plain():
    train = digits().train
    return substitutes.plain(small_net(nn.ReLU), train.images(), train.y, steps=300, lr=3e-3)


@cache
def pgd_trained():
    train = digits().train
    return substitutes.adversarial(small_net(nn.ReLU), train.images(), train.y, eps=EPS, steps=400, lr=3e-3)


@cache
def k_winners():
    train = digits().train
    net = small_net(lambda: KWinners(0.15), hidden=128)
    return substitutes.plain(net, train.images(), train.y, steps=400, lr=3e-3)


def loud():
    return Loud(plain())


def quantised():
    return Quantised(plain())


def noisy():
    return Noisy(plain())
