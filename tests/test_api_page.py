"""The page of the API names every public module, and docstrings come through Sphinx as they were meant."""

import re
from pathlib import Path

import pytest
from public_names import other_names, public_names

from replication import docstrings

PAGE = (Path(__file__).resolve().parents[1] / "book" / "api.md").read_text(encoding="utf-8")


def test_every_public_name_is_in_a_module_of_the_page():
    """`tests/test_site.py` looks for each on the built page."""
    modules = set(re.findall(r"^\.\. automodule:: (\S+)$", PAGE, flags=re.M))
    names = public_names()
    assert len(names) > 120 and {
        "deepdefense.evaluate",
        "deepdefense.attacks.pgd",
        "deepdefense.gfa.gfa_loss",
        "deepdefense.loading.load",
    } <= set(names)
    assert not [name for name in names if not {other.rpartition(".")[0] for other in (name, *other_names(name))} & modules]


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("`x` (N,) and `y`s", "``x`` (N,) and ``y``\\ s"),
        ("a*b, c_, |d|, \\e", "a\\*b, c\\_, \\|d\\|, \\\\e"),
        ("``deepdefense evaluate``", "``deepdefense evaluate``"),
        ("`one", "\\`one"),
    ],
)
def test_only_code_has_a_meaning(line, text):
    assert docstrings.as_text(line) == text


def test_paragraphs_lists_and_programs():
    lines = ["A sentence", "on two lines.", "", "x (N, C), y: images", "and labels", "eps: radius", "", "    code: here", "", "- no list"]
    assert docstrings.as_paragraphs(lines) == [
        "A sentence on two lines.", "", "| x (N, C), y: images and labels", "| eps: radius", "", "::", "", "        code: here", "",
        "\\- no list", "",
    ]  # fmt: skip
    assert docstrings.as_paragraphs(["A ValueError if no", "attack was run: a worst case"]) == [
        "A ValueError if no attack was run: a worst case",
        "",
    ]
