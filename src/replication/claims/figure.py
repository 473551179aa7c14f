"""The front page's figure: for each claim, what is claimed beside what was measured, as SVG for a wide column or a narrow one."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

from ..wording import number
from .bars import ALIGNMENT, DISTANCE, GAP, PLAIN, Bar
from .scoreboard import Finding

WIDE, NARROW = 720, 330  # widths in CSS pixels, of the drawing and of the column that it is for
LINE = 17  # height of a line of text
TITLES = {
    GAP: "Points of robust accuracy above adversarial training",
    DISTANCE: "Distance to the nearest wrong image, times plain training (logarithmic)",
    PLAIN: "Times plain training",
    ALIGNMENT: "Alignment of adversarial training above plain training",
}
DIGITS = {GAP: 1, DISTANCE: 2, PLAIN: 2, ALIGNMENT: 3}
LEGEND = (
    ("measured", "measured, 95 % interval (times: quartiles)"),
    ("claimed", "claimed by the paper"),
    ("asked", "the plan's rule, where the paper uses words"),
    ("most", "the most that could have been seen"),
    ("zero", "no difference"),
)
# Colours of a drawing that stands alone, as in the README; on the site they come from book.css.
ALONE = """<style>
text { font: 13px system-ui, "Liberation Sans", sans-serif; fill: #1b1f24; }
.head { font-weight: 600; }
.axis, .zero { stroke: #8b949e; fill: none; }
.measured { stroke: #0a5bb5; fill: #0a5bb5; stroke-width: 2.5; }
.claimed { stroke: #b3400a; fill: #b3400a; }
.asked { fill: #b3400a; opacity: 0.25; }
.most { stroke: #59636e; stroke-width: 2; stroke-dasharray: 3 2; fill: none; }
@media (prefers-color-scheme: dark) {
  text { fill: #e4e8ec; }
  .measured { stroke: #80bbff; fill: #80bbff; }
  .claimed { stroke: #ffad7a; fill: #ffad7a; }
  .asked { fill: #ffad7a; }
  .most { stroke: #a5afba; }
}
</style>"""


@dataclass(frozen=True)
class Track:
    """Where the values of one scale lie: from `left` to `right` pixels for `low` to `high`, by their logarithm or not."""

    low: float
    high: float
    left: float
    right: float
    logarithmic: bool = False

    def x(self, value: float) -> float:
        """The place of `value`, at the edge if it is outside."""
        through: Callable = math.log if self.logarithmic else float
        low, high = through(self.low), through(self.high)
        inside = min(max(value, self.low), self.high)
        return self.left + (self.right - self.left) * (through(inside) - low) / (high - low)


def limits(bars: Sequence[Bar]) -> tuple[float, float]:
    """The range that shows everything finite of `bars`, which are of one scale."""
    scale = bars[0].scale
    seen = [0.5, 40.0] if scale == DISTANCE else [0.0, 1.0] if scale == PLAIN else [0.0]
    for bar in bars:
        ends = [bar.ceiling, *bar.claimed]
        ends += [bar.measured.low, bar.measured.mean, bar.measured.high] if bar.measured else []
        seen += [end for end in ends if end is not None and math.isfinite(end) and (end > 0 or scale != DISTANCE)]
    low, high = min(seen), max(seen)
    if scale == DISTANCE:
        return low / 1.1, high * 1.1
    pad = 0.05 * (high - low) or 0.01
    return (low if scale == PLAIN else low - pad), high + pad


def values(bar: Bar) -> str:
    """What was measured, in figures."""
    if bar.measured is None:
        return "no usable run"
    digits, sign = DIGITS[bar.scale], bar.scale in (GAP, ALIGNMENT)
    shown = [number(one, digits, sign) if math.isfinite(one) else "∞" for one in (bar.measured.mean, bar.measured.low, bar.measured.high)]
    return f"{shown[0]} [{shown[1]}, {shown[2]}]"


def claimed_words(bar: Bar) -> str:
    low, high = bar.claimed
    digits, sign = (1 if bar.scale == GAP else 0 if bar.scale == DISTANCE else 2), bar.scale == GAP
    if bar.in_words:
        return f"asked: at most {number(high, digits)}" if low is None else f"asked: above {number(low, 0)}"
    return f"claimed: {number(low, digits, sign)}" + (f" to {number(high, digits, sign)}" if high != low else "")


def words(findings: Sequence[Finding]) -> str:
    """The whole figure in words, for those who do not see it."""
    said = []
    for one in findings:
        for bar in one.bars:
            most = f", at most {number(bar.ceiling, DIGITS[bar.scale], True)} could have been seen" if bar.ceiling is not None else ""
            said.append(f"{one.claim.id}, {bar.label}: {claimed_words(bar)}, measured: {values(bar)}{most}")
    return f"Claimed beside measured, claim by claim. {'; '.join(said)}."


def _mark(kind: str, x: float, y: float) -> str:
    """One mark of the legend and of a row, 20 pixels wide at most."""
    if kind == "claimed":
        return f'<path class="claimed" d="M{x:.1f} {y - 6} l5 6 l-5 6 l-5 -6 Z"/>'
    if kind == "asked":
        return f'<rect class="asked" x="{x - 10:.1f}" y="{y - 6}" width="20" height="12"/>'
    if kind == "zero":
        return f'<path class="zero" d="M{x:.1f} {y - 8} v16"/>'
    if kind == "most":
        return f'<path class="most" d="M{x:.1f} {y - 8} v16"/>'
    return f'<path class="measured" d="M{x - 10:.1f} {y} h20"/><circle class="measured" cx="{x:.1f}" cy="{y}" r="4"/>'


def _row(bar: Bar, track: Track, y: float) -> str:
    """What a row draws on its track, at the height `y`."""
    same = 0.0 if bar.scale in (GAP, ALIGNMENT) else 1.0  # no difference
    drawn = [f'<path class="axis" d="M{track.left} {y} H{track.right}"/><path class="zero" d="M{track.x(same):.1f} {y - 10} v20"/>']
    low, high = (edge if end is None else track.x(end) for end, edge in zip(bar.claimed, (track.left, track.right), strict=True))
    if bar.in_words:
        drawn.append(f'<rect class="asked" x="{low:.1f}" y="{y - 6}" width="{max(high - low, 2):.1f}" height="12"/>')
    elif high > low:
        drawn.append(f'<rect class="claimed" x="{low:.1f}" y="{y - 3}" width="{high - low:.1f}" height="6"/>')
        drawn += [_mark("claimed", low, y), _mark("claimed", high, y)]
    else:
        drawn.append(_mark("claimed", low, y))
    if bar.ceiling is not None:
        drawn.append(_mark("most", track.x(bar.ceiling), y))
    if bar.measured is not None:
        ends = [track.x(end) if math.isfinite(end) else edge for end, edge in
                ((bar.measured.low, track.left), (bar.measured.high, track.right))]  # fmt: skip
        drawn.append(f'<path class="measured" d="M{ends[0]:.1f} {y} H{ends[1]:.1f}"/>')
        if math.isfinite(bar.measured.mean):
            drawn.append(f'<circle class="measured" cx="{track.x(bar.measured.mean):.1f}" cy="{y}" r="4"/>')
    return "".join(drawn)


def draw(findings: Sequence[Finding], width: int = WIDE, style: str = "") -> str:
    """The figure as one SVG element; "" if no finding has anything to draw. style: what goes before everything else, as `ALONE`."""
    if not any(one.bars for one in findings):
        return ""
    wide = width >= 600
    left, right = (316, width - 178) if wide else (8, width - 8)
    parts, y = [], 0
    for kind, meaning in LEGEND:
        y += LINE + 3
        parts.append(f'{_mark(kind, 14, y - 4)}<text x="34" y="{y}">{escape(meaning)}</text>')
    for scale, title in TITLES.items():
        rows = [(one.claim.id, bar) for one in findings for bar in one.bars if bar.scale == scale]
        if not rows:
            continue
        track = Track(*limits([bar for _, bar in rows]), left, right, scale == DISTANCE)
        y += 2 * LINE
        for line in [title] if wide else _broken(title):
            parts.append(f'<text class="head" x="0" y="{y}">{escape(line)}</text>')
            y += LINE
        for claim, bar in rows:
            name, found = f"{claim}  {bar.label}", values(bar)
            if wide:
                parts.append(f'<text x="0" y="{y + 9}">{escape(name)}</text><text x="{right + 10}" y="{y + 9}">{found}</text>')
                parts.append(_row(bar, track, y + 5))
                y += 24
            else:
                lines = [*_broken(name), found]
                parts += [f'<text x="0" y="{y + 9 + LINE * k}">{escape(text)}</text>' for k, text in enumerate(lines)]
                y += LINE * len(lines)
                parts.append(_row(bar, track, y + 5))
                y += 26
        ends = [number(end, DIGITS[scale], scale in (GAP, ALIGNMENT)) for end in (track.low, track.high)]
        parts.append(f'<text x="{left}" y="{y + 6}">{ends[0]}</text><text x="{right}" y="{y + 6}" text-anchor="end">{ends[1]}</text>')
        y += 6
    alternative = escape(words(findings))
    frame = f'xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {y + 8}" role="img" aria-label="{alternative}"'
    return f'<svg class="claims-figure {"wide" if wide else "narrow"}" {frame}>{style}{"".join(parts)}</svg>'


def _broken(text: str, most: int = 44) -> list[str]:
    """`text` in lines of at most so many characters, broken between words."""
    lines = [""]
    for word in text.split(" "):
        if len(lines[-1]) + 1 + len(word) > most and lines[-1]:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}" if lines[-1] else word
    return lines
