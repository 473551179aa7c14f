"""The headline runs as the chapters and the scoreboard read them: every network with its record, its reports and its measures.

They lie in data/results/paper, at full size, and in data/results/quick, at a smaller one. A pair is shown at full size once all runs of
its grid are there with their reports; until then its reduced runs are.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import safetensors.torch
from torch import nn

from deepdefense import models
from deepdefense.arguments import check_choice
from deepdefense.evaluation.report import JSON_NAME, Report
from deepdefense.storage import files, paths

from . import planned, records
from .records import FULL, REDUCED, OfRun, published
from .scope import ALIGNED, DEFENCE_NAMES, DEFENCES, PAIR_NAMES, PAIRS, PROBES, ROWS, VARIANTS

READS = ("paper", "quick")  # folders of data/results/, for the workflow


@dataclass(frozen=True)
class Network(OfRun):
    """One trained network; `record` is its training record, `where` the folder of the results it lies in.

    aligned: is its setting that of a GFA variant which stands beside the chosen one, since it took hold in the search?
    """

    record: dict
    where: Path
    aligned: bool = False

    @property
    def config(self) -> dict:
        return self.record["config"]

    @property
    def row(self) -> str:
        """The row of tables and figures that it belongs to, one of `scope.ROWS`."""
        return ALIGNED[self.defence] if self.aligned else self.defence

    @property
    def title(self) -> str:
        """Its row in words."""
        return DEFENCE_NAMES[self.row]

    @property
    def loss(self) -> str:
        """The loss that it was trained on: squared error, as the paper's, unless its options name another."""
        return self.record["config"]["options"].get("loss", "mse")

    @property
    def clean(self) -> float:
        """Accuracy on the whole test set after the last epoch, in [0, 1]."""
        return self.record["metrics"]["last"]["test_accuracy"]

    @property
    def reduced(self) -> bool:
        """Was it trained at a smaller size than the plan's full one?"""
        return records.reduced(self.record)

    @cached_property
    def every_report(self) -> list[Report]:
        """All reports, those of fewest images first; of equally many, a cascade last."""
        found = [Report.read(path.parent) for path in sorted(self.where.glob(f"{published(self.name, 'report-*')}/{JSON_NAME}"))]
        return sorted(found, key=lambda report: (len(report.label), report.cascade))

    def _is_beyond(self, report: Report) -> bool:
        return report.about["norm"] == "linf" and report.about["eps"] > 1.001 * self.config["val_eps"]

    @cached_property
    def reports(self) -> dict[str, Report]:
        """{norm: report} at the plan's eps, of several the one of most images; empty if it was not attacked."""
        return {report.about["norm"]: report for report in self.every_report if not self._is_beyond(report)}

    @cached_property
    def beyond(self) -> Report | None:
        """The L∞ report of most images at a larger eps than the plan's; None if there is none."""
        return next((report for report in reversed(self.every_report) if self._is_beyond(report)), None)

    @cached_property
    def singly(self) -> Report | None:
        """The L∞ report of most images, at the plan's eps, in which every attack was tried on every image; None if there is none."""
        mine = [report for report in self.every_report if not self._is_beyond(report)]
        return next((r for r in reversed(mine) if r.about["norm"] == "linf" and not r.cascade), None)

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


def read_all(where: Path, pairs: Iterable[tuple[str, str]] = tuple(PAIRS)) -> list[Network]:
    """All networks of `pairs` (default: the scoreboard's) in the folder of results `where`, by pair, defence and seed."""
    if not where.is_dir():
        raise files.ResultsError(f"there are no headline results: {where} is not a folder; `make reproduce PROFILE=quick` makes them")
    found = [Network(files.read_json(path), where) for path in sorted(where.glob("*.json"))]
    found = [n for n in found if n.record.get("kind") == "training" and n.pair in pairs and n.defence in DEFENCES]
    return sorted(told_apart(found), key=_place)


def _place(network: Network) -> tuple:
    return list(PAIR_NAMES).index(network.pair), ROWS.index(network.row), network.seed


def _finished(full: Path) -> set[str]:
    """Names of the runs in the folder of full results that may be shown: those of the pairs whose grid is finished."""
    wanted = planned.read(full)
    return {run.name for pair in PAIRS for run in planned.finished(planned.of_pair(wanted, pair), full)}


