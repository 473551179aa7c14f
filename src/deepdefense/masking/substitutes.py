"""Networks to attack in a defence's stead: trained plainly, adversarially, to imitate it; or itself, undefended.

Each function leaves the network that it is given as it was and returns a trained copy in eval mode. Images (N, C, H,
W) in [0, 1], labels (N,); the global random state is kept; the result depends on `seed`. A `Schedule` as keywords says
how long and how fast it is trained.
"""

import sys
from collections.abc import Callable
from copy import deepcopy
from functools import partial
from pathlib import Path
from typing import TypedDict, Unpack, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm import tqdm

from .. import data, models
from ..arguments import check_whole
from ..attacks.contract import check_inputs
from ..attacks.projected_gradient import loss_pgd
from ..inference import frozen, seeded, untrainable
from ..losses import get_loss
from ..storage import code_files
from ..storage.identity import class_fingerprint, function_fingerprint, model_answers
from ..storage.resumable import Piece, Pieces, fingerprint, model_fingerprint

BatchLoss = Callable[[nn.Module, Tensor, Tensor], Tensor]


class Schedule(TypedDict, total=False):
    """steps of Adam on batches of batch_size drawn at random with `seed`; lr falls to 0 along a cosine."""

    steps: int
    lr: float
    batch_size: int
    seed: int


def _trained(
    network: nn.Module,
    x: Tensor,
    y: Tensor,
    batch_loss: BatchLoss,
    *,
    steps: int = 500,
    lr: float = 1e-3,
    batch_size: int = 128,
    seed: int = 0,
    name: str = "the network",
) -> nn.Module:
    """A copy of `network`, called `name` in messages, after training on `batch_loss` by the schedule (see `Schedule`)."""
    check_inputs(network, x, y, 0)
    check_whole(steps=steps)
    if len(x) == 0:
        raise ValueError("no images to train on")
    if reason := untrainable(network, thawed=True):
        raise ValueError(f"{name} ({type(network).__name__}) cannot be trained: {reason}")
    with seeded(x.device, seed), torch.enable_grad():
        copy = deepcopy(network).train()
        for parameter in copy.parameters():
            parameter.requires_grad_()
            parameter.grad = None
        optimizer = torch.optim.Adam(copy.parameters(), lr=lr)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
        for step in range(steps):
            index = torch.randint(len(x), (min(batch_size, len(x)),), device=x.device)
            loss = batch_loss(copy, x[index], y[index])
            if not torch.isfinite(loss.detach()):
                _check_answers(network, x[index], name)
                if step == 0:
                    raise ValueError(f"the loss of a substitute is {loss.item()} before its first step, whatever the lr")
                raise ValueError(f"the loss of a substitute became {loss.item()}; take a lower lr than {lr:g}")
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            schedule.step()
    optimizer.zero_grad(set_to_none=True)
    return copy.eval()


@torch.no_grad()
def _check_answers(model: nn.Module, x: Tensor, name: str) -> None:
    """A ValueError that says so if `model` itself, before any training, has no finite logits on some of the images x."""
    with frozen(model):
        bad = (~model(x).isfinite()).any(1)
    if bad.any():
        raise ValueError(
            f"{name} ({type(model).__name__}) has NaN or infinite logits on {int(bad.sum())} of {len(x)} training images as it was "
            "given, so that no substitute can be trained from it"
        )


def plain(network: nn.Module, x_train: Tensor, y_train: Tensor, *, loss: str = "ce", **schedule: Unpack[Schedule]) -> nn.Module:
    """`network` trained on without any defence, 500 steps by default. Given a fresh network, that is a plain substitute."""
    return _trained(network, x_train, y_train, _mean(loss), **schedule)


def _mean(loss: str) -> BatchLoss:
    objective = get_loss(loss)
    return lambda copy, x, y: objective(copy(x), y).mean()


def undefended(model: nn.Module, x_train: Tensor, y_train: Tensor, *, loss: str = "ce", **schedule: Unpack[Schedule]) -> nn.Module:
    """The defended `model`'s own weights, fine-tuned without the defence: 200 steps at lr 3e-4 by default.

    What the defence did to the gradients wears off before the features do, so its attacks fit the model well.
    """
    return _trained(model, x_train, y_train, _mean(loss), name="the model", **({"steps": 200, "lr": 3e-4} | schedule))


