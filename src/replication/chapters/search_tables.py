"""Tables and sentences of the search, computed from its runs; every number is of validation images, after the last epoch."""

from collections import Counter
from collections.abc import Sequence

import pandas as pd

from ..scope import DEFENCE_NAMES, PAIR_NAMES, VARIANTS
from ..search import AXES, UNALIGNED, Choice, Pair, State, Trial, choose, pairs_of, pick, plain, settings, twin, words
from ..wording import number, percent

ALIGNED = 0.2  # mean alignment at the input from which a network counts as aligned
CLOSE = 0.05  # clean accuracy that a network may lose on plain training and still count as accurate
FACTORS = ("form", "loss", "reduction", "weights", "detach_features", "statistics", "optimizer", "lr", "batch_size", "start")
FACTORS += ("epochs", "width", "activation", "scaling")  # in this order, others after them
STATUSES = ("finished", "collapsed", "diverged")


def title(pair: Pair) -> str:
    return PAIR_NAMES.get(pair, ", ".join(pair))


def _cells(run: Trial) -> dict[str, str]:
    """Validation figures of a run; empty if it diverged."""
    if run.status == "diverged":
        return {"clean (%)": "", "robust (%)": "", "alignment": ""}
    robust = percent(run.robust, run.config.val_size)
    return {"clean (%)": percent(run.clean, run.n_clean), "robust (%)": robust, "alignment": f"{run.alignment:+.2f}"}


def _table(rows: Sequence[dict], columns: Sequence[str]) -> pd.DataFrame:
    """Rows as a table of these columns, empty where a row has none, by pair and defence."""
    filled = [{name: row.get(name, "") for name in columns} for row in rows]
    return pd.DataFrame(filled, columns=list(columns)).set_index(["pair", "defence"])


def made_table(runs: Sequence[Trial]) -> pd.DataFrame:
    """What the runs of each pair were made from: how many, of which sizes and seeds, on what, by which code."""

    def several(values) -> str:
        return ", ".join(map(str, sorted(set(values))))

    rows = []
    for pair in pairs_of(runs):
        configs, mine = [run.config for run in pick(runs, pair)], pick(runs, pair)
        rows.append(
            {
                "pair": title(pair),
                "runs": len(mine),
                "training images": several(c.train_size for c in configs),
                "seeds": several(c.seed for c in configs),
                "validation images": several(r.n_clean for r in mine),
                "of these attacked": several(c.val_size for c in configs),
                "eps": several(f"{255 * c.val_eps:g}/255" for c in configs),
                "steps": several(c.val_steps for c in configs),
                "device": several(r.environment["device"] for r in mine),
                "states of the code": len({r.code for r in mine}),
            }
        )
    return pd.DataFrame(rows).set_index("pair")


def every_table(runs: Sequence[Trial], pair: Pair) -> pd.DataFrame:
    """Every run of a pair, a row each."""
    rows = []
    for run in pick(runs, pair):
        row = {"defence": DEFENCE_NAMES[run.variant], "λ": f"{run.lam:g}" if run.lam else "", "status": run.status}
        row |= {"warm-up": f"{run.warmup:g}"} if run.variant in VARIANTS else {}
        rows.append({"pair": title(pair)} | row | {"departs from base in": words(run.varied) if run.varied else ""} | _cells(run))
    return _table(rows, ["pair", "defence", "λ", "warm-up", "departs from base in", "status", "clean (%)", "robust (%)", "alignment"])


def counts_table(runs: Sequence[Trial]) -> pd.DataFrame:
    """One row a pair and defence: how many runs, how they ended, and the λ and warm-ups they cover."""
    rows = []
    for pair in pairs_of(runs):
        for variant in (name for name in DEFENCE_NAMES if pick(runs, pair, name)):
            mine = pick(runs, pair, variant)
            ended = Counter(run.status for run in mine)
            lams, warmups = sorted({run.lam for run in mine}), sorted({run.warmup for run in mine})
            ranges = {"λ": "", "warm-up": ""}
            if lams[-1]:
                ranges = {"λ": f"{lams[0]:g} to {lams[-1]:g}", "warm-up": ", ".join(f"{w:g}" for w in warmups)}
            row = {"pair": title(pair), "defence": DEFENCE_NAMES[variant], "runs": len(mine)}
            rows.append(row | {status: ended[status] for status in STATUSES} | ranges)
    return _table(rows, ["pair", "defence", "runs", *STATUSES, "λ", "warm-up"])


