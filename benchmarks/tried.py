"""What was tried for a cheaper GFA step, each way against another that gives the same numbers.

    python benchmarks/tried.py --out tried.json

"ratio" is the time of the way in question over that of its rival. Shapes are those of the CNN's layers, batch 128.
"""

import sys
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from common import compare, finish, parser, prepare, take_turns
from step import naive, ours, plain

from deepdefense import models
from deepdefense.geometry import alignment

conv_backward = torch.ops.aten.convolution_backward
Pair = tuple[str, Callable[[], object], str, Callable[[], object]]


def _backward(g, x, w, which):
    return conv_backward(g, x, w, None, [2, 2], [1, 1], [1, 1], False, [0, 0], 1, which)


def convolutions(device: torch.device) -> dict[str, Pair]:
    """Questions about the convolutions of a step."""
    generator = torch.Generator().manual_seed(0)
    draw = lambda *shape: torch.randn(*shape, generator=generator).to(device)  # noqa: E731
    x, w, g = draw(128, 32, 16, 16), draw(64, 32, 3, 3), draw(128, 64, 8, 8)
    v, u = draw(128, 32, 16, 16), draw(128, 64, 8, 8)
    image, thin, back = draw(128, 3, 32, 32), draw(32, 3, 3, 3), draw(128, 32, 16, 16)
    wide = F.pad(thin, (0, 0, 0, 0, 0, 5))
    room = image.new_empty(1).expand(128, 8, 32, 32).contiguous()
    weight, both = [False, True, False], (lambda: torch.cat([x, v]), lambda: torch.cat([g, u]))

    def folded():
        columns = torch.bmm(thin.flatten(1).t().expand(128, -1, -1), back.flatten(2))
        return F.fold(columns, (32, 32), 3, 1, 1, 2)

    return {
        "weight gradient of the second pass": (
            "as a plain weight gradient",
            lambda: _backward(g, x, w, weight),
            "batch and channels exchanged, dilated (torch)",
            lambda: F.conv2d(x.transpose(0, 1), g.transpose(0, 1), stride=1, padding=1, dilation=2),
        ),
        "input gradient at an image of 3 channels": (
            "matrix product and fold",
            folded,
            "oneDNN (torch)",
            lambda: _backward(back, image, thin, [True, False, False]),
        ),
        "the same, padded to 8 channels": (
            "padded",
            lambda: _backward(back, room, wide, [True, False, False])[0][:, :3],
            "oneDNN (torch)",
            lambda: _backward(back, image, thin, [True, False, False]),
        ),
        "weight gradients of both passes": (
            "one call on twice the batch",
            lambda: _backward(both[1](), both[0](), w, weight),
            "two calls and a sum",
            lambda: _backward(g, x, w, weight)[1] + _backward(u, v, w, weight)[1],
        ),
    }


def vectors(device: torch.device) -> dict[str, Pair]:
    """Questions about the alignment of the largest map, and of a whole step."""
    generator = torch.Generator().manual_seed(0)
    h, g = (torch.randn(128, 8192, generator=generator).to(device) for _ in range(2))
    net = models.build("cnn", (3, 32, 32), 10, seed=0).to(device).train()
    last = models.build("cnn", (3, 32, 32), 10, seed=0).to(device).train().to(memory_format=torch.channels_last)
    x, y = torch.rand(128, 3, 32, 32, generator=generator).to(device), torch.randint(10, (128,), generator=generator).to(device)
    deep, plainly, pairs = ours("deep"), naive("deep"), {}

    def step(loss, model, image):
        model.zero_grad(set_to_none=True)
        loss(model, image, y).backward()

    def in_channels_last(loss):
        step(loss, last, x.contiguous(memory_format=torch.channels_last))

    pairs["inner products of the alignment"] = (
        "batched matrix product",
        lambda: torch.bmm(h[:, None], g[:, :, None]),
        "product and sum",
        lambda: (h * g).sum(1),
    )
    pairs["alignment, forwards alone"] = (
        "cosine_similarity (torch)",
        lambda: F.cosine_similarity(h, g),
        "ours",
        lambda: alignment(h, g),
    )
    pairs["memory format, plain step"] = (
        "channels last",
        lambda: in_channels_last(plain),
        "contiguous",
        lambda: step(plain, net, x),
    )
    pairs["memory format, DEEP step"] = ("channels last", lambda: in_channels_last(deep), "contiguous", lambda: step(deep, net, x))
    pairs["DEEP step, all measures together"] = ("ours", lambda: step(deep, net, x), "naive", lambda: step(plainly, net, x))
    return pairs


def main(arguments: Sequence[str] | None = None) -> int:
    chosen = parser(__doc__, repeats=40).parse_args(arguments)
    device, where = prepare(chosen)
    rows = []
    for question, (way, do, rival, do_rival) in (convolutions(device) | vectors(device)).items():
        seconds = take_turns({way: do, rival: do_rival}, chosen.repeats, device)
        rows.append({"question": question, "way": way, "rival": rival} | compare(seconds, rival)[0])
    finish("tried", rows, {"batch": 128}, where, chosen.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
