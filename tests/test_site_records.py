"""The pages of records: they say what the records say, and their commands make the very same runs."""

import json
import math
import re
import shlex
import shutil
from html.parser import HTMLParser

import pytest

from deepdefense.storage import files, paths
from replication import profiles, provenance
from replication.site import code_pages, commands, curves, extension, mends, records, run_list, run_page
from replication.site.html import value


class Tables(HTMLParser):
    """All cells of a page as text, row by row."""

    def __init__(self, html: str):
        super().__init__()
        self.rows, self.inside = [], False
        self.feed(html)

    def handle_starttag(self, tag, attributes):
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.inside = True
            self.rows[-1].append("")

    def handle_endtag(self, tag):
        if tag in ("td", "th"):
            self.inside = False

    def handle_data(self, data):
        if self.inside:
            self.rows[-1][-1] += data


@pytest.fixture(scope="module")
def committed():
    return records.read_all(paths.results_root())


def test_every_record_has_its_files_once(committed):
    owned = [path for record in committed for path in record.files]
    there = [path for path in paths.results_root().rglob("*") if path.is_file() and path.suffix in (".json", ".parquet", ".safetensors")]
    assert len(owned) == len(set(owned)) and set(owned) == set(there)


def test_the_command_of_each_run_makes_that_run(committed):
    """Read as papermill reads it, the command gives the same configuration, so the same name."""
    runs = [record for record in committed if record.content.get("kind") == "training"]
    told = [record for record in runs if (command := commands.training(record.content["config"])) and made(command) == record.name]
    assert len(told) == len(runs) > 200


def made(command: str) -> str:
    """Name of the run that a papermill command of the chapter on training makes."""
    words = shlex.split(command)
    assert words[:3] == ["papermill", "book/03_train.ipynb", "out.ipynb"] and words[3::3] == ["-p"] * len(words[3::3])
    given = dict(zip(words[4::3], map(number_or_text, words[5::3]), strict=True))
    return profiles.make(**given).name()


def number_or_text(word: str):
    try:
        return json.loads(word)
    except ValueError:
        return {"True": True, "False": False}.get(word, word)


def test_a_run_that_no_profile_gives_has_no_command_of_its_own(committed):
    config = next(record.content["config"] for record in committed if record.content.get("kind") == "training")
    assert commands.training(config) is not None
    assert commands.training(config | {"val_steps": 11}) is None


def test_the_page_of_a_run_says_what_its_record_says(committed):
    record = next(one for one in committed if one.group == "quick" and one.parts("attacks") and one.parts("measures"))
    html, content = run_page.of(record), record.content
    rows = Tables(html).rows
    accuracy = f"{100 * content['metrics']['last']['test_accuracy']:.1f} %"
    assert accuracy in next(row for row in rows if row[0] == "accuracy")
    for report in record.parts("attacks"):
        for name, one in report["attacks"].items():
            assert any(row[0] == name and row[1].startswith(f"{100 * one['accuracy']:.1f} %") for row in rows), name
    assert html.count("<svg") == 4 and "papermill book/04_attacks.ipynb" in html and "papermill book/09_measure.ipynb" in html
    assert f'href="../records/quick/{record.name}.json"' in html


def test_curves_leave_gaps_and_name_their_ends():
    drawn = curves.chart("Loss", {"a": [0.5, math.nan, 0.25, 0.125], "b": [None, None]})
    assert len(re.findall(r'<path class="curve c0"', drawn)) == 3  # two stretches, and the line of the legend
    assert "a from 0.500 after epoch 1 to 0.125 after epoch 4" in drawn and ">b<" not in drawn
    assert curves.chart("Loss", {"a": [math.nan]}) == ""
    assert curves.nice_ticks(0, 1) == pytest.approx([0, 0.25, 0.5, 0.75, 1]) and curves.nice_ticks(2, 2) == [2]


def test_the_list_leads_to_every_json_file_of_a_run(committed):
    some = [record for record in committed if record.group in ("quick", "checked", "benchmarks")]
    html = run_list.of(some)
    for record in some:
        for path in record.files:
            assert (f'href="../records/{path.relative_to(record.root).as_posix()}"' in html) == (path.suffix == ".json")
    (row,) = [row for row in Tables(html).rows if row[0] == "cifar10-cnn-gfa-first-lam1.65-seed1-58b47aba"]
    assert row[-1] == "trainingmeasures n500attacks L2 ε 0.5 n100attacks L∞ ε 0.0314 n200"


def test_a_page_leads_to_its_record_files_and_command(committed):
    for kind in ("training", "benchmark"):
        record = next(one for one in committed if one.content.get("kind") == kind)
        html = run_page.of(record)
        assert f'<a href="../records/{record.file.relative_to(record.root).as_posix()}">the record (JSON)</a>' in html
        for name in ("files", "make-it-again"):
            assert html.count(f'href="#{name}"') == html.count(f'id="{name}"') == 1


def test_what_an_attack_warned_of_stands_below_its_table(committed):
    report = next(part for one in committed for part in one.parts("attacks"))
    warned = {"part": "Square", "kind": "better", "message": "the accuracy <fell>", "times": 2}
    assert "Warning" not in run_page.attacks(report | {"warnings": []})
    assert "<p>Warning of Square, 2 ×: the accuracy &lt;fell&gt;</p>" in run_page.attacks(report | {"warnings": [warned]})


