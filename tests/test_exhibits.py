"""Tables and figures as pages show them: what is aligned, what is bold, what is refused, and that the bytes are the same every time."""

import base64
import math
import re
from xml.etree import ElementTree

import matplotlib
import pandas as pd
import pytest
from matplotlib import pyplot as plt

from replication import exhibits, figures, provenance, tables
from replication.chapters.style import style
from replication.tables import Spread

matplotlib.use("Agg")


def shown(monkeypatch, module, call):
    found = []
    monkeypatch.setattr(module, "display", found.append)
    call()
    (one,) = found
    return one


@pytest.fixture
def spreads():
    rows = {"plain": Spread(0.0196, 0.0028, 5), "GFA": Spread(-1.52e-05, 0.0056, 5), "GNR": Spread(12.5, 0.0034, 5)}
    return pd.DataFrame({"mean margin": rows.values(), "seeds": [5, 5, 5]}, index=pd.Index(list(rows), name="defence"))


def test_a_column_has_the_same_decimals_true_minus_signs_and_its_points_in_line(spreads):
    lines = tables.text(spreads).splitlines()[1:]
    assert [line.split("  ")[0] for line in lines] == ["plain", "GFA", "GNR"]
    assert "0.0196 ± 0.0028" in lines[0] and "−0.0000 ± 0.0056" in lines[1] and "12.5000 ± 0.0034" in lines[2]
    assert len({line.index(".") for line in lines}) == 1 and len({line.index("±") for line in lines}) == 1


@pytest.mark.parametrize(
    "texts, wanted",
    [
        (["3.1 ± 0.6", "12", "–"], [("\u20073.1", " ± 0.6"), ("12\u2008\u2007", ""), ("–", "")]),
        (["-1.0 [-2.0, 11.5]", "+2.25 [1.0, 3.0]"], [("−1.0\u2007", " [−2.0, 11.5]"), ("+2.25", " [\u20071.0, \u20073.0]")]),
        (["3 of 19", "1 of 19"], None),
        (["–", "–"], None),
        (["1.5×", "10.25×"], [("\u20071.5\u2007×", ""), ("10.25×", "")]),
    ],
)
def test_texts_that_are_numbers_are_aligned(texts, wanted):
    assert tables._aligned(texts) == wanted


def test_best_is_bold_only_where_the_interval_allows(spreads):
    assert tables.text(spreads, best={"mean margin": "high"}).count("*") == 1
    close = spreads.assign(**{"mean margin": [Spread(1.0, 0.5, 5), Spread(1.1, 0.5, 5), Spread(0.2, 0.1, 5)]})
    assert "*" not in tables.text(close, best={"mean margin": "high"})
    assert tables.text(close, best={"mean margin": "low"}).count("*") == 1
    one_seed = spreads.assign(**{"mean margin": [Spread(1.0, math.nan, 1), Spread(9.0, math.nan, 1), Spread(0.2, math.nan, 1)]})
    assert "*" not in tables.text(one_seed, best={"mean margin": "high"})
    assert Spread(1.0, 2.0, 4).interval() == pytest.approx((1 - 3.1824463, 1 + 3.1824463))


def test_best_is_sought_within_each_group():
    index = pd.MultiIndex.from_product([["one", "two"], ["a", "b"]], names=["pair", "defence"])
    table = pd.DataFrame({"x (%)": ["1.0 ± 0.1", "5.0 ± 0.1", "30.0 ± 1.0", "30.5 ± 1.0"], "seeds": [5] * 4}, index=index)
    lines = tables.text(table, best={"x (%)": "high"}).splitlines()
    assert ["*" in line for line in lines] == [False, False, True, False, False]
    html = tables.html(table, label="x")
    assert html.count('rowspan="2"') == 2 and not re.search(r"<th[^>]*></th>", html)


def test_no_column_goes_without_a_name():
    with pytest.raises(ValueError, match="every column of a table needs a name"):
        tables.text(pd.DataFrame({"a": [1]}))


def test_a_column_goes_only_where_every_row_is_as_usual():
    runs = pd.DataFrame({"status": ["finished", "finished"], "accuracy": [1.0, 2.0]}, index=pd.Index(["a", "b"], name="defence"))
    assert list(tables.without(runs, status="finished", distance="–").columns) == ["accuracy"]
    runs.loc["b", "status"] = "collapsed"
    assert list(tables.without(runs, status="finished").columns) == ["status", "accuracy"]


