"""The sources that the site shows, highlighted; each line can be linked to as `#L-12`."""

from collections.abc import Mapping
from html import escape
from pathlib import Path

from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import PythonLexer, TextLexer

from ..provenance import CODE, code_page
from .html import page

LIGHT, DARK = "a11y-high-contrast-light", "a11y-high-contrast-dark"  # of accessible-pygments, which the book's theme brings
PYTHON = (".py", "")  # the second: the Snakefile


def style() -> str:
    """CSS of the two colour schemes."""
    light, dark = (HtmlFormatter(style=name) for name in (LIGHT, DARK))
    own = ':root[data-theme="dark"]'
    system = ':root:not([data-theme="light"])'
    return (
        f"{light.get_style_defs('.highlight')}\n{dark.get_style_defs(f'{own} .highlight')}\n"
        f"@media (prefers-color-scheme: dark) {{\n{dark.get_style_defs(f'{system} .highlight')}\n}}\n"
    )


def of(path: str, file: Path) -> str:
    """The page of one source file, HTML; path: from the checkout."""
    lexer = PythonLexer() if file.suffix in PYTHON else TextLexer()
    shown = highlight(file.read_text(encoding="utf-8"), lexer, HtmlFormatter(linespans="L"))
    shown = shown.replace("<pre>", '<pre tabindex="0">', 1)
    return page(path, shown, up="../" * code_page(path).count("/"))


def index(files: Mapping[str, Path]) -> str:
    """The list of all of them, folder by folder."""
    folders: dict[str, list[str]] = {}
    for path in files:
        folders.setdefault(path.rpartition("/")[0], []).append(path)
    parts = ["<p>The code of the study and of the library, as it was when this site was built.</p>"]
    for folder, paths in sorted(folders.items()):
        lines = [f'<li><a href="{code_page(one).removeprefix(f"{CODE}/")}">{escape(one.rpartition("/")[2])}</a></li>' for one in paths]
        parts.append(f'<h2>{escape(folder)}</h2><ul class="files">{"".join(lines)}</ul>')
    return page("Code", "\n".join(parts))
