"""The model under test with the images that it gets right, and the one way in which every check judges an attack."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor, nn

from ..attacks.contract import Attack, check_inputs
from ..inference import frozen


@dataclass(frozen=True)
class Settings:
    """How much the checks spend.

    training_loss: the model's; steps, restarts, targets: of PGD and multi-targeted PGD (targets None: every wrong class)
    draws: random points an image; queries: of each black-box attack, an image; readouts: images of check 7
    """

    training_loss: str = "ce"
    steps: int = 40
    restarts: int = 2
    targets: int | None = 9
    draws: int = 10_000
    queries: int = 2_000
    readouts: int = 64
    batch_size: int = 256
    seed: int = 0


PRESETS = {
    "quick": Settings(steps=20, restarts=1, targets=3, draws=500, queries=500, readouts=24),
    "full": Settings(),
}
"""For a first look, and for numbers to be shown."""


def preset(name: str, **changes) -> Settings:
    """The settings called `name` ("quick" or "full") with some of them changed."""
    if name not in PRESETS:
        raise ValueError(f"the preset must be one of {', '.join(PRESETS)}; got {name!r}")
    return replace(PRESETS[name], **changes)


@torch.no_grad()
def predict(model: nn.Module, x: Tensor, batch_size: int) -> Tensor:
    """Predicted classes (N,), in eval mode."""
    with frozen(model):
        return torch.cat([model(part).argmax(1) for part in x.split(batch_size)])


@dataclass(frozen=True)
class Subject:
    """`x` (n, C, H, W) in [0, 1] and `y` (n,): images that `model` gets right; eps; the attacks to be checked.

    right: which those n were among the N images that were given, (N,) bool
    """

    model: nn.Module
    x: Tensor
    y: Tensor
    right: Tensor
    eps: float
    white_box: Mapping[str, Attack | Tensor]
    settings: Settings

    def __len__(self) -> int:
        return len(self.y)

    def broken(self, attack: Attack | Tensor, *, eps: float | None = None, seed: int = 0) -> Tensor:
        """Images that `attack` makes the model get wrong, (n,) bool; eps: another radius, seed: another start.

        An attack that was run already stands as the mask of the images it broke, (N,) bool.
        """
        if isinstance(attack, Tensor):
            return attack.to(self.right.device)[self.right]
        return self._judge(self.model, attack, self.eps if eps is None else eps, seed)

    def broken_in_float64(self, model: nn.Module, attack: Attack) -> Tensor:
        """The same for a float64 copy of the model, on float64 images."""
        return self._judge(model, attack, self.eps, 0, torch.float64)

    def _judge(self, model: nn.Module, attack: Attack, eps: float, seed: int, dtype: torch.dtype | None = None) -> Tensor:
        wrong, size = [], self.settings.batch_size
        for number, part in enumerate(torch.arange(len(self), device=self.y.device).split(size)):
            x, y = self.x[part].to(dtype or self.x.dtype), self.y[part]
            x_adv = attack(model, x, y, eps=eps, seed=(self.settings.seed + seed) * 10_007 + number)
            wrong.append(predict(model, x_adv, size) != y)
        return torch.cat(wrong)

    @cached_property
    def broken_by_white_box(self) -> dict[str, Tensor]:
        """{attack: images it breaks, (n,) bool} for the white-box attacks, each run once."""
        return {name: self.broken(attack) for name, attack in self.white_box.items()}

    @property
    def survived(self) -> Tensor:
        """Images that no white-box attack breaks, (n,) bool."""
        return ~torch.stack(list(self.broken_by_white_box.values())).any(0)


def build(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    eps: float,
    white_box: Mapping[str, Attack | Tensor],
    settings: Settings,
) -> Subject:
    """The subject of a report, from all images: those that the model gets wrong without an attack are left out."""
    check_inputs(model, x, y, eps)
    if not 0 < eps < 0.5:
        raise ValueError(f"eps must be above 0 and below 0.5 here, since the sweep over radii ends at 0.5; got {eps}")
    if not white_box:
        raise ValueError("white_box must hold at least one attack to check")
    right = predict(model, x, settings.batch_size) == y if len(x) else torch.zeros(0, dtype=torch.bool)
    if not right.any():
        raise ValueError(f"the model gets none of the {len(x)} images right, so there is nothing to attack")
    return Subject(model, x[right].detach(), y[right], right, eps, white_box, settings)
