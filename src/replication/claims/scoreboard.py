"""The claims of the paper with what the results say of each, and the word that the rules of the plan give: the front page's table.

`judge` gives one Finding a claim from the headline networks and the record of training times; nothing here is typed by hand.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from deepdefense.storage import paths

from .. import intervals, scope
from ..estimates import Estimate, estimate
from ..intervals import Ceiling
from ..networks import Network, by_seed, headline, reduced, sides
from ..records import FULL, REDUCED, SEARCH_FOLDERS, load_records
from ..scope import CNN, DEFENCE_NAMES, MLP
from ..wording import interval, number, several, span
from . import extra, quantities, rival, verdicts
from .bars import ALIGNMENT, DISTANCE, GAP, PLAIN, Bar
from .findings import Claim, Finding
from .quantities import ALIGNMENTS

SEARCHES = {"the first search": SEARCH_FOLDERS, "the search at full size": ("full_search",)}
CLAIMED = {"APGD-100": 15.2, "FGSM": 24.7}  # points above adversarial training, by attack of the sweep


def text(root: Path | None = None) -> str:
    """All of book/_scoreboard.md, from the results below `root` (default: the committed ones); reduced runs are said to be so."""
    one = results(root)
    return f"{markdown(one.findings)}\n{extra.markdown(one.own)}{spent(one.networks, one.searched)}\n"


@dataclass(frozen=True)
class Results:
    """The findings, their verdicts with what scale they are of, and what they were made from."""

    findings: list[Finding]
    networks: list[Network]
    searched: dict[str, list[dict]]  # records of the searches, by what each is called
    timing: dict | None  # record of the training times
    own: list[Finding] = field(default_factory=list)  # our own claims, E1 to E4; none before their first run


def results(root: Path | None = None) -> Results:
    """What the results below `root` (default: the committed ones) say of the claims."""
    root = root or paths.results_root()
    networks = headline(root) if any((root / name).is_dir() for name in (FULL, REDUCED)) else []
    timings = [record for record in load_records(root, "benchmark") if record["name"] == "training"]
    searched = {
        words: [record for name in folders if (root / name).is_dir() for record in load_records(root / name, "training")]
        for words, folders in SEARCHES.items()
    }
    found = judge(networks, timings[0] if timings else None)
    labels = {one.claim.id: " (reduced scale)" if reduced(networks, _pairs(one.claim)) else "" for one in found}
    labels["C7"] = _measured_on(timings[0]) if timings else ""  # a time knows no scale of training, but a machine
    found = [replace(one, verdict=one.verdict + labels[one.claim.id]) for one in found]
    return Results(found, networks, searched, timings[0] if timings else None, extra.extra_claims(root))


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
    """One reading of a gap to adversarial training: the variant, the level of eps, the estimate in points, and what bounds it.

    kept: how many of the common images the variant and adversarial training keep, seed by seed; shown where they are few.
    """

    variant: str
    level: int
    estimate: Estimate
    ceiling: Ceiling
    kept: tuple[tuple[int, int], ...]

    def words(self) -> str:
        if self.ceiling.few:
            counts = ", ".join(f"{ours} against {theirs} of {n}" for (ours, theirs), n in zip(self.kept, self.ceiling.images, strict=True))
            return f"images kept, {DEFENCE_NAMES[self.variant]} against {DEFENCE_NAMES['pgd-at']} at {self.level}/255: {counts}"
        of = f"of at most {number(self.ceiling.points, sign=True)}, n {span(self.ceiling.images)}"
        return f"{interval(self.estimate, ' points', sign=True)} {of}, {DEFENCE_NAMES[self.variant]} at {self.level}/255"


@dataclass(frozen=True)
class Beyond:
    """A strict gap at another eps than the plan's: level of eps, variant, estimate in points, images of each seed."""

    level: int
    variant: str
    estimate: Estimate
    images: tuple[int, ...]


@dataclass(frozen=True)
class Gap:
    """A gap to adversarial training under one attack: at 8/255, at the eps where GFA looks best, and strict; the rule's word.

    Each is that of the better variant, None without a usable run; strict: (variant, estimate). "Best" is read among the eps at
    which so large a gap as the claim's could have been seen; if there is none, `best` is None and `no_power` says why.
    beyond: the strict one at the largest eps of the sweep, which the rule does not read; weak: see `rival.too_weak`.
    """

    fixed: Reading | None
    best: Reading | None
    strict: tuple[str, Estimate] | None
    verdict: str
    no_power: str = ""
    strict_images: tuple[int, ...] = ()
    beyond: Beyond | None = None
    weak: str = ""

    def best_words(self) -> str:
        return self.best.words() if self.best else self.no_power or "no usable run"

    def strict_words(self) -> str:
        if not self.strict:
            return f"only {span(self.strict_images)} images" if self.strict_images else "no usable run"
        said = f"{interval(self.strict[1], ' points', sign=True)}, n {span(self.strict_images)}, {DEFENCE_NAMES[self.strict[0]]}"
        return f"{said}; {self.weak}" if self.weak else said


