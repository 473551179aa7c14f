"""The headline runs as the chapters and the scoreboard read them: every network with its record, its reports and its measures.

They lie in data/results/paper where the full grid has been run, else in data/results/quick, at a smaller scale.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from deepdefense.arguments import check_choice
from deepdefense.evaluation.report import JSON_NAME, Report
from deepdefense.storage import files, paths
from deepdefense.training.config import TrainConfig

from . import records
from .records import FULL, REDUCED, headline_folder, published
from .scope import DEFENCES, PAIRS, VARIANTS

READS = ("paper", "quick")  # folders of data/results/, for the workflow


@dataclass(frozen=True)
class Network:
    """One trained network; `record` is its training record, `where` the folder of the results it lies in."""

    record: dict
    where: Path

    @property
    def name(self) -> str:
        return self.record["name"]

    @property
    def pair(self) -> tuple[str, str]:
        return self.record["config"]["data"], self.record["config"]["model"]

    @property
    def defence(self) -> str:
        return self.record["config"]["objective"]

    @property
    def seed(self) -> int:
        return self.record["config"]["seed"]

    @property
    def setting(self) -> str:
        """The name of its configuration without its seed."""
        return replace(TrainConfig(**self.record["config"]), seed=0).name()

    @property
    def loss(self) -> str:
        """The loss that it was trained on: squared error, as the paper's, unless its options name another."""
        return self.record["config"]["options"].get("loss", "mse")

    @property
    def clean(self) -> float:
        """Accuracy on the whole test set after the last epoch, in [0, 1]."""
        return self.record["metrics"]["last"]["test_accuracy"]

    @cached_property
    def every_report(self) -> list[Report]:
        """All reports, those of fewest images first; of equally many, a cascade last."""
        found = [Report.read(path.parent) for path in sorted(self.where.glob(f"{published(self.name, 'report-*')}/{JSON_NAME}"))]
        return sorted(found, key=lambda report: (len(report.label), report.cascade))

    @cached_property
    def reports(self) -> dict[str, Report]:
        """{norm: report}, of several the one of most images; empty if it was not attacked."""
        return {report.about["norm"]: report for report in self.every_report}

    @cached_property
    def singly(self) -> Report | None:
        """The L∞ report of most images in which every attack was tried on every image; None if there is none."""
        return next((r for r in reversed(self.every_report) if r.about["norm"] == "linf" and not r.cascade), None)

    @cached_property
    def measures(self) -> dict | None:
        """The record of `replication.experiments.measure`, or None."""
        found = sorted(self.where.glob(f"{published(self.name, 'measures-*')}/measures.json"))
        return files.read_json(found[0]) if found else None

    @cached_property
    def sweep(self) -> dict[str, np.ndarray] | None:
        """The sweep over eps, image by image (see `replication.experiments.eps_sweep`), or None."""
        found = sorted(self.where.glob(f"{published(self.name, 'measures-*')}/sweep.parquet"))
        return records.read_sweep(found[0]) if found else None


def swept_attacks(networks: Iterable[Network]) -> list[str]:
    """The attacks of the sweeps of `networks`, in the order of their columns, "attack/level"."""
    columns = [name for network in networks if network.sweep is not None for name in network.sweep if "/" in name]
    return list(dict.fromkeys(name.rpartition("/")[0] for name in columns))


def read_all(where: Path | None = None) -> list[Network]:
    """All networks of the folder `where` (default: `records.headline_folder()`), by pair, defence and seed."""
    where = where or headline_folder()
    if not where.is_dir():
        raise files.ResultsError(f"there are no headline results: {where} is not a folder; `make reproduce PROFILE=quick` makes them")
    found = [Network(files.read_json(path), where) for path in sorted(where.glob("*.json"))]
    found = [n for n in found if n.record.get("kind") == "training" and n.pair in PAIRS and n.defence in DEFENCES]
    return sorted(found, key=lambda n: (list(PAIRS).index(n.pair), DEFENCES.index(n.defence), n.seed))


def of(networks: Iterable[Network], pair: tuple[str, str], defence: str | None = None) -> list[Network]:
    """Those of one pair, and of one defence if that is given."""
    return [n for n in networks if n.pair == pair and defence in (None, n.defence)]


def settings(networks: Iterable[Network], pair: tuple[str, str], defence: str) -> list[list[Network]]:
    """The networks of a pair and defence, setting by setting, those first that are aligned least on the validation images.

    One setting, or two of a GFA variant: what the plan's rule took, and beside it the best one that did take hold.
    """
    found: dict[str, list[Network]] = {}
    for network in of(networks, pair, defence):
        found.setdefault(network.setting, []).append(network)

    def alignment(group: list[Network]) -> float:
        last = [network.record["history"][-1].get("val_alignment") for network in group if network.record.get("history")]
        return float(np.mean([value for value in last if value is not None] or [0.0]))

    return sorted(found.values(), key=alignment)


def by_seed(networks: Iterable[Network], pair: tuple[str, str], *, aligned: bool = False) -> dict[int, dict[str, Network]]:
    """{seed: {defence: network}} of one pair; aligned: of a GFA variant with two settings the one beside the chosen one."""
    networks, found = list(networks), {}
    for defence in DEFENCES:
        groups = settings(networks, pair, defence)
        for network in groups[-1 if aligned else 0] if groups else []:
            found.setdefault(network.seed, {})[network.defence] = network
    return dict(sorted(found.items()))


def has_aligned(networks: Iterable[Network]) -> bool:
    """Is there a second, aligned setting beside any that was chosen?"""
    networks = list(networks)
    return any(len(settings(networks, pair, variant)) > 1 for pair in PAIRS for variant in VARIANTS)


def present(networks: Sequence[Network]) -> list[tuple[str, str]]:
    """The pairs that there are networks of, in the order of the plan."""
    return [pair for pair in PAIRS if of(networks, pair)]


@dataclass(frozen=True)
class Page:
    """What a results page shows: the folder that it reads, the networks in it, the pairs that they belong to."""

    where: Path
    networks: list[Network]
    pairs: list[tuple[str, str]]

    @property
    def size(self) -> str:
        """A line on whether these are the plan's full runs."""
        small = records.reduced(self.where)
        return "REDUCED SCALE: small networks, few images, few epochs (see the plan)" if small else "FULL SIZE"

    def measured(self, pair: tuple[str, str]) -> list[dict]:
        """The measures of the networks of `pair` that have been measured."""
        return [network.measures for network in of(self.networks, pair) if network.measures]


def of_page(results_of: str | None = None, folder: str | Path | None = None) -> Page:
    """The networks of a results page, from data/results/`results_of` ("paper", "quick") or from another folder of results.

    None of both: the full results where there are any, else the reduced ones. A ValueError names a folder that is not there.
    """
    check_choice("results_of", results_of, [None, FULL, REDUCED])
    if folder is not None and not Path(folder).is_dir():
        raise ValueError(f"folder must be a folder of results; there is no {folder}")
    where = Path(folder) if folder else paths.results_root() / results_of if results_of else headline_folder()
    networks = read_all(where)
    return Page(where, networks, present(networks))
