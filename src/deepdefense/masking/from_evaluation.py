"""What an evaluation report already knows of the nine checks, so that no attack is run twice."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..attacks import autoattack
from ..attacks.suites import STANDARD
from ..evaluation.preconditions import check_images
from ..evaluation.report import Report
from ..storage.resumable import fingerprint, model_fingerprint

BLACK_BOX = ("Square",)  # attacks of the suites that take no gradient
MULTI_TARGETED = "multi-targeted PGD"  # a rival of the white-box attacks in check 6
OF_CHECK_8 = ("orthogonal", "features", "smooth", "transfer")  # how names begin of the rivals in check 8


@dataclass(frozen=True)
class Evidence:
    """Masks (N,) bool of the images that attacks of the report broke, by name, and AutoAttack's warnings (None: not run).

    white_box: the worst case of each suite over the attacks that take the model's own gradient, by the suite's name
    """

    white_box: dict[str, Tensor]
    black_box: dict[str, Tensor]
    adaptive: dict[str, Tensor]
    multi_targeted: Tensor | None
    warnings: list[str] | None


NO_EVIDENCE = Evidence({}, {}, {}, None, None)


def check_subject(report: Report, model: nn.Module, x: Tensor, y: Tensor) -> None:
    """A ValueError unless `report` is of `model` on the images x (N, C, H, W) with labels y (N,)."""
    if report.about["images"] != fingerprint(check_images(x, y), y.detach().as_subclass(Tensor).long()):
        raise ValueError(f"evaluated must be a report of the same {len(y)} images; it is of others with the same labels")
    if report.about["model"] != model_fingerprint(model):
        raise ValueError("evaluated must be a report of the same model; its weights, buffers or classes of modules were others")


def of_report(report: Report, y: Tensor, eps: float) -> Evidence:
    """The evidence in `report`, which must be of the images with labels y (N,), in L∞ at this eps; else a ValueError."""
    about = report.about
    if (about["norm"], about["eps"]) != ("linf", eps):
        raise ValueError(f"evaluated must be a report in linf at eps {eps:g}, not in {about['norm']} at eps {about['eps']:g}")
    if report.cascade:
        raise ValueError("evaluated must be a report in which every attack saw every image, not that of a cascade")
    if report.label.tolist() != y.tolist():
        raise ValueError(f"evaluated must be a report of the same {len(y)} images; its labels are others")

    def broken(*keys: str) -> Tensor:
        return torch.from_numpy(~report.robust(*keys))

    white, black, adaptive, multi_targeted = {}, {}, {}, None
    for suite in report.suites:
        honest = []
        for key in report.in_suite(suite):
            name = key.split("/", 1)[1]
            if name in BLACK_BOX:
                black[f"{name} ({suite})"] = broken(key)
            elif name == MULTI_TARGETED:
                multi_targeted = broken(key)
            elif name.startswith(OF_CHECK_8):
                adaptive[name] = broken(key)
            else:
                honest.append(key)
        if honest:
            white[f"suite {suite}"] = broken(*honest)
    said = [w["message"] for w in about["warnings"] if w["part"] in ("model", *autoattack.PARTS)]
    return Evidence(white, black, adaptive, multi_targeted, said if STANDARD in report.suites else None)
