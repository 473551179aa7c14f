"""What the notebooks need and a library does not: their parameters checked before any work, small tables shown plainly."""

import ast
from collections.abc import Iterable, Mapping

from . import config
from .objectives.options import is_number


def _assigned(source: str) -> list[str]:
    """Names that a parameters cell assigns."""
    targets = []
    for node in ast.parse(source).body:
        if isinstance(node, ast.Assign):
            targets += node.targets
        elif isinstance(node, ast.AnnAssign) and node.value is not None:
            targets.append(node.target)
    return [target.id for target in targets if isinstance(target, ast.Name)]


def parameters(namespace: Mapping, *, extra: Iterable[str] = ()) -> dict:
    """The notebook's parameters as {name: value}, from the cells that start with "# Parameters".

    papermill only warns of an unknown `-p` name and goes on with the defaults; here it is a ValueError that names the
    parameter and the allowed ones. `extra`: names allowed though the notebook's own cell does not assign them.
    namespace: the notebook's `globals()`; its `In` holds the cells run so far, papermill's injected one included. Where the
    kernel keeps no history (nbval), there is no injected cell either: the plain values in the namespace are the parameters.
    """
    if not any(cell.strip() for cell in namespace["In"]):
        plain = (bool, int, float, str, list, type(None))
        return {name: v for name, v in namespace.items() if not name.startswith("_") and name != "In" and isinstance(v, plain)}
    cells = [cell for cell in namespace["In"] if cell.lstrip().startswith("# Parameters")]
    if not cells:
        raise ValueError("run the parameters cell first; it starts with the line '# Parameters'")
    allowed = [*_assigned(cells[0]), *extra]
    given = dict.fromkeys(name for cell in cells for name in _assigned(cell))
    for name in given:
        if name not in allowed:
            raise config.unknown_name(name, allowed)
    return {name: namespace[name] for name in given}


def check_choice(name: str, value, allowed: Iterable) -> None:
    """A ValueError naming parameter, value and choices unless `value` is one of `allowed`."""
    allowed = list(allowed)
    if value not in allowed:
        raise ValueError(f"{name} must be one of {', '.join(map(str, allowed))}; got {value!r}")


def check_range(name: str, value, *, above: float | None = None, least: float | None = None, most: float | None = None) -> None:
    """A ValueError naming parameter, value and limits unless `value` is a number within them."""
    limits = [("above", above), ("at least", least), ("at most", most)]
    words = [f"{word} {limit:g}" for word, limit in limits if limit is not None]
    inside = is_number(value) and not (
        (above is not None and value <= above) or (least is not None and value < least) or (most is not None and value > most)
    )
    if not inside:
        raise ValueError(f"{name} must be a number {' and '.join(words)}; got {value!r}")


def show_status(record: Mapping) -> None:
    """Say in a sentence if the run `record` collapsed, diverged, or was at chance after warm-up; its numbers mean little then."""
    fallen = ", ".join(map(str, record["collapse_epochs"]))
    if record["status"] == "diverged":
        print("This run DIVERGED: its loss became infinite or NaN, and training stopped there.")
    elif record["status"] == "collapsed":
        print("This run COLLAPSED: at the end its validation accuracy is no better than always naming one class.")
    elif fallen:
        print(f"This run was at chance level after epoch(s) {fallen}, and recovered.")
    else:
        print("This run ended normally: finite loss, accuracy above chance.")
