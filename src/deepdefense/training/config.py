"""What a training run is: one frozen dataclass, checked when it is made, and the profiles that fill it in."""

import hashlib
import json
from dataclasses import asdict, dataclass, field, replace

from .. import data, models, objectives
from ..arguments import is_number, plain_number, require, unknown_name
from ..objectives.closed_loop import HIGHEST, LOWEST
from .precision import PRECISIONS

OPTIMIZERS = ("sgd", "adam")
SCHEDULES = ("cosine", "constant")
SELECTIONS = ("mean", "clean", "robust")
SCALINGS = (*models.SCALINGS, "standard")
STARTS = ("fresh", "plain")
# With these values a run has the name that it had before there were such fields.
LATER_FIELDS = {"precision": "float32", "start": "fresh", "stop_at_chance": None, "ema": None}


@dataclass(frozen=True)
class TrainConfig:
    """One training run. Fractions are in [0, 1], eps in image units, sizes in images."""

    data: str = "digits"
    model: str = "cnn"
    width: float = 1.0  # factor on the layer widths
    activation: str = "relu"
    scaling: str = "symmetric"  # inside the model: symmetric [-1, 1], unit [0, 1], standard (mean and std of the data)
    objective: str = "standard"
    lam: float = 0.0  # weight of the objective's penalty; where the option `target` steers it, its start, or 0 for the usual one
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
    precision: str = "float32"  # arithmetic of the training steps: float32, tf32, bf16 (see `deepdefense.training.precision`)
    start: str = "fresh"  # initial weights: fresh ones, or those that plain training in all else alike ends with
    stop_at_chance: int | None = None  # stop as collapsed after so many epochs in a row at chance (see `validation.stopped`)
    ema: float | None = None  # decay of a moving average of the weights, which then is the network (see `deepdefense.training.averaging`)

    def __post_init__(self):
        for name, value in vars(self).copy().items():
            if getattr(value, "shape", None) == () and (plain := plain_number(value)) is not None:  # of NumPy or torch
                object.__setattr__(self, name, plain)
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
            require(getattr(self, name) in list(allowed), name, f"one of {', '.join(allowed)}", getattr(self, name))
        for name in ("epochs", "batch_size", "val_steps", "val_size"):
            value = getattr(self, name)
            require(type(value) is int and value >= 1, name, "a whole number of at least 1", value)
        require(type(self.seed) is int and 0 <= self.seed < 2**31, "seed", "a whole number from 0 to 2^31 - 1", self.seed)
        for name in ("train_size", "stop_at_chance"):
            value = getattr(self, name)
            require(value is None or (type(value) is int and value >= 1), name, "a whole number of at least 1, or None", value)
        for name, low, high in (("lam", 0, 1e6), ("warmup", 0, 1), ("val_eps", 0, 1), ("weight_decay", 0, 1)):
            value = getattr(self, name)
            require(is_number(value) and low <= value <= high, name, f"a number from {low} to {high:g}", value)
            object.__setattr__(self, name, float(value))  # 2 and 2.0 are one run
        for name in ("lr", "width"):
            value = getattr(self, name)
            require(is_number(value) and 0 < value <= 100, name, "a number above 0 and at most 100", value)
            object.__setattr__(self, name, float(value))
        if self.ema is not None:
            require(is_number(self.ema) and 0 < self.ema < 1, "ema", "a number above 0 and below 1, or None", self.ema)
        models.check(self.model, width=self.width, activation=self.activation)
        self._check_options()

    def _check_options(self):
        require(isinstance(self.options, dict), "options", "a dict of the objective's own keywords", self.options)
        defaults = objectives.option_defaults(self.objective)
        for name in self.options:
            if name not in defaults:
                raise unknown_name(name, defaults)
        objectives.check_options(self.objective, self.options)
        if "target" in self.options:
            self._check_target()

    def _check_target(self):
        target, rest = self.options["target"], {name: value for name, value in self.options.items() if name != "target"}
        object.__setattr__(self, "options", rest if target is None else {**rest, "target": float(target)})  # None is to give none
        if target is not None:
            require(self.warmup == 0, "warmup", "left out, or 0, where target is given: λ follows the target", self.warmup)
            within = self.lam == 0 or LOWEST <= self.lam <= HIGHEST
            allowed = f"left out, or from {LOWEST:g} to {HIGHEST:g}, where target is given: it is where λ begins to follow the target"
            require(within, "lam", allowed, self.lam)
            weights = self.options.get("weights") or [1]
            good = min(weights) >= 0 and max(weights) > 0
            require(good, "weights", "at least 0, and one of them above 0, where target is given", weights)

    @property
    def loss(self) -> str:
        """The task loss of the objective."""
        return self.options.get("loss", objectives.option_defaults(self.objective).get("loss", "mse"))

    @property
    def target(self) -> float | None:
        """The alignment that λ follows in a closed loop, if it does."""
        return self.options.get("target")

    def to_dict(self) -> dict:
        return asdict(self)

    def digest(self) -> str:
        """Eight hexadecimal digits that change with any setting."""
        settings = {name: value for name, value in self.to_dict().items() if LATER_FIELDS.get(name, ...) != value}
        return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:8]

    def name(self) -> str:
        """Name of the run: what matters most, then the digest."""
        lam = f"-target{self.target:g}" if self.target else ""
        lam += f"-lam{self.lam:g}" if self.lam else ""
        return f"{self.data}-{self.model}-{self.objective}{lam}-seed{self.seed}-{self.digest()}"


def reference(run: TrainConfig) -> TrainConfig:
    """Plain training in all else like `run`: what its defence is compared with."""
    loss = {} if run.loss == objectives.option_defaults("standard")["loss"] else {"loss": run.loss}
    return replace(run, objective="standard", lam=0.0, warmup=0.0, options=loss, start="fresh")
