"""What alignment says of a trained network: both sides of the identity, its balance, and what the scale of the logits does to it.

    python -m replication.experiments.scale NAME ... [--images 500]        for finished runs in data/runs, or published weights

One JSON record a network, data/results/scale/NAME.json. `deepdefense.scale_identity` has the identity,
⟨W, ∂L/∂W⟩ = Σ ‖h‖ ‖g‖ a, and `book/01b_alignment.ipynb` derives it, and reads the records.
"""

import argparse
import math
from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from deepdefense import data, objectives
from deepdefense.attacks import loss_pgd
from deepdefense.data import Split
from deepdefense.gfa import layer_gradients
from deepdefense.inference import frozen, predict
from deepdefense.losses import get_loss
from deepdefense.scale_identity import scale_identity
from deepdefense.storage import files, paths, provenance
from deepdefense.training import runs
from deepdefense.training.config import TrainConfig
from deepdefense.training.validation import mean_alignments

from .. import records
from .measure import rounded

FACTORS = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0)  # of the logits
CHUNK = 100
STEPS = 20  # of the attack that finds the perturbed images


def exact(model: nn.Module) -> nn.Module:
    """A copy of `model` in float64, in eval mode."""
    return deepcopy(model).double().eval()


def identity(model: nn.Module, x: Tensor, y: Tensor, loss: str = "mse") -> dict[str, dict[str, float]]:
    """{weight layer: both sides of the identity over images x (N, C, H, W) in [0, 1], in float64}.

    "aligned" Σ⟨h, g⟩, "through" its part that comes through this layer, "growth" ⟨W, ∂L/∂W⟩, all divided by N; "length" the mean of
    ‖h‖ ‖g‖ and "mean" that of the alignments, where the layer is a tap; "error" |through − growth| over the length, or over itself
    where the length is not known.
    """
    net, found = exact(model), {}
    for xb, yb in zip(x.double().split(CHUNK), y.split(CHUNK), strict=True):
        pairs = layer_gradients(net, xb, yb, layers="deep", loss=loss)
        for name, side in scale_identity(net, xb, yb, loss=loss).items():
            row = found.setdefault(name, {"aligned": 0.0, "through": 0.0, "growth": 0.0, "length": 0.0, "mean": 0.0})
            sums = {"aligned": side.aligned, "through": side.through, "growth": side.growth}
            if name in pairs:
                h, g = (v.flatten(1) for v in pairs[name])
                lengths = h.norm(dim=1) * g.norm(dim=1)
                inner = (h * g).sum(1)
                sums |= {"length": float(lengths.sum()), "mean": float((inner / lengths.clamp(min=1e-300)).sum())}
            for key, value in sums.items():
                row[key] += value / len(x)
    for row in found.values():
        size = row["length"] or abs(row["growth"]) or 1.0
        row["error"] = abs(row["through"] - row["growth"]) / size
        row["weighted"] = row["aligned"] / row["length"] if row["length"] else math.nan
    return found


class Louder(nn.Module):
    """`model` with its logits times `c` > 0: the same decisions, another loss."""

    def __init__(self, model: nn.Module, c: float):
        super().__init__()
        self.model, self.c = model, c

    def forward(self, x: Tensor) -> Tensor:
        return self.c * self.model(x)


def louder(model: nn.Module, x: Tensor, y: Tensor, *, eps: float, loss: str = "mse", factors=FACTORS, seed: int = 0) -> list[dict]:
    """What logits times c change and what they leave, a row a factor; x (N, C, H, W) in [0, 1], eps the radius of margin PGD.

    "clean", "robust": accuracies, the attack made anew for each factor; "answers": the share of all answers, to clean images and to
    the perturbed ones of c = 1, that are those of c = 1; "input", "last": mean alignments at the first and the last tap, and
    "input_weighted", "last_weighted" weighted by lengths.
    """
    rows, before = [], None
    with frozen(model):
        start = loss_pgd(model, x, y, eps=eps, steps=STEPS, loss="margin", seed=seed)
        for c in sorted(factors, key=lambda c: abs(math.log(c))):  # 1 first, where it is asked for
            net = Louder(model, c).eval()
            attacked = loss_pgd(net, x, y, eps=eps, steps=STEPS, loss="margin", seed=seed)
            answers = torch.cat([predict(net, x), predict(net, start)])
            before = torch.cat([predict(model, x), predict(model, start)]) if before is None else before
            aligned = list(mean_alignments(net, x, y, loss).values())
            rows.append({
                "c": c,
                "clean": float((predict(net, x) == y).double().mean()),
                "robust": float(((predict(net, attacked) == y) & (predict(net, x) == y)).double().mean()),
                "answers": float((answers == before).double().mean()),
                **{key: aligned[k]["mean"] for key, k in (("input", 0), ("last", -1))},
                **{f"{key}_weighted": aligned[k]["weighted"] for key, k in (("input", 0), ("last", -1))},
            })  # fmt: skip
    return sorted(rows, key=lambda row: row["c"])


