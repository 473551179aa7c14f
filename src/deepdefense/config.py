"""What a training run is: one frozen dataclass, checked when it is made, and the profiles that fill it in."""

import difflib
import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, fields, replace

from . import data, models, objectives
from .objectives.options import is_number
from .precision import PRECISIONS

OPTIMIZERS = ("sgd", "adam")
SCHEDULES = ("cosine", "constant")
SELECTIONS = ("mean", "clean", "robust")
SCALINGS = (*models.SCALINGS, "standard")
STARTS = ("fresh", "plain")
LATER_FIELDS = {"precision": "float32", "start": "fresh"}  # with these values a run has the name that it had before there were such fields


def _require(condition: bool, name: str, allowed: str, got) -> None:
    if not condition:
        raise ValueError(f"{name} must be {allowed}; got {got!r}")


def unknown_name(name: str, allowed: Iterable[str]) -> ValueError:
    """The error for a parameter that does not exist: names it, the nearest one that does, and all of them."""
    allowed = list(allowed)
    near = difflib.get_close_matches(name, allowed, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else "."
    return ValueError(f"unknown parameter {name!r}{hint} Allowed: {', '.join(allowed)}.")


@dataclass(frozen=True)
class TrainConfig:
    """One training run. Fractions are in [0, 1], eps in image units, sizes in images."""

    data: str = "digits"
    model: str = "cnn"
    width: float = 1.0  # factor on the layer widths
    activation: str = "relu"
    scaling: str = "symmetric"  # inside the model: symmetric [-1, 1], unit [0, 1], standard (mean and std of the data)
    objective: str = "standard"
    lam: float = 0.0  # weight of the objective's penalty
    warmup: float = 0.0  # share of the run over which lam rises linearly from 0
    options: dict = field(default_factory=dict)  # the objective's own keywords
    train_size: int | None = None  # use only this many training images
    epochs: int = 10
    batch_size: int = 128
    optimizer: str = "adam"
    lr: float = 1e-3  # highest learning rate
    schedule: str = "cosine"
    weight_decay: float = 0.0
    augment: str = "none"
    seed: int = 0
    select_by: str = "mean"  # on the validation part: clean accuracy, accuracy under PGD, or the mean of both
    val_eps: float = 8 / 255
    val_steps: int = 10
    val_size: int = 500  # validation images attacked after each epoch
    precision: str = "float32"  # arithmetic of the training steps: float32, tf32, bf16 (see `deepdefense.precision`)
    start: str = "fresh"  # initial weights: fresh ones, or those that plain training in all else alike ends with

    def __post_init__(self):
        one_of = {
            "data": data.SPECS,
            "model": models.ARCHITECTURES,
            "activation": models.ACTIVATIONS,
            "scaling": SCALINGS,
            "objective": objectives.OBJECTIVES,
            "optimizer": OPTIMIZERS,
            "schedule": SCHEDULES,
            "augment": data.AUGMENTATIONS,
            "select_by": SELECTIONS,
            "precision": PRECISIONS,
            "start": STARTS,
        }
        for name, allowed in one_of.items():
            _require(getattr(self, name) in list(allowed), name, f"one of {', '.join(allowed)}", getattr(self, name))
        for name in ("epochs", "batch_size", "val_steps", "val_size"):
            value = getattr(self, name)
            _require(type(value) is int and value >= 1, name, "a whole number of at least 1", value)
        _require(type(self.seed) is int and 0 <= self.seed < 2**31, "seed", "a whole number from 0 to 2^31 - 1", self.seed)
        sized = self.train_size is None or (type(self.train_size) is int and self.train_size >= 1)
        _require(sized, "train_size", "a whole number of at least 1, or None", self.train_size)
        for name, low, high in (("lam", 0, 1e6), ("warmup", 0, 1), ("val_eps", 0, 1), ("weight_decay", 0, 1)):
            value = getattr(self, name)
            _require(is_number(value) and low <= value <= high, name, f"a number from {low} to {high:g}", value)
            object.__setattr__(self, name, float(value))  # 2 and 2.0 are one run
        for name in ("lr", "width"):
            value = getattr(self, name)
            _require(is_number(value) and 0 < value <= 100, name, "a number above 0 and at most 100", value)
            object.__setattr__(self, name, float(value))
        models.check(self.model, width=self.width, activation=self.activation)
        self._check_options()

    def _check_options(self):
        _require(isinstance(self.options, dict), "options", "a dict of the objective's own keywords", self.options)
        defaults = objectives.option_defaults(self.objective)
        for name in self.options:
            if name not in defaults:
                raise unknown_name(name, defaults)
        objectives.check_options(self.objective, self.options)

    @property
    def loss(self) -> str:
        """The task loss of the objective."""
        return self.options.get("loss", objectives.option_defaults(self.objective).get("loss", "mse"))

    def to_dict(self) -> dict:
        return asdict(self)

    def digest(self) -> str:
        """Eight hexadecimal digits that change with any setting."""
        settings = {name: value for name, value in self.to_dict().items() if LATER_FIELDS.get(name, ...) != value}
        return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:8]

    def name(self) -> str:
        """Name of the run: what matters most, then the digest."""
        lam = f"-lam{self.lam:g}" if self.lam else ""
        return f"{self.data}-{self.model}-{self.objective}{lam}-seed{self.seed}-{self.digest()}"


