"""The pictures of a report as inline SVG, which takes the ink and the colours of the page, light or dark."""

import numpy as np
from markupsafe import Markup, escape

from ..evaluation.report import Report

WIDTH, HEIGHT, LEFT, BOTTOM = 340, 230, 40, 36  # of the curves; text of 11 units is at least 9 px where the page is 360 px wide
TOP, RIGHT = 10, 10


def bar(share: dict, kind: str) -> Markup:
    """An accuracy as a bar from 0 to 100 % with its interval as a line; as wide as where it stands. kind: a class of the style sheet"""
    value, low, high = (100 * share[name] for name in ("accuracy", "low", "high"))
    return Markup(
        '<svg class="bar {}" viewBox="0 0 100 10" preserveAspectRatio="none" aria-hidden="true" focusable="false">'
        '<rect class="rail" width="100" height="10"/><rect class="value" width="{:.2f}" height="10"/>'
        '<path class="interval" d="M{:.2f} 5H{:.2f}M{:.2f} 2V8M{:.2f} 2V8"/></svg>'
    ).format(kind, value, low, high, low, high)


def distance_curves(report: Report) -> Markup | None:
    """Accuracy against the radius, from the distances that the minimum-norm attacks needed; None where none was run on all images."""
    keys = [] if report.cascade else [key for key, outcome in report.outcomes.items() if not outcome.bounded]
    if not keys:
        return None
    curves = [(key.split("/")[1], report.distance(key)) for key in keys]
    if len(keys) > 1:
        curves.append(("nearest of all", np.min([distance for _, distance in curves], axis=0)))
    eps, n = report.about["eps"], len(report.label)
    finite = np.concatenate([distance[np.isfinite(distance)] for _, distance in curves])
    far = 1.05 * max(finite.max() if len(finite) else 0.0, eps)
    parts = [_frame(far, eps, n)]
    for number, (name, distance) in enumerate(curves):
        radii = np.linspace(0, far, 120)
        points = [(_x(r, far), _y(float((distance > r).sum()) / n)) for r in radii]
        path = "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
        parts.append(Markup('<path class="curve c{}" d="{}"><title>{}</title></path>').format(number % 4, path, name))
    legend = Markup("").join(
        Markup('<li><svg class="key" viewBox="0 0 24 8" aria-hidden="true"><path class="curve c{}" d="M0 4H24"/></svg> {}</li>').format(
            number % 4, name
        )
        for number, (name, _) in enumerate(curves)
    )
    said = f"Accuracy falls from {100 * report.clean.mean():.1f} % at radius 0; the share of {n} images that is still right at each radius."
    return Markup('<svg class="plot" viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg><ul class="legend">{}</ul>').format(
        WIDTH, HEIGHT, said, Markup("").join(parts), legend
    )


def _x(radius: float, far: float) -> float:
    return LEFT + (WIDTH - LEFT - RIGHT) * radius / far


def _y(share: float) -> float:
    return TOP + (HEIGHT - TOP - BOTTOM) * (1 - share)


def _frame(far: float, eps: float, n: int) -> Markup:
    lines = []
    for percent in (0, 25, 50, 75, 100):
        y = _y(percent / 100)
        lines.append(
            f'<path class="grid" d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}"/><text x="{LEFT - 5}" y="{y + 4:.1f}" class="end">{percent}</text>'
        )
    for radius in np.linspace(0, far, 5):
        lines.append(f'<text x="{_x(radius, far):.1f}" y="{HEIGHT - BOTTOM + 14}" class="middle">{radius:.2g}</text>')
    at = _x(eps, far)
    lines.append(f'<path class="eps" d="M{at:.1f} {TOP}V{HEIGHT - BOTTOM}"/>')
    side = "end" if at > WIDTH / 2 else ""
    lines.append(f'<text x="{at - 4 if side else at + 4:.1f}" y="{TOP + 10}" class="{side}">eps</text>')
    lines.append(f'<text x="{(LEFT + WIDTH) / 2}" y="{HEIGHT - 4}" class="middle">{escape(f"distance; accuracy in %, n = {n}")}</text>')
    return Markup("".join(lines))  # numbers of our own alone
