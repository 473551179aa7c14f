"""`make reproduce` on a tiny book: parameters, the banner, the plan, and what a failure looks like."""

import errno
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import build_site
import checkout
import nbformat
import plan
import publish
import pytest
import reproduce
import run_notebook

TOC = "format: jb-book\nroot: index\nchapters:\n- file: b_first\n- file: a_second\n"


@pytest.fixture
def root(tmp_path) -> Path:
    """A book of two notebooks and no runs, in a folder with an awkward name."""
    root = tmp_path / "a {strange} folder"
    book = checkout.tiny_book(root, TOC)
    (book / "index.md").write_text("# Index\n\n$a = b$, [first](b_first.ipynb).\n")
    parameters = 'profile: str = "smoke"  # how much is run'
    checkout.write_notebook(book / "b_first.ipynb", "print('profile is', profile)", parameters=parameters)
    checkout.write_notebook(book / "a_second.ipynb", "import os, sys\nprint(os.path.basename(os.getcwd()))\nprint(sys.executable)")
    checkout.write_notebook(book / "out.ipynb", "1 / 0")
    return root


def run(root: Path, *arguments: str) -> int:
    return reproduce.main(["--root", str(root), *arguments])


def test_order_is_that_of_the_contents(root):
    (root / "book" / "_toc.yml").write_text(
        "format: jb-book\nroot: index\nparts:\n- caption: One\n  chapters:\n  - file: b_first\n"
        "    sections:\n    - file: a_second.ipynb\n- caption: Two\n  chapters:\n  - file: missing\n"
    )
    assert [path.name for path in plan.notebooks(root / "book")] == ["b_first.ipynb", "a_second.ipynb"]


def test_whole_run(root, capfd):
    before = {path: path.read_bytes() for path in (root / "book").rglob("*") if path.is_file()}
    assert run(root, "--profile", "quick") == 0
    made = root / "_build" / "reproduce-quick"
    assert "profile is quick" in checkout.outputs(made / "book" / "b_first.ipynb")
    second = checkout.outputs(made / "book" / "a_second.ipynb").splitlines()
    assert second == ["book", sys.executable], "not in its own folder, or not this Python's own kernel"
    assert not (made / "book" / "out.ipynb").exists()
    site = made / "_build" / "html"
    for name in ("index", "b_first", "a_second"):
        html = (site / f"{name}.html").read_text(encoding="utf-8")
        assert "Executed with profile quick on 20" in html and "no commit" in html
    assert "profile is quick" in (site / "b_first.html").read_text(encoding="utf-8")
    said = capfd.readouterr().out
    assert "page b_first: " in said and said.index("[2/3]") < said.index("[3/3] site: ") < said.index(str(site))
    assert before == {path: path.read_bytes() for path in (root / "book").rglob("*") if path.is_file()}

    assert run(root, "--profile", "quick") == 0
    assert "Nothing to do" in capfd.readouterr().out
    (root / "book" / "old.md").write_text("# Old\n")
    (root / "book" / "old.md").unlink()
    (root / "book" / "index.md").write_text("# Another index\n")
    assert run(root, "--profile", "quick", "--dry-run") == 0
    said = capfd.readouterr().out
    assert "site" in said and "page" not in said and "1 jobs, about" in said

    took = (made / "durations.json").read_bytes()
    assert run(root, "--profile", "quick", "--", "--touch") == 0
    assert run(root, "--profile", "quick") == 0
    assert "Nothing to do" in capfd.readouterr().out
    assert (made / "durations.json").read_bytes() == took, "a job that was only accepted is no measurement"


@pytest.mark.parametrize(
    ("cell", "said"),
    [
        ("print('got here')\nraise ValueError('first line\\nlam must not be')", "ValueError: lam must not be"),
        ("print('got here', flush=True)\nimport os, time\ntime.sleep(1)\nos._exit(9)", "DeadKernelError: "),
    ],
    ids=["error", "dead kernel"],
)  # fmt: skip
def test_failing_notebook_is_named_and_kept_and_stops_no_other(root, capfd, cell, said):
    checkout.write_notebook(root / "book" / "b_first.ipynb", cell)
    assert run(root) == 1
    told = capfd.readouterr()
    (line,) = [line for line in told.err.splitlines() if line.startswith("  page b_first: ")]
    assert said in line and "1 of 3 jobs failed" in told.err and "not begun: site" in told.err
    assert "page a_second: " in told.out
    made = root / "_build" / "reproduce-smoke"
    assert "got here" in checkout.outputs(made / "logs" / "pages" / "b_first.ipynb")
    assert not (made / "book" / "b_first.ipynb").exists() and not (made / "_build").exists()