def headline(root: Path | None = None) -> list[Network]:
    """The networks that pages and scoreboard show, from the results below `root` (default: the committed ones).

    Pair by pair: those of the full grid if it is finished (see `planned.finished`), else the reduced ones.
    """
    root = root or paths.results_root()
    full, names = root / FULL, _finished(root / FULL)
    there = [network for network in read_all(full) if network.name in names] if names else []
    done = {network.pair for network in there}
    if (root / REDUCED).is_dir() or not full.is_dir():
        there += [network for network in read_all(root / REDUCED) if network.pair not in done]
    return sorted(told_apart(there), key=_place)


def under_way(root: Path | None = None) -> list[Network]:
    """The attacked networks at full size of the pairs that are still shown reduced (see `headline`), since their grid is not finished."""
    full = (root or paths.results_root()) / FULL
    there = read_all(full) if full.is_dir() else []
    names = _finished(full)
    shown = {network.pair for network in there if network.name in names}
    return [network for network in there if network.pair not in shown and not network.reduced and "linf" in network.reports]


def full_size_progress(root: Path | None = None) -> str:
    """How many runs of the full grid are there, of those that are to be: "CNN, CIFAR-10: 7 of 18 runs; …"."""
    where = (root or paths.results_root()) / FULL
    return planned.progress(planned.read(where), where, PAIRS)


def of(networks: Iterable[Network], pair: tuple[str, str], row: str | None = None) -> list[Network]:
    """Those of one pair, and of one row of `scope.ROWS` if that is given: a defence is its chosen setting alone."""
    return [n for n in networks if n.pair == pair and row in (None, n.row)]


def settings(networks: Iterable[Network], pair: tuple[str, str], defence: str) -> list[list[Network]]:
    """The networks of a pair and defence, setting by setting, those first that are aligned least on the validation images.

    One setting, or two of a GFA variant: what the plan's rule took, and beside it the best one that did take hold.
    """
    found: dict[str, list[Network]] = {}
    for network in of(networks, pair):
        if network.defence == defence:
            found.setdefault(network.setting, []).append(network)

    def alignment(group: list[Network]) -> float:
        last = [network.record["history"][-1].get("val_alignment") for network in group if network.record.get("history")]
        return float(np.mean([value for value in last if value is not None] or [0.0]))

    return sorted(found.values(), key=alignment)


def told_apart(networks: Iterable[Network]) -> list[Network]:
    """`networks`, those of a GFA variant's second setting marked as `aligned`: that which is aligned most (see `settings`)."""
    networks = list(networks)
    groups = [settings(networks, pair, variant) for pair in dict.fromkeys(n.pair for n in networks) for variant in VARIANTS]
    second = {network.name for group in groups if len(group) > 1 for network in group[-1]}
    return [replace(network, aligned=network.name in second) for network in networks]


def by_seed(networks: Iterable[Network], pair: tuple[str, str], *, aligned: bool = False) -> dict[int, dict[str, Network]]:
    """{seed: {defence: network}} of one pair; aligned: of a GFA variant with two settings the one beside the chosen one."""
    mine, found = of(networks, pair), {}
    second = {network.defence for network in mine if network.aligned} if aligned else set()
    for network in mine:
        if network.aligned == (network.defence in second):
            found.setdefault(network.seed, {})[network.defence] = network
    return dict(sorted(found.items()))


def sides(networks: Iterable[Network], pair: tuple[str, str] | None = None) -> tuple[bool, ...]:
    """What `by_seed` can be asked for, of `pair` or of any pair: the chosen settings alone, (False,), or the aligned ones too."""
    return (False, True) if any(network.aligned for network in networks if pair in (None, network.pair)) else (False,)


def gfa_rows(networks: Sequence[Network], pair: tuple[str, str]) -> Iterator[tuple[str, str, dict[int, dict[str, Network]]]]:
    """(row, variant, `by_seed` with that row's networks as the variant's): both variants, and their aligned settings if there are any."""
    for variant in VARIANTS:
        yield variant, variant, by_seed(networks, pair)
        if of(networks, pair, ALIGNED[variant]):
            yield ALIGNED[variant], variant, by_seed(networks, pair, aligned=True)


