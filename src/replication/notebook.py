"""What the notebooks need and a library does not: their parameters checked before any work, small tables shown plainly."""

import ast
import base64
from collections.abc import Iterable, Mapping, MutableMapping
from html import escape
from pathlib import Path

from pandas import DataFrame

from deepdefense import arguments
from deepdefense.arguments import checked_whole, from_text, plain_number
from deepdefense.evaluation.suite_names import suite_names


def _assigned(source: str) -> list[str]:
    """Names that a parameters cell assigns."""
    targets = []
    for node in ast.parse(source).body:
        if isinstance(node, ast.Assign):
            targets += node.targets
        elif isinstance(node, ast.AnnAssign) and node.value is not None:
            targets.append(node.target)
    return [target.id for target in targets if isinstance(target, ast.Name)]


def _annotated(source: str) -> dict[str, str]:
    """{name: type} of what a parameters cell annotates, as in `n_images: int = 50`."""
    nodes = [node for node in ast.parse(source).body if isinstance(node, ast.AnnAssign)]
    return {node.target.id: ast.unparse(node.annotation) for node in nodes if isinstance(node.target, ast.Name)}


def parameters(namespace: MutableMapping, *, extra: Iterable[str] = ()) -> dict:
    """The notebook's parameters as {name: value}, from the cells that start with "# Parameters".

    Each is made what the cell's annotation says, in the namespace too, since papermill's command line guesses types: it gives
    6.0 for `-p n_images 6.0`, the number 2025 for a folder and the text "true". What cannot be is a ValueError.

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
            raise arguments.unknown_name(name, allowed)
    kinds = _annotated(cells[0])
    for name in given:
        if name in kinds:
            namespace[name] = as_annotated(name, namespace[name], kinds[name])
    return {name: namespace[name] for name in given}


def as_annotated(name: str, value, kind: str):
    """`value` of the parameter `name` as `kind` ("int", "float", "bool", "str" or "list"); a ValueError if it is none.

    None stays, since it stands for a default, and so does everything of another kind. A path may begin with ~.
    """
    make = _MAKERS.get(kind)
    return value if value is None or make is None else make(name, value)


def _spelled(value):
    """The number that a text spells, if it spells one; anything else as it is."""
    found = from_text(value) if isinstance(value, str) else None
    return value if found is None else found


def _number_given(name: str, value) -> int | float:
    found = plain_number(_spelled(value))
    if found is None:
        hint = ", without the sign %" if isinstance(value, str) and value.strip().endswith("%") else ""
        raise ValueError(f"{name} must be a number{hint}; got {value!r}")
    return found


def _whole_given(name: str, value) -> int:
    return checked_whole(name, _spelled(value))


def _yes_or_no_given(name: str, value) -> bool:
    words = {"true": True, "false": False, "1": True, "0": False}
    found = words.get(str(value).strip().lower())
    if found is None:
        raise ValueError(f"{name} must be True or False; got {value!r}")
    return found


def _text_given(name: str, value) -> str:
    if type(value) is int:  # papermill's reading of a name in digits
        return str(value)
    if not isinstance(value, str):
        raise ValueError(f"{name} must be text; got {value!r} (papermill's -r in place of -p gives a value as text)")
    return str(Path(value).expanduser()) if value.startswith("~") else value


def _list_given(name: str, value) -> list:
    try:
        found = ast.literal_eval(value) if isinstance(value, str) else value
    except (ValueError, SyntaxError):
        found = None
    if not isinstance(found, list | tuple):
        raise ValueError(f"{name} must be a list, such as [1, 0.5]; got {value!r}")
    return list(found)


_MAKERS = {"int": _whole_given, "float": _number_given, "bool": _yes_or_no_given, "str": _text_given, "list": _list_given}


def download(tables: Mapping[str, DataFrame]):
    """Links that hand a reader each table as a CSV file, which travels within the page: {name of the file: table}."""
    from IPython.display import HTML  # here, because the library alone does without IPython

    links = []
    for name, table in tables.items():
        content = base64.b64encode(table.to_csv().encode()).decode()
        links.append(f'<a download="{escape(name)}" href="data:text/csv;base64,{content}">{escape(name)}</a>')
    return HTML("Download: " + ", ".join(links))


def download_page(name: str, page: str):
    """A link that hands a reader an HTML page as a file called `name`, which travels within this one."""
    from IPython.display import HTML

    content = base64.b64encode(page.encode()).decode()
    return HTML(f'Download: <a download="{escape(name)}" href="data:text/html;base64,{content}">{escape(name)}</a>')


def check_suites(names: str | None) -> list[str] | None:
    """The suites that a notebook's parameter names in "a,b,c" (see `suite_names`); None for all there are."""
    return suite_names(names)
