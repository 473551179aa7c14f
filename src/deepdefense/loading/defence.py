"""A defence by its name: the model, what it is to be tested on, and where both come from.

"my_defence.py:make" or "package.module:make" name a function without arguments that returns one of

    model, x, y            any nn.Module from images in [0, 1] to logits, images (N, C, H, W), labels (N,)
    model, "cifar10"       the model and a data set of `deepdefense.data`, whose test images are taken
    model                  the model alone: the images are named by `images`

"torchvision:resnet18" and "timm:NAME" name networks of these libraries; their weights come from a file.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from ..arguments import check_choice, whole
from ..data import SPECS
from ..data import load as load_data
from . import code, images, weights, zoos

MISSING = "say on which images to test it: --data digits, cifar10, fashion_mnist, or an .npz file with x and y"


@dataclass(frozen=True)
class Defence:
    """`model` in the mode that it came in, images `x` (N, C, H, W) and labels `y` (N,) on its device.

    name: as it was asked for; dataset: the name of the data set or file, or "own images"; weights: the file that was read, or None
    """

    model: nn.Module
    x: Tensor
    y: Tensor
    name: str
    dataset: str
    weights: str | None = None

    def to(self, device: str | torch.device) -> "Defence":
        """The same on another device."""
        return Defence(self.model.to(device), self.x.to(device), self.y.to(device), self.name, self.dataset, self.weights)


def load(
    defence: str,
    *,
    images: str | None = None,
    weights: str | Path | None = None,
    classes: int | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
) -> Defence:
    """The defence called `defence`: "file.py:callable", "module:callable", "torchvision:NAME" or "timm:NAME" (see the head of this file).

    images: a data set, or an .npz file (see `deepdefense.loading.images`), in place of what the function returns
    weights: a state dict to put into the model, a .safetensors file or one of `torch.save`
    classes: of a network by name; by default as many as the weights have
    mean, std: scaling to put before the model, for one that has none inside; images stay in [0, 1]

    ValueErrors say in one sentence what is wrong. An error of the function's own is passed on as it is.
    """
    zoo, name = _parts(defence)
    zoos.check_scaling(mean, std)
    if classes is not None and (allowed := whole(2)(classes)):
        raise ValueError(f"classes must be {allowed}; got {classes!r}")
    # a file of images is read first; a data set, which may have to be downloaded, when all else is known to be right
    given = None if images is None or images in SPECS else _images(images)
    state = None if weights is None else _weights(weights)
    if zoo is not None:
        model: nn.Module = zoos.network(zoo, name, classes, state, mean is not None)
        own: list = []
    else:
        if classes is not None:
            raise ValueError(f"classes are for torchvision:NAME and timm:NAME; {defence!r} builds its network itself")
        model, *own = _made(defence, alone=images is not None)
    if state is not None and weights is not None:
        _fill(model, state, weights)
    if mean is not None and std is not None:
        model = zoos.Scaled(model, mean, std).eval()
    if images is None and not own:
        raise ValueError(f"module {defence!r} brings no images; {MISSING}")
    if images in SPECS:
        given = _images(images)
    x, y, dataset = given or _own(defence, own)
    device = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
    if given or dataset in SPECS:
        x, y = x.to(device), y.to(device)
    return Defence(model, x, y, defence, dataset, None if weights is None else Path(weights).name)


_images, _weights, _fill = images.load, weights.read, weights.fill  # `load` has arguments of these names


def _parts(defence: str) -> tuple[str | None, str]:
    """(library, name) of a network by name, (None, the whole) of a function in a file or module."""
    if not isinstance(defence, str) or defence.count(":") != 1 or not all(defence.split(":")):
        raise ValueError(f"module must be 'module:callable' or 'file.py:callable', got {defence!r}; or torchvision:NAME, timm:NAME")
    first, second = defence.split(":")
    return (first, second) if first in zoos.ZOOS else (None, defence)


def _made(defence: str, alone: bool) -> tuple:
    """What the function returns, as a tuple that begins with the model; alone: it may be the model by itself."""
    with code.function(defence) as make:
        try:
            result = make()
        except SystemExit as error:
            raise ValueError(f"module {defence!r} made no defence: {code.ended(error)}") from error
    if isinstance(result, nn.Module):
        if not alone:
            raise ValueError(
                f"module {defence!r} must return (model, x, y) or (model, name of a data set), not {type(result).__name__} alone; "
                f"or {MISSING}"
            )
        return (result,)
    if not isinstance(result, tuple) or len(result) not in (2, 3) or not isinstance(result[0], nn.Module):
        raise ValueError(f"module {defence!r} must return (model, x, y) or (model, name of a data set), not {_shape(result)}")
    return result


def _shape(result: object) -> str:
    """What a function returned that is no defence, in words."""
    if not isinstance(result, tuple):
        return type(result).__name__
    kinds = ", ".join(f"the class {one.__name__}" if isinstance(one, type) else type(one).__name__ for one in result)
    called = isinstance(result[0], type) and issubclass(result[0], nn.Module) if result else False
    return f"a tuple of {len(result)} ({kinds})" + ("; the model is an object of its class, as in Net()" if called else "")


def _own(defence: str, own: Sequence) -> tuple[Tensor, Tensor, str]:
    """The images and labels that the function returned, and what they are called."""
    if len(own) == 2:
        x, y = own
        if not isinstance(x, Tensor) or not isinstance(y, Tensor):
            arrays = "; torch.from_numpy makes tensors of arrays" if any(isinstance(one, np.ndarray) for one in own) else ""
            raise ValueError(f"module {defence!r}: x and y must be tensors, got {type(x).__name__} and {type(y).__name__}{arrays}")
        return x, y, "own images"
    (dataset,) = own
    if not isinstance(dataset, str):
        raise ValueError(
            f"module {defence!r} must return (model, x, y), with x and y as tensors, or (model, name of a data set); "
            f"beside the model it returned one {type(dataset).__name__}"
        )
    check_choice(f"module {defence!r}: the data set", dataset, SPECS)
    test = load_data(dataset).test
    return test.images(), test.y, dataset
