"""The one way in which pages show a table: fixed decimals in a column, aligned on the point, never wrapped within a number.

A cell is a number, a `Spread` (mean ± standard deviation over seeds), or a text; a column of texts that are all numbers, with
"± 0.3" or "[1.2, 3.4]" after them or without, is aligned as one of numbers. What has too many columns scrolls within its own box.
"""

import base64
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape

import numpy as np
import pandas as pd
from IPython.display import display
from scipy.stats import t

from . import provenance
from .estimates import mean_sd
from .exhibits import Exhibit, folded, note, paragraphs
from .wording import NOTHING, number

LONG = 34  # characters of a text from which its column may wrap
_NUMBER = r"[+−-]?(?:\d[\d,]*(?:\.\d+)?|∞)"
_CELL = re.compile(rf"^(?P<mean>{_NUMBER})(?P<unit>×?)(?: ± (?P<sd>\d+(?:\.\d+)?)| \[(?P<low>{_NUMBER}), (?P<high>{_NUMBER})\])?$")
_EMPTY = ("", NOTHING, "nan", "<NA>", "None")
_TO_SPACE = str.maketrans({"\u2007": " ", "\u2008": " "})  # of a digit, of a point


@dataclass(frozen=True)
class Spread:
    """Mean and standard deviation of one value a seed; sd is NaN for one seed, both are for none."""

    mean: float
    sd: float
    n: int

    @classmethod
    def of(cls, values: Iterable[float]) -> "Spread":
        values = list(values)
        return cls(*mean_sd(values), len(values))

    def words(self, decimals: int) -> str:
        if not math.isfinite(self.mean):
            return NOTHING
        return number(self.mean, decimals) + (f" ± {self.sd:.{decimals}f}" if math.isfinite(self.sd) else "")

    def interval(self) -> tuple[float, float] | None:
        """Student's 95 % interval of the mean over seeds; None for one seed and for seeds that are all equal."""
        if self.n < 2 or not self.sd > 0:
            return None
        half = float(t.isf(0.025, self.n - 1)) * self.sd / math.sqrt(self.n)
        return self.mean - half, self.mean + half


def decimals_of(column: Iterable) -> int:
    """How many decimals a column of numbers and spreads needs: two digits of its larger uncertainties, or three of its middle value."""
    spreads = [cell for cell in column if isinstance(cell, Spread)]
    errors = [s.sd for s in spreads if math.isfinite(s.sd) and s.sd > 0]
    sizes = [abs(cell.mean if isinstance(cell, Spread) else cell) for cell in column if not isinstance(cell, str) and cell is not None]
    sizes = [size for size in sizes if math.isfinite(size) and size > 0]
    if errors:
        return max(0, min(5, 1 - math.floor(math.log10(float(np.quantile(errors, 0.75))))))
    return max(0, min(5, 2 - math.floor(math.log10(float(np.median(sizes)))))) if sizes else 0


def _texts(column: Sequence, decimals: int | None) -> list[str]:
    """The cells of a column as texts, its numbers with the same number of decimals."""
    floats = [cell for cell in column if isinstance(cell, float | np.floating | Spread)]
    places = (decimals_of(floats) if floats else 0) if decimals is None else decimals
    said = []
    for cell in column:
        if isinstance(cell, Spread):
            said.append(cell.words(places))
        elif isinstance(cell, float | np.floating):
            said.append(number(cell, places) if math.isfinite(cell) else "∞" if cell > 0 else NOTHING)
        else:
            said.append(NOTHING if str(cell) in _EMPTY else str(cell))
    return said


def _aligned(texts: Sequence[str]) -> list[tuple[str, str]] | None:
    """(number, what follows it), each padded so that points and uncertainties stand below one another; None if these are no numbers."""
    found = [None if text == NOTHING else _CELL.match(text) for text in texts]
    if not any(found) or any(one is None and text != NOTHING for one, text in zip(found, texts, strict=True)):
        return None

    def padded(name: str) -> list[str]:
        parts = [(one[name] or "").replace("-", "−").partition(".") if one else ("", "", "") for one in found]
        whole, behind = max(len(p[0]) for p in parts), max(len(p[2]) for p in parts)
        return [a.rjust(whole, "\u2007") + (point or ("\u2008" if behind else "")) + b.ljust(behind, "\u2007") for a, point, b in parts]

    mean, sd, low, high = map(padded, ("mean", "sd", "low", "high"))
    pairs = []
    for index, one in enumerate(found):
        tail = "" if not one else f" ± {sd[index]}" if one["sd"] else f" [{low[index]}, {high[index]}]" if one["low"] else ""
        pairs.append((mean[index] + one["unit"] if one else NOTHING, tail))
    return pairs


