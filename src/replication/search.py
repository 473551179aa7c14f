"""The search for a working regime: its runs on the validation images, what each varies, and the plan's rule of choice.

    python -m replication.search          prints what is chosen for each pair and defence, why, and what came next

Nothing here reads a number of the test set.
"""

import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from deepdefense import objectives
from deepdefense.storage import files, paths
from deepdefense.training.config import TrainConfig

from .records import SEARCH_FOLDERS, load_records
from .scope import DEFENCE_NAMES, PAIR_NAMES, VARIANTS

READS = ("search", "refine")  # folders of data/results/, for the workflow
CHOSEN = ("pgd-at", "gnr", *VARIANTS)  # adversarial training first: its clean accuracy is the bar for the others
AXES = ("data", "model", "objective", "lam", "warmup", "options")  # what a run is, not how it departs from the base settings
OWN = ("width", "activation", "scaling", "epochs")  # a run with another value is on the map, but is not chosen
UNALIGNED = 0.1  # alignment at the input below which GFA has not done anything to speak of
OPTIMISER = ("optimizer", "lr")  # they go together
Pair = tuple[str, str]
State = tuple[float, float, float]  # clean accuracy, robust accuracy, alignment
TrialSettings = tuple[tuple[str, object], ...]


def varied(config: TrainConfig, base: Mapping) -> TrialSettings:
    """Where `config` departs from the settings `base`."""
    return tuple((name, value) for name, value in settings(config).items() if json.dumps(value) != json.dumps(base[name]))


@dataclass(frozen=True)
class Trial:
    """One run of the search. Accuracies in [0, 1] and alignment are those of the last epoch, on validation images."""

    name: str
    config: TrainConfig
    status: str  # finished, collapsed or diverged
    clean: float  # on all validation images, `n_clean` of them; NaN if the run diverged, as are the next two
    robust: float  # under margin PGD at config.val_eps, on the first `config.val_size` of them
    alignment: float  # mean signed alignment at the input, on the same
    n_clean: int
    epochs: tuple[State, ...]  # the same three after every epoch that ended finite; the choice does not look at them
    varied: TrialSettings  # (setting, value) where the run departs from the base settings of its pair, λ and warm-up aside
    environment: Mapping  # commit, device and versions that made it
    code: str  # digest of the code that a training run depends on

    @property
    def pair(self) -> Pair:
        return self.config.data, self.config.model

    @property
    def variant(self) -> str:
        return self.config.objective

    @property
    def lam(self) -> float:
        return self.config.lam

    @property
    def warmup(self) -> float:
        return self.config.warmup

    @property
    def mean(self) -> float:
        return (self.clean + self.robust) / 2

    @property
    def eligible(self) -> bool:
        """May the run be chosen: own architecture, scaling and epochs, the paper's alignment, neither collapsed nor diverged?

        A repeat with another seed is not chosen itself.
        """
        departs = any(name in (*OWN, "form", "seed") for name, _ in self.varied)
        return self.status == "finished" and not departs

    @property
    def factor(self) -> str | None:
        """The one thing it varies ("optimizer" stands for optimizer and lr together); None if nothing, or several."""
        names = {"optimizer" if name in OPTIMISER else name for name, _ in self.varied}
        return names.pop() if len(names) == 1 else None


@dataclass(frozen=True)
class Choice:
    """What the rule takes for a pair and defence; `run` is None if it can take nothing, and `reason` says why."""

    pair: Pair
    variant: str
    run: Trial | None
    bar: float | None  # clean accuracy that had to be reached; None for adversarial training itself, or if it is not known
    reason: str
    others: tuple[Trial, ...] = ()  # the next best by the same rule, best first
    eligible: int = 0


def settings(config: TrainConfig) -> dict:
    """All settings of a run by name, the options of its objective among them with their defaults, the axes left out."""
    fields = {name: value for name, value in asdict(config).items() if name not in AXES}
    return fields | objectives.option_defaults(config.objective) | config.options


