"""What bfloat16 and TF32 do to the alignment and to the gradient of a GFA step, and what a step then costs.

    python benchmarks/precision.py --out precision.json

Per tap: the alignment of every image in float32 and in the coarser arithmetic, for a fresh CNN and for one trained with GFA-DEEP.
On a CPU bf16 is torch's autocast for CPUs: its rounding is that of bfloat16, its speed says nothing of a GPU. TF32 needs a GPU.
"""

import sys
from collections.abc import Sequence
from copy import deepcopy

import torch
from common import compare, finish, parser, prepare, spread, take_turns
from torch import nn

from deepdefense import data, training
from deepdefense.gfa import GFATerms, gfa_terms
from deepdefense.training import precision, runs
from replication import profiles

LAM = 0.2


def terms(model: nn.Module, x: torch.Tensor, y: torch.Tensor, arithmetic: str) -> GFATerms:
    with precision.arithmetic(arithmetic), precision.autocast(arithmetic, x.device):
        return gfa_terms(model, x, y, lam=LAM, layers="deep")


def gradient(model: nn.Module, x: torch.Tensor, y: torch.Tensor, arithmetic: str) -> torch.Tensor:
    model.zero_grad(set_to_none=True)
    loss = terms(model, x, y, arithmetic).loss
    with precision.arithmetic(arithmetic):
        loss.backward()
    return torch.cat([p.grad.flatten() for p in model.parameters()]).double()


def effect(net: str, model: nn.Module, x: torch.Tensor, y: torch.Tensor, arithmetic: str) -> list[dict]:
    """A row a tap: mean alignment in float32 and the change per image; and one for the gradient of all weights."""
    exact, coarse = (terms(model, x, y, name).alignments for name in ("float32", arithmetic))
    rows = []
    for tap in exact:
        change = (coarse[tap] - exact[tap]).detach()
        about = {"net": net, "arithmetic": arithmetic, "tap": tap, "alignment": exact[tap].mean().item(), "shift": change.mean().item()}
        rows.append(about | {"change": spread(change.abs().tolist())})
    g, h = (gradient(model, x, y, name) for name in ("float32", arithmetic))
    found = {"relative_error": ((g - h).norm() / g.norm()).item(), "cosine": (g @ h / (g.norm() * h.norm())).item()}
    return [*rows, {"net": net, "arithmetic": arithmetic, "tap": "gradient of the weights", **found}]


def main(arguments: Sequence[str] | None = None) -> int:
    options = parser(__doc__, repeats=10)
    options.add_argument("--data", default="digits", choices=sorted(data.SPECS), help="whose images (default: digits)")
    options.add_argument("--images", type=int, default=256, help="images measured (default: 256)")
    options.add_argument("--epochs", type=int, help="of the trained net (default: the profile's)")
    chosen = options.parse_args(arguments)
    device, where = prepare(chosen)
    run = profiles.make("smoke", "gfa-deep", data=chosen.data, epochs=chosen.epochs)
    dataset = data.load(chosen.data).to(device)
    some = dataset.test[: chosen.images]
    x, y = some.images(), some.y
    fresh = runs.build_model(run, dataset).to(device)
    trained = training.fit(run, dataset=dataset, device=str(device), progress=False).last
    coarse = ["bf16", "tf32"] if device.type == "cuda" else ["bf16"]
    rows = [row for name in coarse for net, model in (("fresh", fresh), ("trained", trained)) for row in effect(net, model, x, y, name)]
    models = {name: deepcopy(trained) for name in ["float32", *coarse]}
    times = take_turns({name: lambda name=name: gradient(models[name], x, y, name) for name in models}, chosen.repeats, device)
    rows += [{"net": "trained", "what": "gradients"} | row for row in compare(times, "float32")]
    settings = {"data": chosen.data, "images": len(x), "lam": LAM, "epochs": run.epochs, "run": run.name()}
    finish("precision", rows, settings, where, chosen.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
