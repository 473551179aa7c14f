"""What a cell shows stands before its folded code, and a cell that shows nothing gives its code to the next one.

So the first thing below the title of a page is its answer, not the box of its parameters and imports.
"""

from docutils import nodes
from myst_nb.sphinx_ import HideCodeCellNode, HideInputCells
from sphinx.transforms.post_transforms import SphinxPostTransform

CODE = ("Show the code", "Hide the code")
PARAMETERS = ("Show the parameters", "Hide the parameters")


def folds(cell: nodes.container) -> list[HideCodeCellNode]:
    """The folded code of a cell: its own, and what cells before it have given to it."""
    return [child for child in cell.children if isinstance(child, HideCodeCellNode) and "above-input" in child["classes"]]


def shows(cell: nodes.container) -> bool:
    """Does a cell show more than its code?"""
    return any(child.children or not isinstance(child, nodes.container) for child in cell.children if child not in folds(cell))


def is_cell(node: nodes.Node | None) -> bool:
    return isinstance(node, nodes.container) and node.get("nb_element") == "cell_code"


def code_below(document: nodes.document) -> None:
    """Put the folded code of every cell of `document` below what the cell shows; see above."""
    for cell in [node for node in document.findall(nodes.container) if is_cell(node)]:
        mine = folds(cell)
        for fold in mine:
            kept = "parameters" in (cell.get("cell_metadata") or {}).get("tags", [])
            if "given" not in fold["classes"]:
                fold["prompt_show"], fold["prompt_hide"] = PARAMETERS if kept else CODE
            cell.remove(fold)
        after = cell.next_node(descend=False, siblings=True)
        if mine and not shows(cell) and is_cell(after):
            for fold in mine:
                fold["classes"].append("given")
            after.children[:0] = mine
            for fold in mine:
                after.setup_child(fold)
            cell.parent.remove(cell)
        else:
            cell.extend(mine)


class CodeBelow(SphinxPostTransform):
    """`code_below`, once MyST-NB has folded the code."""

    default_priority = HideInputCells.default_priority + 1

    def run(self, **kwargs) -> None:
        code_below(self.document)
