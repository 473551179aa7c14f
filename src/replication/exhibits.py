"""What tables and figures of a page have in common: one object that shows HTML on the site and the same words in plain text."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from IPython.display import display


@dataclass(frozen=True)
class Exhibit:
    """Shown by Jupyter as `html`, and as `text` where there is no browser; the text is the same in every run of the page."""

    html: str
    text: str

    def _repr_mimebundle_(self, include=None, exclude=None) -> dict[str, str]:
        return {"text/html": self.html, "text/plain": self.text}

    def __repr__(self) -> str:
        return self.text


def answer(sentences: Sequence[str], *, title: str = "In short") -> None:
    """Show what a page found, before anything else: `sentences` made from the records, a line each."""
    said = [one for one in sentences if one]
    if not said:
        raise ValueError("sentences must hold at least one sentence, got none")
    items = "".join(f"<li>{marked(one)}</li>" for one in said)
    display(Exhibit(f'<div class="answer"><p class="answer-title">{escape(title)}</p><ul>{items}</ul></div>', "\n".join([title, *said])))


def note(text: str) -> None:
    """Show a line in small type, as on what size the runs of a page have; one paragraph a line of `text`."""
    lines = text.strip().splitlines()
    display(Exhibit('<div class="note">' + "".join(f"<p>{marked(line)}</p>" for line in lines) + "</div>", text.strip()))


def folded(html: str, title: str | None) -> str:
    """`html` behind its title, to be opened by those who want it, scripts or none; as it is where the title is None."""
    if title is None:
        return html
    return f'<details class="fold"><summary>{marked(title)}</summary>{html}</details>'


def marked(text: str) -> str:
    """`text` as HTML: what stands in `backticks` as code, true minus signs in the rest."""
    parts = escape(text, quote=False).split("`")
    if len(parts) % 2 == 0:
        return _minus(escape(text, quote=False))
    return "".join(f"<code>{part}</code>" if index % 2 else _minus(part) for index, part in enumerate(parts))


def _minus(text: str) -> str:
    return re.sub(r"(?<![\w.\-])-(?=\d)", "−", text)


def paragraphs(caption: str) -> str:
    return "".join(f"<p>{marked(line)}</p>" for line in caption.strip().splitlines())
