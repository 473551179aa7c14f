"""A GFA step relative to a plain step: the naive formula and ours, in one run, with the number of operations beside the time.

    python benchmarks/step.py --out step.json
    python benchmarks/step.py --models cnn --repeats 100 --threads 2
    python benchmarks/step.py --give-memory-back            # without `deepdefense.training.allocator`

"gradients": loss and gradients of all weights, what the cost model speaks of; "step": with the update by AdamW as well. On a GPU
"graph" is the whole step replayed as a CUDA graph.
"""

import sys
from collections.abc import Callable, Sequence

import torch
from common import compare, finish, parser, prepare, take_turns
from torch import Tensor, nn

from deepdefense import double_backward, gfa, models, objectives, taps
from deepdefense.cost import FlopCount
from deepdefense.geometry import alignment, plain_alignment
from deepdefense.losses import get_loss
from deepdefense.training import TrainConfig, cuda_graph
from deepdefense.training.step import TrainingStep, make_optimizer

LAM, BATCH = 0.5, {"cnn": 128, "mlp": 128, "resnet18": 16}
Loss = Callable[[nn.Module, Tensor, Tensor], Tensor]


def plain(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    return get_loss("mse")(model(x), y).mean()


def ours(layers: str) -> Loss:
    return lambda model, x, y: gfa.gfa_terms(model, x, y, lam=LAM, layers=layers).loss


def naive(layers: str, align: Callable = plain_alignment) -> Loss:
    """GFA in torch's own layers and operations: a forward pass, `create_graph=True`, the cosine."""

    def loss(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        logits, caught = taps.forward(model, x.detach().requires_grad_(), layers)
        task = get_loss("mse")(logits, y)
        grads = torch.autograd.grad(task.sum(), [tap.value for tap in caught], create_graph=True)
        aligned = [align(tap.value.flatten(1), g.flatten(1)) for tap, g in zip(caught, grads, strict=True)]
        return (task + LAM * torch.stack([1 - a for a in aligned]).sum(0)).mean()

    return loss


def only_layers(layers: str) -> Loss:
    """Our layers under the plain alignment: what the layers alone bring."""

    def loss(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        image = x.detach().requires_grad_()
        with double_backward.TwiceDifferentiable(image) as inner:
            logits, caught = taps.forward(model, image, layers)
        task = get_loss("mse")(logits, y)
        with inner.inputs_only():
            grads = torch.autograd.grad(task.sum(), [tap.value for tap in caught], create_graph=True)
        pairs = [(tap.value.detach() if inner.is_root(tap.value) else tap.value, g) for tap, g in zip(caught, grads, strict=True)]
        return (task + LAM * torch.stack([1 - plain_alignment(h.flatten(1), g.flatten(1)) for h, g in pairs]).sum(0)).mean()

    return loss


def losses() -> dict[str, Loss]:
    """The contestants; all give the same gradients (tests/test_double_backward.py)."""
    table: dict[str, Loss] = {"plain": plain}
    for layers in ("first", "deep"):
        name = layers.upper()
        table |= {
            f"{name}, ours": ours(layers),
            f"{name}, naive": naive(layers),
            f"{name}, torch's layers": naive(layers, alignment),
            f"{name}, plain alignment": only_layers(layers),
        }
    return table


def counted(loss: Loss, model: nn.Module, x: Tensor, y: Tensor) -> int:
    """Floating-point operations of convolutions and matrix products for loss and gradients."""
    with FlopCount() as count:
        loss(model, x, y).backward()
    return count.total


def measure(name: str, repeats: int, device: torch.device, batch: int) -> list[dict]:
    """Rows of one model: "gradients" and "step", and "graph" on a GPU, for each contestant."""
    generator = torch.Generator().manual_seed(0)
    x, y = torch.rand(batch, 3, 32, 32, generator=generator).to(device), torch.randint(10, (batch,), generator=generator).to(device)
    table, rows = losses(), []
    nets = {who: models.build(name, (3, 32, 32), 10, seed=0).to(device).train() for who in table}
    optimizers = {who: make_optimizer(TrainConfig(), nets[who]) for who in table}

    def gradients(who: str) -> None:
        nets[who].zero_grad(set_to_none=True)
        table[who](nets[who], x, y).backward()

    def step(who: str) -> None:
        gradients(who)
        optimizers[who].step()

    work = {"gradients": gradients, "step": step}
    flops = {who: counted(table[who], nets[who], x, y) for who in table}
    for what, do in work.items():
        chosen = table if what == "gradients" else [who for who in table if who == "plain" or who.endswith(("ours", "naive"))]
        seconds = take_turns({who: lambda who=who, do=do: do(who) for who in chosen}, repeats, device)
        for row in compare(seconds, "plain"):
            rows.append({"model": name, "batch": batch, "what": what, "operations": flops[row["contestant"]] / flops["plain"]} | row)
    return rows + (graphed(name, x, y, repeats) if device.type == "cuda" else [])


def graphed(name: str, x: Tensor, y: Tensor, repeats: int) -> list[dict]:
    """Whole steps as CUDA graphs, plain, FIRST and DEEP."""
    calls, settings = {}, dict(plain="standard", FIRST="gfa-first", DEEP="gfa-deep")
    for who, objective in settings.items():
        model = models.build(name, (3, 32, 32), 10, seed=0).to(x.device).train()
        plain_step = TrainingStep(model, make_optimizer(TrainConfig(), model, on_device=True), objectives.build(objective, {}))
        replay, generator = cuda_graph.GraphedStep(plain_step), torch.Generator(x.device).manual_seed(0)
        calls[who] = lambda replay=replay, generator=generator: replay(x, y, LAM, 1e-3, generator)
    seconds = take_turns(calls, repeats, x.device, warm_up=cuda_graph.WARM_UP + 2)
    return [{"model": name, "batch": len(x), "what": "graph"} | row for row in compare(seconds, "plain")]


def main(arguments: Sequence[str] | None = None) -> int:
    options = parser(__doc__, repeats=40)
    options.add_argument("--models", default="cnn,mlp,resnet18", help="comma-separated (default: all three)")
    options.add_argument("--batch", type=int, help="images a step (default: 128, 16 for resnet18)")
    chosen = options.parse_args(arguments)
    device, where = prepare(chosen)
    rows = []
    for name in chosen.models.split(","):
        repeats = max(1, chosen.repeats // 4) if name == "resnet18" else chosen.repeats
        rows += measure(name, repeats, device, chosen.batch or BATCH[name])
    finish("step", rows, {"lam": LAM, "image": [3, 32, 32], "loss": "mse"}, where, chosen.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
