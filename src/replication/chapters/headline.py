"""How chapters 10 to 13 open and close: the networks, their scale, the verdicts."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd

from .. import scope, wording
from ..claims import quantities, scoreboard, verdicts
from ..claims.findings import Finding
from ..networks import Network, Page, of, present
from ..records import FULL, REDUCED
from ..scope import DEFENCE_NAMES, PAIRS, ROWS
from ..wording import NOTHING, number, percent, spread


def runs_table(networks: Sequence[Network]) -> pd.DataFrame:
    """One row a pair and one of `scope.ROWS`: λ or its target, what else was set, seeds, status, clean accuracy on the whole test
    set, alignment.

    "GFA took hold": alignment on validation images seed by seed, and of how many seeds it says so (see `verdicts.took_hold`).
    """
    rows = []
    for pair in present(networks):
        for row in ROWS:
            group = of(networks, pair, row)
            if not group:
                continue
            config = group[0].record["config"]
            taps = [list(n.record["metrics"]["last"]["test_alignment"].values()) for n in group if n.record["metrics"]["last"]]
            aligned = [layers for layers in taps if None not in layers]
            ended = [n.record["status"] for n in group]
            rows.append({
                "networks": PAIRS[pair],
                "defence": DEFENCE_NAMES[row],
                "λ": wording.weight(config).removeprefix("λ ") or NOTHING,
                "warm-up": f"{config['warmup']:g}" if config["lam"] else NOTHING,
                "set besides": ", ".join(f"{k} {v}" for k, v in _besides(config).items()) or NOTHING,
                "seeds": ", ".join(str(n.seed) for n in group),
                "ended": ", ".join(f"{ended.count(s)} {s}" for s in dict.fromkeys(ended)),
                "clean (%)": spread([100 * n.clean for n in group if n.record["metrics"]["last"]]),
                "alignment at the input": spread([layers[0] for layers in aligned], 3),
                "mean over layers": spread([float(np.mean(layers)) for layers in aligned], 3),
                "GFA took hold": _took_hold(group, of(networks, pair, "standard")) if group[0].defence in scope.VARIANTS else NOTHING,
            })  # fmt: skip
    return pd.DataFrame(rows).set_index(["networks", "defence"])


def _took_hold(group: Sequence[Network], plain: Sequence[Network]) -> str:
    values, bar = ([quantities.validation_alignment(n) for n in nets if n.record["status"] == "finished"] for nets in (group, plain))
    values, bar = ([v for v in some if v is not None] for some in (values, bar))
    said = [verdicts.took_hold(value, bar) for value in values]
    if not said or None in said:
        return NOTHING
    return f"{', '.join(wording.number(v, 3) for v in values)}: {sum(said)} of {len(said)}"


def _besides(config: Mapping) -> dict:
    options = {name: value for name, value in config["options"].items() if name != "target"}
    return {**options, **({"start": config["start"]} if config.get("start", "fresh") != "fresh" else {})}


def under_way_table(networks: Sequence[Network]) -> pd.DataFrame:
    """One row an attacked network of a grid that is not finished (see `networks.under_way`): clean accuracy, worst cases with their n."""
    rows = []
    for network in networks:
        row = {
            "networks": PAIRS[network.pair],
            "defence": ", ".join(filter(None, (DEFENCE_NAMES[network.defence], wording.weight(network.config)))),
            "seed": network.seed,
            "clean (%)": number(100 * network.clean),
        }
        attacked = [report for report in (network.reports["linf"], network.beyond) if report is not None]
        for report in attacked:
            row |= {f"kept, {255 * report.about['eps']:g}/255 (%)": percent(report.robust().mean(), len(report.label))}
        rows.append(row | {"n": "; ".join(f"{len(report.label):,}" for report in attacked)})
    return pd.DataFrame(rows).fillna(NOTHING).set_index(["networks", "defence"])


def scale_table(networks: Sequence[Network]) -> pd.DataFrame:
    """How large the training runs of each pair were and what they ran on: a row a pair, what differs within it joined."""
    rows = []
    for pair in present(networks):
        records = [n.record for n in of(networks, pair)]
        values = {
            "training images": [f"{r['data']['train']:,}" for r in records],
            "epochs": [str(r["config"]["epochs"]) for r in records],
            "seeds": sorted({n.seed for n in of(networks, pair)}),
            "device": [r["environment"]["device"] for r in records],
            "commits": sorted({r["environment"]["commit"][:7] for r in records}),
        }
        row = {name: ", ".join(map(str, dict.fromkeys(found))) for name, found in values.items()}
        rows.append({"networks": PAIRS[pair], "runs": len(records)} | row)
    return pd.DataFrame(rows).set_index("networks")


MARKS = {"reproduced": "✓", "not reproduced": "✗", "partly": "◐", "inconclusive": "?"}


def verdict_sentences(networks: Sequence[Network], timing: Mapping | None, *claims: str) -> list[str]:
    """The findings of `claims`, a sentence each, as on the front page."""
    found = scoreboard.judge(networks, timing, claims)
    marks = {one.claim.id: next((mark for word, mark in MARKS.items() if one.verdict.startswith(word)), "•") for one in found}
    return [
        f"{marks[one.claim.id]} {one.claim.id}, {one.claim.text} (the paper: {one.claim.paper}): {one.verdict}. Strictly: {one.strict}."
        for one in found
    ]


EXTRA_MARKS = {"supported": "✓", "not supported": "✗", "partly": "◐", "inconclusive": "?"}


def extra_sentences(findings: Sequence[Finding]) -> list[str]:
    """The findings on claims of ours, a sentence each: what was asked, the word, what it rests on."""
    said = []
    for one in findings:
        mark = next((mark for word, mark in EXTRA_MARKS.items() if one.verdict.startswith(word)), "•")
        asked, measured = one.claim.text, one.paper_protocol.replace("<br>", "; ")
        said.append(
            f"{mark} {one.claim.id}, {asked[0].lower()}{asked[1:]}: {one.verdict}. {measured[0].upper()}{measured[1:]} ({one.strict})."
        )
    return said


def stacked(make: Callable, networks: Sequence[Network], pairs: Sequence[tuple[str, str]]) -> pd.DataFrame:
    """The tables that `make(networks, pair)` gives for each pair, below one another, each row under the name of its pair."""
    made = {PAIRS[pair]: table for pair in pairs if len(table := make(networks, pair))}
    names = ["networks", *next(iter(made.values())).index.names] if made else None
    return pd.concat(made, names=names) if made else pd.DataFrame()


def names(networks: Sequence[Network], pair: tuple[str, str] | None = None) -> list[str]:
    """Names of the records of the networks of `pair`, or of all."""
    return [network.name for network in (networks if pair is None else of(networks, pair))]


def again(page: Page, notebook: str) -> str:
    """The commands that make the runs of a page again, then the page."""
    profile = REDUCED if any(network.reduced for network in page.networks) else FULL
    return f"make reproduce PROFILE={profile}\npapermill book/{notebook}.ipynb out.ipynb"


def size_words(page: Page) -> str:
    """What size the runs of a page have, and which pairs have none."""
    missing = [title for pair, title in PAIRS.items() if pair not in page.pairs]
    absent = f" No runs yet: {', '.join(missing)}." if missing else ""
    return f"{page.size}; {len(page.networks)} networks.{absent}"