def test_failing_site_is_told_with_the_last_line_of_its_log(root, capfd):
    (root / "book" / "index.md").write_text("# Index\n\n[nowhere](no-file.md)\n")
    assert run(root) == 1
    assert "site: Jupyter Book did not build the site" in capfd.readouterr().err


def test_damaged_notebook(root, capfd):
    (root / "book" / "b_first.ipynb").write_text(json.dumps({"cells": []})[:-1])
    assert run(root) == 1
    assert "b_first.ipynb is no whole notebook" in capfd.readouterr().err
    assert not (root / "_build").exists()


def test_failing_run_stops_no_other(tmp_path):
    root = checkout.make(tmp_path, "objective,train_size,epochs\nstandard,100000,1\nstandard,50,1\n")
    done = checkout.reproduce(root, "trained")
    assert done.returncode == 1
    assert "1 of 3 jobs failed" in done.stderr, done.stderr
    assert "train_size must be at most 1287 for digits; got 100000" in done.stderr
    assert len(list((root / "kept" / "runs").glob("*/run.json"))) == 1


def test_a_full_disk_and_a_place_that_cannot_be_written_are_one_sentence_each(root, capfd, monkeypatch, tmp_path):
    def full(_descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", full)
        assert run(root, "--dry-run") == 1
    (line,) = capfd.readouterr().err.strip().splitlines()
    assert "could not write" in line and "_build" in line and "Free some space and give the same command again" in line
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setenv("DEEPDEFENSE_RUNS", str(tmp_path / "file" / "runs"))
    assert run(root, "--dry-run") == 1
    (line,) = capfd.readouterr().err.strip().splitlines()
    assert f"could not write {tmp_path}/file/runs" in line and "Runs go to $DEEPDEFENSE_RUNS" in line
    monkeypatch.delenv("DEEPDEFENSE_RUNS")
    shutil.rmtree(root / "_build")
    (root / "_build").write_text("not a folder")
    assert run(root, "--dry-run") == 1
    (line,) = capfd.readouterr().err.strip().splitlines()
    assert f"could not write {root}/_build" in line


def test_headline_results_are_made_from_a_committed_tree_alone(root, capfd, monkeypatch, tmp_path):
    """Refused before any job, and once more where a finished record is copied among the results."""
    (root / "workflow" / "grids").mkdir(parents=True)
    shutil.copy(checkout.ROOT / "book" / "03_train.ipynb", root / "book")
    grid = "data,model,objective,train_size,epochs\ndigits,cnn,standard,50,1\n"
    (root / "workflow" / "grids" / "paper.csv").write_text(grid)
    monkeypatch.setattr(reproduce.provenance, "commit", lambda _folder: "abc-dirty")
    monkeypatch.setenv("DEEPDEFENSE_RUNS", str(tmp_path / "runs"))
    assert run(root, "--profile", "paper", "--dry-run", "trained") == 0
    assert not (root / "data").exists(), "a plan writes nothing among the results"
    assert run(root, "--profile", "paper", "trained") == 1
    assert "made from a committed tree alone, and tracked files differ from commit abc (" in capfd.readouterr().err
    assert not list((tmp_path / "runs").rglob("run.json"))
    kept = json.loads((root / "data" / "results" / "paper" / "grid.json").read_text())["runs"]
    assert [run["pair"] for run in kept.values()] == [["digits", "cnn"]], "what the folder is to hold stands in it from the start"
    record = tmp_path / "run.json"
    record.write_text(json.dumps({"environment": {"commit": "abc-dirty"}}))
    assert publish.main(["--clean-tree", str(record), "--to", str(tmp_path / "kept.json")]) == 1
    assert "not committed (abc-dirty)" in capfd.readouterr().err and not (tmp_path / "kept.json").exists()
    assert publish.main([str(record), "--to", str(tmp_path / "kept.json")]) == 0 and (tmp_path / "kept.json").read_bytes()


def test_jobs_that_fail_on_a_full_disk_are_told_why(root, capfd, monkeypatch):
    plans = reproduce.engine.snakemake
    fails = lambda plan, arguments, listener: "--dry-run" in arguments and plans(plan, arguments, listener)  # noqa: E731
    monkeypatch.setattr(reproduce.engine, "snakemake", fails)
    assert run(root) == 1
    assert "is full" not in capfd.readouterr().err
    monkeypatch.setattr(reproduce.shutil, "disk_usage", lambda _folder: type("Usage", (), {"free": 0}))
    assert run(root) == 1
    assert "is full. Free some space and give the same command again" in capfd.readouterr().err


def test_one_command_at_a_time(root, capfd):
    folder = root / "_build" / "reproduce-smoke"
    folder.mkdir(parents=True)
    with reproduce.lock(folder):
        assert run(root) == 1
    assert f"another command is at work in {folder}" in capfd.readouterr().err


def test_commit_is_named(tmp_path):
    def git(*words):
        settings = ("-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false")
        subprocess.run(["git", "-C", tmp_path, *settings, *words], check=True, capture_output=True)

    if shutil.which("git") is None:
        pytest.skip("git is not installed")
    git("init", "-q")
    assert build_site.commit(tmp_path) == "no commit"
    (tmp_path / "file").write_text("one")
    git("add", "file")
    git("commit", "-qm", "one")
    clean = build_site.commit(tmp_path)
    assert clean.startswith("commit ") and len(clean.split()) == 2
    (tmp_path / "file").write_text("two")
    assert build_site.commit(tmp_path) == f"{clean} with local changes"


@pytest.mark.parametrize(("contents", "said"), [(None, "is missing"), ("format: jb-book\nroot: index\n", "no notebook")])
def test_nothing_to_execute(tmp_path, contents, said):
    if contents:
        (tmp_path / "_toc.yml").write_text(contents)
    with pytest.raises(plan.PlanError, match=said):
        plan.notebooks(tmp_path)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--cluster", "nope"], "cluster must be one of kubernetes, slurm"),
        (["nothing"], "a target must be one of all, trained, attacked, measured, results, pages, site"),
        (["book/none.txt"], "No rule to produce book/none.txt"),
        (["--grid", "none.csv"], "none.csv cannot be read"),
    ],
)
def test_bad_arguments_are_named(root, capfd, arguments, said):
    assert run(root, *arguments) == 1
    told = capfd.readouterr().err
    assert said in told and len(told.strip().splitlines()) == 1


