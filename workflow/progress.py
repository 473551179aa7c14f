"""What a reader of the terminal sees of a workflow: a line a job, the time that is left, and at the end what failed and why."""

import logging
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from job_costs import in_words
from run_notebook import reason


def job_name(rule: str, wildcards: Mapping) -> str:
    """A job in words: "train NAME", "attack NAME last-linf-…", "measure NAME", "page 01_theory", "site"."""
    return " ".join([rule, *(str(v).removeprefix("report-") for k, v in wildcards.items() if k != "measures")])


def event(record: logging.LogRecord) -> str:
    return str(getattr(record, "event", "") or "")


@dataclass
class Planned:
    """The jobs that Snakemake would run, collected from a dry run: {job: (rule, wildcards, why)}."""

    jobs: dict[str, tuple[str, dict, str]] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)

    def __call__(self, record: logging.LogRecord) -> None:
        if event(record) == "job_info":
            wildcards = dict(record.wildcards or {})
            self.jobs[job_name(record.rule_name, wildcards)] = (record.rule_name, wildcards, record.reason)
        elif record.levelno >= logging.ERROR:
            self.errors.append(record.getMessage())


@dataclass
class ProgressLine:
    """Follows a run of Snakemake. expected: seconds of each job; workers: how many run at a time; say: prints a line."""

    expected: dict[str, float]
    workers: int
    say: Callable[[str], None] = lambda text: print(text, flush=True)
    took: dict[str, float] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    other: list[str] = field(default_factory=list)  # Snakemake's own complaints
    _running: dict[int, tuple[str, float]] = field(default_factory=dict)

    def __call__(self, record: logging.LogRecord) -> None:
        kind = event(record)
        if kind == "job_info":
            job = job_name(record.rule_name, dict(record.wildcards or {}))
            self._running[record.jobid] = (job, time.monotonic())
        elif kind == "job_finished":
            self._finish(record.job_id)
        elif kind == "job_error":
            job, _ = self._running.pop(record.jobid, (record.rule_name, 0.0))
            self.failed[job] = why_failed(record.log)
            self.say(f"FAILED {job}: {self.failed[job]}")
        elif record.levelno >= logging.ERROR and not kind:
            self.other.append(record.getMessage())

    def _finish(self, number: int) -> None:
        if number not in self._running:
            return
        job, start = self._running.pop(number)
        self.took[job] = time.monotonic() - start
        if job in self.expected:
            done = f"[{sum(name in self.expected for name in self.took)}/{len(self.expected)}]"
            left = self.seconds_left()
            ahead = f"; about {in_words(left)} left" if left else ""
            self.say(f"{done} {job}: {self.took[job]:.1f} s{ahead}")

    def seconds_left(self) -> float:
        """What the jobs that are neither done nor failed are expected to take, corrected by how well the others were foretold."""
        open_ = {job: s for job, s in self.expected.items() if job not in self.took and job not in self.failed}
        if not open_:
            return 0.0
        told = sum(self.expected[job] for job in self.took if job in self.expected)
        real = sum(seconds for job, seconds in self.took.items() if job in self.expected)
        factor = min(10.0, max(0.1, real / told)) if told else 1.0
        now = time.monotonic()
        gone = sum(min(now - start, factor * open_.get(job, 0.0)) for job, start in self._running.values())
        whole = factor * sum(open_.values()) - gone
        return max(whole / self.workers, factor * max(open_.values()) - (gone if len(open_) == 1 else 0.0), 0.0)


def why_failed(logs) -> str:
    """The reason in a job's log files: the error of its notebook, else the last line that it printed."""
    for log in logs or []:
        if log.endswith(".ipynb") and (found := reason(log)):
            return found
    for log in logs or []:
        try:
            lines = Path(log).read_text(encoding="utf-8", errors="replace").strip().splitlines()
        except OSError:
            continue
        if lines and not log.endswith(".ipynb"):
            return lines[-1]
    return "it left no log; was it killed?"


def complain(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
