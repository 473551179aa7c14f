"""One network under the paper's protocol to the letter, and under the mistakes that an evaluation can make: torchattacks as it comes.

Here the attacks are called as a user of torchattacks calls them, on purpose: with its own defaults (ten steps of APGD, APGDT, FAB), and
with the defects that `deepdefense.attacks.paper` mends. Every image of the first test images that the network gets right is attacked; which
of them all compared networks get right is for the reader of the records to say (`replication.claims.protocol_quantities`), so each network
is attacked once, whatever it is compared with. Three conditions:

- "" : images in [0, 1], the network in eval mode;
- "clamped": the same images in [-1, 1], handed to attacks that clamp to [0, 1], and the network that takes them so;
- "train": attacks in train mode (only where that changes anything: a network with dropout or batch normalisation);

and "together": the last two at once. "APGD-100" is APGD with the 100 steps of the paper's protocol: what another mistake than that of ten
steps does is measured beside it. Columns of the table are "attack/level" (kept: right before and after), level = 255 eps, and
"attack/l2" (the distance, as returned, whether or not the image is fooled) with "attack/found"; a condition goes before a colon,
"clamped:FGSM/8". Null: not attacked.
"""

import copy
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from deepdefense.arguments import check_whole
from deepdefense.attacks.libraries import default_dtype, library
from deepdefense.data import Split
from deepdefense.inference import batch_seed, predict, seeded
from deepdefense.storage import files, provenance, resumable
from deepdefense.training.runs import Run

from .. import records
from ..records import PROTOCOL_JSON, PROTOCOL_PARQUET, protocol_column
from .attack import TRAINING_FACTS

BATCH = 100  # EADEN's test for stopping sums over its batch, so a result depends on this
SWEPT = ("FGSM", "APGD")  # at every level
MISTAKEN = (*SWEPT, "FAB")  # under every condition
AT_EIGHT = ("PGD", "APGDT")  # at 8/255 alone
PATIENT, PATIENT_STEPS = "APGD-100", 100  # beside each mistake but that of ten steps
SLOW = (PATIENT, "Square", "DeepFool", "EADEN")  # on fewer images
DISTANCES = ("DeepFool", "EADEN")
CONDITIONS = ("", "clamped", "train", "together")
MODAL = (nn.modules.batchnorm._NormBase, nn.modules.dropout._DropoutNd)


@dataclass(frozen=True)
class Protocol:
    """images: how many of the first test images are attacked; slow_images: by `SLOW`; levels: 255 eps; conditions: of `CONDITIONS`."""

    levels: tuple[int, ...]
    images: int = 2000
    slow_images: int = 1000
    queries: int = 5000  # of Square, torchattacks' default
    search_steps: int = 9  # of EADEN, torchattacks' default
    seed: int = 0
    conditions: tuple[str, ...] = CONDITIONS

    def __post_init__(self):
        check_whole(images=self.images, slow_images=self.slow_images, queries=self.queries, search_steps=self.search_steps)
        if not self.levels or not all(type(level) is int and 1 <= level <= 255 for level in self.levels):
            raise ValueError(f"levels must be whole numbers from 1 to 255; got {self.levels!r}")
        if not self.conditions or not set(self.conditions) <= set(CONDITIONS):
            raise ValueError(f"conditions must be among {CONDITIONS}; got {self.conditions!r}")

    @property
    def folder(self) -> str:
        """Name of the folder, within a run's, of its pieces: another for what changes them, so that both can be kept."""
        spent = f"n{self.images}-slow{self.slow_images}-queries{self.queries}-searches{self.search_steps}"
        return f"paper-protocol-{spent}-seed{self.seed}"


