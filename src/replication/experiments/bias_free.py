"""ReLU networks without biases: one inner product for all layers, and what alignment deep inside means for the input.

Such a network is linear along each ray: with J the Jacobian of h_l at the image, h_l = J h_0 and g_0 = Jᵀ g_l. Hence, image by image,

    ⟨h_l, g_l⟩ = ⟨z, ∂ℓ/∂z⟩ = s   at every layer,        a_l = s / (‖h_l‖ ‖g_l‖),
    |a_0| ≥ |a_l| · ρ_l,   ρ_l = ‖J h_0‖ / (‖J‖₂ ‖h_0‖) ≤ 1,      because ‖g_0‖ ≤ ‖J‖₂ ‖g_l‖.

ρ_l is 1 only for an image in the direction that the layers below amplify most.
"""

import torch
from torch import Tensor, nn

from deepdefense import data, models
from deepdefense.data import Dataset
from deepdefense.geometry import alignment
from deepdefense.gfa import gfa_loss, layer_gradients
from deepdefense.losses import get_loss

from .scale import exact


def build(in_shape, classes: int, *, width: float = 0.25, seed: int = 0) -> nn.Module:
    """The library's MLP without its biases, fresh; images (B, C, H, W) in [0, 1] -> logits (B, classes)."""
    net = models.build("mlp", in_shape, classes, width=width, seed=seed)
    for module in net.modules():
        if isinstance(module, nn.Linear):
            module.bias = None
    return net


def trained(dataset: Dataset, *, loss: str, lam: float = 0.0, layers: str = "deep", epochs: int = 8, seed: int = 0) -> nn.Module:
    """Such a network, trained with Adam on `loss`, with GFA if lam > 0, which then rises over the first half; in eval mode."""
    net = build(dataset.in_shape, len(dataset.classes), seed=seed)
    generator, optimizer = torch.Generator().manual_seed(seed), torch.optim.Adam(net.parameters(), lr=3e-3)
    for epoch in range(epochs):
        now = lam * min(1.0, 2 * epoch / epochs)
        for x, y in data.batches(dataset.train, 64, generator=generator):
            value = gfa_loss(net, x, y, lam=now, layers=layers, loss=loss) if lam else get_loss(loss)(net(x), y).mean()
            optimizer.zero_grad()
            value.backward()
            optimizer.step()
    return net.eval()


def layer_by_layer(model: nn.Module, x: Tensor, y: Tensor, loss: str) -> dict[str, dict[str, Tensor]]:
    """{tap: {"inner", "alignment", "rho", "bound"}}, each (N,), in float64: ⟨h, g⟩, a_l, ρ_l, and |a_l| ρ_l, what |a_0| is at least.

    model: a ReLU network without biases as `build` makes it; x (N, C, H, W) in [0, 1], y (N,).
    """
    net, found = exact(model), {}
    pairs = layer_gradients(net, x.double(), y, layers="deep", loss=loss)
    image = net.scaled(x.double()).flatten(1)
    for name, (h, g) in pairs.items():
        h, g = h.flatten(1), g.flatten(1)
        a = alignment(h, g)
        amplified = torch.stack([torch.linalg.matrix_norm(_jacobian(net, name, one), 2) for one in image])
        rho = h.norm(dim=1) / (amplified * image.norm(dim=1))
        found[name] = {"inner": (h * g).sum(1), "alignment": a, "rho": rho, "bound": a.abs() * rho}
    return found


def _jacobian(net: nn.Module, name: str, image: Tensor) -> Tensor:
    """∂h/∂h_0 (features, inputs) of the input h of the layer `name`, at one scaled image (D,)."""
    below = []
    for part, module in net.body.named_children():
        if f"body.{part}" == name:
            break
        below.append(module)

    def features(flat):
        return nn.Sequential(*below)(flat.view(1, *net.in_shape)).flatten()

    return torch.autograd.functional.jacobian(features, image)
