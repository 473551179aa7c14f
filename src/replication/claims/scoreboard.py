"""The claims of the paper with what the results say of each, and the word that the rules of the plan give: the front page's table.

`judge` gives one Finding a claim from the headline networks and the record of training times; nothing here is typed by hand.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from deepdefense.storage import paths

from .. import scope
from ..estimates import Estimate, estimate
from ..networks import Network, by_seed, read_all
from ..records import SEARCH_FOLDERS, headline_folder, load_records, reduced
from ..scope import CNN, DEFENCE_NAMES, LEVELS, MLP
from ..wording import interval, number
from . import quantities, verdicts
from .quantities import ALIGNMENTS

CLAIMED = {"APGD-100": 15.2, "FGSM": 24.7}  # points above adversarial training, by attack of the sweep


def text(root: Path | None = None) -> str:
    """All of book/_scoreboard.md, from the results below `root` (default: the committed ones); reduced runs are said to be so."""
    root = root or paths.results_root()
    where = headline_folder(root)
    networks = read_all(where) if where.is_dir() else []
    timings = [record for record in load_records(root, "benchmark") if record["name"] == "training"]
    searched = [record for name in SEARCH_FOLDERS if (root / name).is_dir() for record in load_records(root / name, "training")]
    found = judge(networks, timings[0] if timings else None)
    small = " (reduced scale)" if reduced(where) else ""
    found = [one if one.claim.id == "C7" else replace(one, verdict=one.verdict + small) for one in found]
    return f"{markdown(found)}\n{spent(networks, searched)}\n"


@dataclass(frozen=True)
class Claim:
    id: str
    text: str
    paper: str
    page: str  # where the evidence is


def _up_to(attack: str) -> str:
    return f"up to +{CLAIMED[attack]} points"


CLAIMS = (
    Claim("C1", "CNN on CIFAR-10: more robust accuracy under APGD than adversarial training", _up_to("APGD-100"), "10_gradient_attacks"),
    Claim("C2", "the same under FGSM", _up_to("FGSM"), "10_gradient_attacks"),
    Claim("C3", "DeepFool needs larger perturbations", "20–30×", "11_minimum_norm"),
    Claim("C4", "EADEN needs larger perturbations, visible to the eye", "20–30×", "11_minimum_norm"),
    Claim("C5", "loss variation along tangential directions is suppressed", "figures", "12_geometry"),
    Claim("C6", "architecture-agnostic: CNN and MLP alike", "yes", "10_gradient_attacks"),
    Claim("C7", "simple, without prohibitive training overhead", "in words", "06_cost"),
    Claim("C8", "adversarial training alone raises the alignment slightly", "in words", "12_geometry"),
)


@dataclass(frozen=True)
class Finding:
    """What the results say of a claim, in words: under the paper's protocol, under the strict one, and the verdict."""

    claim: Claim
    paper_protocol: str
    strict: str
    verdict: str


def best(by_variant: Mapping[str, Sequence[float]], pick: Callable = max) -> tuple[str, Estimate] | None:
    """The variant with the highest (or lowest) mean, and its estimate; those of more seeds first."""
    there = {name: estimate(values) for name, values in by_variant.items() if len(values)}
    if not there:
        return None
    most = max(one.n for one in there.values())
    full = {name: one for name, one in there.items() if one.n == most}
    name = pick(full, key=lambda name: full[name].mean)
    return name, full[name]


@dataclass(frozen=True)
class Reading:
    """One reading of a gap to adversarial training: the variant, the level of eps, and the estimate in points."""

    variant: str
    level: int
    estimate: Estimate

    def words(self) -> str:
        return f"{interval(self.estimate, ' points', sign=True)}, {DEFENCE_NAMES[self.variant]} at {self.level}/255"


@dataclass(frozen=True)
class Gap:
    """A gap to adversarial training under one attack: at 8/255, at the eps where GFA looks best, and strict; the rule's word.

    Each is that of the better variant, None without a usable run; strict: (variant, estimate).
    """

    fixed: Reading | None
    best: Reading | None
    strict: tuple[str, Estimate] | None
    verdict: str


def gap(seeds: Mapping, attack: str, claimed: float) -> Gap:
    """The gap of one pair under `attack`, of which the paper claims so many points."""
    found = []
    for level in LEVELS:
        one = best(quantities.variants(seeds, quantities.paper_gap, attack, level))
        if one:
            found.append(Reading(one[0], level, one[1]))
    fixed = next((reading for reading in found if reading.level == 8), None)
    kinder = max(found, key=lambda reading: (reading.estimate.n, reading.estimate.mean), default=None)
    strict = best(quantities.variants(seeds, quantities.strict_gap))
    return Gap(fixed, kinder, strict, verdicts.gap(kinder and kinder.estimate, strict and strict[1], claimed))


def _gap(seeds: Mapping, attack: str) -> tuple[str, str, str]:
    found = gap(seeds, attack, CLAIMED[attack])
    words = [f"{name}: {one.words() if one else 'no usable run'}" for name, one in (("fixed", found.fixed), ("best", found.best))]
    strict = found.strict
    said = f"{interval(strict[1], ' points', sign=True)}, {DEFENCE_NAMES[strict[0]]}" if strict else "no usable run"
    return "; ".join(words), said, found.verdict