def _interval(cell, text: str, seeds: str) -> tuple[float, float] | None:
    """The 95 % interval of a cell: that of its spread, or the one that its text gives."""
    if isinstance(cell, Spread):
        return cell.interval()
    one = _CELL.match(text)
    if not one:
        return None
    mean, sd, low, high = (float(one[k].replace("−", "-").replace(",", "").replace("∞", "inf")) if one[k] else None for k in _PARTS)
    if low is not None:
        return low, high
    return Spread(mean, sd, int(seeds)).interval() if sd is not None and seeds.isdigit() else None


_PARTS = ("mean", "sd", "low", "high")


def best_rows(intervals: Sequence[tuple[float, float] | None], direction: str) -> int | None:
    """The row whose interval lies beyond those of all others, "high" or "low"; None if there is none, or a row has no interval."""
    if direction not in ("high", "low"):
        raise ValueError(f"best must be 'high' or 'low', got {direction!r}")
    if len(intervals) < 2 or any(one is None for one in intervals):
        return None
    for row, (low, high) in enumerate(intervals):
        others = [one for index, one in enumerate(intervals) if index != row]
        if all(low > other[1] for other in others) if direction == "high" else all(high < other[0] for other in others):
            return row
    return None


def _bold(table: pd.DataFrame, texts: Mapping[int, Sequence[str]], best: Mapping[str, str]) -> set[tuple[int, int]]:
    """(row, column) of the cells to highlight; where rows have two levels, within each group of the upper ones."""
    groups = [index[:-1] if isinstance(index, tuple) else () for index in table.index]
    seeds = [str(n) for n in table["seeds"]] if "seeds" in table else [""] * len(table)
    found = set()
    for name, direction in best.items():
        column = table.columns.get_loc(name)
        for group in dict.fromkeys(groups):
            rows = [row for row, one in enumerate(groups) if one == group]
            chosen = best_rows([_interval(table.iloc[r, column], texts[column][r], seeds[r]) for r in rows], direction)
            found |= set() if chosen is None else {(rows[chosen], column)}
    return found


def csv(table: pd.DataFrame) -> str:
    """A table as CSV, every digit of its spreads kept, in two columns."""
    columns = {}
    for position, name in enumerate(table.columns):
        column = table.iloc[:, position]
        if any(isinstance(cell, Spread) for cell in column):
            columns[f"{name}, mean"] = [cell.mean if isinstance(cell, Spread) else cell for cell in column]
            columns[f"{name}, sd"] = [cell.sd if isinstance(cell, Spread) else "" for cell in column]
        else:
            columns[name] = list(column)
    return pd.DataFrame(columns, index=table.index).to_csv()


def html(
    table: pd.DataFrame, *, label: str, decimals: Mapping[str, int] | None = None, best: Mapping[str, str] | None = None,
    links: Mapping[str, str] | None = None,
) -> str:  # fmt: skip
    """A table in a box of its own, which scrolls and takes the keyboard's focus; label: what readers of the screen hear it called."""
    names, rows, bold = _laid_out(table, decimals or {}, best or {})
    levels = table.index.nlevels
    wide = [any(len(row[column][0]) > LONG for row in rows) for column in range(len(names))]
    kinds = ["words" if wide[column] else "number" if rows and rows[0][column][2] else "" for column in range(len(names))]
    head = "".join(f'<th scope="col" class="{kind}">{escape(name)}</th>' for name, kind in zip(names, kinds, strict=True))
    body, ends = [], [max((row[c][1] for row in rows), key=len, default="") for c in range(len(names))]
    for index, row in enumerate(rows):
        cells = []
        for column, (text, tail, aligned) in enumerate(row):
            if column < levels:
                prefix = [tuple(r[c][0] for c in range(column + 1)) for r in rows]
                same = column < levels - 1 and index and prefix[index] == prefix[index - 1]
                span = next((n for n in range(1, len(rows) - index) if prefix[index + n] != prefix[index]), len(rows) - index)
                if not same:
                    extra = f' rowspan="{span}"' if column < levels - 1 and span > 1 else ""
                    cells.append(f'<th scope="row" class="{kinds[column]}"{extra}>{escape(text)}</th>')
                continue
            shown = escape(text + tail) + (
                f'<span class="nil">{escape(ends[column])}</span>' if aligned and not tail and ends[column] else ""
            )
            shown = f"<strong>{shown}</strong>" if (index, column) in bold else shown
            shown = f'<a href="{escape(links[text])}">{shown}</a>' if links and text in links else shown
            cells.append(f'<td class="{kinds[column]}">{shown}</td>')
        body.append(f"<tr>{''.join(cells)}</tr>")
    return (
        f'<div class="exhibit-box" tabindex="0" role="region" aria-label="{escape(label)}"><table class="exhibit-table">'
        f"<thead><tr>{head}</tr></thead><tbody>{''.join(body)}</tbody></table></div>"
    )


