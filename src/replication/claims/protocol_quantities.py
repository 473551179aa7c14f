"""What E1 and E2 speak of: gaps and distances of networks under the paper's protocol, from `experiments.paper_protocol`'s records."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from deepdefense.storage import files, paths

from .. import intervals, records, scope
from ..estimates import Estimate
from ..intervals import Ceiling, Samples
from ..records import PROTOCOL, PROTOCOL_JSON, PROTOCOL_PARQUET, OfRun, protocol_column
from ..scope import VARIANTS

READS = ("paper_protocol",)  # folders of data/results/, for the workflow
COLLAPSED = 0.15  # clean accuracy at most this, in [0, 1]
FULL_STEPS = 7
WEAK = {"steps": "two steps", "epochs": "a tenth of the epochs"}


@dataclass(frozen=True)
class UnderProtocol(OfRun):
    """One network under the paper's protocol; `where` is the folder of its record."""

    record: dict
    where: Path

    @property
    def config(self) -> dict:
        return self.record["training"]["config"]

    @property
    def clean(self) -> float:
        """Accuracy on the whole test set, in [0, 1], to six digits, since it is a mean in float32; NaN of a network that diverged."""
        return float("nan") if self.record["clean"] is None else round(self.record["clean"], 6)

    @property
    def finished(self) -> bool:
        return self.record["training"]["status"] == "finished"

    @property
    def collapsed(self) -> bool:
        return self.clean <= COLLAPSED

    @property
    def epochs(self) -> int:
        return self.config["epochs"]

    @property
    def steps(self) -> int:
        """Of the attack in adversarial training."""
        return self.config["options"].get("attack_steps", FULL_STEPS)

    @cached_property
    def table(self) -> dict[str, np.ndarray]:
        return records.read_sweep(self.where / PROTOCOL_PARQUET)

    @property
    def right(self) -> np.ndarray:
        """(N,) bool: right on the clean image."""
        return self.table["prediction"] == self.table["label"]

    def column(self, attack: str, what: int | str, condition: str = "") -> np.ndarray | None:
        """(N,), NaN where not attacked; None if it was not computed. What train mode cannot change is what it is without."""
        if not self.record["changes_in_train_mode"]:
            condition = {"train": "", "together": "clamped"}.get(condition, condition)
        return self.table.get(protocol_column(condition, attack, what))


def read(root: Path | None = None) -> list[UnderProtocol]:
    """All networks below `root`/paper_protocol (default: the committed results); none if there is no such folder."""
    found = sorted(((root or paths.results_root()) / PROTOCOL).glob(f"*/{PROTOCOL_JSON}"))
    return [UnderProtocol(files.read_json(path), path.parent) for path in found]


@dataclass(frozen=True)
class Trio:
    """What is compared for one seed: a network, adversarial training, plain training."""

    ours: UnderProtocol
    rival: UnderProtocol
    plain: UnderProtocol

    def common(self) -> np.ndarray:
        """(N,) bool: the images that all three classify correctly, of those that all were given."""
        nets = (self.ours, self.rival, self.plain)
        n = min(len(net.right) for net in nets)
        if any(not np.array_equal(net.table["label"][:n], nets[0].table["label"][:n]) for net in nets):
            raise ValueError(f"the networks compared with {self.ours.record['name']} were given other images; their labels differ")
        return np.all([net.right[:n] for net in nets], axis=0)


Trios = Mapping[int, Trio]


def _longest(found: Sequence[UnderProtocol], what: str) -> UnderProtocol | None:
    """The one trained for the most epochs; a ValueError if that does not tell which."""
    longest = [n for n in found if n.epochs == max(one.epochs for one in found)]
    if len(longest) > 1:
        raise ValueError(f"one {what} a pair and seed is compared; got {', '.join(n.record['name'] for n in longest)}")
    return longest[0] if longest else None


def _finished(networks: Iterable[UnderProtocol], pair: tuple[str, str], seed: int, defence: str) -> list[UnderProtocol]:
    return [n for n in networks if n.pair == pair and n.seed == seed and n.defence == defence and n.finished]


