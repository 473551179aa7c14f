"""What the reviewers asked, one row a question, each answer made from the records."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from .. import full_search, search
from ..claims import quantities
from ..full_search import Setting
from ..networks import Network, by_seed, of
from ..scope import CNN, DEFENCE_NAMES, GFA_ROWS, MLP, PAIRS, PROBES, ROWS, VARIANTS
from ..wording import NOTHING, number, of_seeds, several
from . import masking
from .rivals import NOT_YET, lead, missing, rival_settings

READS = ("full_search", "masking", "rivals")  # folders of data/results/, for the workflow


TITLES = {  # of the pages that hold the answers, as in the table of contents
    "01b_alignment": "What alignment is",
    "06_cost": "Cost (C7)",
    "08_search": "The search for λ",
    "10_gradient_attacks": "Gradient attacks (C1, C2, C6)",
    "13_masking": "Is the gain real?",
    "16_other_architectures": "Other architectures",
    "18_claimed_numbers": "How the claimed numbers can come about",
}


@dataclass(frozen=True)
class Row:
    """A question in our short words, what the records answer, and the page that has the rest."""

    question: str
    answer: str
    page: str


def table(rows: Sequence[Row]) -> pd.DataFrame:
    """The rows as a table; `pages` has the address that each text of its last column leads to."""
    columns = {"measured": [row.answer for row in rows], "page": [TITLES.get(row.page, "below") for row in rows]}
    return pd.DataFrame(columns, index=pd.Index([row.question for row in rows], name="asked"))


def pages(rows: Sequence[Row]) -> dict[str, str]:
    """{title of a page: its address}; in the site a page lies beside this one, as .html. What stands on this page needs no link."""
    return {TITLES[row.page]: f"{row.page}.html" for row in rows if row.page in TITLES}


SHORT = ("Where is the clean accuracy?", "An attack that knows the defence?")  # what a reader wants to know first


def answer_words(rows: Sequence[Row]) -> list[str]:
    """How many of the questions the records answer, which they leave open, and the answers to the first of them."""
    open_ones = [row.question for row in rows if NOT_YET in row.answer]
    count = f"The records answer {len(rows) - len(open_ones)} of {len(rows)} questions in full"
    left = f"; runs are still to come for: {' '.join(open_ones)}" if open_ones else "."
    return [count + left, *(f"{row.question} {row.answer[0].upper()}{row.answer[1:]}." for row in rows if row.question in SHORT)]


def _percent(values: Sequence[float]) -> str:
    return number(100 * float(np.mean(values))) if values else NOTHING


def _each(networks: Sequence[Network], pair: tuple[str, str], quantity: Callable[[Network], float | None]) -> str:
    """The mean of `quantity` over seeds, in %, for each defence that has it."""
    said = []
    for name in ROWS:
        found = [quantity(n) for n in of(networks, pair, name) if n.record["status"] == "finished"]
        known = [value for value in found if value is not None]
        if known:
            said.append(f"{DEFENCE_NAMES[name]} {_percent(known)}")
    return ", ".join(said) or NOT_YET


def _pairs(networks: Sequence[Network], quantity: Callable[[Network], float | None]) -> str:
    return "; ".join(f"{PAIRS[pair]}: {_each(networks, pair, quantity)} %" for pair in (CNN, MLP))


def autoattack(network: Network) -> float | None:
    """Share of all attacked images, in [0, 1], that are right before and after the whole of AutoAttack."""
    report = network.reports.get("linf")
    return None if report is None or "standard" not in report.suites else float(report.robust(*report.in_suite("standard")).mean())


def worst(network: Network) -> float | None:
    mask = quantities.worst_case(network)
    return None if mask is None else float(mask.mean())


def attack(network: Network, key: str) -> float | None:
    """The same after one attack alone, as it was run on every image."""
    report = network.singly
    return float(report.robust(key).mean()) if report is not None and key in report.outcomes else None


def adaptive_words(networks: Sequence[Network]) -> str:
    """The worst case, and how many images the adaptive attacks took beyond AutoAttack, by network."""
    beyond = []
    for network in networks:
        mask = quantities.worst_case(network)
        if mask is not None:
            report = network.reports["linf"]
            beyond.append(int((report.robust(*report.in_suite("standard")) & ~mask).sum()))
    if not beyond:
        return NOT_YET
    most = f"at most {several(max(beyond), 'image')} in any of {len(beyond)} networks"
    return f"worst case of both, {_pairs(networks, worst)}; beyond AutoAttack {most}"


def masking_words(networks: Sequence[Network], folder: Path | None = None) -> str:
    """How the nine checks ended for the GFA networks that have a report."""
    found = [(network, report) for network, report in masking.reports(networks, folder) if network.defence in VARIANTS]
    ended: dict[str, int] = {}
    for _, report in found:
        for check in report.checks:
            words = "pass in part" if check.in_part else check.verdict
            ended[words] = ended.get(words, 0) + 1
    counts = ", ".join(f"{n} {words}" for words, n in sorted(ended.items(), key=lambda one: -one[1]))
    return f"nine checks on each of {len(found)} GFA networks: {counts}" if found else NOT_YET


def _tried_on(networks: Sequence[Network], key: str) -> str:
    """ "seed 1, 200 images": which CNNs with GFA met this attack on every image."""
    found = [n for name in GFA_ROWS for n in of(networks, CNN, name) if attack(n, key) is not None]
    seeds, images = sorted({n.seed for n in found}), sorted({len(n.singly.label) for n in found})
    return f"{of_seeds(seeds)}, {' or '.join(map(str, images))} images"


def targeted_words(networks: Sequence[Network]) -> str:
    """GFA under torchattacks' APGD on cross-entropy and under its targeted twin."""
    said = []
    for name in GFA_ROWS:
        pairs = [(attack(n, "paper/APGD"), attack(n, "paper/APGDT")) for n in of(networks, CNN, name)]
        pairs = [pair for pair in pairs if None not in pair]
        if pairs:
            said.append(
                f"{DEFENCE_NAMES[name]} {_percent([p[0] for p in pairs])} % under APGD, {_percent([p[1] for p in pairs])} % under APGDT"
            )
    why = ", which climbs margins against other classes; GFA turns the gradient of one loss"
    return f"{PAIRS[CNN]}, {_tried_on(networks, 'paper/APGDT')}: " + "; ".join(said) + why if said else NOT_YET


