"""The claims of the paper, and what the committed results say of each so far: the table of the front page.

Numbers come from the records only. No verdict is given before the rule that turns numbers into words is written down.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from .figures import label

VERDICTS = ("reproduced", "partly reproduced", "not reproduced", "inconclusive", "open")


@dataclass(frozen=True)
class Claim:
    id: str
    text: str
    paper: str


CLAIMS = (
    Claim("C1", "CNN on CIFAR-10: more robust accuracy under APGD than adversarial training", "up to +15.2 points"),
    Claim("C2", "the same under FGSM", "up to +24.7 points"),
    Claim("C3", "DeepFool needs larger perturbations", "20–30×"),
    Claim("C4", "EADEN needs larger perturbations, visible to the eye", "20–30×"),
    Claim("C5", "loss variation along tangential directions is suppressed", "figures"),
    Claim("C6", "architecture-agnostic: CNN and MLP alike", "yes"),
    Claim("C7", "simple, without prohibitive training overhead", "in words"),
    Claim("C8", "adversarial training alone raises the alignment slightly", "in words"),
)


def _under(record: Mapping, attack: str) -> float | None:
    """Accuracy of a run under the paper's `attack`, in percent; None where it was not run."""
    entry = next((row for key, row in record["attacks"].items() if key.split("/")[-1] == attack), None)
    return entry and 100 * entry["accuracy"]


def _attack_gap(attacks: Sequence[Mapping], attack: str) -> str | None:
    """Best GFA run minus adversarial training, in points, under `attack`; None without both."""
    attacks = [record for record in attacks if _under(record, attack) is not None]
    by_objective = {record["training"]["config"]["objective"]: record for record in attacks}
    trained = by_objective.get("pgd-at")
    gfa = [record for name, record in by_objective.items() if name.startswith("gfa")]
    if trained is None or not gfa:
        return None
    best = max(gfa, key=lambda record: _under(record, attack))
    ours, theirs = (_under(record, attack) for record in (best, trained))
    gap = f"{ours - theirs:+.1f}".replace("-", "−")
    return f"{gap} points ({label(best['training'])}: {ours:.1f} %; PGD-7 training: {theirs:.1f} %)"


def _overhead(training: Sequence[Mapping]) -> str | None:
    cost = {record["config"]["objective"]: record["cost"]["forward_passes"] for record in training}
    if not {"standard", "gfa-first", "gfa-deep", "pgd-at"} <= cost.keys():
        return None
    first, deep, pgd = (cost[name] / cost["standard"] for name in ("gfa-first", "gfa-deep", "pgd-at"))
    return f"arithmetic of a step against plain: FIRST {first:.1f}×, DEEP {deep:.1f}×, PGD-7 {pgd:.1f}×"


def _adversarial_alignment(training: Sequence[Mapping]) -> str | None:
    at_input = {
        record["config"]["objective"]: next(iter(record["metrics"]["last"]["test_alignment"].values()))
        for record in training
        if record["metrics"]["last"]
    }
    if not {"standard", "pgd-at"} <= at_input.keys():
        return None
    plain, trained = (f"{at_input[name]:+.3f}".replace("-", "−") for name in ("standard", "pgd-at"))
    return f"alignment at the input: plain {plain}, PGD-7 training {trained}"


def measured(training: Sequence[Mapping], attacks: Sequence[Mapping]) -> dict[str, str | None]:
    """{claim id: what the records say, in a line, or None}."""
    return {
        "C1": _attack_gap(attacks, "APGD-100"),
        "C2": _attack_gap(attacks, "FGSM"),
        "C7": _overhead(training),
        "C8": _adversarial_alignment(training),
    }


def markdown(training: Sequence[Mapping], attacks: Sequence[Mapping]) -> str:
    """The scoreboard as a Markdown table."""
    found = measured(training, attacks)
    lines = ["| | claim | the paper | first look (reduced scale, one seed) | verdict |", "|---|---|---|---|---|"]
    for claim in CLAIMS:
        lines.append(f"| {claim.id} | {claim.text} | {claim.paper} | {found.get(claim.id) or 'not run yet'} | open |")
    return "\n".join(lines) + "\n"
