"""What is mended in the pages that the theme wrote; each line says why, and a page that no longer needs it stays as it is."""

import re
from pathlib import Path

MENDS = (
    # 1.5 MB of script that turn icons into drawings: the style sheets show the same icons from a font, with or without scripts
    (re.compile(r'<script[^>]*fontawesome\.js[^>]*>\s*</script>\s*|<link[^>]*as="script"[^>]*fontawesome\.js[^>]*>\s*'), ""),
    # a list of which no child says that it is an item; its items are named as references all the same
    (re.compile(r'<div role="list" class="citation-list">'), '<div class="citation-list">'),
)


def mended(html: str) -> str:
    for pattern, new in MENDS:
        html = pattern.sub(new, html)
    return html


def mend(site: Path) -> None:
    """All pages of the book in the folder of a built site."""
    for path in site.glob("*.html"):
        before = path.read_text(encoding="utf-8")
        after = mended(before)
        if after != before:
            path.write_text(after, encoding="utf-8")
