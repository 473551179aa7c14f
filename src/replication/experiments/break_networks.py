"""An adversarial batch that somebody sends in, held against the rules: which images that the report calls robust does it break?"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from deepdefense.evaluation.report import Report
from deepdefense.inference import answers

ROUNDING = 1e-6  # of a difference of two float32 images; 8/255 is 0.0314


@dataclass(frozen=True)
class BrokenImages:
    """What a batch breaks. indices: of the images sent in; wrong: which the network now gets wrong, (B,) bool; survivors: how many
    images every attack of the report had failed on; broken: the indices of those that this batch breaks."""

    indices: np.ndarray
    wrong: np.ndarray
    survivors: int
    broken: tuple[int, ...]

    def __str__(self) -> str:
        return f"{int(self.wrong.sum())} of {len(self.wrong)} images are wrong; {len(self.broken)} of {self.survivors} survivors are broken"


def check_batch(model: nn.Module, report: Report, batch: str | Path, x: Tensor, y: Tensor) -> BrokenImages:
    """Check a batch and count. A ValueError says which rule it breaks; nothing is counted then.

    batch: an npz file with "indices" (B,), whole numbers, each once, of images that the report attacked, and "images" (B, C, H, W),
    floating-point numbers in [0, 1], within the report's eps of the test images in its norm
    x, y: the first test images (N, C, H, W) in [0, 1] and their labels (N,), as many as the report has
    """
    if len(report.label) != len(y) or not np.array_equal(report.label, y.cpu().numpy()):
        raise ValueError(f"x and y must be the {len(report.label)} images of the report, in its order")
    indices, images = _read(batch)
    n, eps, norm = len(y), report.about["eps"], report.about["norm"]
    if indices.ndim != 1 or indices.dtype.kind not in "iu" or len(set(indices.tolist())) != len(indices) or not len(indices):
        raise ValueError("indices must be whole numbers, (B,), each once and at least one")
    if indices.min() < 0 or indices.max() >= n:
        raise ValueError(f"indices must be from 0 to {n - 1}, those of the report's images; got {indices.min()} to {indices.max()}")
    if images.shape != (len(indices), *x.shape[1:]) or images.dtype.kind != "f":
        wanted = (len(indices), *x.shape[1:])
        raise ValueError(f"images must be floating-point numbers of shape {wanted}; got {images.dtype}, {images.shape}")
    sent = torch.from_numpy(images.astype(np.float32))
    if not np.isfinite(images).all() or images.min() < 0 or images.max() > 1:
        raise ValueError("images must be in [0, 1] everywhere")
    delta = (sent.double() - x.cpu()[torch.from_numpy(indices.astype(np.int64))].double()).flatten(1)
    far = delta.abs().amax(1) if norm == "linf" else delta.norm(dim=1)
    if (far > eps + ROUNDING).any():
        outside = int((far > eps + ROUNDING).sum())
        raise ValueError(f"images must be within eps = {eps:.5f} in {norm}; {outside} are not, the farthest is {float(far.max()):.5f} away")
    with torch.no_grad():
        said = torch.cat([answers(model(part.to(x.device))) for part in sent.split(100)]).cpu()
    wrong = (said != y.cpu()[torch.from_numpy(indices.astype(np.int64))]).numpy()
    robust = report.robust()
    broken = tuple(sorted(int(i) for i, lost in zip(indices, wrong, strict=True) if lost and robust[i]))
    return BrokenImages(indices, wrong, int(robust.sum()), broken)


def _read(batch: str | Path) -> tuple[np.ndarray, np.ndarray]:
    try:
        with np.load(batch, allow_pickle=False) as file:
            return file["indices"], file["images"]
    except (OSError, ValueError, KeyError) as error:
        raise ValueError(f"batch must be an npz file with arrays named indices and images; {batch}: {error}") from error