@pytest.mark.parametrize("empty", [pd.DataFrame(), pd.DataFrame({"a": []}), pd.DataFrame(columns=["a"]).set_index("a")])
def test_a_table_without_rows_says_so(monkeypatch, empty):
    one = shown(monkeypatch, exhibits, lambda: tables.show(empty, caption="Of images.", name="all-margins"))
    assert repr(one) == "Table all margins: there is no record yet of what it would show." and "<table" not in one.html


def test_a_table_travels_as_csv_with_all_digits_and_leads_to_its_runs(monkeypatch, spreads):
    run = next(iter(provenance.record_files()))
    call = lambda: tables.show(spreads, caption="Of `n` <images>.", name="margins", runs=[run], code="src/replication/tables.py")  # noqa: E731
    one = shown(monkeypatch, tables, call)
    content = base64.b64decode(re.search(r'base64,([^"]+)"', one.html)[1]).decode()
    assert content.splitlines()[0] == 'defence,"mean margin, mean","mean margin, sd",seeds' and "-1.52e-05,0.0056" in content
    assert 'tabindex="0" role="region"' in one.html and "<code>n</code> &lt;images&gt;" in one.html
    assert f"runs/{run}.html" in one.html and one.text == shown(monkeypatch, tables, call).text
    cut = shown(monkeypatch, tables, lambda: tables.show(spreads.head(1), whole=spreads, caption="Of images.", name="cut"))
    assert base64.b64decode(re.search(r'base64,([^"]+)"', cut.html)[1]).decode() == content and cut.html.count("<tr>") < one.html.count(
        "<tr>"
    )


@pytest.fixture
def figure():
    style()
    fig, ax = plt.subplots(figsize=(7, 3))
    ax.plot([0, 1], [0, 1], color="black")
    ax.set_title("a title")
    ax.set_yticks([0.005, 0.5], ["0.005; half: 0.0025", "0.5"])
    yield fig
    plt.close(fig)


def test_a_figure_is_an_element_of_the_page_with_its_ink_and_the_same_bytes_twice(monkeypatch, figure):
    first, second = (figures.svg(figure, "a line that rises") for _ in range(2))
    assert first == second and ElementTree.fromstring(first).get("aria-label") == "a line that rises"
    assert "currentColor" in first and "#000000" not in first and "#ffffff" not in first and "a title</text>" in first
    assert "0.005; half: 0.0025</text>" in first, "the words of a figure stay as they are"
    assert ' id="' not in first.replace("<clipPath id", "").replace("<path id", "")
    one = shown(monkeypatch, figures, lambda: figures.show(figure, alt="a line that rises", caption="It rises. n = 2."))
    assert "<figcaption><p>It rises. n = 2.</p>" in one.html and one.text == "[figure] a line that rises\nIt rises. n = 2."


def test_a_figure_that_cannot_be_read_in_the_column_is_refused(figure):
    with pytest.raises(ValueError, match="alt and caption"):
        figures.show(figure, alt=" ", caption="x")
    figure.axes[0].set_title("small", fontsize=5)
    with pytest.raises(ValueError, match="at least 7.5 points; got 5 in 'small'"):
        figures.show(figure, alt="x", caption="x")
    figure.axes[0].set_title("")
    figure.set_size_inches(9, 3)
    with pytest.raises(ValueError, match="7.3 inches wide"):
        figures.show(figure, alt="x", caption="x")


def test_an_answer_needs_a_sentence(monkeypatch):
    with pytest.raises(ValueError, match="at least one sentence"):
        exhibits.answer([""])
    one = shown(monkeypatch, exhibits, lambda: exhibits.answer(["a < b in `x`"]))
    assert "<li>a &lt; b in <code>x</code></li>" in one.html


def test_what_is_folded_is_behind_its_title_and_reads_the_same_as_text(monkeypatch, spreads):
    shown = []
    monkeypatch.setattr(tables, "display", shown.append)
    for fold in (None, "In `numbers`, -1"):
        tables.show(spreads, caption="x", name="x", fold=fold)
    opened, closed = shown
    assert closed.html == f'<details class="fold"><summary>In <code>numbers</code>, −1</summary>{opened.html}</details>'
    assert repr(closed) == repr(opened)


def test_a_cell_leads_where_its_text_is_linked():
    html = tables.html(
        pd.DataFrame({"page": ["a & b", "c"]}, index=pd.Index(["x", "y"], name="row")), label="t", links={"a & b": "a.html?x&y"}
    )
    assert '<td class=""><a href="a.html?x&amp;y">a &amp; b</a></td>' in html and html.count("<a ") == 1
