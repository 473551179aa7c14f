"""Small probes of other architectures, from their records alone: no row of the scoreboard, no claim."""

from collections.abc import Sequence

import pandas as pd

from ..networks import Network
from ..scope import DEFENCE_NAMES, PROBES
from ..wording import NOTHING

READS = ("gpu", "probes", "quick")  # folders of data/results/, for the workflow; the fullest first


def probes_table(networks: Sequence[Network]) -> pd.DataFrame:
    """One row a network: what it was trained on, clean accuracy on the whole test set, worst case over the attacks of its report."""
    rows = []
    for network in networks:
        config, report = network.record["config"], network.reports.get("linf")
        rows.append({
            "networks": PROBES[network.pair],
            "defence": DEFENCE_NAMES[network.defence],
            "seed": network.seed,
            "size": f"{'reduced' if network.reduced else 'full'}: width {config['width']:g}, {network.record['data']['train']} images, "
            f"{config['epochs']} epochs",
            "ended": network.record["status"],
            "clean (%)": f"{100 * network.clean:.1f}" if network.record["metrics"]["last"] else NOTHING,
            "kept, of images attacked": f"{int(report.robust().sum())} of {len(report.label)}" if report else NOTHING,
            "suites": ", ".join(report.suites) if report else NOTHING,
        })  # fmt: skip
    columns = ["networks", "defence", "seed", "size", "ended", "clean (%)", "kept, of images attacked", "suites"]
    return pd.DataFrame(rows, columns=columns).set_index(["networks", "defence", "seed"])


def missing(networks: Sequence[Network]) -> str:
    """Which architectures no record is of, in a sentence."""
    there = {network.pair for network in networks}
    names = [name for pair, name in PROBES.items() if pair not in there]
    return f"No records yet: {'; '.join(names)}." if names else "There are records of every architecture."