def ranges_table(runs: Sequence[Trial]) -> pd.DataFrame:
    """One row a setting that the GFA runs vary: its values, each with how many runs have it, all pairs together."""
    mine = [run for run in runs if run.variant in VARIANTS]
    counted: dict[str, Counter] = {}
    for run in mine:
        for name, value in settings(run.config).items():
            counted.setdefault(name, Counter())[words(((name, value),)).split(" = ", 1)[1]] += 1
    rows = {
        name: {"values (runs)": ", ".join(f"{value} ({n})" for value, n in values.most_common())}
        for name, values in counted.items()
        if len(values) > 1 and name not in AXES
    }
    return pd.DataFrame(list(rows.values()), index=pd.Index(list(rows), name="setting"), columns=["values (runs)"])


def ridge_table(runs: Sequence[Trial]) -> pd.DataFrame:
    """One row a pair, GFA variant and warm-up, base settings alone: between which λ the network goes from untouched to collapsed."""
    rows = []
    for pair in pairs_of(runs):
        for variant in VARIANTS:
            base = [run for run in pick(runs, pair, variant) if not run.varied]
            for warmup in sorted({run.warmup for run in base}):
                mine = [run for run in base if run.warmup == warmup]
                fallen = [run.lam for run in mine if run.status != "finished"]
                untouched = [r.lam for r in mine if r.status == "finished" and r.alignment < UNALIGNED and r.lam < min(fallen, default=1e9)]
                up = [run for run in mine if run.status == "finished"]
                best = max(up, key=lambda run: run.robust, default=None)
                rows.append(
                    {
                        "pair": title(pair),
                        "defence": DEFENCE_NAMES[variant],
                        "warm-up": f"{warmup:g}",
                        "λ tried": ", ".join(f"{run.lam:g}" for run in mine),
                        f"largest λ with alignment < {UNALIGNED:g}": f"{max(untouched):g}" if untouched else "none",
                        "smallest λ that collapses or diverges": f"{min(fallen):g}" if fallen else "none",
                        "λ of the highest robust accuracy": f"{best.lam:g}" if best else "none",
                    }
                )
    columns = ["pair", "defence", "warm-up", "λ tried", f"largest λ with alignment < {UNALIGNED:g}"]
    return _table(rows, [*columns, "smallest λ that collapses or diverges", "λ of the highest robust accuracy"])


def chosen_table(runs: Sequence[Trial], choices: Sequence[Choice] | None = None) -> pd.DataFrame:
    """One row a pair and defence: what the rule takes and why; plain training in base settings first, for comparison."""
    rows = []
    choices = choose(runs) if choices is None else choices
    for pair in pairs_of(runs):
        reference = plain(runs, pair)
        if reference:
            rows.append({"pair": title(pair), "defence": DEFENCE_NAMES["standard"], **_cells(reference), "why": "base settings"})
        for choice in (c for c in choices if c.pair == pair):
            run = choice.run
            row = {"pair": title(pair), "defence": DEFENCE_NAMES[choice.variant]}
            if run:
                lam = {"λ": f"{run.lam:g}"} if run.lam else {}
                lam |= {"warm-up": f"{run.warmup:g}"} if run.variant in VARIANTS else {}
                row |= lam | {"departs from base in": words(run.varied) if run.varied else ""} | _cells(run)
            rows.append(row | {"why": choice.reason})
    order = ["pair", "defence", "λ", "warm-up", "departs from base in", "clean (%)", "robust (%)", "alignment", "why"]
    return _table(rows, order)


def aligned(runs: Sequence[Trial], pair: Pair) -> list[Trial]:
    """The pair's GFA runs that ended above chance and aligned, the most accurate first."""
    found = [run for run in pick(runs, pair, *VARIANTS) if run.status == "finished" and run.alignment >= ALIGNED]
    return sorted(found, key=lambda run: (-run.clean, run.name))


def aligned_epochs(runs: Sequence[Trial], pair: Pair) -> list[tuple[State, Trial]]:
    """Every epoch after which a GFA run of the pair was aligned, in the middle of training too, with its run; most accurate first."""
    found = [(state, run) for run in pick(runs, pair, *VARIANTS) for state in run.epochs if state[2] >= ALIGNED]
    return sorted(found, key=lambda one: (-one[0][0], one[1].name))


