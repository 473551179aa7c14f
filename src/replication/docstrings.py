"""The library's docstrings as Sphinx reads them, for the page of the API: a Sphinx extension.

They are written to be read in a terminal, lines of "name: what it is" under a sentence or two, and are no reStructuredText.
"""

import re

from sphinx.application import Sphinx

ONE = r"`?\w+`?(?: \([^)]*\))?"
NAMED = re.compile(rf"^{ONE}(?:(?:, | and ){ONE})*: ")  # "x (N, C), y: what they are"
CODE = re.compile(r"`+([^`]+)`+")


def as_text(line: str) -> str:
    """A line in which nothing but `code` has a meaning to Sphinx."""
    found, end = "", 0
    for match in CODE.finditer(line):
        before, after = line[max(match.start() - 1, 0) : match.start()], line[match.end() : match.end() + 1]
        found += _escaped(line[end : match.start()]) + ("\\ " if re.match(r"\w", before) else "")
        found += f"``{match[1].strip()}``" + ("\\ " if re.match(r"\w", after) else "")
        end = match.end()
    return found + _escaped(line[end:])


def _escaped(text: str) -> str:
    return re.sub(r"([\\*_|<>`])", r"\\\1", text)


def as_paragraphs(lines: list[str]) -> list[str]:
    """A docstring as reStructuredText: paragraphs, lists of arguments line by line, and indented lines as they stand."""
    found: list[str] = []
    for block in re.split(r"\n\s*\n", "\n".join(lines).strip("\n")):
        rows = block.splitlines()
        if not rows:
            continue
        if all(row.startswith((" ", ">>>")) for row in rows):
            found += ["::", "", *(f"    {row}" for row in rows), ""]
            continue
        parts: list[str] = []  # a line that names something begins a new one; others go on
        for row in rows:
            if not parts or NAMED.match(row):
                parts.append(row.strip())
            else:
                parts[-1] += " " + row.strip()
        found += [f"| {as_text(part)}" for part in parts] if len(parts) > 1 else [_paragraph(as_text(parts[0]))]
        found.append("")
    return found


def _paragraph(text: str) -> str:
    """Text that begins with what would make it a list, kept a paragraph."""
    return f"\\{text}" if re.match(r"[-+•*]\s|\w+[.)]\s|\(\w+\)\s|#\.", text) else text


def _process(_app: Sphinx, _what: str, _name: str, _object: object, _options: object, lines: list[str]) -> None:
    lines[:] = as_paragraphs(lines)


def setup(app: Sphinx) -> dict[str, bool]:
    """Called by Sphinx, which finds this module in the list of extensions in _config.yml."""
    app.connect("autodoc-process-docstring", _process)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
