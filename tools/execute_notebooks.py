"""Execute the committed notebooks in place with their default parameters, as `pytest --nbval book` will.

python tools/execute_notebooks.py [book/03_train.ipynb ...]      (default: every notebook of book/)
"""

import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient

BOOK = Path(__file__).resolve().parents[1] / "book"


def execute(path: Path) -> None:
    """Run `path` in its own folder and write it back with its outputs, without the times of execution."""
    notebook = nbformat.read(path, as_version=4)
    resources = {"metadata": {"path": str(path.parent)}}
    NotebookClient(notebook, timeout=2000, kernel_name="python3", resources=resources).execute()
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
    nbformat.write(notebook, path)


if __name__ == "__main__":
    for path in [Path(name) for name in sys.argv[1:]] or sorted(BOOK.glob("*.ipynb")):
        print(path, flush=True)
        execute(path.resolve())
