"""Small probes of other architectures, from their records alone: no row of the scoreboard, no claim."""

from collections.abc import Sequence

import pandas as pd

from ..networks import Network, of
from ..scope import DEFENCE_NAMES, PROBES
from ..wording import NOTHING, number, several

READS = ("gpu", "probes", "quick")  # folders of data/results/, for the workflow; the fullest first
HARDLY = 0.2  # clean accuracy on ten classes
COLUMNS = (
    "networks", "defence", "seed", "clean (%)", "kept in the worst case (images)", "n", "L∞ eps (1/255)",
    "size", "width", "training images", "epochs", "ended", "suites",
)  # fmt: skip


def probes_table(networks: Sequence[Network]) -> pd.DataFrame:
    """One row a network: what it was trained on, clean accuracy on the whole test set, worst case over the attacks of its report."""
    rows = []
    for network in networks:
        config, report = network.record["config"], network.reports.get("linf")
        rows.append([
            PROBES[network.pair],
            DEFENCE_NAMES[network.defence],
            network.seed,
            number(100 * network.clean) if network.record["metrics"]["last"] else NOTHING,
            int(report.robust().sum()) if report else NOTHING,
            len(report.label) if report else NOTHING,
            f"{255 * report.about['eps']:g}" if report else NOTHING,
            "reduced" if network.reduced else "full",
            f"{config['width']:g}",
            f"{network.record['data']['train']:,}",
            config["epochs"],
            network.record["status"],
            ", ".join(report.suites) if report else NOTHING,
        ])  # fmt: skip
    return pd.DataFrame(rows, columns=list(COLUMNS)).set_index(["networks", "defence"])


def kept_words(networks: Sequence[Network]) -> list[str]:
    """A sentence an architecture: images that each defence keeps in the worst case, seed by seed; then which have no record."""
    said = []
    for pair, title in PROBES.items():
        attacked = [one for one in of(networks, pair) if "linf" in one.reports]
        for reduced in (False, True):
            mine = [one for one in attacked if one.reduced == reduced]
            kept = {name: [one for one in mine if one.defence == name] for name in dict.fromkeys(one.defence for one in mine)}
            parts = [f"{DEFENCE_NAMES[name]} {' and '.join(map(_kept, some))}" for name, some in kept.items()]
            if parts:
                seeds = len({one.seed for one in mine})
                size = "at reduced scale" if reduced else "at full size"
                counted = several(seeds, "seed")
                said.append(f"{title}, {size}, images kept in the worst case: {', '.join(parts)} ({counted}).")
    return [*said, *unlearnt(networks), missing(networks)]


def unlearnt(networks: Sequence[Network]) -> list[str]:
    """Which networks are hardly better than chance, so that nothing can be read off them: a sentence, or none."""
    weak = [n for n in networks if n.record["metrics"]["last"] and n.clean < HARDLY]
    shown = [f"{PROBES[n.pair]}, {DEFENCE_NAMES[n.defence]} {number(100 * n.clean)} %" for n in weak]
    return (
        [f"Of ten classes hardly anything has been learnt (clean accuracy below {100 * HARDLY:g} %) by: {'; '.join(shown)}."]
        if weak
        else []
    )


def _kept(network: Network) -> str:
    report = network.reports["linf"]
    return f"{int(report.robust().sum())} of {len(report.label)}"


def missing(networks: Sequence[Network]) -> str:
    """Which architectures no record is of, in a sentence."""
    there = {network.pair for network in networks}
    names = [name for pair, name in PROBES.items() if pair not in there]
    return f"No records yet: {'; '.join(names)}." if names else "There are records of every architecture."
