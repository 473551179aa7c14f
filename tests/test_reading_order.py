"""What a page's cells show stands before their folded code."""

import pytest
from docutils import nodes
from docutils.utils import new_document
from myst_nb.sphinx_ import HideCodeCellNode

from replication.site import reading_order


def cell(name: str, shown: str | None, tags: tuple[str, ...] = (), empty: bool = False) -> nodes.container:
    """A cell as MyST-NB leaves it: its code folded above what it shows; `empty`: with an output that holds nothing."""
    made = nodes.container(nb_element="cell_code", cell_metadata={"tags": list(tags)})
    fold = HideCodeCellNode(prompt_show="as it was", prompt_hide="as it was")
    fold["classes"].append("above-input")
    fold += nodes.literal_block(text=f"code {name}")
    made += fold
    if shown or empty:
        made += nodes.container("", *([nodes.paragraph(text=shown)] if shown else []), nb_element="cell_code_output")
    return made


def page(*parts: nodes.Node) -> list[str]:
    """The texts of a page below its title, in the order of reading."""
    document = new_document("page")
    document += nodes.section("", nodes.title(text="title"), *parts)
    reading_order.code_below(document)
    leaves = [node for node in document.findall(nodes.Element) if isinstance(node, nodes.paragraph | nodes.literal_block)]
    for fold in document.findall(HideCodeCellNode):
        assert fold["prompt_show"] in (reading_order.CODE[0], reading_order.PARAMETERS[0])
        assert fold.parent is not None
    return [leaf.astext() for leaf in leaves]


def test_an_answer_stands_before_its_code_and_before_the_parameters():
    assert page(cell("parameters", None, ("parameters",)), cell("setup", "answer"), nodes.paragraph(text="prose")) == [
        "answer",
        "code parameters",
        "code setup",
        "prose",
    ]


@pytest.mark.parametrize("empty", [False, True])
def test_code_that_shows_nothing_is_handed_on_as_far_as_cells_follow_one_another(empty):
    cells = [cell("a", None, empty=empty), cell("b", None, empty=empty), cell("c", "shown")]
    assert page(*cells) == ["shown", "code a", "code b", "code c"]
    assert page(cell("a", None, empty=empty), nodes.paragraph(text="prose"), cell("d", "later")) == ["code a", "prose", "later", "code d"]
    assert page(cell("alone", None, empty=empty)) == ["code alone"]


def test_parameters_are_called_so_wherever_they_come_to_stand():
    document = new_document("page")
    document += [cell("parameters", None, ("parameters",)), cell("setup", "answer")]
    reading_order.code_below(document)
    prompts = [fold["prompt_show"] for fold in document.findall(HideCodeCellNode)]
    assert prompts == [reading_order.PARAMETERS[0], reading_order.CODE[0]]


def test_code_that_is_not_folded_stays_where_it_is():
    shown = nodes.container(nb_element="cell_code", cell_metadata={"tags": []})
    shown += nodes.container("", nodes.literal_block(text="code"), nb_element="cell_code_source")
    shown += nodes.container("", nodes.paragraph(text="output"), nb_element="cell_code_output")
    assert page(shown) == ["code", "output"]
