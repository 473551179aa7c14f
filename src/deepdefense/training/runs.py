"""A finished training: its record, its networks, its weights as one file."""

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path

import safetensors.torch
from torch import Tensor, nn

from .. import data, models
from ..inference import pick_device
from ..storage import checkpoint, files
from .config import TrainConfig


def export(run: str | Path, path: str | Path, which: str = "last") -> Path:
    """Write the weights of the finished run in the folder `run` to `path`; which: "last" or "best"."""
    record = files.read_json(Path(run) / "run.json")
    kept = record["checkpoints"].get(which)
    if not kept or "file" not in kept:
        raise ValueError(f"which must be 'last' or 'best', and {run} must have kept it; got {which!r}")
    tensors = checkpoint.model_weights(checkpoint.load_tensors(Path(run), kept))
    return files.write_bytes(path, safetensors.torch.save(tensors, {"name": record["name"], "weights": which}))


def load(record: Mapping, path: str | Path) -> nn.Module:
    """The network of the training record `record` with the weights in `path`, on the CPU, in eval mode.

    It takes images (B, C, H, W) in [0, 1] and gives logits (B, K).
    """
    return network(record, safetensors.torch.load_file(path))


def network(record: Mapping, tensors: Mapping[str, Tensor]) -> nn.Module:
    """The network of the training record `record` with the weights `tensors`, on the CPU, in eval mode."""
    config, made = TrainConfig(**record["config"]), record["data"]
    return models.restore(config.model, made["in_shape"], len(made["classes"]), tensors, width=config.width, activation=config.activation)


@dataclass(frozen=True)
class Run:
    """A finished training: its record (the content of run.json), the two models on the training device, the folder."""

    record: dict
    last: nn.Module
    best: nn.Module
    folder: Path | None

    @property
    def name(self) -> str:
        return self.record["name"]


def build_model(config: TrainConfig, dataset: data.Dataset) -> nn.Module:
    """The freshly initialised model of `config`, on the CPU."""
    scaling = dataset.statistics() if config.scaling == "standard" else config.scaling
    return models.build(
        config.model,
        dataset.in_shape,
        len(dataset.classes),
        width=config.width,
        activation=config.activation,
        scaling=scaling,
        seed=config.seed,
    )


def load_model(folder: str | Path, which: str = "best", device: str = "auto") -> nn.Module:
    """The model of the finished run in `folder`, in eval mode; which: "best" (by validation) or "last"."""
    if which not in ("best", "last"):
        raise ValueError(f"which must be 'best' or 'last', got {which!r}")
    record = files.read_json(Path(folder) / "run.json")
    if record["checkpoints"][which] is None:
        raise ValueError(f"{folder} has no {which} model: its training {record['status']} in the first epoch")
    kept = checkpoint.model_weights(checkpoint.load_tensors(Path(folder), record["checkpoints"][which]))
    return network(record, kept).to(pick_device(device))


def load_run(folder: str | Path, device: str = "auto") -> Run:
    """The finished run in `folder`: its record, its last and its selected model."""
    record = files.read_json(Path(folder) / "run.json")
    last = load_model(folder, "last", device)
    best = load_model(folder, "best", device) if record["checkpoints"]["best"] else deepcopy(last)
    return Run(record, last, best, Path(folder))