def adversarial(
    network: nn.Module,
    x_train: Tensor,
    y_train: Tensor,
    *,
    eps: float,
    attack_steps: int = 7,
    loss: str = "ce",
    **schedule: Unpack[Schedule],
) -> nn.Module:
    """`network` after adversarial training with L∞ PGD (Madry et al. 2018)."""
    objective = get_loss(loss)
    generator = torch.Generator(x_train.device).manual_seed(schedule.get("seed", 0))

    def batch_loss(copy: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        x_adv = loss_pgd(copy, x, y, eps=eps, steps=attack_steps, loss=loss, keep_best=False, generator=generator)
        return objective(copy(x_adv), y).mean()

    return _trained(network, x_train, y_train, batch_loss, **schedule)


def distilled(model: nn.Module, network: nn.Module, x_train: Tensor, *, noise: float = 0.1, **schedule: Unpack[Schedule]) -> nn.Module:
    """`network` trained to give `model`'s class probabilities, on images with uniform noise of ±`noise` added.

    The noise shows the model around the images, where attacks go. Kullback–Leibler divergence of softmax(logits).
    """

    def batch_loss(copy: nn.Module, x: Tensor, _: Tensor) -> Tensor:
        x = (x + noise * (2 * torch.rand_like(x) - 1)).clamp(0, 1)
        with frozen(model), torch.no_grad():
            logits = model(x)
            target = F.log_softmax(logits.to(torch.promote_types(logits.dtype, torch.float32)), 1)
        if not target.isfinite().all():
            _check_answers(model, x, "the model")
        return F.kl_div(F.log_softmax(copy(x), 1), target, log_target=True, reduction="batchmean")

    y = torch.zeros(len(x_train), dtype=torch.long, device=x_train.device)
    return _trained(network, x_train, y, batch_loss, **schedule)


def standard_set(
    model: nn.Module,
    make: Callable[[], nn.Module],
    x_train: Tensor,
    y_train: Tensor,
    *,
    eps: float,
    folder: str | Path | None = None,
    **schedule: Unpack[Schedule],
) -> dict[str, nn.Module]:
    """Three substitutes for `model`, each from a fresh network of `make()`: plain, adversarially trained, distilled.

    folder: each is kept there as soon as it is trained, and read next time, as long as `make` gives the same network and the
    code is the same; for another model, other images or another schedule, a folder that is in use is a ValueError
    """
    ways = {
        "plain": lambda fresh: plain(fresh, x_train, y_train, **schedule),
        "adversarially trained": lambda fresh: adversarial(fresh, x_train, y_train, eps=eps, **schedule),
        "distilled": lambda fresh: distilled(model, fresh, x_train, **schedule),
    }
    identity = {"images": fingerprint(x_train, y_train), "model": model_fingerprint(model), "eps": eps, **schedule}
    said = None if folder is None else model_answers(model, x_train, eps=eps)
    pieces, found = Pieces(folder, identity, answers=said), {}
    code = None
    if folder is not None:  # a random model's answers do not tell what it holds beside its weights
        code = [code_files.fingerprint(code_files.files_of(__name__)), class_fingerprint(model), None if said else model]
    for number, (name, way) in enumerate(ways.items()):
        with seeded(x_train.device, schedule.get("seed", 0) + number):
            network = make().to(x_train.device).eval()
        where = name.replace(" ", "-")
        if folder is not None:
            where += f"-{function_fingerprint([network, code])[:8]}"
        weights, _ = pieces.get(where, partial(_weights, way, network))
        network.load_state_dict(weights)
        found[name] = network
    pieces.say_taken()
    return found


def _weights(way: Callable[[nn.Module], nn.Module], network: nn.Module) -> Piece:
    return way(network).state_dict(), {}


def for_data(
    model: nn.Module,
    dataset: str,
    *,
    eps: float,
    loss: str = "ce",
    folder: str | Path | None = None,
    **schedule: Unpack[Schedule],
) -> dict[str, nn.Module]:
    """`standard_set` of the book's CNN for a model of the data set of that name, and the model itself "undefended".

    loss: that the model was trained with; folder: as in `standard_set`. The last is left out, which is said, where no copy of the model
    can be trained
    """
    images = data.load(dataset)
    device = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
    x, y = images.train.images().to(device), images.train.y.to(device)
    found = standard_set(model, lambda: models.build("cnn", images.in_shape, len(images.classes)), x, y, eps=eps, folder=folder, **schedule)
    if reason := untrainable(model, thawed=True):
        tqdm.write(f"no undefended copy of the model is made to transfer from: {reason}", file=sys.stderr)
        return found
    tuned = cast("Schedule", {key: value for key, value in schedule.items() if key in ("batch_size", "seed")})
    return found | {"undefended": undefended(model, x, y, loss=loss, **tuned)}
