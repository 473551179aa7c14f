"""Data sets as uint8 tensors, with a fixed validation part; batches are cut, cropped and flipped on the device.

`load` reads `<root>/<name>.npz`, else torchvision's archive in `<root>`, else lets torchvision download and check it.
"""

import hashlib
import shutil
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from http.client import HTTPException
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from .storage import paths

NPZ_KEYS = ("x_train", "y_train", "x_test", "y_test")
SPLIT_SEED = 20251113  # fixes which training images are validation images; never a hyper-parameter
# What numpy, zipfile, tarfile, gzip, urllib and torchvision raise for files and downloads that are not as they should be.
READ_ERRORS = (
    OSError,
    EOFError,
    ValueError,
    KeyError,
    RuntimeError,  # NotImplementedError too: a damaged zip may ask for an unknown version
    zipfile.BadZipFile,
    zlib.error,
    HTTPException,
)


class DataError(RuntimeError):
    """A data set could not be had; the message says why and what to do."""


@dataclass(frozen=True)
class Spec:
    image: tuple[int, ...]  # of one uint8 image as stored, (H, W) or (H, W, C)
    classes: tuple[str, ...]
    torchvision: str | None
    validation: int  # images taken off the training set
    published: tuple[int, int]  # training and test images as published


SPECS = {
    "cifar10": Spec(
        (32, 32, 3),
        ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
        "CIFAR10",
        5000,
        (50_000, 10_000),
    ),
    "fashion_mnist": Spec(
        (28, 28),
        ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
        "FashionMNIST",
        5000,
        (60_000, 10_000),
    ),
    "digits": Spec((8, 8), tuple("0123456789"), None, 150, (1_437, 360)),
}


@dataclass(frozen=True)
class Split:
    """Images `x` (N, C, H, W) uint8 and labels `y` (N,) int64, on one device."""

    x: Tensor
    y: Tensor

    def __len__(self) -> int:
        return len(self.y)

    def __getitem__(self, index) -> "Split":
        return Split(self.x[index], self.y[index])

    def images(self) -> Tensor:
        """All images as float32 in [0, 1]."""
        return self.x.float() / 255

    def to(self, device) -> "Split":
        return Split(self.x.to(device), self.y.to(device))


