"""The search at full size: settings with two seeds each, and the rule by which the headline runs' settings are chosen.

    python -m replication.full_search      prints every setting and what is chosen; workflow/choose_settings.py makes grids of it

The rule is that of book/plan_full_size.md. Nothing here reads a number of the test set.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from deepdefense.storage import files, paths
from deepdefense.training.config import TrainConfig

from .records import load_records
from .scope import DEFENCE_NAMES, PAIRS, VARIANTS
from .scope import SEARCH_SEEDS as SEEDS
from .wording import several

READS = ("full_search",)  # folder of data/results/, for the workflow
DEFENCES = ("pgd-at", "trades", "gnr", *VARIANTS)  # adversarial training first: it sets the bar
TOOK_HOLD = 0.1  # alignment at the input over the validation images; ten deviations above plain's are asked of the headline runs
LOOKS = 2  # how many settings of a defence get a second seed where not all do
Pair = tuple[str, str]


@dataclass(frozen=True)
class OneSeed:
    """One run, after its last epoch, on validation images; accuracies in [0, 1], NaN of a run that diverged."""

    name: str
    config: TrainConfig
    status: str
    clean: float
    robust: float
    alignment: float


@dataclass(frozen=True)
class Setting:
    """One setting with its runs by seed; a candidate if both seeds are there and none is lost."""

    config: TrainConfig  # of seed 0
    trials: Mapping[int, OneSeed]

    @property
    def pair(self) -> Pair:
        return self.config.data, self.config.model

    @property
    def defence(self) -> str:
        return self.config.objective

    def _mean(self, name: str) -> float:
        values = [getattr(trial, name) for trial in self.trials.values()]
        return math.fsum(values) / len(values)

    @property
    def clean(self) -> float:
        return self._mean("clean")

    @property
    def robust(self) -> float:
        return self._mean("robust")

    @property
    def alignment(self) -> float:
        return self._mean("alignment")

    @property
    def lost(self) -> bool:
        """Did any of its runs collapse or diverge?"""
        return any(trial.status != "finished" for trial in self.trials.values())

    @property
    def candidate(self) -> bool:
        return not self.lost and set(SEEDS) <= set(self.trials)

    @property
    def aligned(self) -> bool:
        """Is GFA's alignment at least `TOOK_HOLD` in most of its runs?"""
        held = [trial.alignment >= TOOK_HOLD for trial in self.trials.values()]
        return 2 * sum(held) > len(held)

    @property
    def words(self) -> str:
        """What the setting sets, in words."""
        c, options = self.config, self.config.options
        begun = f", from λ {c.lam:g}" if c.lam else ""
        said = [f"target {options['target']:g}{begun}"] if options.get("target") is not None else []
        if c.objective in ("gnr", *VARIANTS) and not said:
            said.append(f"λ {c.lam:g}" + (f", warm-up {c.warmup:g}" if c.warmup else ""))
        names = {"ce": "cross-entropy", "mse": "squared error"}
        said += [f"β {options['beta']:g}"] if "beta" in options else []
        said += [names.get(options["loss"], options["loss"])] if "loss" in options else []
        said += [f"averaged weights ({c.ema:g})"] if c.ema else []
        return ", ".join(said) or "as it is"


@dataclass(frozen=True)
class Taken:
    """What the rule takes for a pair and defence; `aligned`: the setting that is shown beside it because that one took hold."""

    pair: Pair
    defence: str
    setting: Setting | None
    bar: float | None  # clean accuracy to be reached; None for adversarial training, or if it is not known
    reason: str
    aligned: Setting | None = None


def settings_of(records: Iterable[Mapping]) -> list[Setting]:
    """The training records as settings, by pair and defence, in the order of the book."""
    found: dict[str, tuple[TrainConfig, dict[int, OneSeed]]] = {}
    for record in records:
        run = TrainConfig(**record["config"])
        last = record["history"][-1]
        values = [last[f"val_{key}"] if last["finite"] else math.nan for key in ("accuracy", "robust_accuracy", "alignment")]
        config = replace(run, seed=SEEDS[0])
        _, trials = found.setdefault(config.name(), (config, {}))
        trials[run.seed] = OneSeed(record["name"], run, record["status"], *values)
    settings = [Setting(config, dict(sorted(trials.items()))) for config, trials in found.values()]
    return sorted(settings, key=_place)


def _place(setting: Setting) -> tuple:
    c = setting.config
    target = c.options.get("target")
    return list(PAIRS).index(setting.pair), list(DEFENCE_NAMES).index(setting.defence), target is None, target or c.lam, c.name()


def load(root: str | Path | None = None) -> list[Setting]:
    """All settings of data/results/full_search (or of that folder below `root`); ResultsError if there is none."""
    folder = (paths.results_root() if root is None else Path(root)) / READS[0]
    records = load_records(folder, "training") if folder.is_dir() else []
    if not records:
        raise files.ResultsError(f"there are no records of the search at full size: {folder} has none")
    return settings_of(records)


def pick(settings: Iterable[Setting], pair: Pair, *defences: str) -> list[Setting]:
    """Those of one pair, and of some defences if they are given."""
    return [s for s in settings if s.pair == pair and (not defences or s.defence in defences)]