def _reading(seeds: Mapping, attack: str, level: int, choices: int) -> Reading | None:
    """The better variant at one eps; choices: how many variants, settings and eps are chosen from."""
    chosen = best(quantities.variants(seeds, quantities.paper_gap, attack, level))
    if chosen is None:
        return None
    found = intervals.of_points(quantities.gap_samples(seeds, chosen[0], attack, level), choices=choices)
    both = [quantities.kept(seeds, name, attack, level).values for name in (chosen[0], "pgd-at")]
    mask = quantities.kept(seeds, "pgd-at", attack, level).counted
    counts = tuple(zip(*((values * mask).sum(1).astype(int).tolist() for values in both), strict=True))
    return Reading(chosen[0], level, found, quantities.ceiling(seeds, attack, level), counts)


def _no_power(ceilings: Mapping[int, Ceiling], claimed: float) -> str:
    enough = {level: one for level, one in ceilings.items() if not one.few}
    if not enough:
        return f"no power: {span([n for one in ceilings.values() for n in one.images])} common images" if ceilings else ""
    level = max(enough, key=lambda level: enough[level].points)
    most = f"{number(enough[level].points, sign=True)} points at {level}/255"
    return f"no power: {number(claimed, sign=True)} could not be seen at any ε, at most {most} (n {span(enough[level].images)})"


def gap(seeds: Mapping, attack: str, claimed: float, settings: int = 1) -> Gap:
    """The gap of one pair under `attack`, of which the paper claims so many points; settings: of each variant, the kinder counts."""
    variants = settings * len(scope.VARIANTS)
    levels = quantities.levels(seeds, attack)
    ceilings = {level: one for level in levels if (one := quantities.ceiling(seeds, attack, level)) is not None}
    readable = [level for level, one in ceilings.items() if one.reaches(claimed)]
    found = [_reading(seeds, attack, level, variants * len(readable)) for level in readable]
    kinder = max(filter(None, found), key=lambda reading: (reading.estimate.n, reading.estimate.mean), default=None)
    fixed = _reading(seeds, attack, 8, variants) if 8 in levels else None
    strict, images = _strict(seeds, quantities.at_the_plans, variants)
    weak = rival.too_weak(seeds)
    word = verdicts.INCONCLUSIVE if weak else verdicts.gap(kinder and kinder.estimate, strict and strict[1], claimed)
    return Gap(fixed, kinder, strict, word, "" if readable else _no_power(ceilings, claimed), images, _beyond(seeds, variants), weak)


def _strict(seeds: Mapping, which: quantities.Which, choices: int) -> tuple[tuple[str, Estimate] | None, tuple[int, ...]]:
    """((the better variant, its strict gap), or None below 30 images, and the images of each seed)."""
    found = best(quantities.variants(seeds, quantities.strict_gap, which))
    if found is None:
        return None, ()
    samples = quantities.strict_samples(seeds, found[0], which)
    enough = min(samples.images) >= intervals.FEW
    return (found[0], intervals.of_points(samples, choices=choices)) if enough else None, samples.images


def _beyond(seeds: Mapping, choices: int) -> Beyond | None:
    strict, images = _strict(seeds, quantities.beyond, choices)
    if strict is None:
        return None
    eps = {report.about["eps"] for networks in seeds.values() if (report := quantities.beyond(networks[strict[0]])) is not None}
    return Beyond(round(255 * max(eps)), *strict, images)


Said = tuple[str, str, str, tuple[Bar, ...]]  # paper's protocol, strict, verdict, rows of the figure
DISTANCE_CLAIMED = (20.0, 30.0)


def _gap_bars(found: Gap, claimed: float, attack: str, pair: str = "") -> tuple[Bar, ...]:
    """The reading that the verdict uses, at 8/255 where none has power, the strict one, and that at the reading's eps if there is one."""
    kinder, far = found.best or found.fixed, found.beyond
    eps, most = (f", ε = {kinder.level}/255", kinder.ceiling.points) if kinder else ("", None)
    same = [far] if far and kinder and kinder.level == far.level else []
    return (
        Bar(f"{attack}{pair}{eps}", GAP, kinder and kinder.estimate, (claimed, claimed), ceiling=most),
        Bar(f"worst case{pair}, ε = 8/255", GAP, found.strict and found.strict[1], (claimed, claimed)),
        *(Bar(f"worst case{pair}, ε = {one.level}/255", GAP, one.estimate, (claimed, claimed)) for one in same),
    )