def _distance(seeds: Mapping, attack: str) -> tuple[str, str, str]:
    paper = best(quantities.variants(seeds, quantities.paper_ratio, attack))
    strict = best(quantities.variants(seeds, quantities.strict_ratio))
    word = verdicts.ratio(paper and paper[1], strict and strict[1])
    said = [f"{interval(one[1], '×', 2)}, {DEFENCE_NAMES[one[0]]}" if one else "no usable run" for one in (paper, strict)]
    return *said, word


def _suppressed(seeds: Mapping) -> tuple[str, str, str]:
    found = best(quantities.variants(seeds, quantities.rise_ratio), min)
    if found is None:
        return "no usable run", "no usable run", verdicts.INCONCLUSIVE
    margin = estimate(quantities.per_seed(seeds, quantities.rise_ratio, found[0], "margin"))
    variant, rise = found
    said = f"{interval(rise, '× plain', 2)}, {DEFENCE_NAMES[variant]}, training loss"
    return said, f"{interval(margin, '× plain', 2)}, margin", verdicts.suppressed(rise, margin)


def _everywhere(networks: Sequence[Network]) -> tuple[str, str, str]:
    gaps = {pair: gap(by_seed(networks, pair), "APGD-100", CLAIMED["APGD-100"]) for pair in (CNN, MLP)}
    paper, strict = [], []
    for pair, found in gaps.items():
        paper.append(f"{scope.PAIRS[pair]}: {found.best.words() if found.best else 'no usable run'}")
        strict.append(f"{scope.PAIRS[pair]}: {interval(found.strict[1], ' points', sign=True) if found.strict else 'no usable run'}")
    return "; ".join(paper), "; ".join(strict), verdicts.everywhere([found.verdict for found in gaps.values()])


def _cost(timing: Mapping | None) -> tuple[str, str, str]:
    rows = {row["contestant"]: row["ratio"] for row in timing["rows"]} if timing else {}
    ours = {name: rows[name] for name in ("GFA-FIRST", "GFA-DEEP") if name in rows}
    if len(ours) < 2 or "PGD-7" not in rows:
        return "no record", "no record", verdicts.INCONCLUSIVE
    said = [f"{name} {number(row['median'])}× plain" for name, row in {**ours, "PGD-7": rows["PGD-7"]}.items()]
    return f"an epoch's time: {', '.join(said)}", "the same", verdicts.cheaper(ours, rows["PGD-7"])


def _raised(seeds: Mapping) -> tuple[str, str, str]:
    def change(kind: str) -> Estimate | None:
        values = quantities.per_seed(seeds, quantities.alignment_gap, kind)
        return estimate(values) if values else None

    signed, magnitude, layers, _ = (change(kind) for kind in ALIGNMENTS)
    said = [interval(one, digits=3, sign=True) for one in (signed, magnitude, layers)]
    word = verdicts.raised(signed, magnitude, layers)
    return f"at the input {said[0]}", f"in magnitude {said[1]}; mean over layers {said[2]}", word


def judge(networks: Sequence[Network], timing: Mapping | None, only: Collection[str] = ()) -> list[Finding]:
    """One finding a claim. timing: the record of benchmarks/training.py, or None; only: names of claims (default: all)."""
    seeds = by_seed(networks, CNN)
    say = {
        "C1": lambda: _gap(seeds, "APGD-100"),
        "C2": lambda: _gap(seeds, "FGSM"),
        "C3": lambda: _distance(seeds, "paper/DeepFool"),
        "C4": lambda: _distance(seeds, "paper/EADEN"),
        "C5": lambda: _suppressed(seeds),
        "C6": lambda: _everywhere(networks),
        "C7": lambda: _cost(timing),
        "C8": lambda: _raised(seeds),
    }
    return [Finding(claim, *say[claim.id]()) for claim in CLAIMS if not only or claim.id in only]


def markdown(findings: Sequence[Finding]) -> str:
    """The scoreboard as a Markdown table."""
    lines = ["| claim | verdict | the paper | ours |", "|---|---|---|---|"]
    for one in findings:
        claim = one.claim
        ours = f"*paper's protocol:* {one.paper_protocol}<br>*strict:* {one.strict}"
        lines.append(f"| **{claim.id}** {claim.text}<br>{{doc}}`{claim.page}` | **{one.verdict}** | {claim.paper} | {ours} |")
    return "\n".join(lines) + "\n"


def spent(networks: Sequence[Network], searched: Sequence[Mapping]) -> str:
    """How much was computed, in a sentence: runs and hours, of the headline and of the search."""

    def hours(records) -> float:
        return sum(record["wall_time_s"] for record in records) / 3600

    attacks = sum(one.cost["seconds"] for n in networks for report in n.reports.values() for one in report.outcomes.values())
    devices = sorted({record["environment"]["device"] for record in [*(n.record for n in networks), *searched]})
    return (
        f"{len(searched)} runs of the search ({hours(searched):.1f} h of training), {len(networks)} headline runs "
        f"({hours([n.record for n in networks]):.1f} h of training, {attacks / 3600:.1f} h of attacks), on {', '.join(devices)}."
    )