def ranked(settings: Iterable[Setting], bar: float | None) -> tuple[list[Setting], bool]:
    """Rule 2: best first, and whether any passes the bar. Without a bar: by robust accuracy alone.

    Those that pass the bar come by mean robust accuracy; if none does, all by the mean of clean and robust accuracy.
    """
    settings = list(settings)
    over = [s for s in settings if bar is None or s.clean >= bar]
    if over:
        return sorted(over, key=lambda s: (-s.robust, -s.clean, s.config.name())), True
    return sorted(settings, key=lambda s: (-(s.clean + s.robust), -s.clean, s.config.name())), False


def first(settings: Iterable[Setting], bar: float | None) -> Setting | None:
    """What rule 2 takes of the candidates among `settings`; None if none is one."""
    order, _ = ranked([s for s in settings if s.candidate], bar)
    return order[0] if order else None


def choose(settings: Sequence[Setting]) -> list[Taken]:
    """The choice for every pair that has settings and each of `DEFENCES`, by the means over seeds of candidates alone."""
    choices = []
    for pair in [pair for pair in PAIRS if pick(settings, pair)]:
        bar: float | None = None
        for defence in DEFENCES:
            mine = [s for s in pick(settings, pair, defence) if s.candidate]
            if defence != "pgd-at" and bar is None:
                choices.append(Taken(pair, defence, None, None, "no choice: no candidate of adversarial training sets the bar"))
                continue
            choices.append(_choose(pair, defence, mine, None if defence == "pgd-at" else bar))
            if defence == "pgd-at" and choices[-1].setting is not None:
                bar = choices[-1].setting.clean
    return choices


def _choose(pair: Pair, defence: str, mine: list[Setting], bar: float | None) -> Taken:
    if not mine:
        return Taken(pair, defence, None, bar, "no choice: no setting has finished with both seeds")
    order, passed = ranked(mine, bar)
    tried = several(len(mine), "setting")
    if bar is None:
        reason = f"highest robust accuracy of {tried}"
    elif passed:
        reason = f"highest robust accuracy of the {len(order)} of {tried} with a clean accuracy of at least {100 * bar:.2f} %"
    else:
        reason = f"none of {tried} has a clean accuracy of {100 * bar:.2f} %: highest mean of clean and robust accuracy"
    beside = None
    if defence in VARIANTS and not order[0].aligned:
        held = [s for s in mine if s.aligned]
        beside = ranked(held, None)[0][0] if held else None
    return Taken(pair, defence, order[0], bar, reason, beside)


def with_first_seed(settings: Iterable[Setting]) -> list[Setting]:
    """Those that finished with seed 0, by what that seed gave alone."""
    once = [s for s in settings if SEEDS[0] in s.trials and s.trials[SEEDS[0]].status == "finished"]
    return [Setting(s.config, {SEEDS[0]: s.trials[SEEDS[0]]}) for s in once]


def without_second_seed(wanted: Iterable[Setting], settings: Iterable[Setting]) -> list[Setting]:
    """Those of `wanted`, each once, that `settings` have not got with both seeds."""
    there = {s.config.name() for s in settings if set(SEEDS) <= set(s.trials)}
    return list({s.config.name(): s for s in wanted if s.config.name() not in there}.values())


def second_looks(settings: Sequence[Setting], pair: Pair) -> list[Setting]:
    """Settings of `pair` with one seed that get the other: the first two of each defence by its numbers with seed 0 (see the plan)."""
    once = with_first_seed(pick(settings, pair))
    adversarial = ranked(pick(once, pair, "pgd-at"), None)[0]
    bar = adversarial[0].clean if adversarial else None
    wanted = [*pick(once, pair, "standard"), *adversarial[:LOOKS]]
    for defence in DEFENCES[1:]:
        mine = pick(once, pair, defence)
        wanted += ranked(mine, bar)[0][:LOOKS]
        if defence in VARIANTS:
            wanted += ranked([s for s in mine if s.aligned], None)[0][:LOOKS]
    return without_second_seed(wanted, settings)


def describe(setting: Setting) -> str:
    """A setting in a line, with its seeds' figures."""
    rows = []
    for seed, trial in setting.trials.items():
        figures = f"clean {100 * trial.clean:.1f} %, robust {100 * trial.robust:.1f} %, alignment {trial.alignment:+.2f}"
        rows.append(f"seed {seed}: {figures if trial.status == 'finished' else trial.status}")
    return f"{setting.words}: {'; '.join(rows)}"


def complete(settings: Sequence[Setting], planned: Sequence[TrainConfig], pair: Pair) -> bool:
    """Is the search of `pair` at its end: seed 0 of every planned setting there, and no second look open?"""
    there = {s.config.name() for s in pick(settings, pair) if SEEDS[0] in s.trials}
    wanted = {replace(run, seed=SEEDS[0]).name() for run in planned if (run.data, run.model) == pair}
    return bool(wanted) and wanted <= there and not second_looks(settings, pair)


def main() -> None:
    settings = load()
    choices = choose(settings)
    for pair in [pair for pair in PAIRS if pick(settings, pair)]:
        mine = pick(settings, pair)
        print(f"\n== {PAIRS[pair]}: {several(len(mine), 'setting')}, {several(sum(len(s.trials) for s in mine), 'run')}")
        for defence in ("standard", *DEFENCES):
            for setting in pick(mine, pair, defence):
                print(f"   {DEFENCE_NAMES[defence]:15} {describe(setting)}")
        for choice in (c for c in choices if c.pair == pair):
            print(f"-> {DEFENCE_NAMES[choice.defence]}: {choice.setting.words if choice.setting else 'nothing'} ({choice.reason})")
            if choice.aligned is not None:
                print(f"   beside it, aligned: {choice.aligned.words}")


if __name__ == "__main__":
    main()
