"""Whether a gain of the headline networks is real: their masking reports side by side, and each adaptive attack's own number."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from deepdefense.masking.check import JSON_NAME, MaskingReport
from deepdefense.storage import paths

from .. import intervals
from ..claims.quantities import usable, worst_case
from ..estimates import Estimate
from ..intervals import Samples
from ..networks import Network, gfa_rows, of, present
from ..scope import DEFENCE_NAMES, PAIRS, ROWS
from ..wording import NOTHING, bounds, number, several, spread
from . import masking_checks
from .style import MARKERS, PALETTE

READS = ("masking",)  # folders of data/results/, for the workflow
TARGETS = "multi-targeted PGD"  # of the adaptive suite, on every class in turn
Masked = tuple[Network, MaskingReport]


def reports(networks: Sequence[Network], folder: Path | None = None) -> list[Masked]:
    """The networks that have a masking report in `folder` (default: data/results/masking), each with it."""
    folder = folder or paths.results_root() / "masking"
    return [(n, MaskingReport.read(folder / n.name)) for n in networks if (folder / n.name / JSON_NAME).is_file()]


def title(network: Network) -> str:
    """A network in words: pair, defence, seed."""
    return f"{PAIRS[network.pair]}: {network.title}, seed {network.seed}"


def verdicts_table(found: Sequence[Masked]) -> pd.DataFrame:
    """The nine verdicts, one row a network."""
    rows = []
    for network, report in found:
        about = {"networks": PAIRS[network.pair], "defence": network.title, "seed": str(network.seed)}
        verdicts = {f"{c.number}": masking_checks.verdict_words(c) for c in report.checks}
        rows.append(about | verdicts | {"n": report.attacked})
    return pd.DataFrame(rows).set_index(["networks", "defence"]) if rows else pd.DataFrame()


def legend(found: Sequence[Masked]) -> str:
    """What the numbers of the checks stand for."""
    return "; ".join(f"{c.number}: {c.title.lower()}" for c in found[0][1].checks) + "." if found else ""


def findings(found: Sequence[Masked]) -> str:
    """How many checks passed, passed in part, had no power or failed, by network, and what that excludes."""
    return masking_checks.findings({title(network): report for network, report in found})


def over_plain(networks: Sequence[Network]) -> Iterator[tuple[tuple[str, str], str, dict[int, float], Estimate | None]]:
    """(pair, row, points over plain training in the strict worst case by seed, their mean with its interval over seeds and images)
    of seeds whose two networks finished; no mean where there are none."""
    for pair in present(networks):
        for row, variant, seeds in gfa_rows(networks, pair):
            more = {}
            for seed, nets in seeds.items():
                kept = [worst_case(nets[name]) for name in ("standard", variant)] if usable(nets, "standard", variant) else [None]
                if all(one is not None for one in kept):
                    more[seed] = 100.0 * (kept[1].astype(float) - kept[0])
            mean = intervals.of_points(Samples.of([(one, np.ones(len(one), bool)) for one in more.values()])) if more else None
            yield pair, row, {seed: float(one.mean()) for seed, one in more.items()}, mean


def gains_table(networks: Sequence[Network], found: Sequence[Masked]) -> pd.DataFrame:
    """One row a pair and variant of GFA: images kept in the strict worst case over plain training's, and what the masking reports say.

    The points are of seeds that have both networks; a network that did not finish is left out.
    """
    rows = {}
    for pair, row, gains, mean in over_plain(networks):
        said = [f"seed {n.seed}: {masking_checks.tally_words(r)}" for n, r in found if (n.pair, n.row) == (pair, row)]
        rows[PAIRS[pair], DEFENCE_NAMES[row]] = {
            "points over plain": bounds(mean) if mean else NOTHING,
            "by seed": ", ".join(number(gain, sign=True) for gain in gains.values()) or NOTHING,
            "nine checks": "; ".join(said) or "no report",
        }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis(["networks", "defence"])


def other_losses_table(networks: Sequence[Network], suite: str = "adaptive") -> pd.DataFrame:
    """Points by which several targets at once go below the attack on the training loss alone, one row a pair, over seeds."""
    rows = {}
    for pair in present(networks):
        row = {}
        for name in ROWS:
            group, points = of(networks, pair, name), []
            for network in group:
                loss = network.loss
                report, keys = network.singly, [f"{suite}/PGD {loss}", f"{suite}/{TARGETS}"]
                if report is not None and set(keys) <= set(report.outcomes):
                    points.append(100 * float(report.robust(keys[0]).mean() - report.robust(keys[1]).mean()))
            if group:
                row[DEFENCE_NAMES[name]] = spread(points)
        rows[PAIRS[pair]] = row
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("networks")


def singly_words(networks: Sequence[Network]) -> str:
    """On how many images each attack was tried on its own, and with how many seeds, pair by pair."""
    said = []
    for pair in present(networks):
        there = [(network.seed, len(network.singly.label)) for network in of(networks, pair) if network.singly is not None]
        if there:
            images = sorted({n for _, n in there})
            said.append(f"{PAIRS[pair]} {' or '.join(f'{n:,}' for n in images)} images, {several(len(dict(there)), 'seed')}")
    return f"First test images: {'; '.join(said)}."


def power_table(found: Sequence[Masked]) -> pd.DataFrame:
    """How many images could have counted against each rule of a check, and (how many) would have failed it, one row a network."""
    rows = []
    for network, report in found:
        about = {"networks": PAIRS[network.pair], "defence": network.title}
        rows.append(about | {f"{c.number}": masking_checks.power_short(c) or NOTHING for c in report.checks})
    return pd.DataFrame(rows).set_index(["networks", "defence"]) if rows else pd.DataFrame()


def reasons_table(found: Sequence[Masked]) -> pd.DataFrame:
    """What each check that did not pass, or only in part, says: a row a network and check."""
    rows = [
        {"networks": PAIRS[network.pair], "defence": network.title, "check": f"{c.number}. {c.title}"}
        | {"verdict": masking_checks.verdict_words(c), "reason": c.reason}
        for network, report in found
        for c in report.checks
        if c.verdict != "pass" or c.in_part
    ]
    return pd.DataFrame(rows, columns=["networks", "defence", "check", "verdict", "reason"]).set_index(["networks", "defence", "check"])


def spent_table(found: Sequence[Masked]) -> pd.DataFrame:
    """A row a network: how many images stand behind its report, and what the checks spent."""
    rows = []
    for network, report in found:
        about = {"networks": PAIRS[network.pair], "defence": network.title, "seed": str(network.seed)}
        about |= {"images right": report.attacked, "of": report.images, "eps (1/255)": f"{255 * report.eps:g}"}
        rows.append(about | {name: report.settings[name] for name in ("steps", "draws", "queries", "readouts")})
    return pd.DataFrame(rows).set_index(["networks", "defence"]) if rows else pd.DataFrame()


def gains_figure(networks: Sequence[Network]) -> Figure:
    """Points over plain training of the same seed in the strict worst case: a mark a seed, a row a pair and variant."""
    rows = [(pair, row, list(points.values())) for pair, row, points, _ in over_plain(networks) if points]
    fig, ax = plt.subplots(figsize=(7, 0.32 * len(rows) + 0.9))
    for line, (_, row, points) in enumerate(rows):
        ax.plot(points, [line] * len(points), ls="", marker=MARKERS[row], color=PALETTE[row], ms=6, alpha=0.8, mec="white", mew=0.5)
        ax.plot(float(np.mean(points)), line, "|", color="black", ms=14, mew=1.5)
    ax.axvline(0, color="black", lw=0.8)
    ax.set_yticks(range(len(rows)), [f"{PAIRS[pair]}: {DEFENCE_NAMES[row]}" for pair, row, _ in rows])
    ax.invert_yaxis()
    ax.set(xlabel="points over plain training of the same seed (bar: mean)")
    return fig


def gains_words(networks: Sequence[Network]) -> str:
    """`gains_figure` in a sentence."""
    said = [
        f"{PAIRS[pair]} {DEFENCE_NAMES[row]} {bounds(mean)} ({several(len(points), 'seed')})"
        for pair, row, points, mean in over_plain(networks)
        if mean
    ]
    return f"Points kept over plain training in the worst case at L∞ 8/255: {'; '.join(said)}."


def attacks_table(networks: Sequence[Network], pair: tuple[str, str], suite: str = "adaptive") -> pd.DataFrame:
    """Accuracy in % under each attack of `suite` alone, one column a defence, mean ± standard deviation over seeds."""
    columns = {}
    for row in ROWS:
        made = [n.singly for n in of(networks, pair, row) if n.singly is not None and suite in n.singly.suites]
        if not made:
            continue
        keys = list(dict.fromkeys(key for report in made for key in report.in_suite(suite)))
        cells = {
            key.split("/")[1]: spread([100 * float(report.robust(key).mean()) for report in made if key in report.outcomes]) for key in keys
        }
        columns[DEFENCE_NAMES[row]] = cells
    return pd.DataFrame(columns).fillna(NOTHING).rename_axis("attack")
