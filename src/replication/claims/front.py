"""The front page and the head of the README, made from the records: the answer in sentences, the figure, a card for each claim."""

from collections.abc import Sequence
from html import escape
from pathlib import Path
from statistics import fmean

from deepdefense.storage import files, paths

from .. import provenance, scope
from ..networks import Network, by_seed, of, reduced, settings, under_way
from ..scope import CNN, MLP, PAIRS
from ..wording import interval, number, of_seeds, percent, span, weight
from . import by_seed as gaps_by_seed
from . import extra, extra_verdicts, figure, quantities, scoreboard, verdicts
from .scoreboard import Finding, Results

TIMES = "training"  # the record of data/results/benchmarks/ that C7 is judged by
# A mark and a shape for each word, so that a verdict is known without its colour.
BADGES = {
    verdicts.REPRODUCED: ("✓", "yes"),
    verdicts.PARTLY: ("◐", "partly"),
    verdicts.NOT: ("✕", "no"),
    verdicts.INCONCLUSIVE: ("?", "open"),
    extra_verdicts.SUPPORTED: ("✓", "yes"),  # the words of our own claims, E1 and so on
    extra_verdicts.PARTLY_SUPPORTED: ("◐", "partly"),
    extra_verdicts.NOT_SUPPORTED: ("✕", "no"),
}
GROUPS = {"The claims": "C", "Our own claims": "E"}  # title of a group of cards: first letter of its claims
NEVER_SEEN = (
    "The paper's tables were never at hand: only its abstract, a summary and four public reviews, so what is claimed here are the "
    "abstract's numbers, and what the paper leaves open was chosen by us"
)


def word(verdict: str) -> str:
    """The word of the plan at the head of a verdict that may be followed by its scale."""
    return next(one for one in BADGES if verdict.startswith(one))


def counted(findings: Sequence[Finding]) -> str:
    """ "1 is reproduced (C7), 4 are not reproduced (C1, C2, C3, C4)", in the order of the words."""
    said = []
    for one in BADGES:
        ids = [found.claim.id for found in findings if found.claim.id.startswith(GROUPS["The claims"]) and word(found.verdict) == one]
        if ids:
            said.append(f"{len(ids)} {'is' if len(ids) == 1 else 'are'} {one} ({', '.join(ids)})")
    return ", ".join(said)


def verdict_sentence(one: Results) -> str:
    """What holds and what does not, with the gap to adversarial training beside the claimed one."""
    whole = [PAIRS[pair] for pair in (CNN, MLP) if of(one.networks, pair) and not reduced(one.networks, [pair])]
    but = f" ({'; '.join(whole)} at full size)" if whole else ""
    small = f"At reduced scale{but}, of" if any("reduced scale" in found.verdict for found in one.findings) else "Of"
    said = f"{small} the paper's {len(one.findings)} claims, {counted(one.findings)}"
    c1 = next(found for found in one.findings if found.claim.id == "C1")
    gaps = [bar for bar in c1.bars if bar.measured is not None]
    if len(gaps) < 2:
        return f"{said}; GFA and adversarial training have not both been attacked yet."
    weak, strong = (interval(bar.measured, " points", sign=True) for bar in gaps[:2])
    strict = f"{strong} in the {gaps[1].label} (AutoAttack and adaptive attacks)"
    claimed = f"For the CNN on CIFAR-10 up to {number(gaps[0].claimed[0], sign=True)} points above adversarial training are claimed"
    return f"{said}. {claimed}; we find {weak} under {gaps[0].label}, and {strict}."


def took_hold(networks: Sequence[Network], rows: Sequence[str] = scope.GFA_ROWS) -> tuple[int, int]:
    """How many of the CNNs trained with GFA it took hold of, by the plan's rule, of how many that can be told. rows: some of `GFA_ROWS`"""
    plain = [n.record["history"][-1].get("val_alignment") for n in of(networks, CNN, "standard")]
    known = [one for one in plain if one is not None]
    found = [
        verdicts.took_hold(n.record["history"][-1]["val_alignment"], known)
        for row in rows
        for n in of(networks, CNN, row)
        if n.record["history"][-1].get("val_alignment") is not None
    ]
    told = [one for one in found if one is not None]
    return sum(told), len(told)


