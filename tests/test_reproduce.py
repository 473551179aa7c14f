"""`make reproduce` on a tiny book: order, parameters, the banner, and what a failure looks like."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
import reproduce

ROOT = Path(__file__).resolve().parents[1]
KERNEL = {"name": "python3", "display_name": "Python 3", "language": "python"}


def write_notebook(path: Path, *sources: str, parameters: str | None = None) -> None:
    cells = [nbformat.v4.new_markdown_cell(f"# {path.stem}")]
    if parameters is not None:
        cells.append(nbformat.v4.new_code_cell(parameters, metadata={"tags": ["parameters"]}))
    cells += [nbformat.v4.new_code_cell(source) for source in sources]
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": KERNEL}), path)


def outputs(path: Path) -> str:
    cells = nbformat.read(path, as_version=4).cells
    return "".join(output.get("text", "") for cell in cells for output in cell.get("outputs", []))


@pytest.fixture
def root(tmp_path) -> Path:
    """A book of two notebooks, of which the second reads what the first one wrote, in a folder with an awkward name."""
    root = tmp_path / "a {strange} folder"
    book = root / "book"
    book.mkdir(parents=True)
    shutil.copy(ROOT / "_config.yml", root)
    shutil.copy(ROOT / "book" / "references.bib", book)
    shutil.copytree(ROOT / "book" / "_static", book / "_static")
    (book / "_toc.yml").write_text("format: jb-book\nroot: index\nchapters:\n- file: b_first\n- file: a_second\n")
    (book / "index.md").write_text("# Index\n\n$a = b$, [first](b_first.ipynb).\n")
    write_notebook(
        book / "b_first.ipynb", "open('note.txt', 'w').write(profile)", "print('profile is', profile)",
        parameters='profile: str = "smoke"  # how much is run',
    )  # fmt: skip
    write_notebook(book / "a_second.ipynb", "import sys\nprint(open('note.txt').read())\nprint(sys.executable)")
    write_notebook(book / "out.ipynb", "1 / 0")
    return root


def test_order_is_that_of_the_contents(root):
    (root / "book" / "_toc.yml").write_text(
        "format: jb-book\nroot: index\nparts:\n- caption: One\n  chapters:\n  - file: b_first\n"
        "    sections:\n    - file: a_second.ipynb\n- caption: Two\n  chapters:\n  - file: missing\n"
    )
    assert [path.name for path in reproduce.notebooks(root / "book")] == ["b_first.ipynb", "a_second.ipynb"]


def test_whole_run(root, capfd):
    before = {path: path.read_bytes() for path in (root / "book").rglob("*") if path.is_file()}
    site = reproduce.reproduce("cpu", root)
    assert site == root / "_build" / "reproduce-cpu" / "_build" / "html"
    executed = root / "_build" / "reproduce-cpu" / "book"
    assert "profile is cpu" in outputs(executed / "b_first.ipynb")
    assert outputs(executed / "a_second.ipynb").splitlines() == ["cpu", sys.executable], "not this Python's own kernel"
    assert not (executed / "out.ipynb").exists()
    for name in ("index", "b_first", "a_second"):
        html = (site / f"{name}.html").read_text(encoding="utf-8")
        assert "Executed with profile cpu on 20" in html and "no commit" in html
    assert "profile is cpu" in (site / "b_first.html").read_text(encoding="utf-8")
    said = capfd.readouterr().out
    assert said.index("[1/2] b_first.ipynb: ") < said.index("[2/2] a_second.ipynb: ") < said.index("site: ")
    assert before == {path: path.read_bytes() for path in (root / "book").rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("cell", "said"),
    [
        ("print('got here')\nraise ValueError('first line\\nlam must not be')", "ValueError): lam must not be"),
        ("print('got here', flush=True)\nimport os, time\ntime.sleep(1)\nos._exit(9)", "DeadKernelError): "),
    ],
    ids=["error", "dead kernel"],
)  # fmt: skip
def test_failing_notebook_is_named_and_kept(root, cell, said):
    write_notebook(root / "book" / "b_first.ipynb", cell)
    with pytest.raises(reproduce.ReproduceError) as raised:
        reproduce.reproduce("smoke", root)
    first = str(raised.value).splitlines()[0]
    assert first.startswith("b_first.ipynb failed (") and said in first
    kept = root / "_build" / "reproduce-smoke" / "book" / "b_first.ipynb"
    assert str(kept) in str(raised.value) and "got here" in outputs(kept)
    assert not (root / "_build" / "reproduce-smoke" / "_build").exists()


def test_damaged_notebook(root):
    (root / "book" / "b_first.ipynb").write_text(json.dumps({"cells": []})[:-1])
    with pytest.raises(reproduce.ReproduceError, match=r"^b_first.ipynb failed \("):
        reproduce.reproduce("smoke", root)


def test_failing_build(tmp_path):
    with pytest.raises(reproduce.ReproduceError, match="did not build the site"):
        reproduce.build(tmp_path)


def test_commit_is_named(tmp_path):
    def git(*words):
        settings = ("-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false")
        subprocess.run(["git", "-C", tmp_path, *settings, *words], check=True, capture_output=True)

    if shutil.which("git") is None:
        pytest.skip("git is not installed")
    git("init", "-q")
    assert reproduce.commit(tmp_path) == "no commit"
    (tmp_path / "file").write_text("one")
    git("add", "file")
    git("commit", "-qm", "one")
    clean = reproduce.commit(tmp_path)
    assert clean.startswith("commit ") and len(clean.split()) == 2
    (tmp_path / "file").write_text("two")
    assert reproduce.commit(tmp_path) == f"{clean} with local changes"


@pytest.mark.parametrize(
    ("contents", "said"), [(None, "is missing"), ("format: jb-book\nroot: index\n", "no notebook")]
)
def test_nothing_to_execute(tmp_path, contents, said):
    if contents:
        (tmp_path / "_toc.yml").write_text(contents)
    with pytest.raises(reproduce.ReproduceError, match=said):
        reproduce.notebooks(tmp_path)


def test_command_line(monkeypatch, capsys):
    with pytest.raises(SystemExit) as ended:
        reproduce.main(["--profile", "papr"])
    assert ended.value.code == 2 and "smoke" in capsys.readouterr().err

    def fail(profile):
        raise reproduce.ReproduceError(f"{profile} went wrong")

    monkeypatch.setattr(reproduce, "reproduce", fail)
    assert reproduce.main(["--profile", "paper"]) == 1
    assert capsys.readouterr().err == "paper went wrong\n"


def test_profiles_are_those_of_the_library():
    from deepdefense import config

    assert sorted(reproduce.PROFILES) == sorted(config.PROFILES)
