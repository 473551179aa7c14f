"""The one way in which pages show a figure: as SVG in the width of the column, its ink that of the theme, with words beside it.

Text stays text, and what is drawn in black takes the colour of the page's text, so that one picture reads on light and on dark; white
becomes the colour of the page. Figures are drawn at most `COLUMN` inches wide with text of at least `SMALLEST` points, which is 10
pixels there; on a narrow screen a figure shrinks until its smallest text has 9 pixels and then scrolls within its own box.
"""

import io
import re
from collections.abc import Mapping, Sequence
from hashlib import sha256
from html import escape
from xml.etree import ElementTree

import matplotlib.pyplot as plt
from IPython.display import display
from matplotlib.figure import Figure
from matplotlib.text import Text

from . import provenance
from .exhibits import Exhibit, folded, paragraphs
from .maps import PANEL, Maps

COLUMN = 7.3  # inches: 700 pixels on the site
SMALLEST = 7.5  # points
PIXELS = 96 / 72  # a point
READABLE = 9  # pixels of the smallest text, however narrow the screen
ElementTree.register_namespace("", "http://www.w3.org/2000/svg")
ElementTree.register_namespace("xlink", "http://www.w3.org/1999/xlink")
FONT = "DejaVu Sans,Verdana,sans-serif"


def show(
    figure: Figure, *, alt: str, caption: str, points: Mapping[str, str] | None = None, maps: Maps | None = None,
    fold: str | None = None, runs: Sequence[str] = (), code: str | None = None, command: str | None = None,
) -> None:  # fmt: skip
    """Show a figure with its caption and the links to what is behind it, and close it.

    alt: what is seen, for those who do not see it; caption: what it says, with n, seeds, attack and eps; a paragraph a line
    points: {gid of an artist: its words}; those who point at it see them, and where scripts run, below the figure too
    maps: the values behind panels whose patches have the gid `maps.PANEL`; scripts show them, for the pointer and for the arrow keys
    fold: the title behind which it is folded; None: it stands open
    runs, code, command: see `provenance.links`. A ValueError if alt or caption is empty, the figure too wide or its text too small.
    """
    if not alt.strip() or not caption.strip():
        raise ValueError("alt and caption must say what is seen and what it means; got an empty one")
    check_size(figure)
    picture = svg(figure, alt, points or {})
    plt.close(figure)
    box = f'<div class="exhibit-box" tabindex="0" role="group" aria-label="Picture: {escape(_title(caption))}">{picture}</div>'
    told, data = '<p class="told">Point at a mark to read what it is.</p>' if points else "", ""
    if maps is not None:
        told = '<p class="told" aria-live="polite"></p>'
        data = f' data-maps="{escape(maps.packed())}"'
    kind = " turn" if points else " maps" if maps is not None else ""
    html = f'<figure class="exhibit{kind}"{data}>{box}{told}<figcaption>{paragraphs(caption)}</figcaption></figure>'
    display(Exhibit(folded(html + provenance.links(runs, code, command), fold), f"[figure] {alt}\n{caption}"))


def _title(caption: str) -> str:
    """The first words of a caption, to its first stop."""
    return re.split(r"(?<=[^\d])[.:;]\s", caption.strip().splitlines()[0])[0][:120]


def _texts(figure: Figure) -> list[Text]:
    figure.draw_without_rendering()  # only then do the ticks have their labels
    return [text for text in figure.findobj(Text) if text.get_visible() and text.get_text().strip()]


def check_size(figure: Figure) -> None:
    """A ValueError if a figure is wider than the column or holds a text too small to be read there."""
    width = figure.get_figwidth()
    if width > COLUMN:
        raise ValueError(f"a figure may be {COLUMN} inches wide, as the column is; got {width:g}")
    small = sorted({(text.get_fontsize(), text.get_text()) for text in _texts(figure) if text.get_fontsize() < SMALLEST})
    if small:
        raise ValueError(f"text of a figure must have at least {SMALLEST} points; got {small[0][0]:g} in {small[0][1]!r}")