def reason_sentence(one: Results) -> str:
    """Why GFA fails or holds: what it does to a network, as far as there are records."""
    hold, told = took_hold(one.networks, scope.VARIANTS)
    beside = took_hold(one.networks, tuple(scope.ALIGNED.values()))
    bars = {(found.claim.id, bar.label): bar for found in one.findings for bar in found.bars if bar.measured is not None}
    parts = []
    if told:
        aligned = f" (in {beside[0]} of {beside[1]} of the aligned settings beside the chosen ones)" if beside[1] else ""
        parts.append(f"it took hold in {hold} of {told} networks by the plan's rule{aligned}")
    rise, margin = (bars.get(("C5", label)) for label in ("rise of the training loss", "rise of the margin"))
    nearest = next((bar for (claim, _), bar in bars.items() if claim == "C3" and "smallest" in bar.label), None)
    if rise and margin:
        times = [number(bar.measured.mean, 2) for bar in (rise, margin)]
        parts.append(
            f"a tangential perturbation raises the loss {times[0]} times as much as after plain training, the margin {times[1]} times"
        )
    if nearest:
        parts.append(f"the nearest mistake is {number(nearest.measured.mean, 2)} times as far as after plain training (claimed: 20 to 30)")
    why = f"What GFA does to the CNN: {'; '.join(parts)}" if parts else "What GFA does to a network has not been measured yet"
    return f"{why}."


UNKNOWN = "what the authors' networks were we cannot know"
# What a verdict on E1 says of a network that has learnt nothing, and one on E2 of mistakes with a network that works.
NOTHING_LEARNT = {
    extra_verdicts.SUPPORTED: "a network that has learnt nothing reaches both claimed gaps",
    extra_verdicts.PARTLY_SUPPORTED: "a network that has learnt nothing reaches one of the two claimed gaps",
    extra_verdicts.NOT_SUPPORTED: "a network that has learnt nothing does not reach the claimed gaps",
    verdicts.INCONCLUSIVE: "whether a network that has learnt nothing reaches the claimed gaps is open",
}
BY_MISTAKE = {
    extra_verdicts.SUPPORTED: "with a network that works a mistake of evaluation does so alone",
    extra_verdicts.PARTLY_SUPPORTED: "with a network that works no mistake of evaluation does so alone, all together do",
    extra_verdicts.NOT_SUPPORTED: "with a network that works no mistake of evaluation does so, alone or with the others",
    verdicts.INCONCLUSIVE: "whether a mistake of evaluation does so with a network that works is open",
}


def compared(one: Results) -> str:
    """On what the paper's protocol compares: how many images all networks share, and what it leaves out."""
    masks = [mask for seed in by_seed(one.networks, CNN).values() if (mask := quantities.common(seed)) is not None]
    shared = f"the {span([int(mask.sum()) for mask in masks])} of {len(masks[0])} images" if masks else "the images"
    return f"the paper's protocol compares on {shared} that all networks get right and leaves clean accuracy out"


def how_sentence(one: Results) -> str:
    """How the claimed numbers can come about: what E1 and E2 have been found to be, and nothing before there are runs of them."""
    ran = {found.claim.id: found for found in one.own if found.paper_protocol != extra.NO_RUN}
    if not ran.keys() & {"E1", "E2"}:
        tried = "of a network that has learnt nothing and of mistakes of evaluation E1 and E2 of the plan have no record yet"
        return f"How the claimed numbers can come about is not known yet: {compared(one)}; {tried}."
    said = []
    for claim, words in (("E1", NOTHING_LEARNT), ("E2", BY_MISTAKE)):
        if claim not in ran:
            said.append(f"{claim} of the plan has no record yet")
            continue
        found = ran[claim]
        shown = found.named[:1] if claim == "E1" else found.named  # the networks of E1 are many, each with its intervals
        more = f"; {len(found.named) - len(shown)} more settings do so" if len(found.named) > len(shown) else ""
        behind_it = f": {', '.join(shown)}{more}" if shown else ""
        said.append(f"{words[found.verdict]} ({claim}, {found.verdict}{behind_it})")
    return " ".join(
        f"{part[0].upper()}{part[1:]}." for part in [f"how the claimed numbers can come about: {compared(one)}", *said, UNKNOWN]
    )


