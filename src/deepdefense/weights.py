"""The weights of a trained network as one small file beside its record, without optimizer and history."""

from collections.abc import Mapping
from pathlib import Path

import safetensors.torch
from torch import Tensor, nn

from . import checkpoint, models, results
from .config import TrainConfig


def export(run: str | Path, path: str | Path, which: str = "last") -> Path:
    """Write the weights of the finished run in the folder `run` to `path`; which: "last" or "best"."""
    record = results.read_json(Path(run) / "run.json")
    kept = record["checkpoints"].get(which)
    if not kept or "file" not in kept:
        raise ValueError(f"which must be 'last' or 'best', and {run} must have kept it; got {which!r}")
    tensors = checkpoint.model_weights(checkpoint.load_tensors(Path(run), kept))
    return results.write_bytes(path, safetensors.torch.save(tensors, {"name": record["name"], "weights": which}))


def load(record: Mapping, path: str | Path) -> nn.Module:
    """The network of the training record `record` with the weights in `path`, on the CPU, in eval mode.

    It takes images (B, C, H, W) in [0, 1] and gives logits (B, K).
    """
    return network(record, safetensors.torch.load_file(path))


def network(record: Mapping, tensors: Mapping[str, Tensor]) -> nn.Module:
    """The network of the training record `record` with the weights `tensors`, on the CPU, in eval mode."""
    config = TrainConfig(**record["config"])
    model = models.build(
        config.model,
        record["data"]["in_shape"],
        len(record["data"]["classes"]),
        width=config.width,
        activation=config.activation,
        scaling=(tensors["shift"].flatten().tolist(), tensors["scale"].flatten().tolist()),
        seed=0,
    )
    model.load_state_dict(tensors)
    return model.eval()
