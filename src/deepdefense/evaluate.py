"""From a model, images and attacks to a per-image record and robust accuracy."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from tqdm import tqdm

from . import attacks, results
from .attacks.guard import check_inputs
from .data import Split
from .results import wilson
from .train import Run, predict

Attack = Callable[..., Tensor]

# The attacks of the first table: the paper's, through torchattacks, and PGD on the margin.
PAPER_GRADIENT: dict[str, Attack] = {
    "FGSM": attacks.fgsm,
    "PGD-20": partial(attacks.pgd, steps=20),
    "APGD-100": partial(attacks.apgd, steps=100),
    "PGD-20 margin": partial(attacks.loss_pgd, steps=20, loss="margin"),
}


TRAINING_FACTS = ("name", "config", "status", "data", "metrics", "environment")  # of a run, kept in its attack records


@dataclass(frozen=True)
class AttackRecord:
    """Per image: was it right before (`clean`) and after each attack (`right[name]`), (N,) bool; and seconds spent."""

    clean: Tensor
    right: dict[str, Tensor]
    seconds: dict[str, float]
    eps: float

    def robust(self, *names: str) -> Tensor:
        """Images that are right before and after every one of `names` (default: all attacks), (N,) bool."""
        survived = [self.right[name] for name in names or self.right]
        return torch.stack([self.clean, *survived]).all(0)

    def to_dict(self) -> dict:
        """JSON form: accuracies with 95 % Wilson intervals, and one character an image ("1" right, "0" wrong)."""

        def summary(mask: Tensor) -> dict:
            low, high = wilson(int(mask.sum()), len(mask))
            text = "".join("1" if right else "0" for right in mask.tolist())
            return {"accuracy": mask.float().mean().item(), "low": low, "high": high, "per_image": text}

        rows = {name: summary(self.robust(name)) | {"seconds": self.seconds[name]} for name in self.right}
        return {
            "eps": self.eps,
            "n": len(self.clean),
            "clean": summary(self.clean),
            "attacks": rows,
            "worst_case": summary(self.robust()),
        }


def evaluate_attacks(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    eps: float,
    suite: Mapping[str, Attack] = PAPER_GRADIENT,
    batch_size: int = 500,
    seed: int = 0,
    progress: bool = False,
) -> AttackRecord:
    """Run every attack of `suite` on the images that `model` gets right; an image already wrong counts as not robust.

    x (N, C, H, W) in [0, 1], y (N,); eps in the same units. Each batch gets a seed of its own, derived from `seed`.
    """
    check_inputs(model, x, y, eps)
    if len(y) == 0:
        raise ValueError("no images to evaluate")
    clean = predict(model, x) == y
    right = {name: clean.clone() for name in suite}
    seconds = dict.fromkeys(suite, 0.0)
    index = clean.nonzero().squeeze(1)
    parts = index.split(batch_size) if len(index) else ()
    with tqdm(total=len(suite) * len(parts), disable=not progress, mininterval=5, unit="batch") as bar:
        for name, attack in suite.items():
            start = time.perf_counter()
            for number, part in enumerate(parts):
                x_adv = attack(model, x[part], y[part], eps=eps, seed=seed * 10_007 + number)
                right[name][part] = predict(model, x_adv) == y[part]
                bar.update()
            seconds[name] = time.perf_counter() - start
    return AttackRecord(clean.cpu(), {name: mask.cpu() for name, mask in right.items()}, seconds, eps)


def robust_accuracy(
    model: nn.Module, x: Tensor, y: Tensor, attack: Attack, *, eps: float, batch_size: int = 500, seed: int = 0
) -> float:
    """Share of images that `model` gets right before and after `attack`, in [0, 1].

    attack: a function (model, x, y, *, eps, seed) -> x_adv, such as `attacks.pgd` or `partial(attacks.apgd, steps=50)`.
    """
    suite = {"attack": attack}
    record = evaluate_attacks(model, x, y, eps=eps, suite=suite, batch_size=batch_size, seed=seed)
    return record.robust().float().mean().item()


def attack_run(
    run: Run,
    split: Split,
    *,
    eps: float,
    which: str = "last",
    suite: Mapping[str, Attack] = PAPER_GRADIENT,
    batch_size: int = 500,
    seed: int = 0,
    progress: bool = True,
) -> dict:
    """The attack record of a trained run on `split`, as JSON; kept in the run's folder.

    which: "last" takes the weights of the last epoch, "best" those that validation selected.
    If the folder holds a record with the same weights, images, eps, suite and seed, that is read back instead.
    """
    weights = run.record["checkpoints"][which]
    settings = {"eps": eps, "n": len(split), "suite": list(suite), "seed": seed, "which": which, "weights": weights}
    path = run.folder / f"attacks-{which}-eps{eps:.5f}-n{len(split)}-seed{seed}.json"
    if path.exists() and (record := results.read_json(path))["settings"] == settings:
        return record
    x, y = split.images(), split.y
    model = {"last": run.last, "best": run.best}[which]
    outcome = evaluate_attacks(model, x, y, eps=eps, suite=suite, batch_size=batch_size, seed=seed, progress=progress)
    record = {
        "kind": "attacks",
        "name": run.name,
        "training": {key: run.record[key] for key in TRAINING_FACTS},
        "settings": settings,
        **outcome.to_dict(),
        "environment": results.environment(x.device),
    }
    results.write_json(path, record)
    return record


def accuracy_by_eps(
    model: nn.Module, x: Tensor, y: Tensor, radii: Sequence[float], *, steps: int = 20, seed: int = 0
) -> list[float]:
    """Robust accuracy under margin PGD at each eps of `radii`, in [0, 1]: a sound attack makes it fall to 0."""
    attack = partial(attacks.loss_pgd, steps=steps, loss="margin")
    return [robust_accuracy(model, x, y, attack, eps=eps, seed=seed) for eps in radii]
