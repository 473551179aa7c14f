"""The page, made from a report and, where there is one, a masking report: nothing in it comes from elsewhere."""

import json
from collections.abc import Mapping
from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from ..evaluation.report import Report
from ..masking.check import MaskingReport
from . import figures

NORMS = {"linf": "L∞", "l2": "L2"}
OURS = {"commit": "commit of deepdefense"}  # which else might be taken for the defence's own
ASSUMED = {"training_loss": "loss of training that attacks assume"}  # a default unless the caller said it, so no fact about the model
MARKS = {"pass": "✓", "fail": "✗", "no power": "○", "not applicable": "–"}  # so that colour is not all there is
# Of the summary, what has a place of its own on the page; the rest is told as settings.
TOLD = {
    "kind", "n", "clean", "worst_case", "suites", "attacks", "robustbench", "warnings", "left_out", "environment", "cautions", "name",
    "model", "images", "architecture", "parameters", "number_of_classes", "dataset", "weights_file", "reported", "masking", "taken",
}  # fmt: skip


def record(report: Report, masking: MaskingReport | None = None) -> dict[str, Any]:
    """Everything that the page says, in JSON types: `report.summary()`, and the nine checks under "masking" (None: not made)."""
    return {**report.summary(), "masking": None if masking is None else masking.to_dict()}


def page(report: Report, masking: MaskingReport | None = None) -> str:
    """The HTML of a report, self-contained. Text of others, such as the model's name, is escaped.

    The whole record stands in it as JSON, in a script element of type application/json with the id "report".
    """
    whole = record(report, masking)
    return _environment().get_template("page.html").render(
        r=whole, title=_title(whole), style=_style(), rows=_rows(whole), curves=figures.distance_curves(report), masking=masking,
        norm=NORMS.get(whole["norm"], whole["norm"]), totals=_totals(whole), settings=_settings(whole), identity=_identity(whole),
        bench=whole["robustbench"], embedded=_embedded(whole), marks=MARKS, silent=_no_autoattack(whole),
    )  # fmt: skip


@cache
def _environment() -> Environment:
    made = Environment(
        loader=PackageLoader("deepdefense.html_report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {"percent": percent, "interval": interval, "number": number, "words": words}
    made.globals["bar"] = figures.bar
    return made


@cache
def _style() -> Markup:
    loader = _environment().loader
    assert loader is not None
    return Markup(loader.get_source(_environment(), "page.css")[0])


def percent(share: float) -> str:
    """A share in [0, 1] as a percentage with one decimal."""
    return f"{100 * share:.1f}"


def interval(entry: Mapping) -> str:
    """The 95 % interval of an accuracy, in %."""
    return f"[{percent(entry['low'])}, {percent(entry['high'])}]"


def number(value: float | None, digits: int = 3) -> str:
    """A number in few digits, with a comma between thousands; ∞ for None, as the median of distances of which most are failures."""
    if value is None:
        return "∞"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.{digits}g}"


def words(value: object) -> str:
    """A setting as readers see it."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return ", ".join(map(words, value)) or "none"
    return ", ".join(f"{key} {words(item)}" for key, item in value.items()) if isinstance(value, Mapping) else str(value)


def _title(whole: Mapping) -> str:
    return f"{whole.get('name') or 'A model'} under attack"


def _rows(whole: Mapping) -> list[dict[str, Any]]:
    """The bars of the figure: clean, each attack, and the worst case over all."""
    attacks = [{"name": key.replace("/", ": "), "share": row, "kind": "attack"} for key, row in whole["attacks"].items()]
    first = {"name": "clean", "share": whole["clean"], "kind": "clean"}
    return [first, *attacks, {"name": "worst case over all", "share": whole["worst_case"], "kind": "worst"}]


def _totals(whole: Mapping) -> dict[str, float]:
    costs = [row["cost"] for row in whole["attacks"].values()]
    return {name: sum(cost[name] for cost in costs) for name in ("forward", "backward", "seconds")}


def _no_autoattack(whole: Mapping) -> bool:
    """Did AutoAttack, whose warnings these would be, not run?"""
    return "standard" not in whole["suites_run"]


def _settings(whole: Mapping) -> dict[str, object]:
    return {ASSUMED.get(key, key.replace("_", " ")): value for key, value in whole.items() if key not in TOLD}


def _identity(whole: Mapping) -> dict[str, object]:
    """What was tested and with what: the model, the images, versions, device, time."""
    names = {
        "name": "name", "architecture": "class of the model", "parameters": "parameters", "number_of_classes": "classes",
        "weights_file": "weights", "model": "fingerprint of the weights", "dataset": "images", "images": "fingerprint of the images",
        "reported": "robust accuracy as reported, %",
    }  # fmt: skip
    made = whole.get("environment", {})
    told = {said: whole[key] for key, said in names.items() if whole.get(key) is not None}
    packages = {f"version of {name}": version for name, version in made.get("packages", {}).items() if version is not None}
    rest = {OURS.get(key, key): value for key, value in made.items() if key != "packages" and value is not None}
    return {**told, **rest, **packages}


def _embedded(whole: Mapping) -> Markup:
    """The record as JSON that no browser takes for the end of its element."""
    text = json.dumps(whole, indent=1, allow_nan=False, ensure_ascii=False)
    return Markup(text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e"))
