"""The line of links beside a figure: what it leads to, and what it refuses."""

import re

import pytest

from replication import provenance


@pytest.fixture
def published(monkeypatch, tmp_path):
    """Committed results of three runs, a benchmark and a check."""
    for name in ("quick/a-seed1-0123abcd", "quick/a-seed2-89abcdef", "search/b-seed0-00000001", "benchmarks/step", "checked/plain/report"):
        path = tmp_path / f"{name}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("{}")
    monkeypatch.setattr(provenance.paths, "results_root", lambda: tmp_path)


def test_one_run_leads_to_its_page_and_several_to_a_list(published):
    assert 'href="runs/a-seed1-0123abcd.html">the run</a>' in provenance.links(["a-seed1-0123abcd"])
    line = provenance.links(["a-seed1-0123abcd", "b-seed0-00000001", "a-seed1-0123abcd", "step", "plain"])
    assert re.findall(r'href="([^"]+)">([^<]+)', line) == [("runs/index.html?only=0123abcd,00000001,step,plain", "4 runs")]


def test_a_run_that_is_not_published_is_said_and_not_linked(published):
    assert provenance.links(["mine"]) == '<div class="behind"><span>1 run not published here</span></div>'
    both = provenance.links(["mine", "yours", "step"])
    assert 'href="runs/step.html"' in both and "2 runs not published here" in both and "mine" not in both


def test_code_and_command(published):
    assert 'href="code/src/replication/search.py.html"' in provenance.links(code="src/replication/search.py")
    assert "<code>a &lt;b&gt; &amp; c</code>" in provenance.links(command="a <b> & c")
    assert provenance.links() == ""
    with pytest.raises(ValueError, match="source file of the checkout.*'src/none.py'"):
        provenance.links(code="src/none.py")
    with pytest.raises(ValueError, match="source file of the checkout"):
        provenance.links(code="data/README.md")
    with pytest.raises(ValueError, match="runs must be a list"):
        provenance.links("a-seed1-0123abcd")


def test_files_of_one_name_in_several_folders_all_have_a_page(published, tmp_path):
    for folder in ("quick", "paper", "scale"):
        (tmp_path / folder).mkdir(exist_ok=True)
        (tmp_path / folder / "grid.json").write_text("{}")
    found = provenance.record_files()
    names = {name: path.parent.name for name, path in found.items() if path.stem == "grid"}
    assert names == {"grid": "paper", "quick-grid": "quick", "scale-grid": "scale"}