def plain_training(networks: Iterable[UnderProtocol], pair: tuple[str, str], seed: int) -> UnderProtocol | None:
    """Plain training of the pair and seed, that of the most epochs; None if there is none that finished."""
    return _longest(_finished(networks, pair, seed, "standard"), "plain training")


def full_rival(networks: Iterable[UnderProtocol], pair: tuple[str, str], seed: int) -> UnderProtocol | None:
    """PGD-7 training of the pair and seed, that of the most epochs; None if there is none that finished.

    A network of fewer epochs than plain training's is a weak rival, and never stands for the full one that is not there.
    """
    networks = list(networks)
    plain = plain_training(networks, pair, seed)
    found = [n for n in _finished(networks, pair, seed, "pgd-at") if n.steps == FULL_STEPS and plain and n.epochs >= plain.epochs]
    return _longest(found, f"PGD-{FULL_STEPS} training")


def _but(one: UnderProtocol, what: str) -> dict:
    """The configuration without its number of epochs (`what` "epochs") or steps of attack ("steps"): what a weak rival shares."""
    options = {name: value for name, value in one.config["options"].items() if name != "attack_steps"}
    kept = {name: value for name, value in one.config.items() if name != "epochs"}
    return kept | {"options": options} | ({"steps": one.steps} if what == "epochs" else {"epochs": one.epochs})


def weak_rival(networks: Iterable[UnderProtocol], pair: tuple[str, str], seed: int, how: str) -> UnderProtocol | None:
    """Adversarial training of two steps, or of a tenth of the epochs (`how`: a key of `WEAK`); None if there is none that finished.

    In all else, its loss too, it is the full rival: two mistakes at once would be none alone.
    """
    networks = list(networks)
    whole = full_rival(networks, pair, seed)
    if whole is None:
        return None
    mine = [n for n in _finished(networks, pair, seed, "pgd-at") if _but(n, how) == _but(whole, how)]
    weak = [n for n in mine if (n.steps == 2 if how == "steps" else 10 * n.epochs <= whole.epochs)]
    return _longest(weak, f"adversarial training of {WEAK[how]}")


def trios(networks: Iterable[UnderProtocol], chosen: Iterable[UnderProtocol], weak: str | None = None) -> dict[int, Trio]:
    """{seed: Trio} of the networks `chosen`, for the seeds that have plain and adversarial training, the latter `weak` or in full."""
    networks, found = list(networks), {}
    for one in chosen:
        rival = weak_rival(networks, one.pair, one.seed, weak) if weak else full_rival(networks, one.pair, one.seed)
        plain = plain_training(networks, one.pair, one.seed)
        if rival is not None and plain is not None:
            if one.seed in found:
                raise ValueError(f"one network a seed is compared; got {found[one.seed].ours.record['name']} and {one.record['name']}")
            found[one.seed] = Trio(one, rival, plain)
    return dict(sorted(found.items()))


def groups(networks: Iterable[UnderProtocol], kind: Callable[[UnderProtocol], bool]) -> dict[tuple[tuple[str, str], str, str], list]:
    """{(pair, variant, setting): GFA networks of which `kind` says yes, one a seed}; those of the search's seeds are no headline runs."""
    found: dict = {}
    for one in networks:
        if one.defence in VARIANTS and one.seed not in scope.SEARCH_SEEDS and kind(one):
            found.setdefault((one.pair, one.defence, one.setting), []).append(one)
    return found


def _kept(found: Trios, side: str, attack: str, level: int, condition: str) -> list[tuple[np.ndarray, np.ndarray]] | None:
    """(kept, counted) of each seed, on the common images that the attack was tried on."""
    rows = []
    for trio in found.values():
        both = [net.column(attack, level, condition) for net in (trio.ours, trio.rival)]
        if any(values is None for values in both):
            return None
        mask = trio.common()
        mask &= ~np.any([np.isnan(values[: len(mask)]) for values in both], axis=0)
        values = dict(zip(("ours", "rival"), both, strict=True))[side][: len(mask)]
        rows.append((np.nan_to_num(values), mask))
    return rows or None


