"""The extra claims E1 to E4 (book/plan_full_size.md), with what the records say of each: listed below the claims of the paper.

`extra_claims` gives one Finding a claim, and none at all while no run has been made for them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from ..scope import CNN, DEFENCE_NAMES, MLP, PAIRS
from ..wording import interval, number
from . import extra_verdicts, protocol_quantities, use_quantities
from .extra_verdicts import Measured
from .findings import Claim, Finding
from .protocol_quantities import WEAK, BestGap, UnderProtocol
from .verdicts import LEAST_SEEDS

POINTS = {"APGD": 15.2, "FGSM": 24.7}  # the paper's, above adversarial training; FAB is held against APGD's, and so is APGD of 100 steps
UNMISTAKEN = ("APGD-100", "FGSM")  # the paper's two attacks without the mistake of ten steps
DISTANCES = ("DeepFool", "EADEN")
MISTAKES = (
    "ten steps of APGD",
    "FAB as torchattacks has it",
    "failures of DeepFool and EADEN counted as distances",
    "images in [−1, 1], attacks that clamp to [0, 1]",
    "weak adversarial training",
    "attacks in train mode",
)
EXTRA = (
    Claim("E1", "A network that has learnt nothing reaches the claimed gaps", "ours", "18_claimed_numbers"),
    Claim("E2", "A mistake of evaluation reaches the claimed numbers with a network that works", "ours", "18_claimed_numbers"),
    Claim("E3", "A better use of the idea beats GNR at equal clean accuracy", "ours", "19_better_use"),
    Claim("E4", "Alignment or tangential flatness improves adversarial training", "ours", "19_better_use"),
)
NO_RUN = "no run yet"


def _gap_words(found: BestGap | None, attack: str) -> str:
    if found is None:
        return f"{attack}: no power"
    n = found.ceiling.images
    return f"{attack} {interval(found.estimate, ' points', sign=True)} at {found.level}/255, n {min(n)}–{max(n)}"


def _gap(found, attack: str, condition: str = "", choices: int = 1) -> Measured:
    claimed = POINTS.get(attack, POINTS["APGD"])
    one = protocol_quantities.best_gap(found, attack, claimed, condition, choices)
    return Measured(one and one.estimate, claimed, _gap_words(one, attack))


def _ratio(found, attack: str, condition: str = "", choices: int = 1, *, failures: bool = True) -> Measured:
    one = protocol_quantities.distance_ratio(found, attack, condition, choices, failures=failures)
    words = f"{attack} {interval(one[0], '×', 2)} of plain, n {min(one[1])}–{max(one[1])}" if one else f"{attack}: no power"
    return Measured(one and one[0], None, words)


def e1(networks: Sequence[UnderProtocol]) -> Finding:
    """Collapsed networks against adversarial training, each pair, variant and setting; the kinder setting decides.

    The plan corrects E2 to E4 for their choices, not E1: its ends are those of a plain 95 % interval.
    """
    found = protocol_quantities.groups(networks, lambda one: one.collapsed and one.pair in (CNN, MLP))
    there, judged, trios_of, said = set(), {}, {}, {}
    for key, some in found.items():
        trios = protocol_quantities.trios(networks, some)
        if not trios:
            continue
        there.add(key[:2])
        gaps = {attack: _gap(trios, attack) for attack in POINTS}
        said[key] = f"{PAIRS[key[0]]}, {DEFENCE_NAMES[key[1]]}: {'; '.join(one.words for one in gaps.values())}"
        if len(trios) >= LEAST_SEEDS:
            judged[key], trios_of[key] = gaps, trios
    word = extra_verdicts.nothing_learnt(list(judged.values()), len({key[:2] for key in judged}) == 4)
    reached = {key: sum(one.all_of_it for one in gaps.values()) for key, gaps in judged.items()}
    named = tuple(said[key] for key, number_of in reached.items() if number_of == max(reached.values()) > 0)
    strict = f"{len(there)} of 4 pairs and variants with a collapsed network"
    chosen = [
        _corrected(DEFENCE_NAMES[key[1]], attack, trios)
        for key, trios in trios_of.items()
        for attack in POINTS
        if judged[key][attack].all_of_it
    ]
    strict += f"; not corrected for the choice of ε: {', '.join(chosen)}" if chosen else ""
    return Finding(EXTRA[0], "<br>".join(said.values()) or NO_RUN, strict, word, named=named)


def _corrected(name: str, attack: str, trios) -> str:
    """What the interval of a gap at the best ε begins at if the choice of that ε is counted, which the plan does not ask of E1."""
    levels = protocol_quantities.best_gap(trios, attack, POINTS[attack]).levels
    low = protocol_quantities.best_gap(trios, attack, POINTS[attack], choices=levels).estimate.low
    return f"{name} under {attack}, the best of {levels}, would begin at {number(low, sign=True)}"


def works(one: UnderProtocol, networks: Sequence[UnderProtocol]) -> bool:
    rival = protocol_quantities.full_rival(networks, one.pair, one.seed)
    return one.finished and rival is not None and one.clean >= rival.clean


def _weak(
    networks: Sequence[UnderProtocol], some: Sequence[UnderProtocol], condition: str, gaps: Sequence[str], ratios=()
) -> list[Measured]:
    """What is measured beside each way of weak adversarial training; a way that has no run is a measurement that is not there."""
    measured, k = [], len(MISTAKES)
    for how, words in WEAK.items():
        found = protocol_quantities.trios(networks, some, how)
        if not found:
            measured.append(Measured(None, POINTS["APGD"], f"{words}: not run"))
            continue
        measured += [_gap(found, attack, condition, k) for attack in gaps] + [_ratio(found, attack, condition, k) for attack in ratios]
    return measured


def mistakes_of(networks: Sequence[UnderProtocol], some: Sequence[UnderProtocol]) -> tuple[dict[str, list[Measured]], list[Measured]]:
    """What each mistake does to networks of one setting, and all together: ({mistake: measured}, measured).

    Each alone: beside one mistake the attacks are those of none, APGD with 100 steps, and distances without failures.
    """
    k, full = len(MISTAKES), protocol_quantities.trios(networks, some)
    if not full:
        return {name: [] for name in MISTAKES}, []

    def under(condition: str) -> list[Measured]:
        gaps = [_gap(full, attack, condition, k) for attack in UNMISTAKEN]
        return gaps + [_ratio(full, attack, condition, k, failures=False) for attack in DISTANCES]

    modal = any(net.record["changes_in_train_mode"] for trio in full.values() for net in (trio.ours, trio.rival, trio.plain))
    in_train_mode = under("train") if modal else [replace(one, made=False, words=f"{one.words}, as without it") for one in under("train")]
    alone = {
        MISTAKES[0]: [_gap(full, "APGD", choices=k)],
        MISTAKES[1]: [_gap(full, "FAB", choices=k)],
        MISTAKES[2]: [_ratio(full, attack, choices=k) for attack in DISTANCES],
        MISTAKES[3]: under("clamped"),
        MISTAKES[4]: _weak(networks, some, "", UNMISTAKEN),
        MISTAKES[5]: in_train_mode,
    }
    return alone, _weak(networks, some, "together", (*POINTS, "FAB"), DISTANCES)


def e2(networks: Sequence[UnderProtocol]) -> Finding:
    """Each mistake with networks that work; what any setting of them shows counts for the mistake."""
    working = protocol_quantities.groups(networks, lambda one: works(one, networks))
    alone, together, shown = {name: [] for name in MISTAKES}, [], 0
    for some in working.values():
        found, all_of_them = mistakes_of(networks, some)
        shown += bool(found[MISTAKES[0]])
        for name, one in found.items():
            alone[name] += one
        together += all_of_them
    word, named = extra_verdicts.mistakes(alone, together)
    said = [f"{name}: {best_words(found)}" for name, found in alone.items()] if shown else []
    said += [f"all together: {best_words(together)}"] if shown else []
    strict = f"named: {', '.join(named) or 'none'}; {shown} settings that work"
    return Finding(EXTRA[1], "<br>".join(said) or NO_RUN, strict, word, named=tuple(named))


def best_words(found: Sequence[Measured]) -> str:
    """The measured value that comes nearest to what is claimed."""
    known = [one for one in found if one.estimate is not None]
    if not known:
        return found[0].words if found else "not run"
    return max(known, key=lambda one: one.estimate.mean / (one.claimed or 2 * extra_verdicts.LEAST_RATIO)).words


def _without_run(found, kinds: Sequence[str]) -> int:
    there = {use_quantities.kind(one) for by_seed in found.values() for one in by_seed.values()}
    return len(set(kinds) - there)


def e3(networks: Sequence) -> Finding:
    """Candidates instead of GNR, at GNR's clean accuracy. k is the number of candidates, three or as many as there are settings."""
    found = use_quantities.candidates(networks, use_quantities.INSTEAD)
    gnr, k = use_quantities.of_defence(networks, "gnr"), max(len(found), len(use_quantities.INSTEAD))
    gains = {name: use_quantities.over_gnr(one, gnr, k) for name, one in found.items()}
    missing = _without_run(found, use_quantities.INSTEAD)
    word, named = extra_verdicts.improves(gains, missing)
    said = [f"{name}: {interval(one, ' points', sign=True) if one else _not_compared(found[name], gnr)}" for name, one in gains.items()]
    strict = f"named: {', '.join(named) or 'none'}; {missing} of 3 candidates without a run"
    return Finding(EXTRA[2], "<br>".join(said) or NO_RUN, strict, word, named=tuple(named))


