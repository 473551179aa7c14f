"""What the notebooks need and a library does not: their parameters checked before any work, small tables shown plainly."""

import ast
import base64
import importlib.util
from collections.abc import Iterable, Mapping
from html import escape
from pathlib import Path

from pandas import DataFrame
from torch import Tensor, nn

from deepdefense import arguments, data
from deepdefense.arguments import check_choice
from deepdefense.attacks import suites


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
            raise arguments.unknown_name(name, allowed)
    return {name: namespace[name] for name in given}


def download(tables: Mapping[str, DataFrame]):
    """Links that hand a reader each table as a CSV file, which travels within the page: {name of the file: table}."""
    from IPython.display import HTML  # here, because the library alone does without IPython

    links = []
    for name, table in tables.items():
        content = base64.b64encode(table.to_csv().encode()).decode()
        links.append(f'<a download="{escape(name)}" href="data:text/csv;base64,{content}">{escape(name)}</a>')
    return HTML("Download: " + ", ".join(links))


def check_suites(names: str | None) -> list[str] | None:
    """The suites named in "a,b,c"; None stays None (all there are); a ValueError names one that does not exist."""
    chosen = names if names is None else [name.strip() for name in str(names).split(",")]
    for name in chosen or []:
        check_choice("suites", name, suites.SUITES)
    return chosen


def load_defence(module: str) -> tuple[nn.Module, Tensor, Tensor, str]:
    """(model, x, y, name of the data) from "module:callable" or "path/to/file.py:callable".

    The callable takes no argument and returns (model, x, y), or (model, name of a data set) for its test images.
    """
    if not isinstance(module, str) or module.count(":") != 1 or not all(module.split(":")):
        raise ValueError(f"module must be 'module:callable' or 'file.py:callable', got {module!r}")
    where, name = module.split(":")
    made = getattr(_import(where, module), name, None)
    if not callable(made):
        raise ValueError(f"module {module!r}: {where} has no function {name!r}")
    result = made()
    if not isinstance(result, tuple) or len(result) not in (2, 3) or not isinstance(result[0], nn.Module):
        shape = f"a tuple of {len(result)}" if isinstance(result, tuple) else type(result).__name__
        raise ValueError(f"module {module!r} must return (model, x, y) or (model, name of a data set), not {shape}")
    if len(result) == 3:
        model, x, y = result
        if not isinstance(x, Tensor) or not isinstance(y, Tensor):
            raise ValueError(f"module {module!r}: x and y must be tensors, got {type(x).__name__} and {type(y).__name__}")
        return model, x, y, "own images"
    model, dataset = result
    check_choice(f"module {module!r}: the data set", dataset, data.SPECS)
    test = data.load(dataset).test
    device = next((parameter.device for parameter in model.parameters()), "cpu")
    return model, test.images().to(device), test.y.to(device), dataset


def _import(where: str, module: str):
    try:
        if not where.endswith(".py"):
            return importlib.import_module(where)
        path = Path(where).expanduser().resolve()
        spec = importlib.util.spec_from_file_location(path.stem, path)
        loaded = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(loaded)
        return loaded
    except (ImportError, FileNotFoundError) as error:
        raise ValueError(f"module {module!r} cannot be imported: {error}") from error