@dataclass(frozen=True)
class Dataset:
    """`train`, `val` (a fixed part of the original training set) and `test`; images are in [0, 1] once read as floats."""

    name: str
    train: Split
    val: Split
    test: Split
    classes: tuple[str, ...]
    value_range: tuple[float, float] = (0.0, 1.0)

    @property
    def in_shape(self) -> tuple[int, int, int]:
        channels, height, width = self.train.x.shape[1:]
        return channels, height, width

    def to(self, device) -> "Dataset":
        return replace(self, train=self.train.to(device), val=self.val.to(device), test=self.test.to(device))

    def fingerprint(self) -> str:
        """Sixteen hexadecimal digits that change with any image, label or part: what a run was trained and judged on."""
        digest = hashlib.sha256()
        for split in (self.train, self.val, self.test):
            for array in (split.x, split.y):
                digest.update(array.cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()[:16]

    def statistics(self) -> tuple[list[float], list[float]]:
        """Mean and standard deviation of each channel over the training images, in [0, 1] units."""
        per_channel = self.train.x.transpose(0, 1).flatten(1).double() / 255
        return per_channel.mean(1).tolist(), per_channel.std(1, correction=0).tolist()


def load(name: str, root: str | Path | None = None) -> Dataset:
    """The data set `name`: "cifar10", "fashion_mnist" or "digits" (embedded in scikit-learn, no file needed).

    root: folder to look in; default $DEEPDEFENSE_DATA, else the project's `data/`. Raises DataError with the way out if
    a file is damaged or has wrong shapes, or if nothing is there and the download fails. Leaves no partial file behind.
    """
    if name not in SPECS:
        raise ValueError(f"data set must be one of {', '.join(SPECS)}; got {name!r}")
    spec = SPECS[name]
    if spec.torchvision is None:
        return _assemble(name, _digits())
    folder = Path(root).expanduser() if root is not None else paths.data_root()
    npz = folder / f"{name}.npz"
    arrays = _read_npz(npz) if npz.exists() else _read_torchvision(name, spec.torchvision, folder)
    _check(arrays, spec, npz if npz.exists() else folder)
    return _assemble(name, arrays)


def files(name: str, root: str | Path | None = None) -> list[Path]:
    """The files that `load` would read the data set `name` from, as far as they are there; none for "digits"."""
    spec, folder = SPECS[name], Path(root).expanduser() if root is not None else paths.data_root()
    if spec.torchvision is None:
        return []
    if (npz := folder / f"{name}.npz").exists():
        return [npz]
    import torchvision

    archives = _archives(getattr(torchvision.datasets, spec.torchvision))
    return [folder / path for path, _ in archives if (folder / path).exists()]


def _digits() -> dict[str, np.ndarray]:
    """scikit-learn's copy of the UCI digits, 8×8, values 0..16 rescaled to 0..255; 360 images, always the same, for testing."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    x = np.rint(bunch.images * (255 / 16)).astype(np.uint8)
    y = bunch.target.astype(np.uint8)
    test = np.isin(np.arange(len(y)), np.random.default_rng(SPLIT_SEED).permutation(len(y))[:360])
    return dict(x_train=x[~test], y_train=y[~test], x_test=x[test], y_test=y[test])


def _read_npz(path: Path) -> dict[str, np.ndarray]:
    advice = "Delete or replace the file; without it, torchvision's own archive is used."
    try:
        with open(path, "rb") as file:
            if not zipfile.is_zipfile(file):
                raise ValueError("not a zip file")
        with np.load(path, allow_pickle=False) as arrays:
            found = {key: arrays[key] for key in NPZ_KEYS if key in arrays.files}
    except READ_ERRORS as error:
        raise DataError(f"{path} cannot be read as npz: it is damaged or incomplete ({error}). {advice}") from error
    missing = [key for key in NPZ_KEYS if key not in found]
    if missing:
        raise DataError(f"{path} lacks {', '.join(missing)}; it must hold {', '.join(NPZ_KEYS)}. {advice}")
    return found


def _archives(dataset_class) -> list[tuple[str, str]]:
    """(path below the data folder, md5) of each file that torchvision downloads for this data set."""
    if hasattr(dataset_class, "tgz_md5"):
        return [(dataset_class.filename, dataset_class.tgz_md5)]
    return [(f"{dataset_class.__name__}/raw/{file}", md5) for file, md5 in dataset_class.resources]


def _read_torchvision(name: str, class_name: str, folder: Path) -> dict[str, np.ndarray]:
    """torchvision's copy: unpacked files in `folder` where it has their checksums, else its archives, else a download."""
    import torchvision
    from torchvision.datasets.utils import check_integrity

    dataset_class = getattr(torchvision.datasets, class_name)
    archives = _archives(dataset_class)

    def read(where: Path, download: bool) -> dict[str, np.ndarray]:
        arrays = {}
        for part in ("train", "test"):
            split = dataset_class(where, train=part == "train", download=download)
            arrays[f"x_{part}"], arrays[f"y_{part}"] = np.asarray(split.data), np.asarray(split.targets)
        return arrays

    if hasattr(dataset_class, "tgz_md5"):  # CIFAR-10; of Fashion-MNIST only the archives have checksums
        try:
            return read(folder, download=False)
        except READ_ERRORS:
            pass  # not there, or not intact: unpack or fetch it
    intact = [path for path, md5 in archives if check_integrity(folder / path, md5)]
    complete = len(intact) == len(archives)
    try:
        if not complete:
            folder.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=f".{name}-download-", dir=None if complete else folder))
    except OSError as error:
        raise DataError(
            f"cannot write to the data folder {folder} ({error.strerror}), where {name} is not or not whole; set DEEPDEFENSE_DATA "
            "to a folder that holds it or that can be written"
        ) from error
    try:
        for path in intact:
            (scratch / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(folder / path, scratch / path)
        arrays = read(scratch, download=True)
        for file in [] if complete else [item for item in scratch.rglob("*") if item.is_file()]:
            target = folder / file.relative_to(scratch)
            target.parent.mkdir(parents=True, exist_ok=True)
            file.replace(target)
        return arrays
    except READ_ERRORS as error:
        raise DataError(
            f"{name} is not in {folder} and could not be downloaded ({error}). Connect to the network, or put {name}.npz "
            f"(uint8 arrays {', '.join(NPZ_KEYS)}) or torchvision's archive there, or set DEEPDEFENSE_DATA to its folder."
        ) from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _check(arrays: dict[str, np.ndarray], spec: Spec, where: Path) -> None:
    for part in ("train", "test"):
        x, y = arrays[f"x_{part}"], arrays[f"y_{part}"]
        if x.dtype != np.uint8 or x.shape[1:] != spec.image or len(x) == 0:
            wanted = ", ".join(map(str, spec.image))
            raise DataError(f"{where}: x_{part} must be uint8 of shape (N, {wanted}), got {x.dtype} {x.shape}")
        whole = y.dtype.kind in "iu" and y.shape == x.shape[:1]
        if not whole or y.min() < 0 or y.max() >= len(spec.classes):
            values = f" from {y.min()} to {y.max()}" if whole else ""
            raise DataError(
                f"{where}: y_{part} must be {len(x)} whole numbers from 0 to {len(spec.classes) - 1}, got {y.dtype} {y.shape}{values}"
            )
    if len(arrays["x_train"]) <= spec.validation:
        raise DataError(f"{where}: more than {spec.validation} training images are needed, got {len(arrays['x_train'])}")


def _assemble(name: str, arrays: dict[str, np.ndarray]) -> Dataset:
    def split(part: str) -> Split:
        x = torch.from_numpy(np.ascontiguousarray(arrays[f"x_{part}"]))
        x = x[:, None] if x.dim() == 3 else x.permute(0, 3, 1, 2).contiguous()
        return Split(x, torch.from_numpy(arrays[f"y_{part}"].astype(np.int64)))

    train, held_out = split("train"), SPECS[name].validation
    order = torch.randperm(len(train), generator=torch.Generator().manual_seed(SPLIT_SEED))
    return Dataset(name, train[order[held_out:]], train[order[:held_out]], split("test"), SPECS[name].classes)


def random_crop(x: Tensor, padding: int, generator: torch.Generator | None = None) -> Tensor:
    """Each image of x (B, C, H, W) shifted by up to `padding` pixels, zeros outside; one gather, no loop over images."""
    batch, _, height, width = x.shape
    padded = F.pad(x, (padding,) * 4)
    shift = torch.randint(0, 2 * padding + 1, (2, batch, 1), generator=generator, device=x.device)
    rows = shift[0] + torch.arange(height, device=x.device)  # (B, H)
    columns = shift[1] + torch.arange(width, device=x.device)  # (B, W)
    image = torch.arange(batch, device=x.device)[:, None, None]
    return padded.permute(0, 2, 3, 1)[image, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2).contiguous()


def random_flip(x: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Each image of x (B, C, H, W) mirrored left to right with probability 1/2."""
    chosen = torch.rand(len(x), 1, 1, 1, generator=generator, device=x.device) < 0.5
    return torch.where(chosen, x.flip(3), x)


AUGMENTATIONS = {
    "none": lambda x, generator: x,
    "crop": lambda x, generator: random_crop(x, x.shape[-1] // 8, generator),
    "crop-flip": lambda x, generator: random_flip(random_crop(x, x.shape[-1] // 8, generator), generator),
}


def batches(split: Split, batch_size: int, *, generator: torch.Generator, augment: str = "none") -> Iterator[tuple[Tensor, Tensor]]:
    """One shuffled epoch of `split`: (x float32 in [0, 1] (B, C, H, W), y (B,)), all drawn from `generator`.

    The generator must live on the split's device. augment: "none", "crop" (by up to an eighth of the width) or "crop-flip".
    """
    if augment not in AUGMENTATIONS:
        raise ValueError(f"augment must be one of {', '.join(AUGMENTATIONS)}; got {augment!r}")
    order = torch.randperm(len(split), generator=generator, device=split.y.device)
    for index in order.split(batch_size):
        x = AUGMENTATIONS[augment](split.x[index], generator)
        yield x.float() / 255, split.y[index]
