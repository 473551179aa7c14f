"""How chapters 10 to 13 open and close: the networks, their scale, the verdicts."""

from collections.abc import Callable, Mapping, Sequence

import matplotlib.pyplot as plt
import pandas as pd
from IPython.display import display
from matplotlib.figure import Figure

from .. import scope, wording
from ..claims import quantities, scoreboard, verdicts
from ..networks import Network, Page, of, present
from ..scope import DEFENCE_NAMES, DEFENCES, PAIRS
from ..wording import NOTHING, spread
from .style import scale


def runs_table(networks: Sequence[Network]) -> pd.DataFrame:
    """One row a pair and defence: λ or its target, what else was set, seeds, status, clean accuracy on the whole test set, alignment.

    "GFA took hold": alignment on validation images seed by seed, and of how many seeds it says so (see `verdicts.took_hold`).
    """
    rows = []
    for pair in present(networks):
        for defence in DEFENCES:
            group = of(networks, pair, defence)
            if not group:
                continue
            config = group[0].record["config"]
            first = [next(iter(n.record["metrics"]["last"]["test_alignment"].values())) for n in group if n.record["metrics"]["last"]]
            ended = [n.record["status"] for n in group]
            rows.append({
                "networks": PAIRS[pair],
                "defence": DEFENCE_NAMES[defence],
                "λ": _weight(config),
                "warm-up": f"{config['warmup']:g}" if config["lam"] else NOTHING,
                "set besides": ", ".join(f"{k} {v}" for k, v in _besides(config).items()) or NOTHING,
                "seeds": ", ".join(str(n.seed) for n in group),
                "ended": ", ".join(f"{ended.count(s)} {s}" for s in dict.fromkeys(ended)),
                "clean (%)": spread([100 * n.clean for n in group if n.record["metrics"]["last"]]),
                "alignment at the input": spread(first, 3),
                "GFA took hold": _took_hold(group, of(networks, pair, "standard")) if defence in scope.VARIANTS else NOTHING,
            })  # fmt: skip
    return pd.DataFrame(rows).set_index(["networks", "defence"])


def _took_hold(group: Sequence[Network], plain: Sequence[Network]) -> str:
    values, bar = ([quantities.validation_alignment(n) for n in nets if n.record["status"] == "finished"] for nets in (group, plain))
    values, bar = ([v for v in some if v is not None] for some in (values, bar))
    said = [verdicts.took_hold(value, bar) for value in values]
    if not said or None in said:
        return NOTHING
    return f"{', '.join(wording.number(v, 3) for v in values)}: {sum(said)} of {len(said)}"


def _weight(config: Mapping) -> str:
    """λ, or the alignment that it is steered to in a closed loop."""
    target = config["options"].get("target")
    return f"target {target:g}" if target else f"{config['lam']:g}" if config["lam"] else NOTHING


def _besides(config: Mapping) -> dict:
    options = {name: value for name, value in config["options"].items() if name != "target"}
    return {**options, **({"start": config["start"]} if config.get("start", "fresh") != "fresh" else {})}


def scales(networks: Sequence[Network]) -> str:
    """One line a pair: what size its runs have."""
    return "\n".join(f"{PAIRS[pair]}: {scale(of(networks, pair)[0].record)}" for pair in present(networks))


def verdict_lines(networks: Sequence[Network], timing: Mapping | None, *claims: str) -> str:
    """The findings of `claims`, one a line, as on the front page."""
    found = scoreboard.judge(networks, timing, claims)
    return "\n".join(f"{one.claim.id}: {one.verdict}. Paper's protocol: {one.paper_protocol}. Strict: {one.strict}." for one in found)


def show(page: Page, pair: tuple[str, str], *makers: Callable, **options) -> None:
    """Show figures or tables of the measures of `pair`, one a maker, or a line that there are none."""
    measured = page.measured(pair)
    if not measured:
        print(f"{PAIRS[pair]}: no network has been measured")
    for make in makers if measured else ():
        made = make(measured, **options)
        plt.show() if isinstance(made, Figure) else display(made)
