"""Small pieces of the pages of records: the frame of a page, tables, numbers. They need no script to be read."""

import math
from collections.abc import Iterable, Sequence
from html import escape

from ..wording import NOTHING, number

HEAD = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title} · [Re] DeepDefense</title>
<link rel="icon" href="{up}_static/favicon.svg">
<link rel="stylesheet" href="{up}_static/records.css">
<script>
const chosen = localStorage.getItem("mode");
if (chosen === "dark" || chosen === "light") document.documentElement.dataset.theme = chosen;
</script>
</head>
<body>
<header><nav aria-label="site"><a href="{up}index.html">[Re] DeepDefense</a> <a href="{up}runs/index.html">runs</a> \
<a href="{up}code/index.html">code</a></nav></header>
<main>
<h1>{heading}</h1>
{body}
</main>
</body>
</html>
"""


def page(title: str, body: str, up: str = "../") -> str:
    """A whole page; up: the way from its folder to the top of the site."""
    return HEAD.format(title=escape(title), heading=breakable(title), body=body, up=up)


def breakable(name: str) -> str:
    """A name that may be broken after its hyphens and slashes where the window is narrow."""
    return escape(name).replace("-", "-<wbr>").replace("/", "/<wbr>")


def anchor(title: str) -> str:
    """The name of a section, by which a link leads to it."""
    return "".join(sign if sign.isalnum() else "-" for sign in title.lower())


def section(title: str, *parts: str) -> str:
    """A heading and what is below it; nothing if there is nothing below it."""
    inside = "\n".join(part for part in parts if part)
    return f'<h2 id="{anchor(title)}">{escape(title)}</h2>\n{inside}\n' if inside else ""


def table(head: Sequence[str], rows: Iterable[Sequence[str]], caption: str, *, first: bool = True, keys: Sequence[str] = ()) -> str:
    """A table that scrolls within its own box; cells are HTML, the first of a row is its head where `first` is True.

    keys: a name for each row, by which a script finds it
    """
    lines = []
    for place, row in enumerate(rows):
        cells = [f"<td>{cell}</td>" for cell in row]
        if first:
            cells[0] = f'<th scope="row">{row[0]}</th>'
        key = f' data-key="{escape(keys[place])}"' if keys else ""
        lines.append(f"<tr{key}>{''.join(cells)}</tr>")
    if not lines:
        return ""
    top = "".join(f'<th scope="col">{escape(name)}</th>' for name in head)
    said = escape(caption)
    inside = f"<table><caption>{said}</caption><thead><tr>{top}</tr></thead><tbody>{''.join(lines)}</tbody></table>"
    return f'<div class="scroll" tabindex="0" role="region" aria-label="{said}">{inside}</div>'


def facts(pairs: Iterable[tuple[str, str]], caption: str) -> str:
    """A table of two columns: what, and its value as HTML."""
    return table(("what", "value"), pairs, caption)


def command(text: str) -> str:
    return f'<pre tabindex="0"><code>{escape(text)}</code></pre>'


def percent(share: float | None, low: float | None = None, high: float | None = None) -> str:
    """A share in [0, 1] in %, with the ends of its interval if they are given."""
    if share is None or not math.isfinite(share):
        return NOTHING
    ends = "" if low is None or high is None else f" [{number(100 * low)}, {number(100 * high)}]"
    return f"{number(100 * share)} %{ends}"


def value(one) -> str:
    """Anything of a record in a cell: numbers to six digits, large ones in full, with true minus signs; lists and texts as they are."""
    if one is None:
        return NOTHING
    if isinstance(one, bool) or not isinstance(one, int | float):
        if isinstance(one, dict):
            return ", ".join(f"{escape(str(name))} {value(inner)}" for name, inner in one.items()) or NOTHING
        if isinstance(one, list | tuple):
            return ", ".join(map(value, one)) or NOTHING
        return escape(str(one))
    whole = isinstance(one, int) or 1e5 <= abs(one) < 1e15
    return (f"{one:,.0f}" if whole else f"{one:.6g}").replace("-", "−")


def duration(seconds: float) -> str:
    """ "50 s", "12 min", "1.5 h"."""
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