def present(networks: Sequence[Network]) -> list[tuple[str, str]]:
    """The pairs that there are networks of, in the order of the plan."""
    return [pair for pair in PAIRS if of(networks, pair)]


def reduced(networks: Iterable[Network], pairs: Iterable[tuple[str, str]]) -> bool:
    """Is any network of `pairs` smaller than the plan's full size?"""
    return any(network.reduced for network in networks if network.pair in pairs)


@dataclass(frozen=True)
class Page:
    """What a results page shows: the networks, the pairs that they belong to."""

    networks: list[Network]
    pairs: list[tuple[str, str]]

    @property
    def size(self) -> str:
        """A line on whether these are the plan's full runs, from their records; two where some pairs are and some are not."""
        small = [PAIRS[pair] for pair in self.pairs if reduced(self.networks, [pair])]
        whole = [PAIRS[pair] for pair in self.pairs if not reduced(self.networks, [pair])]
        lines = {
            "FULL SIZE": whole,
            "REDUCED SCALE: small networks, few images, few epochs (see the plan)": small,
        }
        return "\n".join(f"{line}: {'; '.join(names)}" if small and whole else line for line, names in lines.items() if names)

    @property
    def progress(self) -> str:
        """A line on how far the runs at full size are; what was said of them when the page was executed."""
        found = full_size_progress()
        return f"Runs at full size that were there when this page was executed: {found or 'none'}."

    def measured(self, pair: tuple[str, str]) -> list[dict]:
        """The measures of the networks of `pair` that have been measured, each with the "row" of its network."""
        return [network.measures | {"row": network.row} for network in of(self.networks, pair) if network.measures]


def of_page(results_of: str | None = None, folder: str | Path | None = None) -> Page:
    """The networks of a results page, from data/results/`results_of` ("paper", "quick") or from another folder of results.

    None of both: pair by pair the full results where they are complete, else the reduced ones. A named folder is shown as it is,
    complete or not. A ValueError names a folder that is not there.
    """
    check_choice("results_of", results_of, [None, FULL, REDUCED])
    if folder is not None and not Path(folder).is_dir():
        raise ValueError(f"folder must be a folder of results; there is no {folder}")
    where = Path(folder) if folder else paths.results_root() / results_of if results_of else None
    networks = headline() if where is None else read_all(where)
    return Page(networks, present(networks))


WEIGHTS = ".safetensors"  # of a published network, beside its record


@dataclass(frozen=True)
class Published:
    """A network whose weights are committed: its model, which takes images (B, C, H, W) in [0, 1] and gives logits (B, K), on the CPU
    and in eval mode; its training record; its report under L∞, or None if it was not attacked."""

    model: nn.Module
    record: dict
    report: Report | None


def published_networks(root: Path | None = None) -> list[Network]:
    """The networks whose weights lie beside their records, below `root` (default: the committed results): the full ones first."""
    found = [path for folder in READS for path in sorted(((root or paths.results_root()) / folder).glob(f"*{WEIGHTS}"))]
    return told_apart(Network(files.read_json(path.with_suffix(".json")), path.parent) for path in found)


def load(name: str, root: Path | None = None) -> Published:
    """The published network `name`, which may be cut short where only one begins so, with its record and its report.

    A ValueError lists the networks that there are.
    """
    there = {network.name: network for network in published_networks(root)}
    fitting = [one for one in there if isinstance(name, str) and name and one.startswith(name)]
    chosen = name if name in there else fitting[0] if len(fitting) == 1 else None
    if chosen is None:
        said = "several begin so" if fitting else "there is no such one"
        raise ValueError(f"name must be that of a published network; got {name!r}, and {said}: {', '.join(fitting or there) or 'none is'}")
    network = there[chosen]
    config, made = network.record["config"], network.record["data"]
    weights = safetensors.torch.load_file(network.where / f"{chosen}{WEIGHTS}")
    model = models.restore(
        config["model"], made["in_shape"], len(made["classes"]), weights, width=config["width"], activation=config["activation"]
    )
    return Published(model, network.record, network.reports.get("linf"))


def probes(folders: Iterable[str], root: Path | None = None) -> list[Network]:
    """The networks of other architectures in these folders of results (default: the committed ones), folder by folder."""
    there = [where for name in folders if (where := (root or paths.results_root()) / name).is_dir()]
    return [network for where in there for network in read_all(where, tuple(PROBES))]