def fab_words(networks: Sequence[Network]) -> str:
    """GFA under the authors' FAB-T on every image (`attacks.paper.fab`); torchattacks' own is tried under the paper's protocol alone."""
    said = []
    for name in GFA_ROWS:
        found = [n for n in of(networks, CNN, name) if attack(n, "paper/FAB") is not None]
        if found:
            fab = _percent([attack(n, "paper/FAB") for n in found])
            clean = _percent([float(n.singly.clean.mean()) for n in found])
            least = _percent([worst(n) for n in found if worst(n) is not None])
            said.append(
                f"{DEFENCE_NAMES[name]} {fab} % of all images under its authors' FAB-T ({clean} % clean, {least} % in the worst case)"
            )
    other = "; torchattacks' FAB, untargeted and with ten steps, is tried as one of the mistakes of E2"
    return f"{PAIRS[CNN]}, {_tried_on(networks, 'paper/FAB')}: " + "; ".join(said) + other if said else NOT_YET


def varied_words(trials: Sequence[search.Trial], setting: str, value: object) -> str:
    """The reduced runs of GFA that vary one setting, beside those that vary nothing: how they ended, and the best."""
    said = []
    for pair in (CNN, MLP):
        mine = [t for t in search.pick(trials, pair, *VARIANTS) if t.varied == ((setting, value),)]
        twins = [(t, search.twin(trials, t)) for t in mine]
        twins = [(t, other) for t, other in twins if other is not None]
        if not mine:
            continue
        lost = sum(t.status != "finished" for t in mine)
        line = f"{PAIRS[pair]}: {lost} of {len(mine)} runs collapsed"
        both = [(t, o) for t, o in twins if t.status == o.status == "finished"]
        if both:
            robust, base = ([100 * pick.robust for pick in side] for side in zip(*both, strict=True))
            aligned, before = ([pick.alignment for pick in side] for side in zip(*both, strict=True))
            line += (
                f"; of {len(both)} that can be paired: robust {number(np.mean(robust))} % against {number(np.mean(base))} %, "
                f"alignment {number(np.mean(aligned), 2, sign=True)} against {number(np.mean(before), 2, sign=True)}"
            )
        said.append(line)
    return "; ".join(said) or NOT_YET


def losses_words(settings: Sequence[Setting]) -> str:
    """Adversarial training at full size with either loss, validation images: means over seeds."""
    said = []
    for pair in [pair for pair in PAIRS if full_search.pick(settings, pair)]:
        for loss, words in (("mse", "squared error"), ("ce", "cross-entropy")):
            mine = [s for s in full_search.pick(settings, pair, "pgd-at") if s.config.options.get("loss") == loss and not s.config.ema]
            if mine:
                one = mine[0]
                seeds = several(len(one.trials), "seed")
                figures = f"{number(100 * one.clean)} % clean, {number(100 * one.robust)} % robust"
                figures += f", alignment {number(one.alignment, 2, sign=True)}"
                said.append(f"{PAIRS[pair]}, {words} {figures} ({seeds})")
    return "PGD-7 training at full size: " + "; ".join(said) if said else NOT_YET


