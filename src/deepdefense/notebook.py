"""What the notebooks need and a library does not: their parameters checked before any work, small tables shown plainly."""

import ast
import base64
import importlib
import importlib.util
from collections.abc import Iterable, Mapping
from html import escape
from pathlib import Path

from pandas import DataFrame
from torch import Tensor, nn

from . import config, data, paths, results, suites
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


def download(tables: Mapping[str, DataFrame]):
    """Links that hand a reader each table as a CSV file, which travels within the page: {name of the file: table}."""
    from IPython.display import HTML  # here, because the library alone does without IPython

    links = []
    for name, table in tables.items():
        content = base64.b64encode(table.to_csv().encode()).decode()
        links.append(f'<a download="{escape(name)}" href="data:text/csv;base64,{content}">{escape(name)}</a>')
    return HTML("Download: " + ", ".join(links))


def finished_runs(folder: Path | None = None) -> list[str]:
    """Names of the finished runs in `folder` (default: data/runs)."""
    folder = paths.runs_root() if folder is None else folder
    return sorted(path.parent.name for path in folder.glob("*/run.json"))


def check_suites(names: str | None) -> list[str] | None:
    """The suites named in "a,b,c"; None stays None (all there are); a ValueError names one that does not exist."""
    chosen = names if names is None else [name.strip() for name in str(names).split(",")]
    for name in chosen or []:
        check_choice("suites", name, suites.SUITES)
    return chosen


def check_run(name: str, folder: Path | None = None) -> Path:
    """The folder of the finished run `name`; a ValueError that lists the finished runs if there is no such one."""
    folder = paths.runs_root() if folder is None else folder
    if not isinstance(name, str) or name not in finished_runs(folder):
        there = ", ".join(finished_runs(folder)) or "none"
        raise ValueError(f"run must name a finished run in {folder}; got {name!r}. There are: {there}")
    results.read_json(folder / name / "run.json")
    return folder / name


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
