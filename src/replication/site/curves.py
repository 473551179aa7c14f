"""Curves over epochs as a small SVG drawing: ink of the page around it, a dash pattern of its own for each curve."""

import math
from collections.abc import Mapping, Sequence
from html import escape

from ..wording import number

WIDTH, HEIGHT = 340, 210  # CSS pixels where it is shown at full size
LEFT, RIGHT, TOP, LINE = 46, 10, 26, 16  # margins, and the height of a line of text
DASHES = ("", "6 3", "2 3", "9 3 2 3")
Series = Mapping[str, Sequence[float | None]]


def nice_ticks(low: float, high: float, most: int = 5) -> list[float]:
    """Round numbers from `low` to `high`, both inside, at most so many."""
    if not high > low:
        return [low]
    raw = (high - low) / max(most - 1, 1)
    power = 10 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10, 20) if factor * power >= raw * (1 - 1e-9))
    first = math.ceil(low / step - 1e-9)
    return [k * step for k in range(first, math.floor(high / step + 1e-9) + 1)]


def _finite(one: float | None) -> bool:
    return one is not None and math.isfinite(one)


def _paths(values: Sequence[float | None], x, y) -> list[str]:
    """A path for every stretch without a gap; a single point is a short stroke."""
    found: list[list[str]] = [[]]
    for index, one in enumerate(values):
        if _finite(one):
            found[-1].append(f"{x(index):.1f} {y(one):.1f}")
        elif found[-1]:
            found.append([])
    return ["M" + (" L".join(points) if len(points) > 1 else f"{points[0]} h3") for points in found if points]


def said(title: str, series: Series) -> str:
    """What is seen, in words: where each curve begins and ends."""
    parts = []
    for label, values in series.items():
        there = [(epoch, one) for epoch, one in enumerate(values, 1) if _finite(one)]
        if there:
            (first, begin), (last, end) = there[0], there[-1]
            parts.append(f"{label} from {number(begin, 3)} after epoch {first} to {number(end, 3)} after epoch {last}")
    return f"{title} over {max(map(len, series.values()))} epochs: {'; '.join(parts)}."


def chart(title: str, series: Series) -> str:
    """The curves of `series`, {label: value after each epoch, None or NaN where there is none}; "" if there is no value at all."""
    series = {label: values for label, values in series.items() if any(map(_finite, values))}
    if not series:
        return ""
    seen = [one for values in series.values() for one in values if _finite(one)]
    low, high = min(*seen, 0), max(*seen, 0)
    high = high if high > low else low + 1
    epochs = max(map(len, series.values()))
    bottom = HEIGHT - 2 * LINE - 4
    height = HEIGHT + LINE * len(series) + 8

    def x(index: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * (index / (epochs - 1) if epochs > 1 else 0.5)

    def y(one: float) -> float:
        return bottom - (bottom - TOP) * (one - low) / (high - low)

    drawn = [f'<text class="title" x="0" y="14">{escape(title)}</text>']
    for tick in nice_ticks(low, high):
        drawn.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(tick):.1f}" y2="{y(tick):.1f}"/>')
        drawn.append(f'<text x="{LEFT - 6}" y="{y(tick) + 4:.1f}" text-anchor="end">{f"{tick:.4g}".replace("-", "−")}</text>')
    for tick in sorted({round(tick) for tick in nice_ticks(1, epochs, 6)}):
        drawn.append(f'<text x="{x(tick - 1):.1f}" y="{bottom + LINE}" text-anchor="middle">{tick}</text>')
    drawn.append(f'<text x="{(LEFT + WIDTH - RIGHT) / 2}" y="{bottom + 2 * LINE}" text-anchor="middle">epoch</text>')
    for place, (label, values) in enumerate(series.items()):
        style = f'class="curve c{place % len(DASHES)}" stroke-dasharray="{DASHES[place % len(DASHES)]}"'
        drawn += [f'<path {style} d="{path}"/>' for path in _paths(values, x, y)]
        row = HEIGHT + LINE * (place + 1)
        drawn.append(f'<path {style} d="M{LEFT} {row - 4} h34"/><text x="{LEFT + 42}" y="{row}">{escape(label)}</text>')
    words = escape(said(title, series))
    return f'<svg class="chart" viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{words}">{"".join(drawn)}</svg>'
