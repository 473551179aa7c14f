"""The model under test with the images that it gets right, and the one way in which every check judges an attack."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn

from ..attacks.guard import check_inputs, frozen

Attack = Callable[..., Tensor]


@torch.no_grad()
def predict(model: nn.Module, x: Tensor, batch_size: int) -> Tensor:
    """Predicted classes (N,), in eval mode."""
    with frozen(model):
        return torch.cat([model(part).argmax(1) for part in x.split(batch_size)])


@dataclass(frozen=True)
class Subject:
    """`x` (n, C, H, W) in [0, 1] and `y` (n,): images that `model` gets right; eps; the attacks to be checked."""

    model: nn.Module
    x: Tensor
    y: Tensor
    eps: float
    white_box: Mapping[str, Attack]
    loss: str  # that the model was trained with
    steps: int
    batch_size: int
    seed: int

    def __len__(self) -> int:
        return len(self.y)

    def broken(self, attack: Attack, *, eps: float | None = None, seed: int = 0) -> Tensor:
        """Images that `attack` makes the model get wrong, (n,) bool; eps: another radius, seed: another start."""
        return self._judge(self.model, attack, self.eps if eps is None else eps, seed)

    def broken_in_float64(self, model: nn.Module, attack: Attack) -> Tensor:
        """The same for a float64 copy of the model, on float64 images."""
        return self._judge(model, attack, self.eps, 0, torch.float64)

    def _judge(
        self, model: nn.Module, attack: Attack, eps: float, seed: int, dtype: torch.dtype | None = None
    ) -> Tensor:
        wrong = []
        for number, part in enumerate(torch.arange(len(self), device=self.y.device).split(self.batch_size)):
            x, y = self.x[part].to(dtype or self.x.dtype), self.y[part]
            x_adv = attack(model, x, y, eps=eps, seed=(self.seed + seed) * 10_007 + number)
            wrong.append(predict(model, x_adv, self.batch_size) != y)
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
    white_box: Mapping[str, Attack],
    loss: str,
    steps: int,
    batch_size: int,
    seed: int,
) -> Subject:
    """The subject of a report, from all images: those that the model gets wrong without an attack are left out."""
    check_inputs(model, x, y, eps)
    if not 0 < eps < 0.5:
        raise ValueError(f"eps must be above 0 and below 0.5 here, since the sweep over radii ends at 0.5; got {eps}")
    if not white_box:
        raise ValueError("white_box must hold at least one attack to check")
    right = predict(model, x, batch_size) == y if len(x) else torch.zeros(0, dtype=torch.bool)
    if not right.any():
        raise ValueError(f"the model gets none of the {len(x)} images right, so there is nothing to attack")
    return Subject(model, x[right].detach(), y[right], eps, white_box, loss, steps, batch_size, seed)
