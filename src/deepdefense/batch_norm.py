"""Batch normalisation and GFA: why the statistics of the batch leave the regulariser nothing to hold, and how to take them away.

Let a layer be linear without a bias and followed by batch normalisation, as the first of a ResNet is. In training mode the network
does not change when the layer's inputs h_i are all scaled alike, so by Euler's theorem for homogeneous functions of degree 0

    Σ_i ⟨h_i, g_i⟩ = Σ_i ‖h_i‖ ‖g_i‖ a_i = 0,   g_i = ∂(Σ_j ℓ_j)/∂h_i

up to the small constant in the normalisation: the alignments a_i of a batch cannot rise together. With fixed statistics the
scale of h_i counts again, each a_i is that of its own image, and GFA has its grip back.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from .gfa import layer_gradients

STATISTICS = ("batch", "fixed")


@contextmanager
def fixed_statistics(model: nn.Module) -> Iterator[None]:
    """Within, every batch normalisation of `model` uses its running statistics and leaves them as they are."""
    norms = [module for module in model.modules() if isinstance(module, _BatchNorm)]
    before = [module.training for module in norms]
    for module in norms:
        module.eval()
    try:
        yield
    finally:
        for module, training in zip(norms, before, strict=True):
            module.train(training)


def mean_alignment(model: nn.Module, x: Tensor, y: Tensor, *, layers: str | Sequence[str] = "first", loss: str = "mse") -> dict[str, float]:
    """{tap: Σ⟨h_i, g_i⟩ / Σ‖h_i‖‖g_i‖} of a batch, the mean alignment weighted by lengths, in [−1, 1] and 0 if all gradients vanish.

    model: in the mode that is asked about; x (B, ...) in [0, 1], y (B,) class indices; layers, loss: as in `gfa.gfa_terms`
    NaN if the loss of an image is. ValueError: as for `gfa.layer_gradients`.
    """
    found = {}
    for name, (h, g) in layer_gradients(model, x, y, layers=layers, loss=loss).items():
        h, g = h.flatten(1).double(), g.flatten(1).double()
        lengths = float((h.norm(dim=1) * g.norm(dim=1)).sum())
        found[name] = float((h * g).sum()) / lengths if lengths else 0.0
    return found