def sentences(one: Results, limits: str) -> list[str]:
    """The answer: what holds, why, how the claimed numbers can come about, what was not at hand; limits: a link to the page on that."""
    return [verdict_sentence(one), f"{reason_sentence(one)} {how_sentence(one)}", f"{NEVER_SEEN} ({limits})."]


def under_way_sentence(networks: Sequence[Network]) -> str:
    """What the first networks of an unfinished full grid have left (see `networks.under_way`), which no verdict counts; "" if none."""
    left = {network.name: network.reports["linf"].robust() for network in networks}
    said, eps = [], {f"{255 * network.reports['linf'].about['eps']:g}/255": None for network in networks}
    for pair in PAIRS:
        mine = [one for defence in scope.DEFENCES for one in settings(networks, pair, defence)]
        mine.sort(key=lambda setting: -fmean(left[one.name].mean() for one in setting))
        seeds = [of_seeds([one.seed for one in setting]) for setting in mine]
        alike, kept = len(set(seeds)) == 1, []
        for setting, which in zip(mine, seeds, strict=True):
            name = " ".join(filter(None, (scope.DEFENCE_NAMES[setting[0].defence], weight(setting[0].config))))
            robust = ", ".join(percent(left[one.name].mean(), len(left[one.name])) for one in setting)
            clean = ", ".join(number(100 * one.clean) for one in setting)
            kept.append(f"{name}{'' if alike else f', {which}'}: {robust} ({clean})")
        if kept:
            said.append(f"*{PAIRS[pair]}{f', {seeds[0]}' if alike else ''}*: {'; '.join(kept)}")
    if not said:
        return ""
    what = f"images kept in the worst case at {', '.join(eps)} (in parentheses: clean accuracy), in %"
    return f"At full size so far, in no verdict yet, {what}. {'. '.join(said)}."


def _answer(one: Results, root: Path | None, limits: str) -> str:
    verdict, *rest = sentences(one, limits)
    return "\n\n".join(filter(None, [verdict, under_way_sentence(under_way(root)), *rest]))


def badge(verdict: str) -> str:
    """Word, mark and shape of a verdict."""
    mark, kind = BADGES[word(verdict)]
    return f'<span class="verdict {kind}"><span class="mark" aria-hidden="true">{mark}</span>{escape(verdict)}</span>'


def behind(claim_id: str, networks: Sequence[Network]) -> str:
    """The links from a claim to its records and its rule; the page of evidence has the records of our own claims."""
    own = claim_id.startswith(GROUPS["Our own claims"])
    pairs = {"C6": (CNN, MLP), "C7": ()}.get(claim_id, () if own else (CNN,))
    names = [TIMES] if claim_id == "C7" else [network.name for pair in pairs for network in of(networks, pair)]
    code = "extra_verdicts" if own else "verdicts"
    return provenance.links(names, code=f"src/replication/claims/{code}.py", command="python tools/write_scoreboard.py")


