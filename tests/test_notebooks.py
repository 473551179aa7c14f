"""The notebooks as files, and their parameters through the papermill command, as a reader types it."""

import os
import re
import subprocess
import sys
from pathlib import Path

import matplotlib
import nbformat
import pytest
import yaml

from deepdefense.storage import paths
from deepdefense.storage.files import read_json
from replication.claims import by_seed, front, scoreboard

BOOK = paths.root() / "book"
NOTEBOOKS = sorted(BOOK.glob("*.ipynb"))


def code_cells(path: Path) -> list:
    return [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]


def papermill(name: str, tmp_path: Path, *arguments: str) -> subprocess.CompletedProcess:
    """Run a notebook from a folder that is not the checkout, with runs kept in `tmp_path`."""
    command = [sys.executable, "-m", "papermill", str(BOOK / name), str(tmp_path / "out.ipynb"), *arguments]
    environment = os.environ | {"DEEPDEFENSE_DATA": str(tmp_path), "JUPYTER_PREFER_ENV_PATH": "1"}
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
    return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=600)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_committed_notebook_is_executed_and_parameterised(path):
    notebook = nbformat.read(path, as_version=4)
    cells = code_cells(path)
    assert notebook.metadata.kernelspec.name == "python3"
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert not [output for cell in cells for output in cell.outputs if output.output_type == "error"]
    assert "parameters" in cells[0].metadata.tags and cells[0].source.startswith("# Parameters\n")
    for line in cells[0].source.splitlines()[1:]:
        name_and_type, help_text = line.split("  # ")
        assert ": " in name_and_type.split("=")[0] and len(help_text) > 5, line
    assert not [cell for cell in cells[1:] if "parameters" in cell.metadata.get("tags", [])]


@pytest.mark.parametrize(
    "arguments, named, allowed",
    [(["lamm", "0.1"], "'lamm'", "did you mean 'lam'"), (["lam", "much"], "lam must be a number; got", "'much'")],
)
def test_a_bad_parameter_of_the_command_is_named_before_any_work(tmp_path, arguments, named, allowed):
    done = papermill("03_train.ipynb", tmp_path, "-p", *arguments)
    last = [line for line in done.stderr.splitlines() if line.startswith("ValueError")]
    assert done.returncode != 0
    assert last and named in last[-1] and allowed in last[-1], done.stderr[-2000:]
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    "name, given, named, allowed",
    [
        ("03_train.ipynb", {"lam": -1}, "lam must be a number from 0", "-1"),
        ("03_train.ipynb", {"objective": "gfa"}, "objective must be one of", "gfa-first"),
        ("03_train.ipynb", {"form": "sine"}, "form must be one of", "negative"),
        ("03_train.ipynb", {"statistics": "running"}, "statistics must be one of", "batch, fixed"),
        ("03_train.ipynb", {"epochs": 2.5}, "epochs must be a whole number", "2.5"),
        ("04_attacks.ipynb", {"eps": 8}, "eps must be a number", "at most 1"),
        ("05_your_own.ipynb", {"masking": "yes"}, "masking must be one of quick, full, off", "'yes'"),
        ("05_your_own.ipynb", {"eps": 0.5}, "eps must be a number above 0 and at most 0.49", "0.5"),
        ("01_theory.ipynb", {"n_images": 0}, "n_images must be a number", "at least 1"),
        ("09_measure.ipynb", {"n_images": 0}, "n_images must be a number", "at least 1"),
        ("09_measure.ipynb", {"run": "none-such"}, "run must name a finished run", "There are: none"),
        ("12_geometry.ipynb", {"loss": "huber"}, "loss must be one of", "mse, ce, margin"),
        ("12_geometry.ipynb", {"folder": "none-such"}, "folder must be a folder of results", "none-such"),
        ("02_setup.ipynb", {"profile": "huge"}, "profile must be one of", "smoke, quick, paper"),
    ],
)
def test_a_bad_parameter_is_named_before_any_work(tmp_path, monkeypatch, name, given, named, allowed):
    """The first cells as papermill would run them, here without a kernel of their own."""
    monkeypatch.setenv("DEEPDEFENSE_DATA", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    parameters, *others = code_cells(BOOK / name)
    injected = "# Parameters\n" + "\n".join(f"{parameter} = {value!r}" for parameter, value in given.items())
    names: dict = {"In": []}
    with matplotlib.rc_context(), pytest.raises(ValueError, match=re.escape(named)) as caught:
        for source in (parameters.source, injected, *(cell.source for cell in others[:2])):
            names["In"].append(source)
            exec(source, names)
    assert allowed in str(caught.value)
    assert not (tmp_path / "runs").exists()


def test_lam_reaches_the_run_and_a_second_call_reads_it_back(tmp_path):
    arguments = ["-p", "lam", "0.1", "-p", "epochs", "1"]
    first = papermill("03_train.ipynb", tmp_path, *arguments)
    assert first.returncode == 0, first.stderr[-2000:]
    (folder,) = (tmp_path / "runs").glob("digits-cnn-gfa-first-lam0.1-seed0-*")
    made = (folder / "run.json").stat().st_mtime_ns
    assert papermill("03_train.ipynb", tmp_path, *arguments).returncode == 0
    assert (folder / "run.json").stat().st_mtime_ns == made


def test_your_own_defence_leaves_its_whole_report_in_the_folder_and_goes_on_from_there(tmp_path):
    arguments = ["-p", "folder", str(tmp_path / "kept"), "-p", "suites", "gradient", "-p", "n_images", "12"]
    arguments += ["-p", "substitute_steps", "5", "-p", "examples", "False"]
    first = papermill("05_your_own.ipynb", tmp_path, *arguments)
    assert first.returncode == 0, first.stderr[-2000:]
    files = {name: (tmp_path / "kept" / name) for name in ("report.json", "report.parquet", "masking.json")}
    made = {name: path.read_bytes() for name, path in files.items()}
    record = read_json(files["masking.json"])
    assert record["kind"] == "masking" and [check["number"] for check in record["checks"]] == list(range(1, 10))
    assert record["settings"]["white_box"] == ["suite gradient"] and "distilled" in record["settings"]["substitutes"]
    pieces = {path: path.stat().st_mtime_ns for path in (tmp_path / "kept" / "pieces").rglob("*.safetensors")}
    assert papermill("05_your_own.ipynb", tmp_path, *arguments).returncode == 0
    assert {name: path.read_bytes() for name, path in files.items()} == made
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "kept" / "pieces").rglob("*.safetensors")} == pieces