def test_unknown_profile(capsys):
    with pytest.raises(SystemExit) as ended:
        reproduce.main(["--profile", "papr"])
    assert ended.value.code == 2 and "smoke" in capsys.readouterr().err


def test_reason_of_a_notebook(tmp_path):
    path = tmp_path / "n.ipynb"
    assert run_notebook.reason(path) is None
    error = nbformat.v4.new_output("error", ename="KeyError", evalue="", traceback=[])
    cell = nbformat.v4.new_code_cell("1", outputs=[error], execution_count=3)
    nbformat.write(nbformat.v4.new_notebook(cells=[cell]), path)
    assert run_notebook.reason(path) == "cell [3], KeyError: without a message"


def test_a_kernel_keeps_its_memory_unless_the_user_says_otherwise(tmp_path):
    names = tuple(run_notebook.KEEP_MEMORY)
    checkout.write_notebook(tmp_path / "n.ipynb", f"import os\nprint([os.environ.get(name) for name in {names}])")
    command = [sys.executable, run_notebook.__file__, str(tmp_path / "n.ipynb"), str(tmp_path / "log.ipynb")]
    clean = {name: value for name, value in os.environ.items() if name not in names}
    for own in ({}, {names[0]: "7"}):
        subprocess.run(command, env=clean | own, check=True)
        assert str(list((run_notebook.KEEP_MEMORY | own).values())) in checkout.outputs(tmp_path / "log.ipynb")


STILLBORN = """
import pathlib, runpy, sys

deaths = pathlib.Path(__file__).with_name("deaths")
died = len(deaths.read_text()) if deaths.exists() else 0
if died < {deaths}:
    deaths.write_text("x" * (died + 1))
    sys.exit(1)
sys.path = [path for path in sys.path if path != str(pathlib.Path(__file__).parent) and path]
del sys.modules["__main__"]
runpy.run_module("ipykernel_launcher", run_name="__main__")
"""


@pytest.mark.parametrize(("deaths", "status"), [(1, 0), (2, 0), (3, 1)])
def test_a_kernel_that_dies_before_it_begins_is_started_again(tmp_path, deaths, status):
    """Two kernels that start at once may be given the same port; here a module in the kernel's folder stands in for that."""
    (tmp_path / "ipykernel_launcher.py").write_text(STILLBORN.format(deaths=deaths))
    checkout.write_notebook(tmp_path / "n.ipynb", "print('began')")
    command = [sys.executable, run_notebook.__file__, str(tmp_path / "n.ipynb"), str(tmp_path / "log.ipynb")]
    ended = subprocess.run([*command, "--copy", str(tmp_path / "copy.ipynb")], capture_output=True, text=True)
    assert ended.returncode == status, ended.stderr
    assert ended.stderr.count("the kernel died before it began") == min(deaths, run_notebook.STARTS - 1)
    assert (tmp_path / "deaths").read_text() == "x" * deaths
    if status:
        assert ended.stderr.splitlines()[-1] == "RuntimeError: Kernel died before replying to kernel_info"
        assert not (tmp_path / "copy.ipynb").exists()
    else:
        assert "began" in checkout.outputs(tmp_path / "copy.ipynb")
