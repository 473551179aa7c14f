"""The HTML of a report: self-contained, true to its numbers, safe against what others wrote, readable in a browser."""

import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import browse_site
import numpy as np
import pytest
from defences import small_images, steepest

from deepdefense import attacks, evaluate, html_report
from deepdefense.masking.check import Check, MaskingReport, Rule

HOSTILE = "</script><script>alert(1)</script><img src=http://evil.example/x onerror=alert(2)> & \"quoted\" 'too'"
VOID = {"meta", "link", "br", "img", "input", "hr"}


class Read(HTMLParser):
    """Tags, attributes and texts; the elements that are left open."""

    def __init__(self, text: str):
        super().__init__()
        self.tags: list[tuple[str, dict]] = []
        self.open: list[str] = []
        self.texts: dict[str, list[str]] = {}
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.setdefault(self.open[-1] if self.open else "", []).append(data)


def checks() -> MaskingReport:
    """A check that fails, one without power, one that passes in part, one that was not made."""
    seen, blind = Rule("Square only", 9, 11, 12, 0.01).to_dict(), Rule("RayS only", 0, 0, 12, 0.01).to_dict()
    made = [
        Check(1, "Black-box attacks never win", "fail", f"Square breaks 9 images. {HOSTILE}", "Fails if", {}, {"a": 1}, [seen]),
        Check(2, "Random search never wins", "no power", "It could not have failed.", "Fails if", {}, {"a": 1}, [blind]),
        Check(3, "Transfer never wins", "pass", "Nothing.", "Fails if", {}, {"a": 1}, [seen, blind]),
        Check(4, "AutoAttack does not warn", "not applicable", "Not run.", "Fails if", {}, {}),
    ]
    return MaskingReport(tuple(made), 8 / 255, 12, 11, {"steps": 20, "targets": None})


@pytest.fixture(scope="module")
def report():
    model, x, y = small_images(12)
    suites = {"own": {"FGSM": attacks.fgsm, HOSTILE.replace("/", "|"): steepest, "idle": lambda model, x, y, *, eps, seed=0: x}}
    made = evaluate(model, x, y, eps=8 / 255, suites=suites, progress=False, about={"name": HOSTILE, "cautions": [HOSTILE]})
    warned = {"part": "Square", "kind": "zero gradient", "message": HOSTILE, "times": 3}
    left = [{"attack": "standard/APGD-T", "reason": "it needs 4 classes, the model has 2"}]
    return replace(made, about={**made.about, "warnings": [warned], "left_out": left})


@pytest.fixture(scope="module")
def text(report):
    return html_report.page(report, checks())


def test_no_request_leaves_it_and_no_script_runs(text):
    read = Read(text)
    assert read.open == [] and read.tags[0][0] == "html"
    assert [values for tag, values in read.tags if tag == "script"] == [{"type": "application/json", "id": "report"}]
    loading = [
        values for tag, values in read.tags if tag in ("img", "iframe", "object", "embed", "video", "audio", "source", "use", "image")
    ]
    assert loading == [] and [values["href"] for _, values in read.tags if "href" in values] == ["data:,"]
    assert not [name for _, values in read.tags for name in values if name.startswith("on") or name in ("src", "style", "action")]
    (style,) = read.texts["style"]
    assert "url(" not in style and "@import" not in style and "prefers-color-scheme: dark" in style


def test_the_record_is_in_it_whole(text, report):
    read = Read(text)
    assert json.loads("".join(read.texts["script"])) == json.loads(json.dumps(html_report.record(report, checks())))
    assert json.loads("".join(read.texts["pre"])) == report.summary()["robustbench"]


def test_its_numbers_are_those_of_the_record(text, report):
    summary, plain = report.summary(), re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", text.split("<main>")[1].split("<script")[0]))
    for part in ("worst_case", "clean"):
        row = {name: f"{100 * value:.1f}" for name, value in summary[part].items()}
        assert f"{row['accuracy']} % [{row['low']}, {row['high']}] %, n = 12" in plain
    for row in summary["attacks"].values():
        assert (
            f"{row['attacked']} {row['succeeded']} {100 * row['accuracy']:.1f} [{100 * row['low']:.1f}, {100 * row['high']:.1f}]" in plain
        )
    widths = [float(w) for w in re.findall(r'class="value" width="([\d.]+)"', text)]
    wanted = [summary["clean"], *summary["attacks"].values(), summary["worst_case"]]
    assert widths == pytest.approx([100 * row["accuracy"] for row in wanted], abs=0.01) and len(set(widths)) > 1
    forward = sum(row["cost"]["forward"] for row in summary["attacks"].values())
    assert f"In all {forward} forward" in plain
    for words in ("L∞ eps = 8/255", "zero gradient (Square, 3 times)", "standard/APGD-T: it needs 4 classes", "1 of 4 checks fail",
                  "✗ fail", "○ no power", "✓ pass in part", "– not applicable", "9 counted, 11 of 12 could count, 2 would fail",
                  summary["model"], summary["images"], summary["environment"]["packages"]["torch"]):  # fmt: skip
        assert words in plain, words


def test_text_of_others_is_escaped(text):
    assert "<img" not in text and "<script>alert" not in text and text.count("</script>") == 1
    assert text.count("&lt;/script&gt;") > 4, "in the name, the warning, the caution, the check, the attack"


def test_a_curve_is_the_share_that_is_farther(report):
    key = next(key for key, outcome in report.outcomes.items() if not outcome.bounded)
    (path,) = re.findall(r'class="curve c0" d="M([\d. L]+)"><title', html_report.page(report))
    heights = np.array([float(point.split()[1]) for point in path.split("L")])
    share = 1 - (heights - 10) / (230 - 10 - 36)
    distance, missed = report.distance(key), np.isinf(report.distance(key)).sum()
    assert share[0] == pytest.approx((distance > 0).sum() / 12, abs=2e-3) and share[-1] == pytest.approx(missed / 12, abs=2e-3)
    assert (np.diff(share) <= 1e-9).all() and share[0] > share[-1]


def test_without_what_was_not_asked(report):
    bounded = {key: outcome for key, outcome in report.outcomes.items() if outcome.bounded}
    about = {**report.about, "warnings": [], "left_out": [], "cautions": []}
    text = html_report.page(replace(report, outcomes=bounded, about=about))
    assert "an attack that fails says nothing" in text and "Accuracy against the radius" not in text
    assert "AutoAttack, which warns of models that its attacks do not suit, was not run" in text and 'class="warning"' not in text


def test_of_a_cascade():
    model, x, y = small_images(12)
    report = evaluate(model, x, y, eps=8 / 255, suites={"own": {"FGSM": attacks.fgsm}}, progress=False, mode="worst_case")
    text = html_report.page(report)
    assert "no attack or suite has a number of its own" in re.sub(r"\s+", " ", text) and "Accuracy by suite" not in text


def test_in_a_browser(tmp_path, text):
    if browse_site.find_chromium() is None:
        pytest.skip("Chromium is not installed")
    (tmp_path / "report.html").write_text(text, encoding="utf-8")
    with browse_site.serve(tmp_path) as origin, browse_site.Browser() as browser:
        for width in (360, 1280):
            assert browser.visit(origin, "report.html", width).problems() == []
