"""Which directions of the network's Jacobian point along the image, and which are left free.

For a direction u in the space of logits, Jᵀu is the gradient of ⟨u, z⟩ at the input. GFA turns one of them, the gradient of the
training loss, where u is the residual; an attack may use any.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from deepdefense.geometry import alignment, decompose, unit

RANDOM = 16  # random directions of logits


def class_gradients(f: Callable[[Tensor], Tensor], h: Tensor) -> tuple[Tensor, Tensor]:
    """(logits (B, K), J (B, K, D)) at h (B, ...), D the number of its coordinates: one backward pass a class."""
    with torch.enable_grad():
        point = h.detach().requires_grad_()
        logits = f(point)
        rows = [torch.autograd.grad(logits[:, k].sum(), point, retain_graph=True)[0].flatten(1) for k in range(logits.shape[1])]
    return logits.detach(), torch.stack(rows, 1)


def logit_directions(logits: Tensor, y: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
    """{name: (B, n, K)}: unit directions of logits, n for each sample.

    "training residual": z − one-hot, the direction of squared error; "cross-entropy residual": softmax(z) − one-hot; "margin": the
    largest wrong class against the right one; "other classes": each remaining wrong class against it; "random".
    """
    count, classes = logits.shape
    target = F.one_hot(y, classes).to(logits.dtype)
    order = logits.masked_fill(target.bool(), -torch.inf).argsort(1, descending=True)[:, : classes - 1]
    against = F.one_hot(order, classes).to(logits.dtype) - target[:, None]
    noise = torch.randn(count, RANDOM, classes, generator=generator, dtype=logits.dtype, device=generator.device).to(logits.device)
    found = {
        "training residual": (logits - target)[:, None],
        "cross-entropy residual": (logits.softmax(1) - target)[:, None],
        "margin": against[:, :1],
        "other classes": against[:, 1:],
        "random": noise,
    }
    return {name: unit(v.flatten(0, 1)).view_as(v) for name, v in found.items() if v.shape[1]}


def restrained(f: Callable[[Tensor], Tensor], h: Tensor, y: Tensor, generator: torch.Generator) -> dict[str, dict[str, Tensor]]:
    """{direction of logits: {"alignment", "length", "tangential length", "with training gradient"}}, each (B,).

    Means over the directions of one name of: the cosine of h and Jᵀu; ‖Jᵀu‖; that of its tangential part; the cosine of Jᵀu and
    the gradient of squared error.
    """
    logits, jacobian = class_gradients(f, h)
    chosen = logit_directions(logits, y, generator)
    training = torch.einsum("bnk,bkd->bnd", chosen["training residual"], jacobian)
    found = {}
    for name, u in chosen.items():
        pulled = torch.einsum("bnk,bkd->bnd", u, jacobian)
        many = u.shape[1]
        flat, image = pulled.flatten(0, 1), h.flatten(1).repeat_interleave(many, 0)
        values = {
            "alignment": alignment(image, flat),
            "length": flat.norm(dim=1),
            "tangential length": decompose(flat, image)[1].norm(dim=1),
            "with training gradient": alignment(training[:, 0].repeat_interleave(many, 0), flat),
        }
        found[name] = {key: value.view(len(h), many).mean(1) for key, value in values.items()}
    return found
