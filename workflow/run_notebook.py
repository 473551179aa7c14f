"""Execute one notebook with papermill, as one job of the workflow.

    python workflow/run_notebook.py NOTEBOOK LOG --parameters JSON [--folder FOLDER] [--copy FILE] [--threads N]

LOG is the executed notebook, written as it goes and kept if a cell fails. FILE gets a copy of it when all went well, whole or
not at all. The kernel runs in FOLDER (default: the notebook's own). The process ends when the one that started it is killed.
"""

import argparse
import ctypes
import json
import os
import shutil
import signal
import sys
from pathlib import Path

PR_SET_PDEATHSIG = 1


def die_with_parent() -> None:
    """On Linux, have the kernel kill this process when its parent dies, so that nothing goes on after a `kill -9`."""
    if not sys.platform.startswith("linux"):
        return
    parent = os.getppid()
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # it died meanwhile
        os.kill(os.getpid(), signal.SIGKILL)


def literally(path: str | Path) -> str:
    """`path` for papermill, which reads braces in a path as places to fill in."""
    return str(path).replace("{", "{{").replace("}", "}}")


def reason(notebook: str | Path) -> str | None:
    """Why the executed `notebook` stopped, in a line: the last line of its error; None if there is none in it."""
    try:
        cells = json.loads(Path(notebook).read_text(encoding="utf-8"))["cells"]
    except (OSError, ValueError, KeyError):
        return None
    for cell in cells:
        for output in cell.get("outputs", []):
            if output.get("output_type") == "error":
                last = (output.get("evalue", "").strip().splitlines() or ["without a message"])[-1]
                return f"cell [{cell.get('execution_count')}], {output.get('ename')}: {last}"
    return None


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("notebook", type=Path)
    parser.add_argument("log", type=Path)
    parser.add_argument("--parameters", type=json.loads, default={})
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--copy", type=Path)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args(arguments)
    die_with_parent()
    os.environ["OMP_NUM_THREADS"] = str(options.threads)  # the kernel inherits it; results on a CPU depend on it

    import papermill

    try:
        papermill.execute_notebook(
            literally(options.notebook.resolve()),
            literally(options.log),
            parameters=options.parameters,
            kernel_name="python3",
            cwd=str((options.folder or options.notebook.parent).resolve()),
            progress_bar=False,
        )
    except Exception as error:  # a failing cell, a dead kernel, a damaged file: each a type of its own
        last = (str(error).strip().splitlines() or ["without a message"])[-1]
        print(reason(options.log) or f"{type(error).__name__}: {last}", file=sys.stderr)
        return 1
    if options.copy:
        options.copy.parent.mkdir(parents=True, exist_ok=True)
        fresh = options.copy.with_suffix(".new")
        shutil.copyfile(options.log, fresh)
        os.replace(fresh, options.copy)
    return 0


if __name__ == "__main__":
    sys.exit(main())