# What a profile sets. λ of "cpu" is what the search chose (chapter 8); λ of "smoke" was accurate and aligned on its own validation
# images; λ of "paper" are leads from smaller runs.
PROFILES: dict[str, dict] = {
    "smoke": {
        "shared": dict(data="digits", model="cnn", epochs=12, batch_size=64, lr=3e-3, val_size=150, val_eps=0.1),
        "gfa-first": dict(lam=0.5, warmup=0.5),
        "gfa-deep": dict(lam=0.2, warmup=0.5),
        "pgd-at": dict(options=dict(eps=0.1, alpha=0.025)),
        "trades": dict(options=dict(eps=0.1, alpha=0.025)),
        "gnr": dict(lam=1.0),
    },
    "cpu": {
        "shared": dict(
            data="cifar10", model="cnn", width=0.5, train_size=10_000, epochs=10, batch_size=128, lr=1e-3, augment="crop-flip"
        ),
        "gfa-first": dict(lam=1.65, warmup=1.0),
        "gfa-deep": dict(lam=0.3, warmup=1.0),
        "gnr": dict(lam=10.0),
    },
    "paper": {
        "shared": dict(data="cifar10", model="cnn", epochs=100, batch_size=128, lr=1e-3, augment="crop-flip"),
        "gfa-first": dict(lam=2.7, warmup=1.0),
        "gfa-deep": dict(lam=0.6, warmup=1.0),
        "gnr": dict(lam=10.0),
    },
}
DEFENCES = ("standard", "gfa-first", "gfa-deep", "pgd-at")


def reference(run: TrainConfig) -> TrainConfig:
    """Plain training in all else like `run`: what its defence is compared with."""
    loss = {} if run.loss == objectives.option_defaults("standard")["loss"] else {"loss": run.loss}
    return replace(run, objective="standard", lam=0.0, warmup=0.0, options=loss, start="fresh")


def make(profile: str = "smoke", objective: str = "standard", **parameters) -> TrainConfig:
    """The run of `profile` for `objective`, with `parameters` (fields or options of the objective) in place of its values.

    A parameter that is None keeps the profile's value. Other unknown names raise a ValueError that lists the allowed ones.
    """
    _require(profile in PROFILES, "profile", f"one of {', '.join(PROFILES)}", profile)
    defaults = objectives.option_defaults(objective)
    settings = {**PROFILES[profile]["shared"], **PROFILES[profile].get(objective, {}), "objective": objective}
    options = dict(settings.pop("options", {}))
    known = [f.name for f in fields(TrainConfig) if f.name not in ("objective", "options")]
    for name, value in parameters.items():
        if value is not None and name not in known and name not in defaults:
            raise unknown_name(name, ["profile", "objective", *known, *defaults])
        if value is not None:
            (settings if name in known else options)[name] = value
    return TrainConfig(**settings, options=options)