def balance(model: nn.Module, config: TrainConfig, x: Tensor, y: Tensor, *, lam: float | None = None) -> dict[str, dict[str, float]]:
    """{weight layer: how the scale of its weights stands}, at images x (N, C, H, W) of its training, in float64, per image.

    "task": ⟨W, ∂T/∂W⟩ of the task loss on these images; "objective": the same of all that the defence minimises, which is 0 where it
    has converged; "rest": the difference, that is the pull of penalty, attack or decay; "length": the mean of ‖h‖ ‖g‖ of the task.
    lam: the weight of the penalty (default: the configuration's).
    """
    net = exact(model)
    names = {name: m.weight for name, m in net.named_modules() if isinstance(m, nn.Linear | nn.Conv2d)}
    objective = objectives.build(config.objective, {key: value for key, value in config.options.items() if key != "target"})
    step = objectives.Step(config.lam if lam is None else lam, torch.Generator().manual_seed(0))
    totals = {name: {"task": 0.0, "objective": 0.0} for name in names}
    for xb, yb in zip(x.double().split(CHUNK), y.split(CHUNK), strict=True):
        both = {"task": get_loss(config.loss)(net(xb), yb).mean(), "objective": objective(net, xb, yb, step)[0]}
        for key, value in both.items():
            for (name, weight), g in zip(names.items(), torch.autograd.grad(value, list(names.values())), strict=True):
                pull = float((weight.detach() * g).sum())
                if key == "objective":
                    pull += config.weight_decay * float(weight.detach().square().sum())
                totals[name][key] += pull * len(xb) / len(x)
    lengths = {name: row["length"] for name, row in identity(net, x, y, config.loss).items()}
    return {name: row | {"rest": row["objective"] - row["task"], "length": lengths[name]} for name, row in totals.items()}


def _shifted(x: Tensor, mode: str, width: int) -> Tensor:
    if mode == "wrap":
        return torch.roll(x, (width, width), (2, 3))
    padded = F.pad(x, (width,) * 4, mode=mode) if mode == "reflect" else F.pad(x, (width,) * 4)
    return padded[:, :, : x.shape[2], : x.shape[3]]


def edges(model: nn.Module, x: Tensor, y: Tensor, loss: str = "mse") -> dict[str, dict[str, float]]:
    """{images: mean alignment at the input, and weighted by lengths}: as they are, and as cropping for augmentation leaves them.

    x (N, C, H, W) in [0, 1]. A crop by an eighth of the width shows black where the image ends; the same shift with the image wrapped
    round or reflected shows none, and a black frame upon an image that is not shifted shows nothing else.
    """
    width = x.shape[-1] // 8
    framed = x.clone()
    framed[:, :, :width], framed[:, :, :, :width] = 0, 0
    shown = {
        "as they are": x,
        "cropped at random": data.random_crop(x, width, torch.Generator().manual_seed(0)),
        "shifted, black behind": _shifted(x, "black", width),
        "shifted, wrapped round": _shifted(x, "wrap", width),
        "shifted, reflected": _shifted(x, "reflect", width),
        "not shifted, black on two sides": framed,
    }
    return {name: next(iter(mean_alignments(model, images, y, loss).values())) for name, images in shown.items()}


def network_record(model: nn.Module, record: dict, train: Split, test: Split, *, seed: int = 0) -> dict:
    """All of the above of the network of the training record `record`, on its first training and test images; JSON.

    The balance is that of training images augmented as they were in training.
    """
    config = TrainConfig(**record["config"])
    seen, unseen = (train.images(), train.y), (test.images(), test.y)
    lam, generator = record["history"][-1].get("lam", config.lam), torch.Generator().manual_seed(seed)
    with frozen(model):
        edged = {part: edges(model, *images, config.loss) for part, images in (("training", seen), ("test", unseen))}
    found = {
        "identity": {part: identity(model, *images, config.loss) for part, images in (("training", seen), ("test", unseen))},
        "louder": louder(model, *unseen, eps=config.val_eps, loss=config.loss, seed=seed),
        "balance": balance(model, config, data.AUGMENTATIONS[config.augment](train.x, generator).float() / 255, train.y, lam=lam),
        "edges": edged,
    }
    return {
        "kind": "scale",
        "name": record["name"],
        "n": len(test),
        "seed": seed,
        "config": record["config"],
        "status": record["status"],
        "environment": provenance.environment(next(model.parameters()).device),
        **rounded(found),
    }


def _weights(name: str) -> tuple[dict, nn.Module]:
    """(record, network after its last epoch) of a finished run, or of a network whose weights are published beside its record."""
    for path in sorted(paths.results_root().glob(f"*/{name}.safetensors")):
        record = files.read_json(path.with_suffix(".json"))
        return record, runs.load(record, path)
    run = runs.load_run(records.check_run(name), "cpu")
    return run.record, run.last


def main(arguments: Sequence[str] | None = None) -> list[Path]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="+", metavar="NAME")
    parser.add_argument("--images", type=int, default=500, help="first training and first test images (default: %(default)s)")
    options = parser.parse_args(arguments)
    if options.images < 1:
        parser.error(f"--images must be at least 1; got {options.images}")
    written = []
    for record, model in [_weights(name) for name in options.names]:
        dataset = data.load(record["config"]["data"])
        found = network_record(model, record, dataset.train[: options.images], dataset.test[: options.images])
        written.append(files.write_json(paths.results_root() / "scale" / f"{record['name']}.json", found))
        print(written[-1].relative_to(paths.root()))
    return written


if __name__ == "__main__":
    main()