def test_the_page_of_a_published_network_leads_to_its_weights(tmp_path, committed):
    one = next(one for one in committed if one.group == "quick" and one.content["kind"] == "training")
    name = one.name
    folder = tmp_path / "quick"
    folder.mkdir()
    shutil.copy(one.file, folder)
    bare = run_page.of(records.read_all(tmp_path)[0])
    (folder / f"{name}.safetensors").write_bytes(bytes(2000))
    shown = run_page.of(records.read_all(tmp_path)[0])
    assert "Its network" not in bare and ".safetensors" not in bare
    assert f'href="../records/quick/{name}.safetensors" download' in shown and f"networks.load(&#x27;{name}&#x27;)" in shown


def test_hostile_names_and_text_are_shown_as_text(tmp_path):
    record = {"kind": "benchmark", "name": "<b>", "rows": [{"<i>": "<script>"}], "environment": {"date": "<u>"}}
    files.write_json(tmp_path / "benchmarks" / "x.json", record)
    (found,) = records.read_all(tmp_path)
    for html in (run_page.of(found), run_list.of([found])):
        assert "<b>" not in html and "<i>" not in html and "<u>" not in html and "<script>alert" not in html
    assert "&lt;script&gt;" in run_page.of(found)


def test_the_site_gets_pages_files_and_code(tmp_path, monkeypatch):
    """Of a run that diverged in its second epoch, without metrics, and with a masking report of its own folder."""
    name, results, site = "digits-cnn-standard-seed0-0123abcd", tmp_path / "results", tmp_path / "site"
    history = [{"epoch": 1, "train_loss": 0.5, "finite": True}, {"epoch": 2, "train_loss": None, "finite": False}]
    record = {"kind": "training", "name": name, "status": "diverged", "config": profiles.make().to_dict(), "history": history}
    record |= {"data": {"train": 100}, "wall_time_s": 3.0, "metrics": None, "environment": {"device": "cpu"}}
    files.write_json(results / "search" / f"{name}.json", record)
    files.write_json(results / "search" / f"{name}.report-last" / "note.json", {"kind": "other"})
    monkeypatch.setattr(provenance, "code_files", lambda: {"src/replication/scope.py": paths.root() / "src/replication/scope.py"})
    extension.write(site, results)
    html = (site / "runs" / f"{name}.html").read_text()
    assert "<strong>diverged</strong>" in html and "Loss on training images" in html and "Under attack" not in html
    assert 'data-key="0123abcd"' in (site / "runs" / "index.html").read_text()
    assert (site / "records" / "search" / f"{name}.report-last" / "note.json").is_file()
    code = (site / "code" / "src" / "replication" / "scope.py.html").read_text()
    assert 'id="L-1"' in code and 'href="../../../_static/records.css"' in code
    assert code_pages.DARK not in code and ".highlight" in (site / "_static" / "records.css").read_text()


def test_a_number_is_not_broken_from_its_unit_or_uncertainty_and_code_stays():
    kept = "<pre>5 % 2 ± 1</pre><code class='x'>3 % 2</code><script>a = 7 % 3</script><p title=\"1 % 2\">"
    said = f"{kept}28.1 % of 0.80 ± 0.10, 5 seeds; % alone ± x</p>"
    assert mends.mended(said) == f"{kept}28.1\u00a0% of 0.80\u00a0±\u00a00.10, 5 seeds; % alone ± x</p>"
    assert mends.mended(mends.mended(said)) == mends.mended(said)


def test_numbers_of_a_record_are_shown_in_full_or_to_six_digits():
    shown = {9.77203e6: "9,772,030", 156074: "156,074", 5.86721234: "5.86721", -0.001: "−0.001", 99999.5: "99999.5", 2.5e5: "250,000"}
    assert {number: value(number) for number in shown} == shown
    assert value(1e30) == "1e+30"


def test_pages_of_the_theme_are_mended(tmp_path):
    page = '<script defer src="_static/scripts/fontawesome.js?digest=1"></script>'
    page += '<i class="fa-solid fa-moon"></i><div role="list" class="citation-list">'
    index = '<script src="searchindex.js"></script>'
    (tmp_path / "a.html").write_text(page + index)
    (tmp_path / "search.html").write_text(index)
    style = tmp_path / mends.THEME_STYLE
    style.parent.mkdir(parents=True)
    style.write_text('.a{color:red}.fa-moon:before{content:"1"}.fa-sun:before,.fa-day:before{content:"2"}.b{color:red}')
    (tmp_path / "_static" / "x.js").write_text("icon('fa-day')")
    mends.mend(tmp_path)
    assert (tmp_path / "a.html").read_text() == '<i class="fa-solid fa-moon"></i><div class="citation-list">'
    assert (tmp_path / "search.html").read_text() == index
    assert "fa-moon" in style.read_text() and "fa-day" in style.read_text(), "one is on a page, the other shown by a script"
    (tmp_path / "_static" / "x.js").write_text("")
    mends.mend(tmp_path)
    assert style.read_text() == '.a{color:red}.fa-moon:before{content:"1"}.b{color:red}'