def time_words(timing: Mapping | None) -> str:
    """Times of an epoch relative to plain training's, from the record of the benchmark."""
    rows = [r for r in timing["rows"] if r["contestant"] not in ("plain", "data")] if timing else []
    return ", ".join(f"{r['contestant']} {number(r['ratio']['median'])}×" for r in rows) + " of plain training's epoch" if rows else NOT_YET


def gnr_words(networks: Sequence[Network], settings: Sequence[Setting]) -> str:
    """What GNR keeps beside plain training and GFA, reduced or full headline runs, and at equal clean accuracy in the search."""
    said = [f"worst case, {_pairs(networks, worst)}"]
    for pair in (CNN, MLP):
        gaps = [gap for s in full_search.pick(settings, pair, *VARIANTS) if (gap := lead(settings, s)) is not None]
        if gaps:
            more = sum(gap > 0 for gap in gaps)
            said.append(
                f"at full size, {PAIRS[pair]}, at equal clean accuracy GNR keeps more than GFA in {more} of {len(gaps)} settings, "
                f"GNR minus GFA {number(100 * min(gaps), sign=True)} to {number(100 * max(gaps), sign=True)} points"
            )
    return "; ".join(said)


def flatness_table(found: Mapping[tuple[str, float], Mapping[str, float]]) -> pd.DataFrame:
    """{(network, rho): `flatness.weight_rise`} as one row a network."""
    rows: dict[str, dict] = {}
    for (name, rho), rise in found.items():
        row = rows.setdefault(name, {"loss": number(rise["loss"], 3)})
        row[f"SAM's rise, ρ = {rho:g}"] = number(rise["sam"], 3)
        row[f"worst found, ρ = {rho:g}"] = number(rise["worst"], 3)
        row[f"accuracy after it, ρ = {rho:g} (%)"] = number(100 * rise["accuracy_worst"])
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("network")


LAYERS = "without biases all layers share one inner product, and a deep alignment promises no more than its ρ-fold at the input"


def rows(
    networks: Sequence[Network],
    trials: Sequence[search.Trial],
    settings: Sequence[Setting],
    timing: Mapping | None,
    probes: Sequence[Network],
) -> list[Row]:
    """The questions with their answers, in the order of the page; `probes` are networks of other architectures."""
    seeds = max((len(by_seed(networks, pair)) for pair in (CNN, MLP)), default=0)
    clean = f"{_pairs(networks, lambda n: n.clean)} (whole test set, up to {seeds} seeds)"
    losses = f"GFA with cross-entropy: {varied_words(trials, 'loss', 'ce')}. {losses_words(settings)}"
    named = "; ".join(missing(rival_settings()).splitlines())
    answered = [
        ("Where is the clean accuracy?", clean, "10_gradient_attacks"),
        ("AutoAttack as a whole, not its parts one by one?", f"all images, {_pairs(networks, autoattack)}", "10_gradient_attacks"),
        ("An attack that knows the defence?", adaptive_words(networks), "13_masking"),
        ("Is it gradient masking?", masking_words(networks), "13_masking"),
        ("Why does it fail most under the targeted APGD?", targeted_words(networks), "10_gradient_attacks"),
        ("Near-perfect FAB: is the attack set up right?", fab_words(networks), "18_claimed_numbers"),
        ("Why squared error and not cross-entropy?", losses, "01b_alignment"),
        ("Inputs in [−1, 1]: what if they were in [0, 1]?", f"GFA with [0, 1]: {varied_words(trials, 'scaling', 'unit')}", "08_search"),
        ("What does training cost?", time_words(timing), "06_cost"),
        ("“GNR has little effect”", gnr_words(networks, settings), "10_gradient_attacks"),
        ("GradAlign, CURE, TRADES, MART?", f"{named}; the table below has every run", "17_reviewers"),
        ("Is the loss flat in the sense of SAM?", "measured below, on the networks of this page", "17_reviewers"),
        ("Does theory link the layers?", LAYERS, "01b_alignment"),
        ("Modern architectures: ResNet, ViT?", probes_words(probes), "16_other_architectures"),
    ]
    return [Row(*one) for one in answered]


def probes_words(networks: Sequence[Network]) -> str:
    """The worst case of each other architecture, in one seed."""
    kept = {name: _each(networks, pair, worst) for pair, name in PROBES.items()}
    return ". ".join(f"{name}: {said}{'' if said == NOT_YET else ' % in the worst case'}" for name, said in kept.items())
