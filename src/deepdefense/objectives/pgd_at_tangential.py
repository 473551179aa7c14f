"""Adversarial training with a tangential penalty: `pgd_at` on attacked images, lam · ‖g_t‖² of `tangential_gnr` on the clean ones."""

from ..losses import get_loss
from . import pgd_at
from .tangential_gnr import tangential_square

OPTIONS = pgd_at.OPTIONS


def objective(model, x, y, step, *, loss="mse", eps=8 / 255, attack_steps=7, alpha=2 / 255):
    task, log = pgd_at.objective(model, x, y, step, loss=loss, eps=eps, attack_steps=attack_steps, alpha=alpha)
    penalty = tangential_square(model, x, y, get_loss(loss))[1].mean()
    return task + step.lam * penalty, {**log, "penalty": penalty.detach()}