def base_settings(configs: Iterable[TrainConfig]) -> dict:
    """The commonest value of every setting among `configs`; of equally common ones the first met. `form` is the paper's, cos."""
    counted: dict[str, Counter] = {}
    for config in configs:
        for name, value in settings(config).items():
            counted.setdefault(name, Counter())[json.dumps(value)] += 1
    return {name: json.loads(values.most_common(1)[0][0]) for name, values in counted.items()} | {"form": "cos"}


def runs_of(records: Sequence[Mapping]) -> list[Trial]:
    """The training records as runs, by pair, defence, warm-up and λ."""
    configs = [TrainConfig(**record["config"]) for record in records]
    pairs = sorted({(c.data, c.model) for c in configs}, key=_place)
    base = {pair: base_settings(c for c in configs if (c.data, c.model) == pair) for pair in pairs}
    found = [_run(record, c, base[c.data, c.model]) for record, c in zip(records, configs, strict=True)]
    defences = list(DEFENCE_NAMES)
    return sorted(found, key=lambda r: (_place(r.pair), defences.index(r.variant), r.warmup, r.lam, r.name))


def _place(pair: Pair) -> tuple:
    return (list(PAIR_NAMES).index(pair) if pair in PAIR_NAMES else len(PAIR_NAMES)), pair


def _run(record: Mapping, config: TrainConfig, base: Mapping) -> Trial:
    last = record["history"][-1]
    keys = ("val_accuracy", "val_robust_accuracy", "val_alignment")
    epochs = tuple(tuple(row[key] for key in keys) for row in record["history"] if row["finite"])
    clean, robust, aligned = epochs[-1] if last["finite"] else (math.nan,) * 3
    return Trial(
        record["name"],
        config,
        record["status"],
        clean,
        robust,
        aligned,
        epochs=epochs,
        n_clean=record["data"]["val"],
        varied=varied(config, base),
        environment=record["environment"],
        code=record["code"],
    )


def load(root: str | Path | None = None) -> list[Trial]:
    """All runs in the folders `FOLDERS` of `root` (default: the committed results); ResultsError if there is none at all."""
    root = paths.results_root() if root is None else Path(root)
    there = [root / name for name in SEARCH_FOLDERS if (root / name).is_dir()]
    records = {record["name"]: record for folder in there for record in load_records(folder, "training")}
    if not records:
        raise files.ResultsError(f"there are no records of a search: {root} has no training record in {' or '.join(SEARCH_FOLDERS)}")
    return runs_of(list(records.values()))


def pick(runs: Iterable[Trial], pair: Pair, *variants: str) -> list[Trial]:
    """Those of one pair, and of some defences if they are given."""
    return [run for run in runs if run.pair == pair and (not variants or run.variant in variants)]


def pairs_of(runs: Iterable[Trial]) -> list[Pair]:
    """The pairs that have runs, in the order of the book."""
    return sorted({run.pair for run in runs}, key=_place)


def twin(runs: Iterable[Trial], run: Trial) -> Trial | None:
    """The run of the same pair, defence, λ and warm-up in base settings; None if there is none."""
    same = (run.lam, run.warmup)
    return next((r for r in pick(runs, run.pair, run.variant) if not r.varied and (r.lam, r.warmup) == same), None)


def plain(runs: Iterable[Trial], pair: Pair) -> Trial | None:
    """The pair's plainly trained network in base settings, the one that GFA networks are compared with; None if there is none."""
    return next((run for run in pick(runs, pair, "standard") if not run.varied), None)


