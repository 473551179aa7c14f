"""Finished files that are damaged: found, whatever the damage; put aside, not lost."""

import json

import nbformat
import pyarrow
import pyarrow.parquet
import pytest
import safetensors.torch
import torch
import whole

from deepdefense.storage import checkpoint, files


def parquet(path):
    pyarrow.parquet.write_table(pyarrow.table({"image": list(range(500)), "linf": [0.5 / (i + 1) for i in range(500)]}), path)


def record(path):
    files.write_json(path, {"kind": "attacks", "numbers": list(range(50))})


MAKERS = {
    "report.json": record,
    "report.parquet": parquet,
    "last.safetensors": lambda path: path.write_bytes(safetensors.torch.save({"a": torch.arange(100.0)})),
    "page.ipynb": lambda path: nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("1")]), path),
    "index.html": lambda path: path.write_text("<html></html>"),
}


@pytest.mark.parametrize("name", MAKERS)
def test_whole_files_pass_and_what_is_cut_short_or_garbled_does_not(tmp_path, name):
    path = tmp_path / name
    MAKERS[name](path)
    content = path.read_bytes()
    assert whole.wrong_with(path) is None
    damaged = {"empty": b""}
    if name != "index.html":  # of which nothing but the size is known
        damaged |= {"half": content[: len(content) // 2], "last bytes": content[:-3], "another file": b"<html>not found</html>"}
    if name.endswith("json"):
        damaged["a list"] = b"[1]"
    for kind, other in damaged.items():
        path.write_bytes(other)
        assert whole.wrong_with(path), kind
        assert "\n" not in whole.wrong_with(path)


def test_a_parquet_file_with_a_garbled_middle(tmp_path):
    path = tmp_path / "report.parquet"
    parquet(path)
    content = path.read_bytes()
    path.write_bytes(content[:60] + bytes(400) + content[460:])
    assert whole.wrong_with(path)


@pytest.fixture
def folder(tmp_path):
    """The folder of a workflow of one run, attacked and measured, and one page."""
    run = tmp_path / "runs" / "a"
    best = checkpoint.save_tensors(run, "best-0001", {"w": torch.ones(30)})
    checkpoint.write_state(run, {"best": best, "history": []}, {"w": torch.zeros(30)}, 2)
    record(run / "run.json")
    for where, table in (("report-1", "report.parquet"), ("measures-1", "sweep.parquet")):
        record(run / where / f"{where[:-2]}.json")
        parquet(run / where / table)
    (tmp_path / "book").mkdir()
    MAKERS["page.ipynb"](tmp_path / "book" / "p.ipynb")
    record(tmp_path / "data" / "digits.json")
    return tmp_path


DOCUMENT = {
    "datasets": {"digits": []}, "runs": {"a": {}}, "pages": {"p": {}}, "results": [],
    "reports": {"a/report-1": {}}, "measures": {"a/measures-1": {}},
}  # fmt: skip


def cut(path):
    path.write_bytes(path.read_bytes()[:-5])


def flip(path):
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


TRAINING = {"run.json", "state.json", "best-0001.safetensors", "last-0002.safetensors"}


@pytest.mark.parametrize(
    ("file", "damage", "output", "aside"),
    [
        ("runs/a/run.json", cut, "runs/a/run.json", {"run.json"}),
        ("runs/a/state.json", cut, "runs/a/run.json", TRAINING),
        ("runs/a/last-0002.safetensors", cut, "runs/a/run.json", TRAINING),
        ("runs/a/last-0002.safetensors", flip, "runs/a/run.json", TRAINING),
        ("runs/a/best-0001.safetensors", flip, "runs/a/run.json", TRAINING),
        ("runs/a/best-0001.safetensors", lambda path: path.unlink(), "runs/a/run.json", TRAINING - {"best-0001.safetensors"}),
        ("runs/a/report-1/report.json", cut, "runs/a/report-1/report.json", {"report.json"}),
        ("runs/a/report-1/report.parquet", cut, "runs/a/report-1/report.parquet", {"report.parquet"}),
        ("runs/a/measures-1/sweep.parquet", cut, "runs/a/measures-1/sweep.parquet", {"sweep.parquet"}),
        ("book/p.ipynb", cut, "book/p.ipynb", {"p.ipynb"}),
        ("data/digits.json", cut, "data/digits.json", {"digits.json"}),
    ],
)
def test_each_damage_names_the_file_to_make_again_and_what_is_put_aside(folder, file, damage, output, aside):
    assert whole.find(DOCUMENT, folder) == []
    damage(folder / file)
    found = whole.find(DOCUMENT, folder)
    assert {item.output for item in found} == {output} and all(item.why for item in found)
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    whole.put_aside(found)
    moved = {path.name for path in folder.rglob("*.damaged")}
    assert moved == {f"{name}.damaged" for name in aside}
    assert sorted(before.values()) == sorted(path.read_bytes() for path in folder.rglob("*") if path.is_file())
    assert whole.find(DOCUMENT, folder) == [], "what is not there is no finished file"


def test_a_run_without_a_record_is_not_finished_and_published_files_are_looked_at(folder):
    (folder / "runs" / "a" / "run.json").unlink()
    flip(folder / "runs" / "a" / "last-0002.safetensors")
    assert whole.find(DOCUMENT, folder) == []
    record(folder / "results" / "a.report-1" / "report.json")
    parquet(folder / "results" / "a.report-1" / "report.parquet")
    document = DOCUMENT | {"results": ["results/a.report-1/report.json"]}
    assert whole.find(document, folder) == []
    cut(folder / "results" / "a.report-1" / "report.parquet")
    (found,) = whole.find(document, folder)
    assert found.output == "results/a.report-1/report.parquet" and json.dumps(found.why)