class Unscaled(nn.Module):
    """The part of `model` that takes images as it scales them, in [-1, 1]: what somebody attacks who scales images beforehand."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.body = model.body

    def forward(self, h: Tensor) -> Tensor:
        return self.body(h)


def changes_in_train_mode(model: nn.Module) -> bool:
    """Does any layer of `model` compute otherwise in train mode?"""
    return any(isinstance(module, MODAL) for module in model.modules())


def conditions_of(model: nn.Module) -> list[str]:
    """The conditions that say something about `model`: "train" and "together" only where train mode changes an answer."""
    return [name for name in CONDITIONS if name in ("", "clamped") or changes_in_train_mode(model)]


def handed_over(model: nn.Module, x: Tensor, condition: str) -> tuple[nn.Module, Tensor]:
    """What is attacked under `condition`: a copy of the network in eval mode, and images as they are handed to torchattacks."""
    mine = copy.deepcopy(model).eval()
    if condition not in ("clamped", "together"):
        return mine, x
    h = mine.scaled(x).detach()
    if h.min() < -1 - 1e-6 or h.max() > 1 + 1e-6:
        raise ValueError("images in [-1, 1] are those of a network with scaling = symmetric; this one scales otherwise")
    return Unscaled(mine).eval(), h


def make_attack(name: str, model: nn.Module, eps: float | None, protocol: Protocol, condition: str = ""):
    """torchattacks' attack `name` as its defaults have it, on `model`."""
    given = {} if eps is None else {"eps": eps}
    if name == "Square":
        given["n_queries"] = protocol.queries
    if name == "EADEN":
        given["binary_search_steps"] = protocol.search_steps
    if name == PATIENT:
        name, given["steps"] = "APGD", PATIENT_STEPS
    attack = getattr(library("torchattacks"), name)(model, **given)
    if condition in ("train", "together"):
        attack.set_model_training_mode(model_training=True, batchnorm_training=True, dropout_training=True)
    return attack


def attacked(model: nn.Module, x: Tensor, y: Tensor, name: str, level: int | None, protocol: Protocol, condition: str = "") -> dict:
    """{"right", "kept", "l2": (N,)}: right before; right after too; length of what the attack did, 0 where it was not called.

    Lengths are in image units also where the images were handed over in [-1, 1]. A network that gives NaN for an image does not
    classify it. An attack that hands back NaN, as DeepFool does where there is no gradient, has found nothing; its length is NaN.
    What is judged is the network as it was trained, whatever an attack in train mode did to its statistics. x (N, C, H, W) in [0, 1]
    """
    mine, handed = handed_over(model, x, condition)
    judged, _ = handed_over(model, x[:1], condition)
    unit = float(model.scale.mean()) if handed is not x else 1.0
    right = predict(judged, handed, BATCH) == y
    kept, length = right.clone(), torch.zeros(len(y))
    for number, index in enumerate(right.nonzero().squeeze(1).split(BATCH)):
        if not len(index):  # nothing is right: there is nothing to attack, and torchattacks' DeepFool fails on no image
            continue
        given, labels = handed[index], y[index]
        with seeded(x.device, batch_seed(protocol.seed, number)), torch.enable_grad(), default_dtype(torch.float32):
            found = make_attack(name, mine, None if level is None else level / 255, protocol, condition)(given, labels).detach()
        mine.eval()
        mine.zero_grad(set_to_none=True)
        nothing = ~found.flatten(1).isfinite().all(1)
        kept[index] = nothing | (predict(judged, found, BATCH) == labels)
        length[index.cpu()] = (found - given).flatten(1).norm(dim=1).masked_fill(nothing, torch.nan).cpu() * unit
    return {"right": right.cpu(), "kept": kept.cpu(), "l2": length}


def plan_of(protocol: Protocol, conditions: Sequence[str]) -> list[tuple[str, str, int | None]]:
    """(condition, attack, level or None) of everything that is computed."""
    jobs = []
    for condition in conditions:
        names = MISTAKEN if condition == "together" else (*MISTAKEN, PATIENT)
        jobs += [(condition, name, level) for name in names for level in protocol.levels]
        if not condition:
            jobs += [(condition, name, 8) for name in (*AT_EIGHT, "Square")]
        jobs += [(condition, name, None) for name in DISTANCES]
    return jobs