def choose(runs: Sequence[Trial]) -> list[Choice]:
    """The plan's choice for every pair and each of `CHOSEN`, on validation images alone.

    Among the eligible runs whose clean accuracy is at least the bar, that of the pair's chosen adversarially trained network: the
    highest robust accuracy; of GFA's, those aligned by less than `NOTHING` only if there is no other. If none reaches the bar: the
    highest mean of both accuracies. Adversarial training has no bar. A run of which a repeat with another seed collapsed or
    diverged is not chosen. Of equal ones, base settings come first, then clean accuracy, then smaller λ.
    """
    choices = []
    fallen = [run for run in runs if run.status != "finished" and "seed" in dict(run.varied)]
    for pair in pairs_of(runs):
        adversarial = _choose(pair, "pgd-at", _eligible(runs, pair, "pgd-at", fallen), None)
        bar = adversarial.run and adversarial.run.clean
        choices.append(adversarial)
        for variant in CHOSEN[1:]:
            mine = _eligible(runs, pair, variant, fallen)
            if bar is None:
                reason = "no choice: the pair has no adversarially trained network to set the bar"
                choices.append(Choice(pair, variant, None, None, reason, (), len(mine)))
            else:
                choices.append(_choose(pair, variant, mine, bar))
    return choices


def _eligible(runs: Sequence[Trial], pair: Pair, variant: str, fallen: Sequence[Trial]) -> list[Trial]:
    """The eligible runs of a pair and variant, without those of which a repeat is among `fallen`."""
    lost = [replace(run.config, seed=0) for run in fallen]
    return [run for run in pick(runs, pair, variant) if run.eligible and replace(run.config, seed=0) not in lost]


def _choose(pair: Pair, variant: str, mine: list[Trial], bar: float | None) -> Choice:
    """The choice among the eligible runs `mine` of a pair and variant."""
    if not mine:
        return Choice(pair, variant, None, bar, "no choice: there is no eligible run")
    over = [run for run in mine if bar is None or run.clean >= bar]
    aligned = [run for run in over if run.alignment >= UNALIGNED] if variant in VARIANTS else []
    if over:
        over = aligned or over
        ranked = sorted(over, key=lambda run: (-run.robust, bool(run.varied), -run.clean, run.lam, run.name))
        need = f"with clean accuracy of at least {100 * bar:.1f} %" if bar is not None else "of adversarial training"
        need += f" and alignment of at least {UNALIGNED:g}" if aligned else ""
        reason = f"highest robust accuracy of the {len(over)} eligible run{'s' * (len(over) > 1)} {need}"
    else:
        ranked = sorted(mine, key=lambda run: (-run.mean, -run.clean, run.lam, run.name))
        reason = f"none of the {len(mine)} eligible reaches a clean accuracy of {100 * bar:.1f} %: highest mean of both accuracies"
    return Choice(pair, variant, ranked[0], bar, reason, tuple(ranked[1:]), len(mine))


def words(settings: TrialSettings) -> str:
    """Settings as "name = value", comma-separated; "base" if there are none."""
    return ", ".join(f"{name} = {value:g}" if isinstance(value, float) else f"{name} = {value}" for name, value in settings) or "base"


def describe(run: Trial) -> str:
    """A run in a line: λ, warm-up, what it varies, and its validation figures."""
    lam = f"λ {run.lam:g}, warm-up {run.warmup:g}, " if run.variant not in ("standard", "pgd-at") else ""
    figures = f"clean {100 * run.clean:.1f} %, robust {100 * run.robust:.1f} %, alignment {run.alignment:+.2f}"
    return f"{lam}{words(run.varied)}: {figures}"


def main() -> None:
    runs = load()
    choices = choose(runs)
    for pair in pairs_of(runs):
        mine = pick(runs, pair)
        base = base_settings(run.config for run in mine)
        print(f"\n== {PAIR_NAMES.get(pair, ', '.join(pair))}: {len(mine)} runs\nbase settings: {words(tuple(base.items()))}")
        print(f"plain: {describe(reference) if (reference := plain(runs, pair)) else 'no run'}")
        for choice in (c for c in choices if c.pair == pair):
            print(f"{DEFENCE_NAMES[choice.variant]}: {choice.reason} ({choice.eligible} eligible)")
            for mark, run in zip(("->", "  ", "  ", "  "), (choice.run, *choice.others), strict=False):
                print(f"  {mark} {describe(run)}" if run else "  -> nothing")


if __name__ == "__main__":
    main()
