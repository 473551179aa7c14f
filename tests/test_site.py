"""The committed book builds without a warning and without a network, and its pages need none either."""

import os
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import browse_site
import build_site
import plan
import pytest
from public_names import other_names, public_names

ROOT = Path(__file__).resolve().parents[1]

# Python reads this file when it starts: any attempt to look up or reach another machine is noted and refused.
NO_NETWORK = """
import os, socket
def refuse(*args, **kwargs):
    with open(os.environ["NETWORK_NOTES"], "a") as notes:
        print(args, file=notes)
    raise OSError("this build must not need the network")
socket.getaddrinfo = socket.socket.connect = socket.socket.connect_ex = refuse
"""

# What a browser fetches by itself when it shows a page; a link to another site is only followed by the reader.
FETCHED = {
    "script": ("src",), "img": ("src", "srcset"), "iframe": ("src",), "source": ("src", "srcset"), "video": ("src",),
    "audio": ("src",), "embed": ("src",), "object": ("data",), "link": ("href",), "input": ("src",),
}  # fmt: skip
LINK_ONLY_NAMES = {"canonical", "next", "prev", "author", "license", "search", "index", "help"}


class Page(HTMLParser):
    """What a page fetches, links to, and can be linked to."""

    def __init__(self, html: str):
        super().__init__()
        self.fetches: list[str] = []
        self.links: list[str] = []
        self.anchors: set[str] = set()
        self.style = ""
        self.inside = ""
        self.feed(html)
        self.fetches += in_css(self.style)

    def handle_starttag(self, tag, attributes):
        values = {name: value for name, value in attributes if value is not None}
        self.inside = tag
        self.anchors |= {values[name] for name in ("id", "name") if name in values}
        self.style += values.get("style", "") + "\n"
        if tag == "a" and "href" in values:
            self.links.append(values["href"])
        if tag == "link" and set(values.get("rel", "").split()) <= LINK_ONLY_NAMES:
            return
        self.fetches += [values[name] for name in FETCHED.get(tag, ()) if name in values]

    handle_startendtag = handle_starttag

    def handle_data(self, data):
        if self.inside == "style":
            self.style += data + "\n"

    def handle_endtag(self, tag):
        self.inside = ""


def in_css(css: str) -> list[str]:
    """The addresses that a style sheet loads."""
    css = re.sub(r"/\*.*?\*/", "", css, flags=re.DOTALL)
    return [a or b for a, b in re.findall(r"url\(\s*['\"]?([^'\")]+)|@import\s+['\"]([^'\"]+)", css)]


def outside(address: str) -> bool:
    return address.startswith("//") or urlsplit(address).scheme in ("http", "https", "ftp", "ws", "wss")


def build(folder: Path) -> tuple[subprocess.CompletedProcess, str]:
    """Build the book in `folder` with the network shut; returns what was said and what asked for the network."""
    guard, notes = folder / "guard", folder / "guard" / "notes"
    guard.mkdir(exist_ok=True)
    (guard / "sitecustomize.py").write_text(NO_NETWORK)
    notes.write_text("")
    command = [sys.executable, "-c", "from jupyter_book.cli.main import main; main()", *build_site.BUILD]
    settings = os.environ | {"PYTHONPATH": f"{guard}{os.pathsep}{ROOT / 'src'}", "NETWORK_NOTES": str(notes)}
    done = subprocess.run(command, cwd=folder, env=settings, text=True, stdin=subprocess.DEVNULL, capture_output=True, encoding="utf-8")
    return done, notes.read_text()


@pytest.fixture(scope="session")
def site(tmp_path_factory) -> Path:
    """The folder of the committed book's pages, built in a copy."""
    folder = tmp_path_factory.mktemp("book") / "copy"
    ignore = shutil.ignore_patterns("_build", ".ipynb_checkpoints", "out*.ipynb")
    shutil.copytree(ROOT / "book", folder / "book", ignore=ignore)
    shutil.copy(ROOT / "_config.yml", folder)
    done, asked = build(folder)
    assert done.returncode == 0, done.stdout + done.stderr
    assert asked == "", f"the build asked for the network: {asked}"
    return folder / "_build" / "html"


@pytest.fixture(scope="session")
def parsed(site) -> dict[str, Page]:
    return {name: Page((site / name).read_text(encoding="utf-8")) for name in browse_site.pages(site)}


@pytest.fixture(scope="session")
def browser():
    if browse_site.find_chromium() is None:
        pytest.skip("Chromium is not installed")
    with browse_site.Browser() as running:
        yield running


def test_every_chapter_has_a_page(site, parsed):
    chapters = {f"{path.stem}.html" for path in plan.notebooks(ROOT / "book")} | {"index.html"}
    assert chapters <= set(parsed)
    committed = {path.stem for path in (ROOT / "book").glob("[0-9]*.ipynb")}
    assert committed <= {name.removesuffix(".html") for name in parsed}, "a notebook is missing from book/_toc.yml"