def under_protocol(model: nn.Module, x: Tensor, y: Tensor, protocol: Protocol, folder: str | Path | None = None, say: Callable = print):
    """{column: (N,)} of `model` on its first images, with NaN where an image was not attacked; kept piece by piece in `folder`."""
    x, y = x[: protocol.images], y[: protocol.images]
    wanted = [name for name in conditions_of(model) if name in protocol.conditions]
    for condition in wanted:
        handed_over(model, x[:1], condition)  # a network whose images nobody would hand over so is refused before any work
    settings = {"protocol": "paper", **{k: v for k, v in vars(protocol).items() if k not in ("levels", "conditions")}}
    settings |= {"model": resumable.model_fingerprint(model), "images_are": resumable.fingerprint(x, y)}
    pieces = resumable.Pieces(folder, settings)
    found: dict[str, np.ndarray] = {"label": y.cpu().numpy(), "prediction": predict(model, x, BATCH).cpu().numpy()}
    jobs = plan_of(protocol, wanted)
    for number, (condition, name, level) in enumerate(jobs, 1):
        n = min(protocol.slow_images if name in SLOW else protocol.images, len(y))

        def compute(condition=condition, name=name, level=level, n=n):
            start = time.monotonic()
            return attacked(model, x[:n], y[:n], name, level, protocol, condition), {"seconds": round(time.monotonic() - start, 2)}

        key = protocol_column(condition, name, "l2" if level is None else level)
        tensors, facts = pieces.get(key.replace(":", "-").replace("/", "-"), compute)
        say(f"{number}/{len(jobs)} {key}: {int(tensors['kept'].sum())} of {int(tensors['right'].sum())} kept, {facts['seconds']:.0f} s")
        whole = {name: np.full(len(y), np.nan) for name in ("kept", "l2")}
        for what, values in whole.items():
            values[:n] = tensors[what].double().numpy()
        if level is not None:
            found[key] = whole["kept"]
            continue
        touched = np.zeros(len(y), bool)
        touched[:n] = tensors["right"].numpy()
        found[key] = np.where(touched, whole["l2"], np.nan)
        found[protocol_column(condition, name, "found")] = np.where(touched, 1 - whole["kept"], np.nan)
    return found


def classes_answered(prediction: np.ndarray, least: float = 0.01) -> int:
    """How many classes a network answers on at least a share `least` of the images."""
    counted = np.bincount(prediction[prediction >= 0])
    return int((counted >= max(1, least * len(prediction))).sum())


def as_record(protocol: Protocol) -> dict:
    """The protocol as it stands in a record."""
    return {key: list(value) if isinstance(value, tuple) else value for key, value in vars(protocol).items()}


def is_there(name: str, protocol: Protocol) -> bool:
    """Is the record of the run `name` there? A ValueError says in what another protocol's differs: it is not what is asked for."""
    path = records.protocol_folder(name) / PROTOCOL_JSON
    if not path.is_file():
        return False
    before, now = files.read_json(path)["protocol"], as_record(protocol)
    other = [f"{key} = {before.get(key)!r}, not {now[key]!r}" for key in now if before.get(key) != now[key]]
    if other:
        raise ValueError(f"the record of {name} is there with {', '.join(other)}; ask for that, or delete its folder in {records.PROTOCOL}")
    return True


def protocol_run(run: Run, split: Split, protocol: Protocol, *, out: Path | None = None, say: Callable = print) -> dict:
    """The record of the trained `run` on the first images of `split`; written to data/results/paper_protocol/NAME/ unless `out` is given.

    Pieces stay in the run's folder, so a command that was stopped goes on.
    """
    start = time.monotonic()
    some = split[: protocol.images]
    folder = run.folder and run.folder / protocol.folder
    found = under_protocol(run.last, some.images(), some.y, protocol, folder, say)
    record = {
        "kind": "paper_protocol",
        "name": run.name,
        "n": len(some),
        "levels": list(protocol.levels),
        "protocol": as_record(protocol),
        "training": {key: run.record[key] for key in TRAINING_FACTS},
        "clean": run.record["metrics"]["last"]["test_accuracy"] if run.record["metrics"]["last"] else None,
        "classes_answered": classes_answered(found["prediction"]),
        "changes_in_train_mode": changes_in_train_mode(run.last),
        "environment": provenance.environment(some.y.device),
        "seconds": round(time.monotonic() - start, 1),
    }
    target = records.protocol_folder(run.name) if out is None else Path(out) / run.name
    files.write_bytes(target / PROTOCOL_PARQUET, records.write_sweep(found))
    files.write_json(target / PROTOCOL_JSON, record)
    return record
