"""Models and attacks for the tests of the evaluation: what is robust, and by how much, is known."""

import time

import torch
from torch import nn

from deepdefense import attacks


class Linear(nn.Module):
    """K classes, logits W x + b: the distance to class k is (z_y − z_k) / ‖w_y − w_k‖, with the norm dual to that of
    the ball."""

    def __init__(self, shape=(1, 5, 5), classes=4, seed=0, dtype=torch.float64):
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        pixels = shape[0] * shape[1] * shape[2]
        self.W = nn.Parameter(torch.randn(classes, pixels, generator=generator, dtype=dtype))
        self.b = nn.Parameter(-self.W.detach().sum(1) / 2)  # classes meet in mid-grey, far from the box

    def forward(self, x):
        return x.flatten(1) @ self.W.T + self.b

    @torch.no_grad()
    def distance(self, x, y, norm):
        """Exact distance to the nearest other class, where [0, 1] is not in the way, (N,)."""
        z, dual = self(x), {"linf": 1, "l2": 2}[norm]
        gap = z.gather(1, y[:, None]) - z
        reach = gap / (self.W[y][:, None] - self.W[None]).norm(dual, dim=2).clamp(min=1e-30)
        return reach.scatter(1, y[:, None], torch.inf).amin(1)


class Small(nn.Module):
    """A convolution and a linear layer on (3, 6, 6) images, 10 classes."""

    def __init__(self, classes=10, seed=0):
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.conv, self.head = nn.Conv2d(3, 6, 3, stride=2, padding=1), nn.Linear(54, classes)

    def forward(self, x):
        return 5 * self.head(torch.relu(self.conv(2 * x - 1)).flatten(1))


class Masked(nn.Module):
    """`model` behind a step: "round" quantises the image and so has zero gradient, "noise" adds noise,
    "probabilities" ends in softmax, "detached" has no gradient at all, "nan" answers NaN to bright images, "batch"
    mixes the images of a batch."""

    def __init__(self, model, step, scale=1.0):
        super().__init__()
        self.model, self.step, self.scale = model, step, scale

    def forward(self, x):
        if self.step == "round":
            x = (x * 8).round() / 8
        elif self.step == "noise":
            x = x + self.scale * torch.randn_like(x)
        elif self.step == "detached":
            x = x.detach()
        elif self.step == "batch":
            x = x + x.mean(0, keepdim=True)
        z = self.model(x)
        if self.step == "probabilities":
            z = z.softmax(1)
        elif self.step == "nan":
            z = torch.where((x.flatten(1).amax(1) > 0.97)[:, None], torch.nan, z)
        return z


def around_grey(n=12, shape=(1, 5, 5), seed=1, spread=0.05, dtype=torch.float64):
    """Images (n, *shape) within `spread` of mid-grey."""
    generator = torch.Generator().manual_seed(seed)
    return 0.5 + spread * (2 * torch.rand(n, *shape, generator=generator, dtype=dtype) - 1)


def labelled(model, x, wrong=()):
    """(x, y) with the labels that `model` gives, but for the images `wrong`."""
    with torch.no_grad():
        z = model(x)
    y = z.argmax(1)
    for index in wrong:
        y[index] = (y[index] + 1) % z.shape[1]
    return x, y


def small_images(n=12, seed=2, wrong=(1,)):
    """(model, x, y): a `Small` net with float32 images, of which it gets `wrong` wrong."""
    model = Small()
    x = torch.rand(n, 3, 6, 6, generator=torch.Generator().manual_seed(seed))
    return model, *labelled(model, x, wrong)


def slow(model, x, y, *, eps, seed=0):
    """Random-start PGD that takes its time, so that it can be killed."""
    time.sleep(0.3)
    return attacks.loss_pgd(model, x, y, eps=eps, steps=3, seed=seed)


def steepest(model, x, y, *, seed=0):
    """Of minimum norm: along the margin's gradient to the boundary and a little beyond, which a linear model takes
    one step for and a bent one a few; the clean image where that fails."""
    x_adv, fooled = x.clone(), torch.zeros(len(x), dtype=torch.bool)
    for _ in range(15):
        x_adv.requires_grad_()
        z = model(x_adv)
        gap = z.gather(1, y[:, None]).squeeze(1) - z.scatter(1, y[:, None], -torch.inf).amax(1)
        (g,) = torch.autograd.grad(gap.sum(), x_adv)
        fooled = z.argmax(1) != y
        step = (1.02 * gap.detach() / g.flatten(1).square().sum(1)).masked_fill(fooled, 0).view(-1, 1, 1, 1) * g
        x_adv = (x_adv.detach() - step).clamp(0, 1)
    return torch.where(fooled.view(-1, 1, 1, 1), x_adv, x)