def test_pages_fetch_nothing_from_other_machines(site, parsed):
    found = [f"{name}: {address}" for name, page in parsed.items() for address in page.fetches if outside(address)]
    for sheet in site.rglob("*.css"):
        found += [f"{sheet.name}: {a}" for a in in_css(sheet.read_text(encoding="utf-8")) if outside(a)]
    assert found == []


def test_links_inside_the_site_lead_somewhere(site, parsed):
    broken = []
    for name, page in parsed.items():
        for address in page.links + page.fetches:
            parts = urlsplit(address)
            if parts.scheme or parts.netloc or address in ("", "#"):
                continue
            path = (site / name).parent / unquote(parts.path) if parts.path else site / name
            if not path.is_file():
                broken.append(f"{name}: {address} is not there")
            elif parts.fragment and path.suffix == ".html":
                target = parsed.get(path.resolve().relative_to(site.resolve()).as_posix())
                if target is None or unquote(parts.fragment) not in target.anchors:
                    broken.append(f"{name}: {address} has no such place")
    assert broken == []


def test_maths_is_served_with_the_site(site, parsed):
    with_maths = [name for name, page in parsed.items() if any("mathjax/startup.js" in item for item in page.fetches)]
    assert "01_theory.html" in with_maths
    assert (site / "_static" / "mathjax" / "startup.js").is_file()


def test_every_public_name_is_on_the_page_of_the_api(parsed):
    there = parsed["api.html"].anchors
    assert not [name for name in public_names() if not {name, *other_names(name)} & there]


def test_no_folded_code_stands_above_what_a_page_answers(site):
    """Every page of the book that is a notebook: something is read before the first box of code."""
    pages = [site / f"{path.stem}.html" for path in sorted((ROOT / "book").glob("*.ipynb"))]
    answered = 0
    for path in pages:
        article = path.read_text(encoding="utf-8").partition("</h1>")[2]
        before, fold, _ = article.partition('<details class="admonition hide')
        assert fold and len(re.sub(r"<[^>]*>|\s+", " ", before).split()) > 10, path.name
        if '<div class="answer">' in article:
            answered += 1
            assert '<div class="answer">' in before, f"{path.name}: code stands above the answer"
    assert answered >= 15


@pytest.mark.slow
def test_pages_in_a_browser(site, parsed, browser):
    """Every page of the book and a few of the records, wide and narrow, light and dark, with scripts and without: see browse_site."""
    with browse_site.serve(site) as origin:
        assert browse_site.inspect_all(browser, origin, browse_site.sample(parsed)) == []
        theory = browser.visit(origin, "01_theory.html", 1280)
    assert theory.typeset >= theory.maths > 0


def test_a_stranger_reaches_the_record_behind_a_number_in_two_clicks(site, browser):
    """From C1's card on the front page to the list of its runs, from there to a run, which hands out its record."""
    with browse_site.serve(site) as origin, browser.connection().tab() as tab:
        tab.look(1280, False)
        tab.load(f"{origin}/index.html")
        first = tab.evaluate("document.querySelector('#claim-C1').parentElement.querySelector('.behind-runs').href")
    with browse_site.serve(site) as origin, browser.connection().tab() as tab:
        tab.load(f"{origin}/{first.split('/', 3)[3]}")
        shown = tab.evaluate("[...document.querySelectorAll('tr[data-key]:not([hidden]) a')].map(a => a.href.split('/').pop())")
        said = tab.evaluate("document.getElementById('said').textContent")
    runs = [name for name in shown if name.endswith(".html")]  # beside each stand its records
    assert len(runs) > 4 and said.startswith(f"{len(runs)} of ") and len(shown) > len(runs)
    assert all(name.startswith("cifar10-cnn-") and (site / "runs" / unquote(name)).is_file() for name in runs)
    page = Page((site / "runs" / unquote(runs[0])).read_text(encoding="utf-8"))
    record = next(link for link in page.links if link.endswith(".json"))
    assert (site / "runs" / unquote(record)).resolve().is_file()


# The checks themselves: each must be able to fail.

BAD_PAGES = {
    "console": ("<script>console.error('one complaint')</script>", "console: one complaint"),
    "exception": ("<script>nothing.there()</script>", "ReferenceError"),
    "outside": ("<script src='http://cdn.example/require.js'></script>", "asks outside: http://cdn.example/require.js"),
    "late": ("<script>fetch('http://late.example/').catch(() => 0)</script>", "asks outside: http://late.example/"),
    "missing": ("<img src='lost.png'>", "did not load"),
    "wide": ("<div id=a style='width:900px'>wide</div>", "scrolls sideways, 900 px wide"),
    "maths": ("<span class='math'>\\(x\\)</span>", "1 of 1 formulas are not typeset"),
}
DARK = "<style>@media (prefers-color-scheme: dark) {body {background: #000} p {color: #333}}</style>"
# And what `inspect` looks at besides.
WORSE_PAGES = {
    "unreadable": ("<p style='color:#bbb'>pale</p>", "axe: serious: color-contrast"),
    "unreadable in the dark": ("<p>text" + DARK, "dark: serious: color-contrast"),
    "unnamed": ("<button></button>", "critical: button-name"),
    "tiny": ("<svg viewBox='0 0 2000 100' width='390'><text y='50' font-size='20'>tiny</text></svg>", "px in a figure: tiny"),
    "tiny, in a file": ("<img src='tiny.svg' alt='tiny' width='390'>", "px in a figure: outlined"),
    "heavy": ("<img src='heavy.svg' alt='heavy'>", "weighs 2.1 MB"),
    "script alone": ("<p id=late></p><script>late.textContent = 'word '.repeat(99)</script>", "characters are shown"),
}  # fmt: skip
TINY = "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 2000 100'><text style='font: 20px sans' y='50'>outlined</text></svg>"


