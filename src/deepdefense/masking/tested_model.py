"""The model under test with the images that it gets right, and the one way in which every check judges an attack."""

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

import torch
from torch import Tensor, nn

from ..arguments import check_whole, checked_number
from ..attacks.contract import Attack, check_output, returned
from ..evaluation import preconditions
from ..evaluation.attack_words import describe
from ..inference import batch_seed, frozen, predict, seeded
from ..losses import get_loss


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


@dataclass(frozen=True)
class Subject:
    """`x` (n, C, H, W) in [0, 1] and `y` (n,): images that `model` gets right; eps; the attacks to be checked.

    right: which those n were among the N images that were given, (N,) bool
    silent: how many perturbed images, and random points, the model gave no answer to so far; they count as mistakes
    """

    model: nn.Module
    x: Tensor
    y: Tensor
    right: Tensor
    eps: float
    white_box: Mapping[str, Attack | Tensor]
    settings: Settings
    silent: dict[str, int] = field(default_factory=lambda: {"images": 0, "points": 0})

    def __len__(self) -> int:
        return len(self.y)

    def broken(self, attack: Attack | Tensor, *, eps: float | None = None, seed: int = 0, name: str | None = None) -> Tensor:
        """Images that `attack` makes the model get wrong, (n,) bool; eps: another radius, seed: another start.

        An attack that was run already stands as the mask of the images it broke, (N,) bool. name: of the attack, in messages
        """
        if isinstance(attack, Tensor):
            return attack.to(self.right.device)[self.right]
        return self._judge(self.model, attack, self.eps if eps is None else eps, seed, name=name)

    def broken_in_float64(self, model: nn.Module, attack: Attack) -> Tensor:
        """The same for a float64 copy of the model, on float64 images."""
        return self._judge(model, attack, self.eps, 0, torch.float64)

    def _judge(
        self, model: nn.Module, attack: Attack, eps: float, seed: int, dtype: torch.dtype | None = None, name: str | None = None
    ) -> Tensor:
        """Is the model's answer to what `attack` returned another, (n,)? An AttackError if that does not lie in the ball."""
        wrong, size, name = [], self.settings.batch_size, name or describe(attack)
        for number, part in enumerate(torch.arange(len(self), device=self.y.device).split(size)):
            x, y = self.x[part].to(dtype or self.x.dtype), self.y[part]
            x_adv = attack(model, x.clone(), y.clone(), eps=eps, seed=batch_seed(self.settings.seed + seed, number))
            answer = predict(model, check_output(x, returned(x, x_adv, name), eps, name), size)
            self.silent["images"] += int((answer < 0).sum())
            wrong.append(answer != y)
        return torch.cat(wrong)

    @torch.no_grad()
    def answers_vary(self, passes: int = 50) -> bool:
        """Do passes over the same few images differ? A model that leaves a layer out now and then may agree with itself twice."""
        with frozen(self.model):
            first = self.model(self.x[:4])
            return any(not torch.equal(first, self.model(self.x[:4])) for _ in range(passes))

    @cached_property
    def broken_by_white_box(self) -> dict[str, Tensor]:
        """{attack: images it breaks, (n,) bool} for the white-box attacks, each run once."""
        return {name: self.broken(attack, name=name) for name, attack in self.white_box.items()}

    @property
    def survived(self) -> Tensor:
        """Images that no white-box attack breaks, (n,) bool."""
        return ~torch.stack(list(self.broken_by_white_box.values())).any(0)


def examine(model: nn.Module, x: Tensor, y: Tensor, eps: float, settings: Settings) -> tuple[int, bool]:
    """(number of classes, whether two passes agree); one sentence, a ValueError, for what a report cannot work with."""
    if not isinstance(settings, Settings):
        raise ValueError(f"settings must be masking.Settings(...), or masking.preset('quick'); got {settings!r}")
    if not 0 < checked_number("eps", eps) < 0.5:
        raise ValueError(f"eps must be above 0 and below 0.5 here, since the sweep over radii ends at 0.5; got {eps!r}")
    whole = {name: getattr(settings, name) for name in ("steps", "restarts", "draws", "queries", "readouts", "batch_size")}
    check_whole(**whole | ({} if settings.targets is None else {"targets": settings.targets}))
    get_loss(settings.training_loss)
    if not isinstance(x, Tensor) or len(x):
        preconditions.check_images(x, y)
    if len(x) == 0:
        raise ValueError("the model gets none of the 0 images right, so there is nothing to attack")
    deterministic = preconditions.check_model(model, x[: settings.batch_size], y[: settings.batch_size], allow_random=True)
    with frozen(model), seeded(x.device, 0, model), torch.no_grad():
        classes = model(x[:1].clone()).shape[1]
    if y.max() >= classes:
        raise ValueError(f"labels must be below the number of classes: the model has {classes}, the largest label is {y.max()}")
    if settings.training_loss == "dlr" and classes < 3:
        raise ValueError(f"training_loss 'dlr' needs at least 3 classes, and the model has {classes}")
    return classes, deterministic


def check_attacks(named: Mapping[str, Mapping | None], images: int) -> None:
    """A ValueError unless each is {name: attack}, an attack being a function or the mask (images,) of what it broke."""
    for name, members in named.items():
        if members is not None and not isinstance(members, Mapping):
            raise ValueError(f"{name} must be a dictionary of attacks by name, got {type(members).__name__}")
        for key, attack in (members or {}).items():
            mask = isinstance(attack, Tensor) and attack.dtype == torch.bool and attack.shape == (images,)
            if not mask and (isinstance(attack, Tensor) or not callable(attack)):
                got = f"a tensor of {attack.dtype} and shape {tuple(attack.shape)}" if isinstance(attack, Tensor) else type(attack).__name__
                raise ValueError(
                    f"{name}: {key!r} must be a function (model, x, y, *, eps, seed) -> x_adv, or the mask ({images},) bool of the "
                    f"images that it broke; got {got}"
                )
            if not mask and (lacking := [word for word in ("eps", "seed") if not _takes(attack, word)]):
                raise ValueError(
                    f"{name}: {key!r} must be a function (model, x, y, *, eps, seed) -> x_adv; it takes no {' and no '.join(lacking)}"
                )


def _takes(function, word: str) -> bool:
    """Can `function` be given the keyword `word`? True where it does not tell."""
    try:
        parameters = inspect.signature(function).parameters
    except (TypeError, ValueError):
        return True
    return word in parameters or any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())


def build(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    eps: float,
    white_box: Mapping[str, Attack | Tensor],
    settings: Settings,
) -> Subject:
    """The subject of a report, from all images, checked already: those that the model gets wrong without an attack are
    left out."""
    if not white_box:
        raise ValueError("white_box must hold at least one attack to check")
    answer = predict(model, x, settings.batch_size)
    right = answer == y
    if not right.any():
        silent = int((answer < 0).sum())
        said = f" (its logits are NaN for {silent} of them)" if silent else ""
        raise ValueError(f"the model gets none of the {len(x)} images right{said}, so there is nothing to attack")
    return Subject(model, x[right].detach().contiguous(), y[right].long(), right, eps, white_box, settings)