def ceiling(found: Trios, attack: str, level: int, condition: str = "") -> Ceiling | None:
    """The largest gap that could be seen, and the common images of each seed; None if a seed has none, or was not attacked so."""
    rows = _kept(found, "rival", attack, level, condition)
    if rows is None:
        return None
    if not all(mask.any() for _, mask in rows):
        return Ceiling(float("nan"), tuple(int(mask.sum()) for _, mask in rows))
    return intervals.ceiling(Samples.of(rows))


def gap_samples(found: Trios, attack: str, level: int, condition: str = "") -> Samples | None:
    """Points of gap to adversarial training, an image and seed: 100, 0 or -100."""
    ours, rival = (_kept(found, side, attack, level, condition) for side in ("ours", "rival"))
    if ours is None or rival is None:
        return None
    return Samples.of([(100 * (a - b), mask) for (a, mask), (b, _) in zip(ours, rival, strict=True)])


def levels(found: Trios, attack: str) -> list[int]:
    """The eps, in 1/255, that all networks of `found` were attacked at, in rising order."""
    tables = [net.table for trio in found.values() for net in (trio.ours, trio.rival)]
    each = [{int(key.split("/")[1]) for key in table if key.split("/")[0] == attack} for table in tables]
    return sorted(set.intersection(*each)) if each else []


@dataclass(frozen=True)
class BestGap:
    """The gap at the eps at which it is largest, of those at which the claim's could be seen."""

    level: int
    estimate: Estimate
    ceiling: Ceiling
    levels: int  # how many there were of those


def best_gap(found: Trios, attack: str, claimed: float, condition: str = "", choices: int = 1) -> BestGap | None:
    """None where there is no power: fewer than 30 common images in a seed, or no eps at which so large a gap could be seen.

    The eps are the plan's, up to 16/255, for Fashion-MNIST up to 0.2, whatever others a network was attacked at.
    """
    readable, planned = {}, {level for trio in found.values() for level in scope.levels(trio.ours.pair[0])}
    for level in [one for one in levels(found, attack) if one in planned]:
        one = ceiling(found, attack, level, condition)
        if one is not None and one.reaches(claimed):
            readable[level] = one
    if not readable:
        return None
    samples = {level: gap_samples(found, attack, level, condition) for level in readable}
    means = {level: float(np.mean(one.mean(np.ones((1, one.values.shape[1]))))) for level, one in samples.items()}
    level = max(means, key=means.get)
    return BestGap(level, intervals.of_points(samples[level], choices=choices), readable[level], len(readable))


def distance_ratio(
    found: Trios, attack: str, condition: str = "", choices: int = 1, *, failures: bool = True
) -> tuple[Estimate, tuple[int, ...]] | None:
    """Mean distance over that of plain training on the common images: (estimate, images of each seed).

    failures: a failure counts with the way that the attack went, as torchattacks returns it; else images on which the attack failed for
    either network are left out. None without power (fewer than 30 images in a seed), or without a distance.
    """
    rows = [], []
    for trio in found.values():
        mask, both = trio.common(), []
        for net in (trio.ours, trio.plain):
            values, fooled = (net.column(attack, what, condition) for what in ("l2", "found"))
            if values is None or (fooled is None and not failures):
                return None
            both.append(values[: len(mask)])
            mask &= np.isfinite(both[-1]) & (failures or fooled[: len(mask)] == 1)
        for side, values in zip(rows, both, strict=True):
            side.append((np.nan_to_num(values), mask))
    if not rows[0]:
        return None
    ours, plain = (Samples.of(side) for side in rows)
    ones = np.ones((1, ours.values.shape[1]))
    if min(ours.images) < intervals.FEW or not (plain.mean(ones) > 0).all():
        return None
    return intervals.of_lengths(ours.mean, plain.mean, ours.values.shape[1], choices=choices), ours.images
