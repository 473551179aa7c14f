"""Affine and two-layer ReLU classifiers, and their exact minimal distances: every linear region is tried."""

from itertools import product

import numpy as np
import torch
from scipy.optimize import linprog, nnls
from torch import nn


class Affine(nn.Module):
    """W x + b on images of any shape."""

    def __init__(self, weight, bias):
        super().__init__()
        self.out = nn.Linear(weight.shape[1], weight.shape[0]).to(weight)
        self.out.weight.data, self.out.bias.data = weight, bias

    def forward(self, x):
        return self.out(x.flatten(1))


class ReluNet(nn.Module):
    """W₂ relu(W₁ x + b₁) + b₂ on images of any shape."""

    def __init__(self, inputs=4, hidden=5, classes=3):
        super().__init__()
        self.hidden, self.out = nn.Linear(inputs, hidden), nn.Linear(hidden, classes)

    def forward(self, x):
        return self.out(torch.relu(self.hidden(x.flatten(1))))


def affine(pixels=16, classes=4, seed=0, scale=1.0):
    """An affine classifier with normal weights; the biases make it indifferent at mid-grey."""
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(classes, pixels, generator=generator) * scale
    return Affine(weight, -weight.sum(1) / 2)


def relu_net(seed=0, **sizes):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = ReluNet(**sizes)
        nn.init.normal_(net.hidden.weight)
        nn.init.normal_(net.out.weight)
        nn.init.normal_(net.out.bias, std=0.05)
        net.hidden.bias.data = -net.hidden.weight.data.sum(1) / 2 + 0.3 * torch.randn(len(net.hidden.bias))
        return net


def greys(n, shape=(1, 4, 4), low=0.3, high=0.7, seed=0):
    """n images with pixels between low and high."""
    return low + (high - low) * torch.rand(n, *shape, generator=torch.Generator().manual_seed(seed))


def affine_distance(model, x, y, norm):
    """Distance of each image to the nearest other class of an affine model, the box left aside."""
    dual = {"linf": 1, "l2": 2, "l1": torch.inf}[norm]
    with torch.no_grad():
        logits = model(x)
        gap = logits.gather(1, y[:, None]) - logits
        size = (model.out.weight[y][:, None] - model.out.weight[None]).norm(dual, dim=2)
        return (gap / size).scatter(1, y[:, None], torch.inf).amin(1)


def _least(point, rows, bounds, norm):
    """min ‖δ‖ with rows @ (point + δ) ≤ bounds; ∞ where nothing satisfies them."""
    n, slack = len(point), bounds - rows @ point
    if norm == "l2":  # least-distance programming by non-negative least squares (Lawson & Hanson 1974, ch. 23)
        system = np.vstack([-rows.T, -slack])
        target = np.append(np.zeros(n), 1.0)
        solution, residual = nnls(system, target)
        rest = system @ solution - target
        return np.inf if residual < 1e-9 else np.linalg.norm(rest[:-1] / -rest[-1])
    eye = np.eye(n)
    sizes = np.ones((n, 1)) if norm == "linf" else eye  # one bound for all pixels, or one for each
    width = sizes.shape[1]
    upper = np.vstack([np.c_[rows, np.zeros((len(rows), width))], np.c_[eye, -sizes], np.c_[-eye, -sizes]])
    cost = np.append(np.zeros(n), np.ones(width))
    found = linprog(cost, upper, np.concatenate([slack, np.zeros(2 * n)]), bounds=(None, None), method="highs")
    return found.fun if found.success else np.inf


def exact_distance(net, x, y, norm, own_region=False):
    """Exact distance of each image to the nearest other class of a ReluNet in [0, 1]: every linear region is tried.

    own_region: only the region that the image lies in
    """
    w1, b1, w2, b2 = (p.detach().double().numpy() for p in (*net.hidden.parameters(), *net.out.parameters()))
    hidden, inputs = w1.shape
    floor = inputs**-0.5 if norm == "linf" else 1.0  # ‖δ‖∞ ≥ ‖δ‖₂/√n, ‖δ‖₁ ≥ ‖δ‖₂
    box = (np.vstack([np.eye(inputs), -np.eye(inputs)]), np.append(np.ones(inputs), np.zeros(inputs)))
    answers = []
    for point, label in zip(x.flatten(1).double().numpy(), y.tolist(), strict=True):
        faces = []
        patterns = [tuple((w1 @ point + b1 > 0).astype(int))] if own_region else product((0, 1), repeat=hidden)
        for pattern in patterns:
            side = 1.0 - 2.0 * np.array(pattern)  # active: w·x + b ≥ 0
            slope, level = (w2 * pattern) @ w1, (w2 * pattern) @ b1 + b2
            for other in set(range(len(b2))) - {label}:
                rows = np.vstack([side[:, None] * w1, slope[label] - slope[other], box[0]])
                bounds = np.concatenate([-side * b1, [level[other] - level[label]], box[1]])
                faces.append((_least(point, rows, bounds, "l2"), rows, bounds))
        best = np.inf
        for least, rows, bounds in sorted(faces, key=lambda face: face[0]):
            if least * floor < best:  # else no point of this face can be nearer
                best = min(best, least if norm == "l2" else _least(point, rows, bounds, norm))
        answers.append(best)
    return torch.tensor(answers)
