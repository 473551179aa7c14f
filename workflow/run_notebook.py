"""Execute one notebook with papermill, as one job of the workflow.

    python workflow/run_notebook.py NOTEBOOK LOG --parameters JSON [--folder FOLDER] [--copy FILE] [--threads N]

LOG is the executed notebook, written as it goes and kept if a cell fails. FILE gets a copy of it when all went well, whole or
not at all. The kernel runs in FOLDER (default: the notebook's own). The process ends when the one that started it is killed.

A kernel that dies before it has answered is started again: two kernels that start at the same moment can be given the same free
port, and the second cannot listen (jupyter_client picks ports, lets go of them, and only then starts the kernel). No cell has run by then.
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
STARTS = 3  # of a kernel, before it is said that it does not start
# glibc otherwise hands every large tensor back to the system and asks for new pages for the next. Eight steps of PGD-7 on the CNN, with
# their start, took 10.7 s of one core so and 9.2 s with these (medians of four in turn); what is computed stays the same.
KEEP_MEMORY = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(2**34), "MALLOC_TOP_PAD_": str(2**28)}
STILLBORN = "Kernel died before replying to kernel_info"  # the RuntimeError of jupyter_client


def die_with_parent() -> None:
    """On Linux, have the kernel kill this process when its parent dies, so that nothing goes on after a `kill -9`."""
    if not sys.platform.startswith("linux"):
        return
    parent = os.getppid()
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # it died meanwhile
        os.kill(os.getpid(), signal.SIGKILL)


def keep_memory() -> None:
    """For processes started from here on; what the user has set stays."""
    for name, value in KEEP_MEMORY.items():
        os.environ.setdefault(name, value)


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


def execute(notebook: Path, log: Path, parameters: dict, folder: Path) -> None:
    """Execute `notebook` into `log` with papermill, whose exceptions are passed on; a kernel gets `STARTS` chances to begin."""
    import papermill

    for left in reversed(range(STARTS)):
        try:
            papermill.execute_notebook(
                literally(notebook.resolve()),
                literally(log),
                parameters=parameters,
                kernel_name="python3",
                cwd=str(folder.resolve()),
                progress_bar=False,
            )
            return
        except RuntimeError as error:
            if STILLBORN not in str(error) or not left:
                raise
            print(f"the kernel died before it began; {left} more to try", file=sys.stderr)


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
    keep_memory()

    try:
        execute(options.notebook, options.log, options.parameters, options.folder or options.notebook.parent)
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