def card(one: Finding, networks: Sequence[Network]) -> str:
    """A claim with its verdict, the paper's number, ours, and what is behind it; of one of our own what was measured, and on what."""
    claim = one.claim
    evidence = f'<a href="{claim.page}.html">the evidence</a>'
    if claim.id in [named for named, *_ in gaps_by_seed.ROWS]:
        evidence += f', <a href="{gaps_by_seed.ADDRESS}">seed by seed</a>'
    rows = {"The paper": claim.paper, "Ours, by the paper's protocol": one.paper_protocol, "Ours, strict": one.strict}
    if claim.id.startswith(GROUPS["Our own claims"]):
        rows = {"Measured": one.paper_protocol, "From": one.strict}
    facts = "".join(f"<dt>{name}</dt><dd>{'<br>'.join(map(escape, said.split('<br>')))}</dd>" for name, said in rows.items())
    return (
        f'<section class="claim" aria-labelledby="claim-{claim.id}"><h3 id="claim-{claim.id}">{claim.id} {escape(claim.text)}</h3>\n'
        f"<p>{badge(one.verdict)}</p>\n<dl>{facts}</dl>\n<p>{evidence}</p>{behind(claim.id, networks)}</section>"
    )


CUT = "<!-- the doors of index.md stand here -->"


def text(root: Path | None = None) -> str:
    """All of book/_front.md, from the results below `root` (default: the committed ones)."""
    one = scoreboard.results(root)
    answer = _answer(one, root, "{doc}`14_limits`")
    drawings = "\n".join(figure.draw(one.findings, width) for width in (figure.WIDE, figure.NARROW))
    cards = []
    for title, letter in GROUPS.items():
        mine = [card(found, one.networks) for found in [*one.findings, *one.own] if found.claim.id.startswith(letter)]
        if mine:
            inside = "\n".join(mine)
            cards.append(f'## {title}\n\n```{{raw}} html\n<div class="claim-cards">\n{inside}\n</div>\n```\n')
    ran = scoreboard.spent(one.networks, one.searched)
    pictures = f'```{{raw}} html\n<figure class="claims">{drawings}</figure>\n```'
    return f"{answer}\n\n{CUT}\n\n{pictures}\n\n**What we ran:** {ran}\n\n" + "\n".join(cards)


README_START, README_END = "<!-- made by tools/write_scoreboard.py -->", "<!-- end of what is made -->"
README_FIGURE = "book/_static/claims.svg"


def figure_file(root: Path | None = None) -> str:
    """The figure as a file of its own."""
    return figure.draw(scoreboard.results(root).findings, figure.WIDE, figure.ALONE) + "\n"


def readme_part(root: Path | None = None) -> str:
    """What stands between the markers of the README: sentences, figure, verdicts."""
    one = scoreboard.results(root)
    lines = ["| claim | the paper | verdict |", "|---|---|---|"]
    for found in [*one.findings, *one.own]:
        claim = found.claim
        lines.append(f"| **{claim.id}** {claim.text} | {claim.paper} | {BADGES[word(found.verdict)][0]} **{found.verdict}** |")
    answer = _answer(one, root, "[deviations and limits](book/14_limits.md)")
    picture = f"![{figure.words(one.findings)}]({README_FIGURE})"
    ran = scoreboard.spent(one.networks, one.searched)
    return f"{README_START}\n{answer}\n\n{picture}\n\n" + "\n".join(lines) + f"\n\nWhat we ran: {ran}\n{README_END}"


def with_readme_part(readme: str, part: str) -> str:
    """`readme` with `part` between its markers; a ValueError if they are not both there."""
    before, start, rest = readme.partition(README_START)
    _, end, after = rest.partition(README_END)
    if not start or not end:
        raise ValueError(f"README.md must hold the lines {README_START!r} and {README_END!r}; one of them is missing")
    return before + part + after


def write(root: Path | None = None) -> list[Path]:
    """Write everything that is made from the records into the checkout `root` (default: this one)."""
    root = root or paths.root()
    results = root / "data" / "results"
    readme = root / "README.md"
    made = {
        root / "book" / "_scoreboard.md": scoreboard.text(results),
        root / "book" / "_by_seed.md": gaps_by_seed.text(results),
        root / "book" / "_front.md": text(results),
        root / README_FIGURE: figure_file(results),
        readme: with_readme_part(readme.read_text(encoding="utf-8"), readme_part(results)),
    }
    return [files.write_bytes(path, content.encode()) for path, content in made.items()]
