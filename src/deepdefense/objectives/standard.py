"""Plain training: the mean of the loss, nothing else."""

from ..arguments import one_of
from ..losses import LOSSES, get_loss

OPTIONS = {"loss": one_of(LOSSES)}


def objective(model, x, y, step, *, loss="mse"):
    value = get_loss(loss)(model(x), y).mean()
    return value, {"task": value.detach()}
