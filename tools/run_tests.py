"""Run the tests, and compare every notebook with a fresh execution: python tools/run_tests.py

In two processes, because one leaves one of two cores idle; so with one thread each: more of them would fight for the cores. The second
takes the tests of whole workflows, sites and notebooks; its output is shown when the first has ended. Fails if any part does.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PYTEST = (sys.executable, "-m", "pytest")
WHOLE = tuple(f"tests/test_{name}.py" for name in ("notebooks", "reproduce", "site", "slurm", "workflow_kill"))


def main() -> int:
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    with tempfile.TemporaryFile() as said:
        second = subprocess.Popen([*PYTEST, *WHOLE], cwd=ROOT, env=environment, stdout=said, stderr=subprocess.STDOUT)
        try:
            tests = subprocess.run([*PYTEST, *(f"--ignore={file}" for file in WHOLE)], cwd=ROOT, env=environment).returncode
            notebooks = subprocess.run([*PYTEST, "--nbval", "book"], cwd=ROOT, env=environment).returncode
            whole = second.wait()
        finally:
            second.kill()  # nothing goes on after an interruption
        said.seek(0)
        print(said.read().decode(errors="replace"), flush=True)
    print(f"exit status of the tests {tests}, the notebooks {notebooks}, the whole workflows {whole}")
    return tests or notebooks or whole


if __name__ == "__main__":
    sys.exit(main())
