"""The published networks and the images that no attack of their reports broke; nothing here runs a model."""

from collections.abc import Mapping, Sequence

import pandas as pd

from deepdefense.storage import paths

from ..networks import Network
from ..records import load_records
from ..scope import PAIR_NAMES
from ..wording import NOTHING, number, percent

READS = ("more_effort",)  # folders of data/results/, for the workflow


def published_words(networks: Sequence[Network]) -> str:
    """How many networks' weights are there to attack."""
    if not networks:
        return "No weights are committed yet: they follow with the runs at full size."
    return f"The weights of {len(networks)} network{'s' * (len(networks) > 1)} are committed, and `networks.load` loads them by name."


def listed(published: Sequence[Network], headline: Sequence[Network], seed: int) -> list[Network]:
    """The networks whose survivors are listed: the `published` ones, then those with `seed` that the results pages show besides."""
    names = {network.name for network in published}
    return [*published, *(network for network in headline if network.seed == seed and network.name not in names)]


def survivors_words(networks: Sequence[Network]) -> str:
    """How many images wait to be broken: the sum over the networks that were attacked, and the network that has most."""
    attacked = [network for network in networks if "linf" in network.reports]
    counts = [int(network.reports["linf"].robust().sum()) for network in attacked]
    if not counts:
        return "No network has been attacked yet, so there is no list of survivors."
    most = attacked[counts.index(max(counts))]
    return (
        f"{sum(counts):,} images of {len(counts)} networks survive every attack of their reports, most of them, {max(counts)} of "
        f"{len(most.reports['linf'].label)}, on {PAIR_NAMES[most.pair]}, {most.title}: each that you break counts "
        "against us."
    )


def published_table(networks: Sequence[Network]) -> pd.DataFrame:
    """One row a network whose weights are published: clean accuracy, survivors of its report, and how many images it attacked."""
    rows = []
    for network in networks:
        report = network.reports.get("linf")
        rows.append({
            "name": network.name,
            "networks": PAIR_NAMES[network.pair],
            "defence": network.title,
            "size": "reduced" if network.reduced else "full",
            "clean, whole test set (%)": number(100 * network.clean),
            "worst case (%)": percent(report.robust().mean(), len(report.label)) if report else "not attacked",
            "survivors": int(report.robust().sum()) if report else NOTHING,
            "n": len(report.label) if report else NOTHING,
            "L∞ eps (1/255)": f"{255 * report.about['eps']:g}" if report else NOTHING,
        })  # fmt: skip
    columns = ["name", "networks", "defence", "size", "clean, whole test set (%)", "worst case (%)", "survivors", "n", "L∞ eps (1/255)"]
    return pd.DataFrame(rows, columns=columns).set_index("name")


def survivors_table(networks: Sequence[Network]) -> pd.DataFrame:
    """One row a network that was attacked: the test images, by index, that every attack of its report failed on."""
    rows = []
    for network in networks:
        if "linf" in network.reports:
            report = network.reports["linf"]
            robust = report.robust()
            rows.append({
                "networks": PAIR_NAMES[network.pair],
                "defence": network.title,
                "size": "reduced" if network.reduced else "full",
                "seed": network.seed,
                "survivors": int(robust.sum()),
                "n": len(robust),
                "L∞ eps (1/255)": f"{255 * report.about['eps']:g}",
                "indices": " ".join(map(str, robust.nonzero()[0])) or "none",
            })  # fmt: skip
    columns = ["networks", "defence", "size", "seed", "survivors", "n", "L∞ eps (1/255)", "indices"]
    return pd.DataFrame(rows, columns=columns).set_index(["networks", "defence"])


SHOWN = 25  # indices of a network


def cut(survivors: pd.DataFrame) -> pd.DataFrame:
    """`survivors_table` with the first `SHOWN` indices of each network, and how many more there are."""

    def first(indices: str) -> str:
        there = indices.split()
        more = f" … and {len(there) - SHOWN:,} more" if len(there) > SHOWN else ""
        return " ".join(there[:SHOWN]) + more

    return survivors.assign(indices=survivors["indices"].map(first))


def efforts(networks: Sequence[Network]) -> list[dict]:
    """What more effort than the reports' did to the published `networks`, in their order: records of `experiments.more_effort`.

    A record that was made of another list of survivors than the network's report has now is left out.
    """
    folder = paths.results_root() / READS[0]
    there = {record["name"]: record for record in load_records(folder)} if folder.is_dir() else {}
    counts = {network.name: int(network.reports["linf"].robust().sum()) for network in networks if "linf" in network.reports}
    return [there[name] for name, count in counts.items() if name in there and there[name]["survivors"] == count]


def _spent(effort: Mapping) -> str:
    return f"{effort['restarts']} starts, {effort['targets']} targets, {effort['steps']} steps, momentum {effort['decay']:g}"


def effort_words(records: Sequence[Mapping]) -> str:
    """How many survivors fall to more effort, of how many, and to which."""
    if not records:
        return "Nobody has tried yet to break what survives."
    broken, all_of_them = sum(len(one["broken"]) for one in records), sum(one["survivors"] for one in records)
    spent = "; ".join(dict.fromkeys(_spent(one["effort"]) for one in records))
    return (
        f"We have tried harder ourselves, with an attack that is in no report ({spent}): {broken} of {all_of_them:,} "
        f"survivors of {len(records)} network{'s' * (len(records) > 1)} fall{'s' * (broken == 1)}."
    )


def effort_table(records: Sequence[Mapping]) -> pd.DataFrame:
    """One row a record of `efforts`: what was spent, which survivors fell, and the worst case before and after."""
    rows = []
    for one in records:
        n, kept = one["n"], one["survivors"]
        rows.append({
            "name": one["name"],
            "spent on an image": _spent(one["effort"]),
            "survivors": kept,
            "broken": len(one["broken"]),
            "indices": " ".join(map(str, one["broken"])) or "none",
            "worst case, report (%)": percent(kept / n, n),
            "worst case, with these (%)": percent((kept - len(one["broken"])) / n, n),
        })  # fmt: skip
    return pd.DataFrame(rows).set_index("name")
