"""The profiles of the book: which settings every defence has in each of them."""

from dataclasses import fields

from deepdefense import objectives
from deepdefense.arguments import require, unknown_name
from deepdefense.training.config import TrainConfig

# What a profile sets. λ of "quick" is what the search chose (chapter 8); λ of "smoke" was accurate and aligned on its own
# validation images; GNR's λ, GFA's targets, TRADES' β and PGD's loss of "paper" are what the search at full size chose for the CNN (chapter
# 8b). GradAlign's λ is its authors' for CIFAR-10 at 8/255 (their public code); CURE's 4 is the default of its authors' code, which
# penalises the length and not its square: our reading. The rest of the block that begins with them are leads from what these
# defences are made of: no search has chosen them.
PROFILES: dict[str, dict] = {
    "smoke": {
        "shared": dict(data="digits", model="cnn", epochs=12, batch_size=64, lr=3e-3, val_size=150, val_eps=0.1),
        "gfa-first": dict(lam=0.5, warmup=0.5),
        "gfa-deep": dict(lam=0.2, warmup=0.5),
        "pgd-at": dict(options=dict(eps=0.1, alpha=0.025)),
        "trades": dict(options=dict(eps=0.1, alpha=0.025)),
        "gnr": dict(lam=1.0),
        "gradalign": dict(lam=0.2, options=dict(eps=0.1)),
        "cure": dict(lam=4.0),
        "mart": dict(options=dict(eps=0.1, alpha=0.025)),
        "tangential-gnr": dict(lam=4.0),
        "gfa-first-fixed-scale": dict(lam=0.5, warmup=0.5),
        "gfa-deep-fixed-scale": dict(lam=0.2, warmup=0.5),
        "pgd-at-gfa-first": dict(lam=0.5, warmup=0.5, options=dict(eps=0.1, alpha=0.025)),
        "pgd-at-gfa-deep": dict(lam=0.1, warmup=0.5, options=dict(eps=0.1, alpha=0.025)),
        "pgd-at-tangential": dict(lam=1.0, options=dict(eps=0.1, alpha=0.025)),
    },
    "quick": {
        "shared": dict(data="cifar10", model="cnn", width=0.5, train_size=10_000, epochs=10, batch_size=128, lr=1e-3, augment="crop-flip"),
        "gfa-first": dict(lam=1.65, warmup=1.0),
        "gfa-deep": dict(lam=0.3, warmup=1.0),
        "gnr": dict(lam=10.0),
        "gradalign": dict(lam=0.2),
        "cure": dict(lam=4.0),
        "tangential-gnr": dict(lam=40.0),
        "gfa-first-fixed-scale": dict(lam=1.65, warmup=1.0),
        "gfa-deep-fixed-scale": dict(lam=0.3, warmup=1.0),
        "pgd-at-gfa-first": dict(lam=1.65, warmup=1.0),
        "pgd-at-gfa-deep": dict(lam=0.3, warmup=1.0),
        "pgd-at-tangential": dict(lam=10.0),
    },
    "paper": {
        "shared": dict(
            data="cifar10", model="cnn", epochs=30, batch_size=128, lr=1e-3, augment="crop-flip", val_size=1000, stop_at_chance=2
        ),
        "pgd-at": dict(options=dict(loss="mse")),
        "trades": dict(options=dict(loss="ce", beta=24)),
        "gfa-first": dict(options=dict(target=0.2)),
        "gfa-deep": dict(lam=0.02, options=dict(target=0.4)),
        "gnr": dict(lam=3.0),
        "gradalign": dict(lam=0.2),
        "cure": dict(lam=4.0),
        "tangential-gnr": dict(lam=40.0),
        "gfa-first-fixed-scale": dict(lam=2.7, warmup=1.0),
        "gfa-deep-fixed-scale": dict(lam=0.6, warmup=1.0),
        "pgd-at-gfa-first": dict(lam=2.7, warmup=1.0),
        "pgd-at-gfa-deep": dict(lam=0.6, warmup=1.0),
        "pgd-at-tangential": dict(lam=10.0),
    },
}
SHOWN = ("standard", "gfa-first", "gfa-deep", "pgd-at")


def make(profile: str = "smoke", objective: str = "standard", **parameters) -> TrainConfig:
    """The run of `profile` for `objective`, with `parameters` (fields or options of the objective) in place of its values.

    A parameter that is None keeps the profile's value; a `target` takes the place of the profile's λ and warm-up, and they that of its
    target. Other unknown names raise a ValueError that lists the allowed ones.
    """
    require(profile in PROFILES, "profile", f"one of {', '.join(PROFILES)}", profile)
    defaults = objectives.option_defaults(objective)
    settings = {**PROFILES[profile]["shared"], **PROFILES[profile].get(objective, {}), "objective": objective}
    options = dict(settings.pop("options", {}))
    known = [f.name for f in fields(TrainConfig) if f.name not in ("objective", "options")]
    for name, value in parameters.items():
        if value is not None and name not in known and name not in defaults:
            raise unknown_name(name, ["profile", "objective", *known, *defaults])
        if value is not None:
            (settings if name in known else options)[name] = value
    given = {name: parameters[name] for name in ("lam", "warmup") if parameters.get(name) is not None}
    if parameters.get("target") is not None:  # in place of the profile's λ
        settings = {name: value for name, value in settings.items() if name not in ("lam", "warmup")} | given
    elif given:  # in place of the profile's target
        options.pop("target", None)
    return TrainConfig(**settings, options=options)