def svg(figure: Figure, alt: str, points: Mapping[str, str] | None = None) -> str:
    """A figure as an SVG element to stand in a page, the same bytes whenever it is drawn; alt: its alternative text."""
    smallest = min((text.get_fontsize() for text in _texts(figure)), default=SMALLEST)
    salt = sha256(alt.encode() + str(figure.get_size_inches()).encode()).hexdigest()[:8]
    stream = io.StringIO()
    with plt.rc_context({"svg.fonttype": "none", "svg.hashsalt": salt}):
        figure.savefig(stream, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    root = ElementTree.fromstring(stream.getvalue())
    width, height = (float(root.get(side).removesuffix("pt")) for side in ("width", "height"))
    for element in list(root.iter()):
        if element.get("id") == PANEL:
            element.attrib = {"class": PANEL}
        words = (points or {}).get(element.get("id", ""))
        if words:
            element.attrib = {"class": "point"}
            title = ElementTree.Element("{http://www.w3.org/2000/svg}title")
            title.text = words
            element.insert(0, title)
    _thin(root)
    rules = _share_styles(root, f"s{salt[:5]}")
    body = "".join(ElementTree.tostring(child, encoding="unicode") for child in root)
    body = re.sub(r' xmlns(:\w+)?="[^"]+"', "", body)  # the frame has them
    body = body.replace("#000000", "currentColor").replace("#ffffff", "var(--pst-color-background, #fff)")
    rules = rules.replace("#000000", "currentColor").replace("#ffffff", "var(--pst-color-background, #fff)")
    body = re.sub(r' transform="rotate\(-?0 [^)]*\)"| ns\d:\w+="[^"]*"', "", body)
    body = re.sub(r"\s*\n\s*", " ", re.sub(r">\s+<", "><", body))
    least = round(min(1.0, READABLE / (smallest * PIXELS)) * width * PIXELS)
    style = f"width:100%;max-width:{width * PIXELS:.0f}px;min-width:{least}px;height:auto;fill:currentColor;font-family:{FONT}"
    frame = f'viewBox="0 0 {width:g} {height:g}" role="img" aria-label="{escape(alt)}" style="{style}"'
    return f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" {frame}>{rules}{body.strip()}</svg>'


def _share_styles(root: ElementTree.Element, name: str) -> str:
    """Give each look that several elements have a class of its own; the <style> element with them. name: what the classes begin with."""
    looks = {}
    for element in root.iter():
        for place in ("d", "x", "y", "transform"):  # a tenth of a point is enough; numbers in texts stay as they are
            if place in element.attrib:
                element.set(place, re.sub(r"  +", " ", re.sub(r"(\d\.\d)\d+", r"\1", element.get(place))).strip())
        clip = element.attrib.pop("clip-path", "")
        look = element.attrib.pop("style", "") + (f";clip-path:{clip}" if clip else "")
        look = re.sub(r"font-family: ?[^;]*;?", "", re.sub(r"font: ([\d.]+px)[^;]*", r"font-size:\1", look))
        look = re.sub(r"([;:]) ", r"\1", look).strip("; ")
        if look:
            looks.setdefault(look, []).append(element)
    shared = {look: f"{name}{number}" for number, look in enumerate(look for look, those in looks.items() if len(those) > 1)}
    for look, elements in looks.items():
        for element in elements:
            if look in shared:
                element.set("class", f"{element.get('class', '')} {shared[look]}".strip())
            else:
                element.set("style", look)
    return f"<style>{''.join(f'.{short}{{{look}}}' for look, short in shared.items())}</style>" if shared else ""


def _thin(element: ElementTree.Element) -> None:
    """Take out what a reader does not see: metadata, names that nothing refers to, groups that group nothing."""
    for child in list(element):
        if child.tag.endswith("}metadata"):
            element.remove(child)
            continue
        if re.fullmatch(r"[a-zA-Z0-9.]+_\d+", child.get("id", "")):  # they would be the same in every figure of a page
            del child.attrib["id"]
        _thin(child)
        if child.tag.endswith("}g") and not child.attrib:
            place = list(element).index(child)
            element.remove(child)
            for offset, grandchild in enumerate(list(child)):
                element.insert(place + offset, grandchild)