def aligned_table(runs: Sequence[Trial], most: int = 5) -> pd.DataFrame:
    """The most accurate aligned runs of each pair, whatever their settings, beside plain training in base settings."""
    rows = []
    for pair in pairs_of(runs):
        reference = plain(runs, pair)
        for run in aligned(runs, pair)[:most]:
            rows.append(
                {
                    "pair": title(pair),
                    "defence": DEFENCE_NAMES[run.variant],
                    "λ": f"{run.lam:g}",
                    "warm-up": f"{run.warmup:g}",
                    "departs from base in": words(run.varied) if run.varied else "",
                    **_cells(run),
                    "clean, minus plain (points)": f"{100 * (run.clean - reference.clean):+.1f}" if reference else "",
                    "may be chosen": "yes" if run.eligible else "no",
                }
            )
    columns = ["pair", "defence", "λ", "warm-up", "departs from base in", "clean (%)", "robust (%)", "alignment"]
    columns += ["clean, minus plain (points)", "may be chosen"]
    return _table(rows, columns)


def aligned_words(runs: Sequence[Trial]) -> str:
    """Whether there is an accurate and aligned network, a sentence a pair."""
    said = []
    for pair in pairs_of(runs):
        mine, found, reference = pick(runs, pair, *VARIANTS), aligned(runs, pair), plain(runs, pair)
        if not mine or not reference:
            said.append(f"{title(pair)}: nothing to say yet, without a plain run and GFA runs.")
            continue
        close = [run for run in found if run.clean >= reference.clean - CLOSE]
        own = sum(run.eligible for run in close)
        sentence = (
            f"{title(pair)}: of {len(mine)} GFA runs, {len(found)} end above chance and aligned (mean alignment at least {ALIGNED:g}); "
            f"{len(close)} of these are within {100 * CLOSE:g} points of plain training ({100 * reference.clean:.1f} %), "
            f"{own} of them with the pair's own architecture, scaling, epochs and the paper's alignment."
        )
        if found:
            best = found[0]
            sentence += (
                f" The most accurate aligned one has {100 * best.clean:.1f} % clean, {100 * best.robust:.1f} % robust, "
                f"alignment {number(best.alignment, 2, sign=True)} (plain: {100 * reference.robust:.1f} % robust, "
                f"{number(reference.alignment, 2, sign=True)})."
            )
        said.append(f"{sentence}\n{_epochs_words(runs, pair, reference)}")
    return "\n".join(said)


def _epochs_words(runs: Sequence[Trial], pair: Pair, reference: Trial) -> str:
    """The same question of every epoch on the way, not of the last alone."""
    states, found = sum(len(run.epochs) for run in pick(runs, pair, *VARIANTS)), aligned_epochs(runs, pair)
    close = [state for state, _ in found if state[0] >= reference.clean - CLOSE]
    sentence = f"After {len(found)} of all their {states} epochs the network was aligned, after {len(close)} of these also that accurate"
    if not found:
        return sentence + "."
    (clean, robust, alignment), run = found[0]
    return (
        f"{sentence}; the most accurate of them had {100 * clean:.1f} % clean, {100 * robust:.1f} % robust, "
        f"alignment {number(alignment, 2, sign=True)} ({DEFENCE_NAMES[run.variant]}, λ = {run.lam:g}, warm-up {run.warmup:g}, "
        f"{words(run.varied)})."
    )


def chosen_words(runs: Sequence[Trial], choices: Sequence[Choice] | None = None) -> str:
    """How the chosen GFA networks stand to the chosen GNR, adversarially trained and plain ones, a sentence each."""
    said = []
    choices = choose(runs) if choices is None else choices
    for pair in pairs_of(runs):
        mine = {choice.variant: choice for choice in choices if choice.pair == pair}
        levels = {"standard": plain(runs, pair)} | {name: mine[name].run for name in ("gnr", "pgd-at")}
        against = {name: run for name, run in levels.items() if run}
        for variant in VARIANTS:
            run = mine[variant].run
            if run is None:
                said.append(f"{title(pair)}, {DEFENCE_NAMES[variant]}: {mine[variant].reason}.")
                continue
            gaps = ", ".join(
                f"{number(100 * (run.clean - other.clean), sign=True)} clean and "
                f"{number(100 * (run.robust - other.robust), sign=True)} robust on {DEFENCE_NAMES[name]}"
                for name, other in against.items()
            )
            bar = "" if mine[variant].bar is None or run.clean >= mine[variant].bar else ", below the bar"
            said.append(f"{title(pair)}, {DEFENCE_NAMES[variant]} (λ = {run.lam:g}{bar}), points: {gaps}.")
    return "\n".join(said)


