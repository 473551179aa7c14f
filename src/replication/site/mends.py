"""What is mended in the pages once the theme has written them; each line says why, and a page that no longer needs it stays as it is."""

import re
from pathlib import Path

from fontTools import subset

MENDS = (
    # 1.5 MB of script that turn icons into drawings: the style sheets show the same icons from a font, with or without scripts
    (re.compile(r'<script[^>]*fontawesome\.js[^>]*>\s*</script>\s*|<link[^>]*as="script"[^>]*fontawesome\.js[^>]*>\s*'), ""),
    # and the font itself comes as its few icons that are used, below, not as all in another file
    (re.compile(r"<link[^>]*webfonts/fa-[\w-]+\.woff2[^>]*>\s*"), ""),
    # a list of which no child says that it is an item; its items are named as references all the same
    (re.compile(r'<div role="list" class="citation-list">'), '<div class="citation-list">'),
)

# The theme loads the index of the search on every page, for results while one types, and that is off; the page of results needs it.
SEARCH = re.compile(r'<script src="(?:_static/searchtools|_static/language_data|searchindex)\.js"></script>\s*')


# Between a number and its unit or uncertainty no line ends: "1.50 ± 0.02", "28.1 %". Code, scripts and drawings stay as they are.
WHOLE = re.compile(r"(?<=\d) (?=[%±])|(?<=±) (?=\d)")
PARTS = re.compile(r"(<(pre|code|script|style|svg|textarea)\b.*?</\2>|<[^>]*>)", re.DOTALL)


def kept_whole(html: str) -> str:
    """`html` with spaces in its text that do not break a number from what belongs to it."""
    pieces = PARTS.split(html)  # text, what is left alone, the name of its tag or None, text, ...
    return "".join(WHOLE.sub("\u00a0", piece) if place % 3 == 0 else piece for place, piece in enumerate(pieces) if place % 3 < 2)


def mended(html: str, search: bool = False) -> str:
    """A page as it should have been written; search: it is the page of the search's results."""
    for pattern, new in MENDS:
        html = pattern.sub(new, html)
    html = kept_whole(html)
    return html if search else SEARCH.sub("", html)


ICONS = re.compile(r'((?:\.fa-[\w-]+:before,?)+)\{content:"[^"]*"\}')
CODE = re.compile(r'content:\s*"\\(f[0-9a-f]{3})"')  # of an icon in its font
WHOLE_FONT = re.compile(r'url\([^)]*webfonts/fa-[\w-]+\.woff2\) format\("woff2"\),')
THEME_STYLE = Path("_static", "styles", "pydata-sphinx-theme.css")


def without_unused_icons(css: str, used: set[str]) -> str:
    """The theme's style sheet without the icons that are not in `used`: nearly all of its two thousand."""
    return ICONS.sub(lambda rule: rule[0] if used & set(re.findall(r"fa-[\w-]+", rule[1])) else "", css)


def font_of(codes: set[int], path: Path) -> None:
    """Keep in the font file `path` the icons with these codes alone."""
    options = subset.Options(layout_features=[], notdef_outline=True)
    font = subset.load_font(str(path), options)
    chosen = subset.Subsetter(options)
    chosen.populate(unicodes=codes)
    chosen.subset(font)
    subset.save_font(font, str(path), options)


def mend(site: Path) -> None:
    """All pages of the book in the folder of a built site."""
    used: set[str] = set()
    for path in site.glob("*.html"):
        before = path.read_text(encoding="utf-8")
        used.update(re.findall(r"fa-[\w-]+", before))
        after = mended(before, search=path.name == "search.html")
        if after != before:
            path.write_text(after, encoding="utf-8")
    for path in (site / "_static").rglob("*.js"):  # icons that a script shows
        if "fontawesome" not in path.name and "mathjax" not in path.parts:
            used.update(re.findall(r"fa-[\w-]+", path.read_text(encoding="utf-8")))
    style = site / THEME_STYLE
    if style.is_file():
        css = without_unused_icons(style.read_text(encoding="utf-8"), used)
        style.write_text(WHOLE_FONT.sub("", css), encoding="utf-8")
        codes = {int(code, 16) for sheet in (site / "_static").rglob("*.css") for code in CODE.findall(sheet.read_text(encoding="utf-8"))}
        for path in (site / "_static").rglob("webfonts/fa-*.ttf"):
            font_of(codes, path)