def _gap(seeds: Mapping, attack: str, settings: int) -> Said:
    found = gap(seeds, attack, CLAIMED[attack], settings)
    fixed = found.fixed.words() if found.fixed else "no usable run"
    return f"fixed: {fixed}; best: {found.best_words()}", found.strict_words(), found.verdict, _gap_bars(found, CLAIMED[attack], attack)


def _distance(seeds: Mapping, attack: str, choices: int) -> Said:
    said, found = [], []
    for quantity, estimated, arguments in (
        (quantities.paper_ratio, quantities.paper_ratio_estimate, (attack, "standard", choices)),
        (quantities.strict_ratio, quantities.strict_ratio_estimate, ("standard", choices)),
    ):
        chosen = best(quantities.variants(seeds, quantity, *arguments[:-1]))
        one = estimated(seeds, chosen[0], *arguments) if chosen else None
        found.append(one)
        few = "" if quantities.with_power(one) else " (no power)"
        said.append(f"{interval(one[0], '×', 2)}, n {span(one[1])}{few}, {DEFENCE_NAMES[chosen[0]]}" if one else "no usable run")
    labels = (f"{attack.rpartition('/')[2]}, mean", "smallest of all attacks, median")
    bars = tuple(Bar(label, DISTANCE, one and one[0], DISTANCE_CLAIMED) for label, one in zip(labels, found, strict=True))
    return *said, verdicts.ratio(*map(quantities.with_power, found)), bars


def _suppressed(seeds: Mapping, choices: int) -> Said:
    chosen = best(quantities.variants(seeds, quantities.rise_ratio), min)
    if chosen is None:
        return "no usable run", "no usable run", verdicts.INCONCLUSIVE, ()
    variant = chosen[0]
    rise, margin = (quantities.rise_estimate(seeds, variant, loss, choices) for loss in ("mse", "margin"))
    control = quantities.control(seeds, variant, choices)
    said = f"{interval(rise, '× plain', 2)}, {DEFENCE_NAMES[variant]}, training loss"
    own = interval(control, "× plain", 2) if control else "not recorded"
    strict = f"{interval(margin, '× plain', 2)}, margin; the margin's rise over the image's own margin: {own}"
    wanted = (None, verdicts.MOST_RISE)
    bars = [Bar("rise of the training loss", PLAIN, rise, wanted, True), Bar("rise of the margin", PLAIN, margin, wanted, True)]
    bars += [Bar("rise over the image's own margin", PLAIN, control, wanted, True)] if control else []
    return said, strict, verdicts.suppressed(rise, margin, control=control), tuple(bars)


def _everywhere(networks: Sequence[Network], aligned: bool) -> Said:
    attack, claimed = "APGD-100", CLAIMED["APGD-100"]
    gaps = {pair: gap(by_seed(networks, pair, aligned=aligned), attack, claimed, len(sides(networks, pair))) for pair in (CNN, MLP)}
    paper, strict = [], []
    for pair, found in gaps.items():
        paper.append(f"{scope.PAIRS[pair]}: {found.best_words()}")
        strict.append(f"{scope.PAIRS[pair]}: {found.strict_words()}")
    bars = _gap_bars(gaps[MLP], claimed, attack, f", {scope.PAIRS[MLP]}")
    return "; ".join(paper), "; ".join(strict), verdicts.everywhere([found.verdict for found in gaps.values()]), bars


def _cost(timing: Mapping | None) -> Said:
    rows = {row["contestant"]: row["ratio"] for row in timing["rows"]} if timing else {}
    ours = {name: rows[name] for name in ("GFA-FIRST", "GFA-DEEP") if name in rows}
    if len(ours) < 2 or "PGD-7" not in rows:
        return "no record", "no record", verdicts.INCONCLUSIVE, ()
    said = [f"{name} {number(row['median'])}× plain" for name, row in {**ours, "PGD-7": rows["PGD-7"]}.items()]
    wanted = (None, rows["PGD-7"]["q25"])
    timed = {name: Estimate(row["median"], row["q25"], row["q75"], 1) for name, row in ours.items()}
    bars = tuple(Bar(f"time of an epoch, {name}, quartiles", PLAIN, one, wanted, True) for name, one in timed.items())
    return f"an epoch's time, in the median: {', '.join(said)}", "the same", verdicts.cheaper(ours, rows["PGD-7"]), bars


