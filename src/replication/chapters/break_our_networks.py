"""The published networks and the images that no attack of their reports broke; nothing here runs a model."""

from collections.abc import Sequence

import pandas as pd

from ..networks import Network
from ..scope import DEFENCE_NAMES, PAIR_NAMES
from ..wording import percent


def published_table(networks: Sequence[Network]) -> pd.DataFrame:
    """One row a network whose weights are published: clean accuracy, survivors of its report, and how many images it attacked."""
    rows = []
    for network in networks:
        report = network.reports.get("linf")
        rows.append({
            "name": network.name,
            "networks": PAIR_NAMES[network.pair],
            "defence": DEFENCE_NAMES[network.defence],
            "size": "reduced" if network.reduced else "full",
            "clean, whole test set (%)": f"{100 * network.clean:.1f}",
            "worst case (%)": percent(report.robust().mean(), len(report.label)) if report else "not attacked",
            "survivors": f"{int(report.robust().sum())} of {len(report.label)}" if report else "–",
        })  # fmt: skip
    columns = ["name", "networks", "defence", "size", "clean, whole test set (%)", "worst case (%)", "survivors"]
    return pd.DataFrame(rows, columns=columns).set_index("name")


def survivors_table(networks: Sequence[Network]) -> pd.DataFrame:
    """One row a network that was attacked: the test images, by index, that every attack of its report failed on."""
    rows = [
        {
            "networks": PAIR_NAMES[network.pair],
            "defence": DEFENCE_NAMES[network.defence],
            "seed": network.seed,
            "survivors": " ".join(map(str, network.reports["linf"].robust().nonzero()[0])) or "none",
        }
        for network in networks
        if "linf" in network.reports
    ]
    return pd.DataFrame(rows, columns=["networks", "defence", "seed", "survivors"]).set_index(["networks", "defence", "seed"])
