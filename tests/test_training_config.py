"""What a run may be: every bad value is named with what is allowed, before anything is loaded or trained."""

import math
from dataclasses import fields, replace

import numpy as np
import pytest
import torch

from deepdefense import objectives
from deepdefense.training import TrainConfig, config
from replication import profiles
from replication.profiles import make
from replication.records import load_records

NOT_A_NUMBER = ["0.1", None, True, math.nan, math.inf, [1]]
BAD = {
    "data": ["mnist", "", None, ["digits"]],
    "model": ["resnet", "CNN", None],
    "width": [0, -1, 101, *NOT_A_NUMBER],
    "activation": ["tanh", None],
    "scaling": ["minmax", None],
    "objective": ["gfa", "gfa_first", None, ["standard"]],
    "lam": [-0.1, 2e6, *NOT_A_NUMBER],
    "warmup": [-0.1, 1.1, *NOT_A_NUMBER],
    "options": [None, [], "loss"],
    "train_size": [0, -5, 10.0, "100", True],
    "epochs": [0, -1, 2.0, "3", None, True],
    "batch_size": [0, 1.5, None, True],
    "optimizer": ["adamw", None],
    "lr": [0, -1e-3, 101, *NOT_A_NUMBER],
    "schedule": ["linear", None],
    "weight_decay": [-1e-4, 2, *NOT_A_NUMBER],
    "augment": ["flip", None, {}],
    "seed": [-1, 2**31, 1.0, None, True],
    "select_by": ["best", None],
    "val_eps": [-0.1, 1.01, 8, *NOT_A_NUMBER],
    "val_steps": [0, 2.5, None],
    "val_size": [0, 2.5, None],
    "precision": ["fp16", None, 32],
    "start": ["trained", None, 0],
    "stop_at_chance": [0, -1, 2.0, "2", True],
    "ema": [0, 1, -0.1, 1.5, *(value for value in NOT_A_NUMBER if value is not None)],
}
CHOICES = ["data", "model", "activation", "scaling", "objective", "optimizer", "schedule", "augment", "select_by", "precision", "start"]


def test_every_field_is_tried():
    assert list(BAD) == [f.name for f in fields(TrainConfig)]


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in BAD.items() for value in values], ids=str)
def test_a_bad_value_names_the_field_and_what_is_allowed(name, value):
    with pytest.raises(ValueError) as error:
        TrainConfig(**{name: value})
    assert str(error.value).startswith(f"{name} must be ") and repr(value) in str(error.value)
    if name in CHOICES:
        assert repr(getattr(TrainConfig(), name)).strip("'") in str(error.value), "the default is among those listed"


OPTIONS = [
    ("standard", "loss", "l2"),
    ("standard", "loss", ["mse"]),
    ("gfa-first", "form", "cosine"),
    ("gfa-first", "form", ["cos"]),
    ("gfa-deep", "reduction", "max"),
    ("gfa-deep", "detach_features", "yes"),
    ("gfa-deep", "weights", "1, 2"),
    ("gfa-deep", "weights", [1, math.nan]),
    ("gfa-deep", "weights", [1, "2"]),
    ("gfa-first", "target", 0),
    ("gfa-first", "target", 1.01),
    ("gfa-first", "target", -0.2),
    ("gfa-deep", "target", math.nan),
    ("gfa-deep", "target", "0.2"),
    ("gfa-deep", "target", True),
    ("pgd-at", "eps", 8),
    ("pgd-at", "eps", -0.1),
    ("pgd-at", "eps", "0.1"),
    ("pgd-at", "alpha", math.nan),
    ("pgd-at", "alpha", 0),
    ("pgd-at", "attack_steps", 0),
    ("pgd-at", "attack_steps", 2.5),
    ("gnr", "loss", "l2"),
    ("trades", "beta", -1),
    ("trades", "beta", "6"),
    ("trades", "attack_steps", 0),
    ("trades", "eps", 8),
    ("gradalign", "step_size", 0),
    ("gradalign", "attack_start", "random"),
    ("gradalign", "detach_clean", 1),
    ("cure", "h", 0),
    ("cure", "h", math.nan),
    ("mart", "loss", "mse"),
    ("mart", "beta", -1),
    ("tangential-gnr", "loss", "l2"),
    ("gfa-deep-fixed-scale", "form", "cosine"),
    ("pgd-at-gfa-first", "eps", 8),
    ("pgd-at-gfa-deep", "form", "cosine"),
    ("pgd-at-tangential", "alpha", 0),
]


@pytest.mark.parametrize(("objective", "name", "value"), OPTIONS, ids=str)
def test_a_bad_option_is_named_before_training(objective, name, value):
    with pytest.raises(ValueError) as error:
        make("smoke", objective, **{name: value})
    assert str(error.value).startswith(f"{name} must be ") and repr(value) in str(error.value)


@pytest.mark.parametrize("settings", [dict(activation="gelu"), dict(activation="softplus")])
def test_settings_that_do_not_go_together_are_refused_before_training(settings):
    with pytest.raises(ValueError, match="resnet18"):
        TrainConfig(model="resnet18", **settings)