def best_words(runs: Sequence[Trial], pair: Pair) -> str:
    """The most robust run of each defence that the rule may choose, in a clause."""
    mine = [run for run in pick(runs, pair) if run.eligible and run.status == "finished"]
    tops = {name: max((r for r in mine if r.variant == name), key=lambda r: r.robust, default=None) for name in DEFENCE_NAMES}
    said = ", ".join(f"{DEFENCE_NAMES[name]} {100 * run.robust:.1f} at {100 * run.clean:.1f} clean" for name, run in tops.items() if run)
    return f"{title(pair)}, most robust run of each (%): {said}"


def ended_words(runs: Sequence[Trial], pair: Pair) -> str:
    """How the GFA runs of a pair in base settings ended, in a sentence."""
    base = [run for run in pick(runs, pair, *VARIANTS) if not run.varied]
    counts = ", ".join(f"{n} {status}" for status, n in Counter(run.status for run in base).items())
    top = max((run for run in base if run.status == "finished"), key=lambda run: run.alignment, default=None)
    best = f"; the best aligned that finished has {number(top.alignment, 2, sign=True)} and {100 * top.clean:.1f} % clean" if top else ""
    return f"{title(pair)}: of {len(base)} runs in base settings {counts or 'none'}{best}."


def excluded_words(runs: Sequence[Trial]) -> str:
    """How many GFA runs the rule may not take, and whether one of them is more robust than the chosen ones, a sentence a pair."""
    said = []
    for pair in pairs_of(runs):
        mine = [run for run in pick(runs, pair, *VARIANTS) if run.status == "finished"]
        out = [run for run in mine if not run.eligible]
        best_out = max(out, key=lambda run: run.robust, default=None)
        best_in = max((run for run in mine if run.eligible), key=lambda run: run.robust, default=None)
        sentence = f"{title(pair)}: {len(out)} of {len(mine)} GFA runs that ended above chance are outside the choice"
        if best_out and best_in:
            figures = [f"{100 * run.robust:.1f} % (clean {100 * run.clean:.1f} %)" for run in (best_out, best_in)]
            sentence += f"; the most robust of them, {words(best_out.varied)}, has {figures[0]}, the most robust inside {figures[1]}"
        said.append(sentence + ".")
    return "\n".join(said)


def effects(runs: Sequence[Trial], pair: Pair) -> list[tuple[str, Trial, Trial]]:
    """(setting changed, run, its twin in base settings) for the runs of a pair that change one thing and have a twin, neither diverged."""
    found = []
    for run in pick(runs, pair):
        other = twin(runs, run)
        if run.factor and other and "diverged" not in (run.status, other.status):
            found.append((_setting(run), run, other))
    place = {name: index for index, name in enumerate(FACTORS)}
    return sorted(found, key=lambda one: (place.get(one[1].factor, len(FACTORS)), one[0]))


def _setting(run: Trial) -> str:
    """The change of a run in a few words."""
    named = {"detach_features": "features stopped", "batch_size": "batch", "optimizer": "", "activation": "", "loss": "loss:"}
    said = []
    for name, value in run.varied:
        shown = f"{value:g}" if isinstance(value, float) else str(value)
        said.append(named.get(name, name) if value is True else f"{named.get(name, name.replace('_', ' '))} {shown}".strip())
    return ", ".join(said)


def effects_words(runs: Sequence[Trial], pair: Pair) -> str:
    """What the figure of the effects shows and cannot show, who escaped a collapse, and who fell into one."""
    changed, shown = [run for run in pick(runs, pair) if run.varied], effects(runs, pair)
    several = sum(run.factor is None for run in changed)
    rest = len(changed) - len(shown) - several
    saved = [(name, run) for name, run, other in shown if other.status == "collapsed" and run.status == "finished"]
    fallen = sum(run.status == "collapsed" and other.status == "finished" for _, run, other in shown)
    down = sum(other.status == "collapsed" for _, _, other in shown)
    said = [
        f"{title(pair)}: {len(changed)} runs depart from the base settings; {len(shown)} are in the figure, {several} change several "
        f"settings at once, {rest} have no base run of the same λ and warm-up, or one of the two diverged.",
        f"Of the {down} whose base run collapsed, {len(saved)} ended above chance; of the other {len(shown) - down}, {fallen} collapsed.",
    ]
    for name, run in saved:
        at = f"{DEFENCE_NAMES[run.variant]}, λ = {run.lam:g}, warm-up {run.warmup:g}"
        figures = f"{100 * run.clean:.1f} % clean, {100 * run.robust:.1f} % robust, alignment {number(run.alignment, 2, sign=True)}"
        said.append(f"  above chance where the base run collapsed: {name} ({at}): {figures}")
    return "\n".join(said)
