"""How the cost of GFA relative to a plain step grows with batch size, width, depth and the number of taps.

    python benchmarks/growth.py --out growth.json

Batch size and width: the CNN on 32 × 32 images. Depth: multilayer perceptrons with so many hidden layers of 256 units. Taps: the
deepest of them, with the first 1, 2, 4 … layer inputs aligned.
"""

import sys
from collections.abc import Sequence

import torch
from common import compare, finish, parser, prepare, take_turns
from torch import nn

from deepdefense import gfa, models, taps
from deepdefense.losses import get_loss

AXES = {"batch": (8, 16, 32, 64, 128, 256), "width": (0.25, 0.5, 1.0, 2.0), "depth": (1, 2, 4, 8, 16), "taps": (1, 2, 4, 8, 17)}


def perceptron(hidden: int, width: int = 256) -> nn.Module:
    sizes = [3072, *[width] * hidden]
    layers = [part for a, b in zip(sizes, sizes[1:], strict=False) for part in (nn.Linear(a, b), nn.ReLU())]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(nn.Flatten(), *layers, nn.Linear(width, 10))


def case(axis: str, value: float) -> tuple[nn.Module, int, dict[str, str | list[str]]]:
    """Model, batch size, and the taps to compare with plain, by name."""
    both = {"FIRST": "first", "DEEP": "deep"}
    if axis == "depth":
        return perceptron(int(value)), 128, both
    if axis == "taps":
        model = perceptron(AXES["depth"][-1])
        return model, 128, {"taps": taps.tap_names(model)[: int(value)]}
    width = value if axis == "width" else 1.0
    return models.build("cnn", (3, 32, 32), 10, width=width, seed=0), int(value) if axis == "batch" else 128, both


def measure(axis: str, value: float, repeats: int, device: torch.device) -> list[dict]:
    model, batch, chosen = case(axis, value)
    model = model.to(device).train()
    generator = torch.Generator().manual_seed(0)
    x, y = torch.rand(batch, 3, 32, 32, generator=generator).to(device), torch.randint(10, (batch,), generator=generator).to(device)

    def plain() -> None:
        model.zero_grad(set_to_none=True)
        get_loss("mse")(model(x), y).mean().backward()

    def aligned(layers) -> None:
        model.zero_grad(set_to_none=True)
        gfa.gfa_loss(model, x, y, lam=0.5, layers=layers).backward()

    contestants = {"plain": plain} | {name: lambda layers=layers: aligned(layers) for name, layers in chosen.items()}
    return [{"axis": axis, "value": value} | row for row in compare(take_turns(contestants, repeats, device), "plain")]


def main(arguments: Sequence[str] | None = None) -> int:
    options = parser(__doc__, repeats=30)
    options.add_argument("--axes", default=",".join(AXES), help="comma-separated (default: all)")
    options.add_argument("--points", type=int, help="only so many values of each (default: all)")
    chosen = options.parse_args(arguments)
    device, where = prepare(chosen)
    points = [(axis, value) for axis in chosen.axes.split(",") for value in AXES[axis][: chosen.points]]
    rows = [row for axis, value in points for row in measure(axis, value, chosen.repeats, device)]
    finish("growth", rows, {"image": [3, 32, 32], "loss": "mse"}, where, chosen.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