@pytest.mark.parametrize(
    ("profile", "objective", "parameters", "words"),
    [
        ("smoke", "gfa-first", dict(lamb=1), ["'lamb'", "did you mean 'lam'", "warmup", "detach_features"]),
        ("smoke", "standard", dict(batchsize=1), ["'batchsize'", "did you mean 'batch_size'"]),
        ("smoke", "pgd-at", dict(attack_step=1), ["did you mean 'attack_steps'"]),
        ("smoke", "standard", dict(xyzzy=1), ["'xyzzy'", "Allowed: profile, objective, data"]),
        ("smoke", "standard", dict(form="cos"), ["'form'"]),
        ("smoke", "standard", dict(options={}), ["'options'"]),
        ("full", "standard", {}, ["profile", "smoke", "paper", "'full'"]),
        ("smoke", "gfa", {}, ["objective", "standard, gfa-first, gfa-deep, pgd-at, gnr, trades", "'gfa'"]),
    ],
)
def test_unknown_names_come_with_the_near_one(profile, objective, parameters, words):
    with pytest.raises(ValueError) as error:
        make(profile, objective, **parameters)
    assert all(word in str(error.value) for word in words), error.value


def test_an_option_of_another_objective_is_refused():
    with pytest.raises(ValueError, match="unknown parameter 'form'"):
        TrainConfig(objective="standard", options={"form": "cos"})
    with pytest.raises(ValueError, match="'standard' has no option 'form'; it takes loss"):
        objectives.build("standard", {"form": "cos"})


OTHER = dict(
    data="cifar10", model="mlp", width=0.5, activation="gelu", scaling="unit", objective="gfa-first", lam=0.3, warmup=0.5,
    options={"loss": "ce"}, train_size=100, epochs=3, batch_size=7, optimizer="sgd", lr=0.2, schedule="constant",
    weight_decay=0.1, augment="crop", seed=4, select_by="clean", val_eps=0.3, val_steps=3, val_size=30,
    precision="bf16", start="plain", stop_at_chance=2, ema=0.99,
)  # fmt: skip


def test_the_digest_changes_with_every_field_and_with_nothing_else():
    base = TrainConfig()
    digests = [base.digest(), *(replace(base, **{name: value}).digest() for name, value in OTHER.items())]
    assert list(OTHER) == list(BAD) and len(set(digests)) == len(digests)
    assert TrainConfig().digest() == base.digest() and len(base.digest()) == 8
    assert make("smoke", "gfa-first", weights=[1]).digest() != make("smoke", "gfa-first", weights=[2]).digest()


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (dict(lam=2), dict(lam=2.0)),
        (dict(width=1, warmup=0, weight_decay=0), {}),
        (dict(lr=1, val_eps=0, lam=1), dict(lr=1.0, val_eps=0.0, lam=1.0)),
    ],
)
def test_the_same_run_has_one_digest(one, other):
    """A parameter file may say 2 where a profile says 2.0: the same run, so the same folder."""
    base = dict(objective="gfa-first")
    assert TrainConfig(**base, **one).digest() == TrainConfig(**base, **other).digest()


def test_a_field_that_came_later_renames_no_earlier_run():
    """The records committed before there was such a field go on naming their runs, and can be read."""
    records = [r for r in load_records() if r.get("kind") in ("training", "search")]
    assert len(records) >= 10
    for record in records:
        settings = {name: value for name, value in record["config"].items() if config.LATER_FIELDS.get(name, ...) != value}
        assert TrainConfig(**settings).name() == record["name"] == TrainConfig(**record["config"]).name()
    assert all(getattr(TrainConfig(), name) == value for name, value in config.LATER_FIELDS.items())


def test_names_are_readable_and_distinct():
    run = make("smoke", "gfa-first", lam=0.25, seed=3)
    assert run.name() == f"digits-cnn-gfa-first-lam0.25-seed3-{run.digest()}"
    assert make("smoke").name().startswith("digits-cnn-standard-seed0-")


@pytest.mark.parametrize("profile", list(profiles.PROFILES))
@pytest.mark.parametrize("objective", objectives.OBJECTIVES)
def test_parameters_go_before_the_profile_and_the_profile_before_the_defaults(profile, objective):
    run = make(profile, objective)
    own = {**profiles.PROFILES[profile]["shared"], **profiles.PROFILES[profile].get(objective, {})}
    options = own.pop("options", {})
    for name, value in run.to_dict().items():
        if name not in ("objective", "options"):
            assert value == own.get(name, getattr(TrainConfig(), name)), name
    assert run.objective == objective and options.items() <= run.options.items()
    weighed = run.lam > 0 or "target" in run.options  # by a λ, or by one that follows a target
    assert weighed == (objective not in ("standard", "pgd-at", "trades", "mart")), "all others weigh a penalty"
    changed = make(profile, objective, lr=0.5, loss="ce", epochs=None, lam=None)
    assert changed == replace(run, lr=0.5, options={**options, "loss": "ce"})
    assert changed.loss == "ce" and run.loss == ("ce" if objective == "mart" or (profile, objective) == ("paper", "trades") else "mse")
    assert own == {k: v for k, v in own.items() if getattr(make(profile, objective), k) == v}, "profiles are not altered"


def test_the_reference_is_plain_training_with_the_same_loss():
    run = make("smoke", "gfa-deep", loss="ce", seed=2, form="abs")
    plain = config.reference(run)
    assert plain == replace(make("smoke", "standard", loss="ce"), seed=2)
    assert config.reference(make("smoke", "pgd-at")) == make("smoke", "standard")
    assert config.reference(make("smoke", "standard")).digest() == make("smoke", "standard").digest()


def test_scalars_of_numpy_and_torch_are_the_numbers_that_they_hold():
    plain = TrainConfig(epochs=3, lam=0.5, seed=2, train_size=100, val_eps=0.125)
    given = TrainConfig(
        epochs=np.int64(3), lam=np.float32(0.5), seed=torch.tensor(2), train_size=np.array(100), val_eps=torch.tensor(0.125)
    )
    assert given == plain and given.digest() == plain.digest() and type(given.epochs) is int
    with pytest.raises(ValueError, match="epochs must be a whole number of at least 1"):
        TrainConfig(epochs=np.float64(2.5))
