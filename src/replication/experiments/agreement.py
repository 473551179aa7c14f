"""Our attacks beside the code that they stand for, image by image: AutoAttack's authors' own, and foolbox's DeepFool.

Both sides see the same model, images, seed and batches. What an implementation takes is kept in pieces, so that a killed
comparison goes on.
"""

import io
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor, nn

from deepdefense import attacks
from deepdefense.attacks.autoattack import AUTHORS_NORM, PARTS
from deepdefense.attacks.contract import distances
from deepdefense.attacks.libraries import library
from deepdefense.evaluation.standard_suite import kept_in, standard
from deepdefense.inference import frozen, predict, seeded, wrong
from deepdefense.storage import files, provenance
from deepdefense.storage.resumable import Pieces, fingerprint, model_fingerprint

from ..records import AGREEMENT_JSON, AGREEMENT_PARQUET

AUTHORS_PARTS = dict(zip(PARTS, ("apgd-ce", "apgd-t", "fab-t", "square"), strict=True))
DEEPFOOL = {"l2": (attacks.deepfool_l2, "L2DeepFoolAttack"), "linf": (attacks.deepfool_linf, "LinfDeepFoolAttack")}


@dataclass(frozen=True)
class Broken:
    """AutoAttack on N images: x_adv (N, C, H, W), the clean image where nothing was found; the model's prediction (N,) on
    it; broken_by (N,), index into PARTS of the part that broke it, −1 for none."""

    x_adv: Tensor
    prediction: Tensor
    broken_by: Tensor


def authors_autoattack(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    eps: float,
    norm: str = "linf",
    seed: int = 0,
    batch_size: int = 250,
    parts: Sequence[str] = PARTS,
    pieces: Pieces | None = None,
) -> Broken:
    """`AutoAttack(version="standard").run_standard_evaluation` as its authors wrote it, on x (N, C, H, W) in [0, 1].

    parts: the first of PARTS, all four by default. Each is one call on the images that are left, which draws the same
    batches as one call with all parts, and can be kept. Model, random state and tracer are put back.
    """
    if not parts or tuple(parts) != PARTS[: len(parts)]:
        raise ValueError(f"parts must be the first of {', '.join(PARTS)}; got {', '.join(parts) or 'none'}")
    pieces, x, y = pieces or Pieces(None, {}), x.detach(), y.long()
    tracer = sys.gettrace()  # the authors' check for dynamic models takes it away
    try:
        with frozen(model), seeded(x.device, seed), torch.no_grad():
            theirs = library("pyautoattack").AutoAttack(
                model, norm=AUTHORS_NORM[norm], eps=eps, seed=seed, device=x.device, version="standard"
            )
            prediction = predict(model, x, batch_size)
            x_adv, broken_by = x.clone(), torch.full_like(y, -1)
            for number, part in enumerate(parts):
                left = (prediction == y).nonzero().flatten()
                if len(left) == 0:
                    break
                theirs.attacks_to_run = [AUTHORS_PARTS[part]]

                def run(left: Tensor = left) -> tuple[dict, dict]:
                    found, said = theirs.run_standard_evaluation(x[left], y[left], batch_size=batch_size)
                    return {"x_adv": found, "prediction": said}, {}

                kept, _ = pieces.get(f"authors/{part.lower()}", run)
                x_adv[left], prediction[left] = kept["x_adv"].to(x), kept["prediction"].to(y)
                broken_by[left[prediction[left] != y[left]]] = number
    finally:
        sys.settrace(tracer)
    return Broken(x_adv, prediction, broken_by)


def foolbox_deepfool(model: nn.Module, x: Tensor, y: Tensor, norm: str, *, seed: int = 0) -> Tensor:
    """foolbox's batched DeepFool with its own defaults, on images that `model` gets right."""
    foolbox = library("foolbox")
    with frozen(model), seeded(x.device, seed), torch.enable_grad():
        seen = foolbox.PyTorchModel(model, bounds=(0, 1), device=x.device)
        return getattr(foolbox.attacks, DEEPFOOL[norm][1])().run(seen, x, foolbox.criteria.Misclassification(y)).detach()


@torch.no_grad()
def _reached(model: nn.Module, x: Tensor, x_adv: Tensor, y: Tensor, norm: str) -> Tensor:
    """Distance of each image to its perturbed one, (n,); ∞ where the model is right on that."""
    with frozen(model):
        return distances(x, x_adv, norm).masked_fill(~wrong(model(x_adv), y), torch.inf)


