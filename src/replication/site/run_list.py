"""The list of all records, folder by folder; with `?only=` in the address a script shows the named ones alone."""

import re
from collections.abc import Sequence
from html import escape
from pathlib import Path

from ..provenance import run_page, short
from ..scope import NORM_NAMES
from ..wording import weight
from . import commands
from .html import breakable, page, percent, table, value
from .records import Record
from .run_page import address, defence, pair

EPS = re.compile(r"eps(\d[\d.]*)")
TOLD = re.compile(rf"{EPS.pattern}|n\d+|worst_case")  # radius, images and kind of attacks, in the name of a folder
SCRIPT = """<script>
const asked = new URLSearchParams(location.search).get("only");
const rows = [...document.querySelectorAll("tr[data-key]")];
const words = document.getElementById("words");
const said = document.getElementById("said");
const only = new Set(asked ? asked.split(",") : []);
function show() {
  const wanted = words.value.toLowerCase().split(/\\s+/);
  let n = 0;
  for (const row of rows) {
    const text = row.textContent.toLowerCase();
    row.hidden = (only.size > 0 && !only.has(row.dataset.key)) || !wanted.every(word => text.includes(word));
    n += !row.hidden;
  }
  for (const part of document.querySelectorAll("section.group")) part.hidden = !part.querySelector("tr[data-key]:not([hidden])");
  said.textContent = `${n} of ${rows.length} records are shown.`;
  document.getElementById("all").hidden = only.size === 0;
}
document.getElementById("find").hidden = false;
words.addEventListener("input", show);
show();
</script>"""

INTRO = """<p>Every training run and every other record that the book stands on, each with its page: configuration, history, metrics,
attacks, files, and the command that makes it again; the last column leads to the records themselves.
The files lie in <code>data/results/</code> of the repository.</p>
<form id="find" hidden onsubmit="return false"><label for="words">Words that a row must have</label> <input id="words" type="search">
<span id="said" role="status"></span> <a id="all" href="index.html" hidden>Show all records.</a></form>"""

TITLES = {
    "paper": "Headline runs at full size",
    "quick": "Headline runs at reduced scale",
    "full_search": "The search at full size",
    "search": "The search at reduced scale",
    "refine": "The search at reduced scale, second part",
    "checked": "The attack suite on known models",
    "benchmarks": "Benchmarks",
}
HEAD = ("run", "pair", "defence", "seed", "status", "test accuracy", "made", "records (JSON)")
KINDS = {"report": "attacks", "measures": "measures", "masking": "masking"}  # the first word of a folder of a run's results


def _label(record: Record, path: Path) -> str:
    """What a JSON file of `record` holds, in a word or two: "training", or "attacks L∞ ε 0.0314 n200" by the name of its folder."""
    if path == record.file:
        return record.content.get("kind", "record")
    _, _, rest = path.parent.name.partition(f"{record.name}.")
    first, *more = rest.split("-")
    told = [NORM_NAMES.get(word) or EPS.sub(_eps, word) for word in more if word in NORM_NAMES or TOLD.fullmatch(word)]
    return " ".join([KINDS.get(first, first or path.stem), *told]).replace("_", " ")


def _eps(found: re.Match) -> str:
    return f"ε {float(found[1]):.3g}"


def _files(record: Record) -> str:
    """A link to each JSON file of a record."""
    found = [path for path in record.files if path.suffix == ".json"]
    return "<br>".join(f'<a href="{address(record, path)}">{escape(_label(record, path))}</a>' for path in found)


def _row(record: Record) -> tuple[str, ...]:
    content = record.content
    link = f'<a href="{run_page(record.name).rpartition("/")[2]}">{breakable(record.name)}</a>'
    date = value(content.get("environment", {}).get("date", ""))[:10]
    if content.get("kind") != "training":
        return link, *[""] * 3, escape(content.get("kind", "")), "", date, _files(record)
    config = content["config"]
    accuracy = percent((content.get("metrics") or {}).get("last", {}).get("test_accuracy"))
    said = " ".join(filter(None, (defence(config), weight(config))))
    return link, escape(pair(config)), escape(said), str(config["seed"]), escape(content["status"]), accuracy, date, _files(record)


def of(records: Sequence[Record]) -> str:
    """The page of all `records`, HTML."""
    groups = list(dict.fromkeys(record.group for record in records))
    parts = [INTRO]
    for group in sorted(groups, key=lambda name: (list(TITLES).index(name) if name in TITLES else len(TITLES), name)):
        mine = [record for record in records if record.group == group]
        title = f"{TITLES.get(group, group)} ({len(mine)})"
        made = commands.whole_folder(group)
        todo = f"<p>What is missing is made by <code>{escape(made)}</code>.</p>" if made else ""
        shown = table(HEAD, map(_row, mine), title, keys=[short(record.name) for record in mine])
        parts.append(f'<section class="group"><h2>{escape(title)}</h2>{todo}{shown}</section>')
    return page("Runs and records", "\n".join([*parts, SCRIPT]))