def _laid_out(table: pd.DataFrame, decimals: Mapping[str, int], best: Mapping[str, str]):
    """(names of all columns, those of the index first; rows of (text, what follows, is it a number); cells to highlight)."""
    names = [*(name if name is not None else "" for name in table.index.names), *map(str, table.columns)]
    if not all(names):
        raise ValueError(f"every column of a table needs a name, those of its rows too; got {names}")
    levels = table.index.nlevels
    heads = [_texts(list(table.index.get_level_values(level)), None) for level in range(levels)]
    texts = {c: _texts(list(table.iloc[:, c]), decimals.get(str(table.columns[c]))) for c in range(table.shape[1])}
    bold = {(row, column + levels) for row, column in _bold(table, texts, best)}
    columns = [[(text, "", False) for text in column] for column in heads]
    for column in texts.values():
        pairs = _aligned(column)
        columns.append([(a, b, True) for a, b in pairs] if pairs else [(text, "", False) for text in column])
    return names, list(zip(*columns, strict=True)), bold


def without(table: pd.DataFrame, **usual: str) -> pd.DataFrame:
    """The table without those of the named columns that hold nothing but what is usual there: without(table, status="finished")."""
    return table.drop(columns=[name for name, value in usual.items() if name in table and (table[name].astype(str) == value).all()])


def text(table: pd.DataFrame, *, decimals: Mapping[str, int] | None = None, best: Mapping[str, str] | None = None) -> str:
    """The same table as plain text, a line a row; a highlighted cell is starred."""
    names, rows, bold = _laid_out(table, decimals or {}, best or {})
    ends = [max((len(row[c][1]) for row in rows), default=0) for c in range(len(names))]
    lines = [names]
    for index, row in enumerate(rows):
        shown = [a + b.ljust(ends[c]) if aligned else a for c, (a, b, aligned) in enumerate(row)]
        lines.append([one + ("*" if (index, c) in bold else "") for c, one in enumerate(shown)])
    widths = [max(len(line[c]) for line in lines) for c in range(len(names))]
    right = [bool(rows) and rows[0][c][2] for c in range(len(names))]
    cells = [[one.rjust(w) if r else one.ljust(w) for one, w, r in zip(line, widths, right, strict=True)] for line in lines]
    return "\n".join("  ".join(line).rstrip().translate(_TO_SPACE) for line in cells)


def show(
    table: pd.DataFrame, *, caption: str, name: str, decimals: Mapping[str, int] | None = None, best: Mapping[str, str] | None = None,
    links: Mapping[str, str] | None = None, fold: str | None = None, whole: pd.DataFrame | None = None,
    runs: Sequence[str] = (), code: str | None = None, command: str | None = None,
) -> None:  # fmt: skip
    """Show a table with its caption, the links to what is behind it and its numbers as a CSV file; of one without rows, that it has none.

    caption: what it says and of what; a paragraph a line; name: of the file, without its ending
    decimals: {column: how many}, where the digits that `decimals_of` gives are not wanted
    best: {column: "high" or "low"}: there a cell is bold whose 95 % interval over seeds lies beyond those of all others of its group
    links: {text of a cell: address that it leads to}; fold: the title behind which it is folded; None: it stands open
    whole: what the CSV file holds, where the table shown is cut
    runs, code, command: see `provenance.links`
    """
    if not caption.strip():
        raise ValueError("caption must say what the table shows; got an empty one")
    label = f"Table {name.replace('-', ' ')}"
    if not len(table):
        note(f"{label}: there is no record yet of what it would show.")
        return
    if best and _laid_out(table, decimals or {}, best)[2]:
        caption = (
            f"{caption.rstrip()} Bold: beyond the 95 % intervals over seeds of all the others; the error of few images is not in these."
        )
    content = base64.b64encode(csv(table if whole is None else whole).encode()).decode()
    link = f'<a class="behind-csv" download="{escape(name)}.csv" href="data:text/csv;base64,{content}">CSV</a>'
    box = html(table, label=label, decimals=decimals, best=best, links=links)
    behind = provenance.links(runs, code, command) or '<div class="behind"></div>'
    behind = behind.replace('<div class="behind">', f'<div class="behind">{link}', 1)
    page = f'<figure class="exhibit"><figcaption>{paragraphs(caption)}</figcaption>{box}</figure>{behind}'
    display(Exhibit(folded(page, fold), f"[table] {caption}\n{text(table, decimals=decimals, best=best)}"))
