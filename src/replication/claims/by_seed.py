"""The gaps of C1, C2 and C6 seed by seed, each beside the runs that it is a difference of: what a reader can check with the records."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from itertools import groupby
from pathlib import Path

from .. import provenance, scope
from ..networks import Network, by_seed, sides
from ..scope import CNN, COMPARED, DEFENCE_NAMES, MLP
from ..wording import number
from . import quantities, scoreboard

ADDRESS = "scoreboard.html#seed-by-seed"
ROWS = (("C1", CNN, "APGD-100"), ("C2", CNN, "FGSM"), ("C6", MLP, "APGD-100"))  # claim, its networks, attack of the sweep
HEAD = ("gap of", "seed", "GFA keeps", f"{DEFENCE_NAMES['pgd-at']} keeps", "n", "gap (points)", "records")
WORDS = (
    "A gap is how many of n images the defence keeps, less how many adversarial training keeps, in percent of n; the mean over the seeds "
    "is the number of the claim. Under one attack, the images are those of a seed that all five networks classify correctly, and which of "
    "them a network keeps is in the `sweep.parquet` of its run (columns `label`, `prediction`, `APGD-100/16` and so on); in the worst case "
    "they are all that AutoAttack and the adaptive attacks were given, in `report.parquet`."
)


@dataclass(frozen=True)
class SeedGap:
    """One seed: images of `n` that `variant` and adversarial training keep, and the names of the runs that say so."""

    claim: str
    attack: str
    variant: str
    seed: int
    kept: tuple[int, int]
    n: int
    runs: tuple[str, ...]

    @property
    def gap(self) -> float:
        """In percentage points."""
        return 100 * (self.kept[0] - self.kept[1]) / self.n


def rows(networks: Sequence[Network]) -> list[SeedGap]:
    """Every seed of the readings that the verdicts of C1, C2 and C6 use, of each setting of GFA that there is."""
    found = []
    for claim, pair, attack in ROWS:
        for aligned in sides(networks, pair):
            seeds = by_seed(networks, pair, aligned=aligned)
            gap = scoreboard.gap(seeds, attack, scoreboard.CLAIMED[attack], len(sides(networks, pair)))
            words = f", {scope.PAIRS[pair]}{', aligned setting' if aligned else ''}"
            if reading := gap.best or gap.fixed:
                found += _weak(seeds, claim, f"{attack}, ε = {reading.level}/255{words}", reading)
            if gap.strict and claim != "C2":  # whose worst case is C1's
                found += _strict(seeds, claim, f"worst case, ε = 8/255{words}", gap.strict[0])
    return found


def _weak(seeds: Mapping, claim: str, attack: str, reading: scoreboard.Reading) -> list[SeedGap]:
    used = [seed for seed in sorted(seeds) if (mask := quantities.common(seeds[seed])) is not None and mask.any()]
    return [
        SeedGap(claim, attack, reading.variant, seed, kept, n, tuple(seeds[seed][name].name for name in COMPARED))
        for seed, kept, n in zip(used, reading.kept, reading.ceiling.images, strict=True)
    ]


def _strict(seeds: Mapping, claim: str, attack: str, variant: str) -> list[SeedGap]:
    found = []
    for seed in sorted(seeds):
        if quantities.strict_gap(seeds[seed], variant) is not None:
            both = [seeds[seed][name] for name in (variant, "pgd-at")]
            masks = [quantities.worst_case(network) for network in both]
            kept = (int(masks[0].sum()), int(masks[1].sum()))
            found.append(SeedGap(claim, attack, variant, seed, kept, len(masks[0]), tuple(network.name for network in both)))
    return found


def text(root: Path | None = None) -> str:
    """All of book/_by_seed.md, from the results below `root` (default: the committed ones)."""
    found = rows(scoreboard.results(root).networks)
    if not found:
        return "No network has been attacked yet.\n"
    groups = [list(group) for _, group in groupby(found, lambda row: (row.claim, row.attack, row.variant))]
    published = provenance.record_files()
    heads = [_head(group) if row is group[0] else "" for group in groups for row in group]
    lines = "".join(f"<tr>{head}{_cells(row, published)}</tr>" for head, row in zip(heads, found, strict=True))
    kinds = ["", *["number"] * (len(HEAD) - 2), ""]
    head = "".join(f'<th scope="col" class="{kind}">{escape(name)}</th>' for name, kind in zip(HEAD, kinds, strict=True))
    table = f'<table class="exhibit-table"><thead><tr>{head}</tr></thead><tbody>{lines}</tbody></table>'
    box = f'<div class="exhibit-box" tabindex="0" role="region" aria-label="Table by seed">{table}</div>'
    return f'{WORDS}\n\n```{{raw}} html\n<figure class="exhibit">{box}</figure>\n```\n'


def _head(group: Sequence[SeedGap]) -> str:
    """What the rows of a group have in common."""
    one = group[0]
    said = f"{one.claim}: {DEFENCE_NAMES[one.variant]}, {one.attack}"
    return f'<th scope="rowgroup" rowspan="{len(group)}" class="words">{escape(said)}</th>'


def _cells(row: SeedGap, published: Mapping[str, Path]) -> str:
    there = [name for name in row.runs if name in published]
    behind = f'<a href="{provenance.list_page(there)}">{len(there)} runs</a>' if there else "not published here"
    numbers = (str(row.seed), *map(str, row.kept), str(row.n), number(row.gap, 1, sign=True))
    counted = "".join(f'<td class="number">{one}</td>' for one in numbers)
    return f"{counted}<td>{behind}</td>"