@pytest.mark.parametrize("name", BAD_PAGES)
def test_browser_notices(tmp_path, browser, name):
    content, said = BAD_PAGES[name]
    page = "<!doctype html><link rel=icon href='data:,'><body style='margin:0'>{}</body>"
    (tmp_path / "bad.html").write_text(page.format(content))
    (tmp_path / "good.html").write_text(page.format("<div style='overflow:auto'><p style='width:900px'>text</div>"))
    with browse_site.serve(tmp_path) as origin:
        assert said in "\n".join(browser.visit(origin, "bad.html", 390).problems())
        assert browser.visit(origin, "good.html", 390).problems() == []


@pytest.mark.parametrize("name", WORSE_PAGES)
def test_inspection_notices(tmp_path, browser, name):
    content, said = WORSE_PAGES[name]
    page = (
        "<!doctype html><html lang=en><title>page</title><link rel=icon href='data:,'><body><main><article><h1>Page</h1>{}</article></main>"
    )
    (tmp_path / "tiny.svg").write_text(TINY)
    (tmp_path / "heavy.svg").write_text(f"<svg xmlns='http://www.w3.org/2000/svg'><!--{'x' * 2_100_000}--></svg>")
    (tmp_path / "bad.html").write_text(page.format(content))
    (tmp_path / "good.html").write_text(page.format("<p>text</p><button>named</button>"))
    with browse_site.serve(tmp_path) as origin:
        assert said in "\n".join(browser.inspect(origin, "bad.html"))
        assert browser.inspect(origin, "good.html") == []


def test_a_sample_has_every_page_of_the_book_and_some_of_each_kind():
    names = ["index.html", "a.html", "runs/index.html", "code/index.html", *(f"runs/{k}.html" for k in range(9)), "code/src/b.py.html"]
    found = browse_site.sample(names)
    assert {"index.html", "a.html", "runs/index.html", "code/index.html", "code/src/b.py.html"} < set(found)
    assert len([name for name in found if name.startswith("runs/")]) == 4 and len(found) == len(set(found))


def test_browse_command(tmp_path, browser, capsys):
    (tmp_path / "html").mkdir()
    with pytest.raises(SystemExit):
        browse_site.main([str(tmp_path / "html")])
    assert "make book" in capsys.readouterr().err
    page = tmp_path / "html" / "page.html"
    page.write_text("<!doctype html><html lang=en><title>page</title><link rel=icon href='data:,'><main><h1>text</h1></main>")
    arguments = [str(tmp_path / "html"), "--out", str(tmp_path / "shots"), "--width", "500", "--dark"]
    assert browse_site.main(arguments) == 0
    assert (tmp_path / "shots" / "page-500-dark.png").read_bytes().startswith(b"\x89PNG")
    page.write_text("<!doctype html><link rel=icon href='data:,'><script>console.error('no')</script>")
    assert browse_site.main(arguments) == 1


def test_browse_without_chromium(monkeypatch):
    monkeypatch.setenv("CHROMIUM", "there-is-no-such-browser")
    with pytest.raises(browse_site.BrowserError, match="No Chromium found"):
        browse_site.Browser()


def test_parser_notices():
    page = Page(
        "<style>@import 'http://a.example/x.css'; p {background: url(//b.example/y.png)}</style>"
        "<link rel=stylesheet href=https://c.example/z.css><link rel=canonical href=https://d.example/>"
        "<a href=https://e.example/>out</a><p style='background:url(http://f.example/)' id=here>"
    )
    hosts = {urlsplit(address).netloc for address in page.fetches if outside(address)}
    assert hosts == {"a.example", "b.example", "c.example", "f.example"}
    assert page.links == ["https://e.example/"] and "here" in page.anchors


def test_build_fails_on_a_warning(tmp_path):
    """A book of one page, with references that lead nowhere."""
    (tmp_path / "book").mkdir()
    shutil.copy(ROOT / "book" / "references.bib", tmp_path / "book")
    shutil.copytree(ROOT / "book" / "_static", tmp_path / "book" / "_static")
    shutil.copy(ROOT / "_config.yml", tmp_path)
    (tmp_path / "book" / "_toc.yml").write_text("format: jb-book\nroot: index\n")
    page = "# Title\n\n{doc}`no-page` [](no-file.md) {cite}`nobody1900` {eq}`no-equation` [](#no-label)\n"
    (tmp_path / "book" / "index.md").write_text(page)
    done, asked = build(tmp_path)
    assert done.returncode != 0 and asked == ""
    for name in ("no-page", "no-file", "nobody1900", "no-equation", "no-label"):
        assert name in done.stderr