def deepfools(
    model: nn.Module, x: Tensor, y: Tensor, *, seed: int = 0, batch_size: int = 100, pieces: Pieces | None = None
) -> dict[str, Tensor]:
    """{"l2 ours", "l2 foolbox", "linf ours", "linf foolbox"}: DeepFool's distance of each image, (N,); ∞ for a failure,
    NaN where the model is wrong from the start."""
    pieces = pieces or Pieces(None, {})
    right = predict(model, x, batch_size) == y
    far = {f"{norm} {by}": torch.full((len(y),), torch.nan) for norm in DEEPFOOL for by in ("ours", "foolbox")}
    for number, part in enumerate(right.nonzero().flatten().split(batch_size)):
        clean, labels = x[part], y[part]
        for norm, (attack, _) in DEEPFOOL.items():

            def run(norm=norm, attack=attack, clean=clean, labels=labels) -> tuple[dict, dict]:
                found = {
                    "ours": attack(model, clean, labels, seed=seed),
                    "foolbox": foolbox_deepfool(model, clean, labels, norm, seed=seed),
                }
                return {by: _reached(model, clean, x_adv, labels, norm) for by, x_adv in found.items()}, {}

            kept, _ = pieces.get(f"deepfool/{norm}-{number:05d}", run)
            for by, distance in kept.items():
                far[f"{norm} {by}"][part.cpu()] = distance.to(torch.float32)
    return far


def _median(distance: Tensor) -> float | None:
    """The median; None stands for ∞ and for no image at all."""
    middle = attacks.summary(distance).median if len(distance) else torch.inf
    return None if middle == torch.inf else middle


def _compared(far: dict[str, Tensor], norm: str) -> dict:
    """Medians, failures, and how the two DeepFools compare on the images where both found something."""
    ours, theirs = (far[f"{norm} {by}"] for by in ("ours", "foolbox"))
    ours, theirs = ours[~ours.isnan()], theirs[~theirs.isnan()]
    both = ours.isfinite() & theirs.isfinite()
    ratio = ours[both] / theirs[both]
    return {
        "n": len(ours),
        "median": {"ours": _median(ours), "foolbox": _median(theirs)},
        "failures": {"ours": int(ours.isinf().sum()), "foolbox": int(theirs.isinf().sum())},
        "ours larger by more than 5 %": int((ratio > 1.05).sum()),
        "foolbox larger by more than 5 %": int((ratio < 1 / 1.05).sum()),
        "largest ratio": ratio.max().item() if both.any() else None,
    }


def compare(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    eps: float,
    seed: int = 0,
    batch_size: int = 100,
    parts: Sequence[str] = PARTS,
    folder: str | Path,
    about: dict | None = None,
) -> dict:
    """Compare, write agreement.json and agreement.parquet (a row an image) into `folder`, return the JSON record. L∞.

    parts: of AutoAttack that the authors' code runs as well. folder: where `evaluate` kept its report of the same model,
    images, eps and seed with `chunk=batch_size`: its AutoAttack is read and not run again.
    """
    folder = Path(folder)
    kept = folder / "pieces"
    ours = standard(model, x, y, eps=eps, seed=seed, batch_size=batch_size, folder=kept_in(kept))
    identity = {"eps": eps, "seed": seed, "batch_size": batch_size}
    identity |= {"images": fingerprint(x, y), "model": model_fingerprint(model)}
    pieces = Pieces(kept / "agreement", identity, {"environment": provenance.environment(x.device)})
    theirs = authors_autoattack(model, x, y, eps=eps, seed=seed, batch_size=batch_size, parts=parts, pieces=pieces)
    reached = (ours.broken_by >= 0) & (ours.broken_by < len(parts))
    x_adv = torch.where(reached.view(-1, 1, 1, 1), ours.x_adv, x.detach())
    part = torch.where(reached, ours.broken_by, -1)
    identical = (x_adv == theirs.x_adv).flatten(1).all(1)
    accuracy = {}
    for number, name in enumerate(parts):
        after = {by: ours.clean & ~((k >= 0) & (k <= number)) for by, k in (("ours", part), ("authors", theirs.broken_by))}
        accuracy[name] = {by: mask.float().mean().item() for by, mask in after.items()}
    far = deepfools(model, x, y, seed=seed, batch_size=batch_size, pieces=pieces)
    record = {
        "kind": "agreement", **(about or {}), **identity, "n": len(y), "clean": int(ours.clean.sum()),
        "autoattack": {
            "parts": list(parts),
            "identical images": int(identical.sum()),
            "broken by the same part": int((part == theirs.broken_by).sum()),
            "largest difference of a pixel": (x_adv - theirs.x_adv).abs().max().item(),
            "accuracy": accuracy,
        },
        "deepfool": {norm: _compared(far, norm) for norm in DEEPFOOL},
        **pieces.notes,
    }  # fmt: skip
    columns = {"index": pa.array(range(len(y)), pa.int32()), "identical": identical.cpu().numpy()}
    columns |= {"part ours": part.cpu().numpy(), "part authors": theirs.broken_by.cpu().numpy()}
    columns |= {f"deepfool {name}": distance.numpy() for name, distance in far.items()}
    buffer = io.BytesIO()
    pq.write_table(pa.table(columns), buffer)
    files.write_bytes(folder / AGREEMENT_PARQUET, buffer.getvalue())
    files.write_json(folder / AGREEMENT_JSON, record)
    return record
