"""Whether a gain of the headline networks is real: their masking reports side by side, and each adaptive attack's own number."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from deepdefense.masking.check import JSON_NAME, MaskingReport
from deepdefense.storage import paths

from ..claims.quantities import usable, worst_case
from ..networks import Network, by_seed, of, present
from ..scope import DEFENCE_NAMES, DEFENCES, PAIRS, VARIANTS
from ..wording import NOTHING, number, spread
from . import masking_checks

READS = ("masking",)  # folders of data/results/, for the workflow
TARGETS = "multi-targeted PGD"  # of the adaptive suite, on every class in turn
Masked = tuple[Network, MaskingReport]


def reports(networks: Sequence[Network], folder: Path | None = None) -> list[Masked]:
    """The networks that have a masking report in `folder` (default: data/results/masking), each with it."""
    folder = folder or paths.results_root() / "masking"
    return [(n, MaskingReport.read(folder / n.name)) for n in networks if (folder / n.name / JSON_NAME).is_file()]


def title(network: Network) -> str:
    """A network in words: pair, defence, seed."""
    return f"{PAIRS[network.pair]}: {DEFENCE_NAMES[network.defence]}, seed {network.seed}"


def spent(found: Sequence[Masked]) -> str:
    """A line a network: how many images stand behind its report, and what the checks spent."""
    lines = []
    for network, report in found:
        used = ", ".join(f"{report.settings[name]} {name}" for name in ("steps", "draws", "queries", "readouts"))
        lines.append(f"{title(network)}: {report.attacked} of {report.images} images right, eps {report.eps:.5f}; {used}")
    return "\n".join(lines)


def verdicts_table(found: Sequence[Masked]) -> pd.DataFrame:
    """The nine verdicts, one column a network."""
    return masking_checks.verdicts_table({title(network): report for network, report in found})


def findings(found: Sequence[Masked]) -> str:
    """How many checks passed, passed in part, had no power or failed, by network, and what that excludes."""
    return masking_checks.findings({title(network): report for network, report in found})


def gains_table(networks: Sequence[Network], found: Sequence[Masked]) -> pd.DataFrame:
    """One row a pair and variant of GFA: images kept in the strict worst case over plain training's, and what the masking reports say.

    The points are of seeds that have both networks; a network that did not finish is left out.
    """
    rows = {}
    for pair in present(networks):
        seeds = by_seed(networks, pair)
        for variant in VARIANTS:
            gains = {}
            for seed, nets in sorted(seeds.items()):
                kept = [worst_case(nets[name]) for name in ("standard", variant)] if usable(nets, "standard", variant) else [None]
                if all(one is not None for one in kept):
                    gains[seed] = 100 * float(kept[1].mean() - kept[0].mean())
            said = [f"seed {n.seed}: {masking_checks.tally_words(r)}" for n, r in found if (n.pair, n.defence) == (pair, variant)]
            rows[PAIRS[pair], DEFENCE_NAMES[variant]] = {
                "points over plain": spread(list(gains.values())),
                "by seed": ", ".join(number(gain, sign=True) for gain in gains.values()) or NOTHING,
                "nine checks": "; ".join(said) or "no report",
            }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis(["networks", "defence"])


def other_losses_table(networks: Sequence[Network], suite: str = "adaptive") -> pd.DataFrame:
    """Points by which several targets at once go below the attack on the training loss alone, one row a pair, over seeds."""
    rows = {}
    for pair in present(networks):
        row = {}
        for defence in DEFENCES:
            points = []
            for network in of(networks, pair, defence):
                loss = network.loss
                report, keys = network.reports.get("linf"), [f"{suite}/PGD {loss}", f"{suite}/{TARGETS}"]
                if report is not None and set(keys) <= set(report.outcomes):
                    points.append(100 * float(report.robust(keys[0]).mean() - report.robust(keys[1]).mean()))
            row[DEFENCE_NAMES[defence]] = spread(points)
        rows[PAIRS[pair]] = row
    return pd.DataFrame.from_dict(rows, orient="index")


def power_table(found: Sequence[Masked]) -> pd.DataFrame:
    """How many images could have counted against each rule of a check, and (how many) would have failed it, one column a network."""
    columns = {
        title(network): {f"{c.number}. {c.title}": masking_checks.power_short(c) or NOTHING for c in report.checks}
        for network, report in found
    }
    return pd.DataFrame(columns)


def reasons(found: Sequence[Masked]) -> str:
    """What each check that did not pass, or only in part, says, by network."""
    lines = []
    for network, report in found:
        said = masking_checks.reasons(report, passed=False)
        lines += [title(network), *[f"  {line}" for line in said or ["every check passes"]]]
    return "\n".join(lines)


def attacks_table(networks: Sequence[Network], pair: tuple[str, str], suite: str = "adaptive") -> pd.DataFrame:
    """Accuracy in % under each attack of `suite` alone, one column a defence, mean ± standard deviation over seeds."""
    columns = {}
    for defence in DEFENCES:
        made = [n.reports["linf"] for n in of(networks, pair, defence) if "linf" in n.reports]
        made = [report for report in made if suite in report.suites]
        keys = list(dict.fromkeys(key for report in made for key in report.in_suite(suite)))
        cells = {
            key.split("/")[1]: spread([100 * float(report.robust(key).mean()) for report in made if key in report.outcomes]) for key in keys
        }
        columns[DEFENCE_NAMES[defence]] = cells
    return pd.DataFrame(columns).fillna(NOTHING).rename_axis(PAIRS[pair])
