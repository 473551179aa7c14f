"""Run the tests, and at the same time compare every notebook with a fresh execution: python tools/test.py

Two processes, because the first leaves one of two cores idle; the notebooks' output is shown when the tests' has ended. Fails if
either does.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PYTEST = (sys.executable, "-m", "pytest")


def main() -> int:
    with tempfile.TemporaryFile() as said:
        notebooks = subprocess.Popen([*PYTEST, "--nbval", "book"], cwd=ROOT, stdout=said, stderr=subprocess.STDOUT)
        try:
            tests = subprocess.run(PYTEST, cwd=ROOT).returncode
            compared = notebooks.wait()
        finally:
            notebooks.kill()  # nothing goes on after an interruption
        said.seek(0)
        print(said.read().decode(errors="replace"), flush=True)
    print(f"tests: exit status {tests}; notebooks: exit status {compared}")
    return tests or compared


if __name__ == "__main__":
    sys.exit(main())
