"""Run the tests, and compare every notebook with a fresh execution: python tools/run_tests.py [--quick]

In two processes, because one leaves one of two cores idle; so with one thread each: more of them would fight for the cores. The
second takes the tests of whole workflows, sites, notebooks and killed trainings; its output is shown when the first has ended.
Fails if any part does.

--quick: in under three minutes on two idle cores, all but those and the tests marked slow (see pyproject.toml), which kill a process,
train or attack for long, or check masking reports; each process takes half of the files.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PYTEST = (sys.executable, "-m", "pytest")
WHOLE = tuple(f"tests/test_{name}.py" for name in ("notebooks", "reproduce", "resume", "site", "slurm", "workflow_kill"))


def halves() -> tuple[list[str], list[str]]:
    """The test files but those of whole workflows, every other one."""
    files = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "tests").rglob("test_*.py"))
    quick = [file for file in files if file not in WHOLE]
    return quick[0::2], quick[1::2]


def side_by_side(first: list[list[str]], second: list[str]) -> list[int]:
    """The exit statuses of the pytest commands `first`, one after the other, and of `second`, which runs meanwhile."""
    settings = dict(cwd=ROOT, env=os.environ | {"OMP_NUM_THREADS": "1"})
    with tempfile.TemporaryFile() as said:
        other = subprocess.Popen([*PYTEST, *second], stdout=said, stderr=subprocess.STDOUT, **settings)
        try:
            statuses = [subprocess.run([*PYTEST, *arguments], **settings).returncode for arguments in first]
            statuses.append(other.wait())
        finally:
            other.kill()  # nothing goes on after an interruption
        said.seek(0)
        print(said.read().decode(errors="replace"), flush=True)
    return statuses


def main(arguments: list[str]) -> int:
    if arguments not in ([], ["--quick"]):
        print(f"usage: python tools/run_tests.py [--quick]; got {' '.join(arguments)}", file=sys.stderr)
        return 2
    if arguments:
        one, two = (["-m", "not slow", *files] for files in halves())
        tests, others = side_by_side([one], two)
        print(f"exit status of one half of the quick tests {tests}, of the other {others}")
        return tests or others
    tests, notebooks, whole = side_by_side([[f"--ignore={file}" for file in WHOLE], ["--nbval", "book"]], list(WHOLE))
    print(f"exit status of the tests {tests}, the notebooks {notebooks}, the whole workflows {whole}")
    return tests or notebooks or whole


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