def _not_compared(candidate: Mapping, gnr: Mapping) -> str:
    return "outside GNR’s range, not compared" if set(candidate) & set(gnr) else "no GNR of its seeds, not compared"


def e4(networks: Sequence) -> Finding:
    """Candidates beside adversarial training; one that costs more than a point of clean accuracy is shown and cannot decide anything."""
    found = use_quantities.candidates(networks, use_quantities.BESIDE)
    rival, k = use_quantities.of_defence(networks, "pgd-at"), max(len(found), len(use_quantities.BESIDE))
    gains = {name: use_quantities.over_training(one, rival, k) for name, one in found.items()}
    cheap = {name: one[0] if one and one[1] <= 100 * use_quantities.COST else None for name, one in gains.items()}
    missing = _without_run(found, use_quantities.BESIDE)
    word, named = extra_verdicts.improves(cheap, missing)
    said = [_gain_words(name, one) for name, one in gains.items()]
    strict = f"named: {', '.join(named) or 'none'}; {missing} of 2 candidates without a run"
    return Finding(EXTRA[3], "<br>".join(said) or NO_RUN, strict, word, named=tuple(named))


def _gain_words(name: str, found) -> str:
    if found is None:
        return f"{name}: no PGD-7 training of its seeds that is like it in all else"
    return f"{name}: {interval(found[0], ' points', sign=True)} at {number(-found[1], sign=True)} points of clean accuracy"


def extra_claims(root: Path | None = None) -> list[Finding]:
    """E1 to E4 from the results below `root` (default: the committed ones); an empty list while there is no run for any of them."""
    protocol, uses = protocol_quantities.read(root), use_quantities.read(root)
    if not protocol and not any(use_quantities.kind(one) for one in uses):
        return []
    return [e1(protocol), e2(protocol), e3(uses), e4(uses)]


def markdown(findings: Sequence[Finding]) -> str:
    """The extra claims as a Markdown table with its heading, or nothing."""
    if not findings:
        return ""
    lines = ["**Beside the paper's claims: ours** ({doc}`plan_full_size`)", "", "| claim | verdict | what was measured |", "|---|---|---|"]
    for one in findings:
        claim = one.claim
        lines.append(
            f"| **{claim.id}** {claim.text}<br>{{doc}}`{claim.page}` | **{one.verdict}** | {one.paper_protocol}<br>*{one.strict}* |"
        )
    return "\n" + "\n".join(lines) + "\n\n"
