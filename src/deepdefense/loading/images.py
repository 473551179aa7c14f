"""Images to test a defence on: a data set by its name, or a file of one's own."""

import zipfile
import zlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from .. import data

KEYS = (("x", "y"), ("images", "labels"), ("x_test", "y_test"))
CHANNELS = (1, 3)


def load(name: str) -> tuple[Tensor, Tensor, str]:
    """(x (N, C, H, W), y (N,), what they are called) of a data set's test images, or of an .npz file.

    name: one of `deepdefense.data`, or the path of a file with arrays x and y (or images and labels, or x_test and y_test): x float,
    in [0, 1], channels before height and width, y whole numbers. A ValueError says what else it was
    """
    if name in data.SPECS:
        test = data.load(name).test
        return test.images(), test.y, name
    path = Path(name).expanduser()
    if path.suffix != ".npz":
        raise ValueError(f"data must be one of {', '.join(data.SPECS)}, or an .npz file of your own; got {name!r}")
    x, y = _arrays(path)
    if x.ndim == 4 and x.shape[-1] in CHANNELS and x.shape[1] not in CHANNELS:
        raise ValueError(f"{path}: images must be (N, C, H, W), and {x.shape} looks like (N, H, W, C); give x.transpose(0, 3, 1, 2)")
    if x.dtype.kind == "f" and x.dtype not in (np.float32, np.float64):
        raise ValueError(f"{path}: images must be float32 or float64 in [0, 1], got {x.dtype}")
    for what, array in (("images", x), ("labels", y)):
        if array.dtype.kind not in "fiub":
            raise ValueError(f"{path}: {what} must be numbers, got {array.dtype}")
    return torch.from_numpy(x), torch.from_numpy(y), path.name


def _arrays(path: Path) -> tuple[np.ndarray, np.ndarray]:
    try:
        with np.load(path, allow_pickle=False) as arrays:
            for names in KEYS:
                if set(names) <= set(arrays.files):
                    x, y = (np.ascontiguousarray(arrays[name]) for name in names)
                    return x, y
            held = ", ".join(arrays.files) or "nothing"
    except (OSError, EOFError, ValueError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(f"data: {path} cannot be read as npz ({error})") from error
    wanted = ", or ".join(" and ".join(names) for names in KEYS)
    raise ValueError(f"data: {path} must hold arrays {wanted}; it holds {held}")
