"""What is mended in the pages that the theme wrote; each line says why, and a page that no longer needs it stays as it is."""

import re
from pathlib import Path

MENDS = (
    # 1.5 MB of script that turn icons into drawings: the style sheets show the same icons from a font, with or without scripts
    (re.compile(r'<script[^>]*fontawesome\.js[^>]*>\s*</script>\s*|<link[^>]*as="script"[^>]*fontawesome\.js[^>]*>\s*'), ""),
    # a list of which no child says that it is an item; its items are named as references all the same
    (re.compile(r'<div role="list" class="citation-list">'), '<div class="citation-list">'),
)

# The theme loads the index of the search on every page, for results while one types, and that is off; the page of results needs it.
SEARCH = re.compile(r'<script src="(?:_static/searchtools|_static/language_data|searchindex)\.js"></script>\s*')


def mended(html: str, search: bool = False) -> str:
    """A page as it should have been written; search: it is the page of the search's results."""
    for pattern, new in MENDS:
        html = pattern.sub(new, html)
    return html if search else SEARCH.sub("", html)


ICONS = re.compile(r'((?:\.fa-[\w-]+:before,?)+)\{content:"[^"]*"\}')
THEME_STYLE = Path("_static", "styles", "pydata-sphinx-theme.css")


def without_unused_icons(css: str, used: set[str]) -> str:
    """The theme's style sheet without the icons that are not in `used`: nearly all of its two thousand."""
    return ICONS.sub(lambda rule: rule[0] if used & set(re.findall(r"fa-[\w-]+", rule[1])) else "", css)


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
        style.write_text(without_unused_icons(style.read_text(encoding="utf-8"), used), encoding="utf-8")