def _measured_on(timing: Mapping) -> str:
    """What kind of machine the times are of: " (CPU)", or the name of a GPU."""
    device = timing["environment"]["device"]
    return " (CPU)" if device.startswith("cpu") else f" ({device})"


def _raised(seeds: Mapping) -> Said:
    signed, magnitude, layers, _ = (quantities.alignment_estimate(seeds, kind) for kind in ALIGNMENTS)
    said = [interval(one, digits=3, sign=True) for one in (signed, magnitude, layers)]
    word = verdicts.raised(signed, magnitude, layers)
    labels = ("signed, at the input", "in magnitude", "mean over layers")
    bars = tuple(Bar(label, ALIGNMENT, one, (0.0, None), True) for label, one in zip(labels, (signed, magnitude, layers), strict=True))
    return f"at the input {said[0]}", f"in magnitude {said[1]}; mean over layers {said[2]}", word, bars


def judge(networks: Sequence[Network], timing: Mapping | None, only: Collection[str] = ()) -> list[Finding]:
    """One finding a claim. timing: the record of benchmarks/training.py, or None; only: names of claims (default: all)."""
    settings = len(sides(networks, CNN))
    say: dict[str, Callable[[Mapping, bool], Said]] = {
        "C1": lambda seeds, _: _gap(seeds, "APGD-100", settings),
        "C2": lambda seeds, _: _gap(seeds, "FGSM", settings),
        "C3": lambda seeds, _: _distance(seeds, "paper/DeepFool", settings * len(scope.VARIANTS)),
        "C4": lambda seeds, _: _distance(seeds, "paper/EADEN", settings * len(scope.VARIANTS)),
        "C5": lambda seeds, _: _suppressed(seeds, settings * len(scope.VARIANTS)),
        "C6": lambda _, aligned: _everywhere(networks, aligned),
        "C7": lambda *_: _cost(timing),
        "C8": lambda seeds, _: _raised(seeds),
    }
    rows = {aligned: by_seed(networks, CNN, aligned=aligned) for aligned in sides(networks)}
    found = []
    for claim in CLAIMS:
        if not only or claim.id in only:
            found.append(_kinder([Finding(claim, *say[claim.id](seeds, aligned)) for aligned, seeds in rows.items()]))
    return found


def _kinder(findings: Sequence[Finding]) -> Finding:
    """Of what the chosen and the aligned setting of GFA give, the finding that is kinder to the claim; the aligned one says so."""
    first, *others = findings
    better = [one for one in others if verdicts.KINDEST.index(one.verdict) < verdicts.KINDEST.index(first.verdict)]
    if not better:
        return first
    return replace(better[0], paper_protocol=f"GFA's aligned setting: {better[0].paper_protocol}", strict=f"the same: {better[0].strict}")


def _pairs(claim: Claim) -> tuple[tuple[str, str], ...]:
    """The pairs whose networks `claim` speaks of."""
    return (CNN, MLP) if claim.id == "C6" else (CNN,)


def markdown(findings: Sequence[Finding]) -> str:
    """The scoreboard as a Markdown table."""
    lines = ["| claim | verdict | the paper | ours |", "|---|---|---|---|"]
    for one in findings:
        claim = one.claim
        ours = f"*paper's protocol:* {one.paper_protocol}<br>*strict:* {one.strict}"
        lines.append(f"| **{claim.id}** {claim.text}<br>{{doc}}`{claim.page}` | **{one.verdict}** | {claim.paper} | {ours} |")
    return "\n".join(lines) + "\n"


def spent(networks: Sequence[Network], searched: Mapping[str, Sequence[Mapping]]) -> str:
    """How much was computed, in a sentence: runs and hours, of the headline and of each search."""

    def hours(records) -> float:
        return sum(record["wall_time_s"] for record in records) / 3600

    attacks = sum(one.cost["seconds"] for n in networks for report in n.every_report for one in report.outcomes.values())
    every = [*(n.record for n in networks), *(record for records in searched.values() for record in records)]
    devices = sorted({record["environment"]["device"] for record in every})
    looked = [f"{several(len(found), 'run')} of {words} ({hours(found):.1f} h of training)" for words, found in searched.items() if found]
    headline_runs = several(len(networks), "headline run")
    ran = f"{headline_runs} ({hours([n.record for n in networks]):.1f} h of training, {attacks / 3600:.1f} h of attacks)"
    return f"{', '.join([*looked, ran])}, on {', '.join(devices)}."
