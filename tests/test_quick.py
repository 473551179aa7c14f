"""`make quick`: which files it takes; what is left out is named in one place."""

import importlib.util

from deepdefense.storage import paths

spec = importlib.util.spec_from_file_location("tool", paths.root() / "tools" / "run_tests.py")
tool = importlib.util.module_from_spec(spec)
spec.loader.exec_module(tool)


def test_the_halves_hold_every_file_but_those_of_whole_workflows_once():
    files = {path.relative_to(paths.root()).as_posix() for path in (paths.root() / "tests").rglob("test_*.py")}
    one, two = tool.halves()
    assert set(tool.WHOLE) < files and not set(one) & set(two)
    assert {*one, *two} == files - set(tool.WHOLE) and abs(len(one) - len(two)) <= 1


def test_what_it_does_not_know_is_refused(capsys):
    assert tool.main(["--quik"]) == 2 and "usage: python tools/run_tests.py [--quick]; got --quik" in capsys.readouterr().err


def test_both_halves_run_and_either_fails_the_whole(monkeypatch, capfd):
    monkeypatch.setattr(tool, "PYTEST", (tool.sys.executable, "-c"))
    good, bad = ["print('good')"], ["import sys; print('bad'); sys.exit(3)"]
    assert tool.side_by_side([good], bad) == [0, 3] and tool.side_by_side([good, bad], good) == [0, 3, 0]
    assert capfd.readouterr().out.count("bad") == 2