def test_scoreboard_follows_from_the_records():
    """The table, the front page's parts, the figure and the head of the README."""
    made = {"_scoreboard.md": scoreboard.text(), "_front.md": front.text(), "_static/claims.svg": front.figure_file()}
    made |= {"_by_seed.md": by_seed.text()}
    assert {name: (BOOK / name).read_text(encoding="utf-8") for name in made} == made, "run tools/write_scoreboard.py"
    readme = (paths.root() / "README.md").read_text(encoding="utf-8")
    assert front.with_readme_part(readme, front.readme_part()) == readme, "run tools/write_scoreboard.py"


def test_the_front_page_has_its_doors_between_the_answer_and_the_figure():
    """index.md includes the front page's made parts twice, cut at a mark: above it the sentences, from it on the figure."""
    index = (BOOK / "index.md").read_text(encoding="utf-8")
    ends, starts = f':end-before: "{front.CUT}"', f':start-after: "{front.CUT}"'
    assert index.count(ends) == index.count(starts) == 1
    above, below = front.text().split(front.CUT)
    assert below.lstrip().startswith("```{raw} html")
    assert not [line for line in above.splitlines() if line.startswith(("`", "<", "#"))]
    assert index.index(ends) < index.index("Read the evidence") < index.index(starts)


def parts_of_the_book() -> dict[str, list[str]]:
    toc = yaml.safe_load((BOOK / "_toc.yml").read_text(encoding="utf-8"))
    return {part["caption"]: [chapter["file"] for chapter in part["chapters"]] for part in toc["parts"]}


def words_of(page: str) -> str:
    """The prose of a page: its text, or its cells of text."""
    path = BOOK / f"{page}.md"
    if path.is_file():
        return path.read_text(encoding="utf-8")
    cells = nbformat.read(BOOK / f"{page}.ipynb", as_version=4).cells
    return "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")


@pytest.mark.parametrize("page", [page for part in ("Evidence", "Reasons") for page in parts_of_the_book()[part]])
def test_a_page_links_its_terms_to_the_glossary_once_each(page):
    """The build itself refuses a term that the glossary does not have."""
    linked = re.findall(r"\{term\}`(?:[^`<]*<)?([^`<>]+)>?`", words_of(page))
    assert linked and sorted(set(linked)) == sorted(linked)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_page_prints_nothing_raw_and_shows_no_bare_table_or_picture(path):
    """What a page shows comes by the helpers, with a caption and words for those who do not see it."""
    for cell in code_cells(path):
        for output in cell.outputs:
            told = output.get("name") == "stderr" or "text/html" in output.get("data", {})
            assert told, (cell.id, output.output_type)
            said = "".join(output.get("data", {}).get("text/html", output.get("text", "")))
            assert 'class="dataframe"' not in said and "/tmp/" not in said, cell.id
            assert "has changed since" not in said + output.get("text", ""), f"{cell.id} shows a run of other code; delete it, execute anew"


HYPHEN = re.compile(r"(?<![\w\-–/.])-\d")  # before a number where a minus belongs
QUOTED = {"05_your_own": ["-1"]}  # what the library says of images from -1 to 1, as it says it


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_numbers_below_zero_have_a_true_minus_sign(path):
    found = []
    for cell in code_cells(path):
        for output in cell.outputs:
            found += HYPHEN.findall("".join(output.get("data", {}).get("text/plain", "")))
    assert found == QUOTED.get(path.stem, [])
