"""Snakemake called from Python: its command line with our Snakefile, its events handed to a function."""

import contextlib
import io
import logging
import os
import types
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from job_costs import Costs
from plan import Plan, describe
from snakemake import cli
from snakemake_interface_logger_plugins.base import LogHandlerBase
from snakemake_interface_logger_plugins.registry import LoggerPluginRegistry

from deepdefense.storage import files

Listener = Callable[[logging.LogRecord], None]
ALWAYS = ("--scheduler", "greedy", "--keep-going", "--rerun-incomplete", "--nolock", "--logger", "progress")


def _handler(listener: Listener) -> type[LogHandlerBase]:
    """A Snakemake log handler that gives every record to `listener` and prints nothing itself."""

    class LogHandler(LogHandlerBase):
        writes_to_stream, writes_to_file, has_filter, has_formatter, needs_rulegraph = True, False, True, True, False

        def emit(self, record: logging.LogRecord) -> None:
            listener(record)

    return LogHandler


@contextlib.contextmanager
def inside(folder: Path) -> Iterator[None]:
    """In `folder` as the working folder."""
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


def set_up(plan: Plan) -> Path:
    """Make the workflow's folder with its links; returns it."""
    with files.writing(plan.folder):
        plan.folder.mkdir(parents=True, exist_ok=True)
    with files.writing(plan.links["runs"]):
        plan.links["runs"].mkdir(parents=True, exist_ok=True)
    for name, target in plan.links.items():
        link = plan.folder / name
        if not (link.is_symlink() and Path(os.readlink(link)) == target):
            with files.writing(link):
                link.unlink(missing_ok=True)
                link.symlink_to(target, target_is_directory=True)
    return plan.folder


def write_plan(plan: Plan, costs: Costs) -> dict:
    """Put plan.json where the Snakefile reads it; returns what is in it."""
    document = describe(plan, costs)
    files.write_json(plan.folder / "plan.json", document)
    return document


def snakemake(plan: Plan, arguments: Sequence[str], listener: Listener) -> bool:
    """Run Snakemake in the workflow's folder with `arguments`; True if it ended well. What it prints itself is swallowed."""
    module = types.SimpleNamespace(LogHandler=_handler(listener))
    LoggerPluginRegistry().register_plugin("snakemake_logger_plugin_progress", module)
    command = ["--snakefile", "code/workflow/Snakefile", *ALWAYS, *arguments]
    with inside(plan.folder), contextlib.redirect_stderr(io.StringIO()):
        try:
            cli.main(command)
        except SystemExit as end:
            return not end.code
    return True
