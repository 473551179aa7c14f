"""Maps that a reader can walk over: below the figure stand the values of all its panels at the place pointed at.

The values travel inside the page and book/_static/exhibits.js reads them; without scripts there is the picture alone.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

PANEL = "map"  # gid of the patch of each panel that can be pointed at, in the order of `Maps.rows`, a row after the other


@dataclass(frozen=True)
class Maps:
    """Values on one square grid: axis (N,), rising; rows {quantity: {panel: (N, N), the first index upwards}}."""

    up: str  # what the vertical axis is
    across: str
    axis: Sequence[float]
    rows: Mapping[str, Mapping[str, np.ndarray]]

    def __post_init__(self):
        size = len(self.axis)
        for quantity, panels in self.rows.items():
            for name, grid in panels.items():
                if np.shape(grid) != (size, size):
                    raise ValueError(f"the map {name!r} of {quantity!r} must be {size} × {size}, as its axis is long; got {np.shape(grid)}")

    def packed(self) -> str:
        """All of it as JSON, values to three digits."""
        rows = [[quantity, {name: _rounded(grid) for name, grid in panels.items()}] for quantity, panels in self.rows.items()]
        return json.dumps({"up": self.up, "across": self.across, "axis": _rounded(self.axis), "rows": rows}, separators=(",", ":"))


def _rounded(values) -> list:
    return [_rounded(one) if np.ndim(one) else float(f"{one:.3g}") for one in values]
