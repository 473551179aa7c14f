"""Open the pages of a built site in headless Chromium and report what a reader would complain about.

    python tools/browse_site.py _build/html                                    every page of the book, a few of the records and sources
    python tools/browse_site.py _build/html --all                              every page there is: minutes
    python tools/browse_site.py _build/html --out shots --width 360 [--dark]   the same, and a full-page PNG of each
    python tools/browse_site.py _build/html --page index.html --axe FILE       one page, with another axe.min.js

Each page is served from 127.0.0.1 and opened at 1280 and 360 pixels, light and dark, with scripts and without. Reported, with exit
status 1: console errors, requests that leave the machine, loads that fail, pages that scroll sideways, formulas that are not set,
what axe-core calls serious or critical, text in figures that is shown smaller than 9 pixels or cut off at their edge, pages
heavier than 2 MB, and text that only scripts show. Chromium is driven through its DevTools protocol; the name of the executable can
be given in $CHROMIUM.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import functools
import http.server
import importlib.util
import itertools
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import websocket  # of websocket-client, which comes with jupyter-server

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-background-networking",
    "--disable-component-update", "--disable-default-apps", "--disable-extensions", "--disable-sync", "--no-first-run",
    "--hide-scrollbars", "--disable-backgrounding-occluded-windows", "--disable-renderer-backgrounding",
    "--disable-background-timer-throttling", "--remote-debugging-port=0", "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1",
)  # fmt: skip
WIDTHS = (1280, 360)
LOADED = "Network.loadingFinished"
MOST_BYTES = 2_000_000  # of a page with all that it loads
LEAST_TEXT = 9  # CSS pixels, of text in figures as shown in a wide window; drawings within the page in a narrow one too
SHARE_WITHOUT_SCRIPTS = 0.9  # of the article's visible text
FOLDERS = ("runs", "code")  # of pages that are made from one template each
LOCAL_SCHEMES = ("data", "blob", "about", "chrome")

# Settled: fonts are loaded and MathJax has typeset. Then what a page looks like from the inside.
SETTLE = """(async () => {
  if (window.MathJax && MathJax.startup) await MathJax.startup.promise;
  await document.fonts.ready;
  await new Promise(done => setTimeout(done, 150));
})()"""
MEASURE = """(() => {
  const root = document.documentElement;
  const hidden = e => { for (let p = e.parentElement; p; p = p.parentElement)
    if (getComputedStyle(p).overflowX !== 'visible' && p !== document.body && p !== root) return true; return false; };
  const wide = [...document.body.querySelectorAll('*')].filter(e => {
    const box = e.getBoundingClientRect();
    return box.width > 0 && box.right > innerWidth + 1 && !hidden(e); });
  const name = e => e.tagName.toLowerCase() + [...e.classList].map(c => '.' + c).join('');
  return {scroll: root.scrollWidth, wide: wide.slice(0, 3).map(name),
          maths: document.querySelectorAll('.math').length,
          typeset: document.querySelectorAll('mjx-container').length,
          bad_maths: document.querySelectorAll('mjx-merror').length};
})()"""


# Sizes of text in figures: [pixels as shown, the text]. Drawings of matplotlib may hold outlines, scaled by a hundredth of the size.
FIGURE_TEXT = """(async wide => {
  const found = [];
  const outlined = (root, scale) => { for (const group of root.querySelectorAll('g[id^="text_"]'))
    for (const e of group.querySelectorAll('g[transform*="scale("]')) {
      const k = /scale\\(([\\d.]+)/.exec(e.getAttribute('transform')); if (k) found.push([100 * k[1] * scale, group.id]); } };
  for (const svg of document.querySelectorAll('main svg[viewBox], article svg[viewBox]')) {
    if (!svg.querySelector('text') || !svg.getBoundingClientRect().width) continue;
    const scale = svg.getBoundingClientRect().width / svg.viewBox.baseVal.width;
    for (const e of svg.querySelectorAll('text')) found.push([parseFloat(getComputedStyle(e).fontSize) * scale, e.textContent]);
    outlined(svg, scale);
  }
  for (const image of wide ? document.querySelectorAll('article img[src*=".svg"]') : []) {
    if (!image.clientWidth) continue;
    const drawing = new DOMParser().parseFromString(await (await fetch(image.src)).text(), 'image/svg+xml').documentElement;
    const scale = image.clientWidth / drawing.viewBox.baseVal.width;
    for (const e of drawing.querySelectorAll('text')) {
      const size = /([\\d.]+)px/.exec(e.getAttribute('style') || '') || [0, e.getAttribute('font-size') || 13];
      found.push([parseFloat(size[1]) * scale, e.textContent]);
    }
    outlined(drawing, scale);
  }
  return found.filter(one => one[0] < LEAST - 0.05).sort((a, b) => a[0] - b[0]).slice(0, 3);
})""".replace("LEAST", str(LEAST_TEXT))
# Texts of drawings within the page that reach over their edge, where they are cut off.
CUT = """(() => {
  const found = [];
  for (const svg of document.querySelectorAll('main svg[viewBox], article svg[viewBox]')) {
    const box = svg.getBoundingClientRect();
    for (const e of box.width ? svg.querySelectorAll('text') : []) {
      const r = e.getBoundingClientRect();
      const over = [box.left - r.left, r.right - box.right, box.top - r.top, r.bottom - box.bottom];
      if (r.width && Math.max(...over) > 2) found.push(e.textContent);
    }
  }
  return [...new Set(found)].slice(0, 3);
})()"""
VISIBLE = "(document.querySelector('article, main') || document.body).innerText.replace(/\\s+/g, ' ').length"
# Without this a change of colours is looked at half-way.
AT_ONCE = """document.head.appendChild(Object.assign(document.createElement("style"),
  {textContent: "*, *::before, *::after { transition: none !important; animation: none !important }"})), 0"""
# Colours and widths have settled after a change of the window.
SETTLED = "new Promise(done => setTimeout(done, 100))"
AXE = """(async rules => {
  const options = {preload: false, resultTypes: ['violations'], ...(rules ? {runOnly: {type: 'rule', values: rules}} : {})};
  const found = await axe.run(document, options);
  return found.violations.filter(one => ['serious', 'critical'].includes(one.impact)).map(one =>
    `${one.impact}: ${one.id}, ${one.nodes.length} times, as ${one.nodes.slice(0, 3).map(n => n.target.join(' ')).join(' and ')}`);
})"""


class BrowserError(RuntimeError):
    """Chromium could not be found, started or spoken to."""


@dataclass
class Visit:
    """What opening one page at one width showed."""

    page: str
    width: int
    console: list[str] = field(default_factory=list)  # errors and uncaught exceptions
    outside: list[str] = field(default_factory=list)  # addresses asked for that are not this server's
    failed: list[str] = field(default_factory=list)  # local loads that did not succeed
    scroll: int = 0  # width of the content in CSS pixels; more than `width` means the page scrolls sideways
    wide: list[str] = field(default_factory=list)  # elements that stick out
    maths: int = 0  # formulas in the page
    typeset: int = 0  # formulas that MathJax has set
    bad_maths: int = 0  # formulas that MathJax could not read
    png: bytes = b""
    small: list[list] = field(default_factory=list)  # text of figures that is shown too small: [pixels, text]
    cut: list[str] = field(default_factory=list)  # texts of figures that reach over their edge
    axe: list[str] = field(default_factory=list)  # what axe-core calls serious or critical
    bytes: int = 0  # all that was loaded

    def problems(self) -> list[str]:
        found = [f"console: {text}" for text in self.console]
        found += [f"asks outside: {url}" for url in self.outside]
        found += [f"did not load: {text}" for text in self.failed]
        if self.scroll > self.width:
            found.append(f"scrolls sideways, {self.scroll} px wide: {', '.join(self.wide) or 'no single element'}")
        if self.maths and self.typeset < self.maths:
            found.append(f"{self.maths - self.typeset} of {self.maths} formulas are not typeset")
        if self.bad_maths:
            found.append(f"{self.bad_maths} formulas that MathJax cannot read")
        found += [f"axe: {text}" for text in self.axe]
        found += [f"text of {size:.1f} px in a figure: {text}" for size, text in self.small]
        found += [f"cut off at the edge of a figure: {text}" for text in self.cut]
        if self.bytes > MOST_BYTES:
            found.append(f"weighs {self.bytes / 1e6:.1f} MB")
        return [f"{self.page} at {self.width} px: {text}" for text in found]


def find_chromium() -> str | None:
    """The Chromium executable of this machine, or None."""
    asked = os.environ.get("CHROMIUM")
    return shutil.which(asked) if asked else next(filter(None, map(shutil.which, NAMES)), None)


@contextlib.contextmanager
def serve(folder: Path):
    """Serve `folder` on a free port of 127.0.0.1; yields the address."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def find_axe() -> Path:
    """The axe-core that PyPI's axe-core-python carries."""
    found = importlib.util.find_spec("axe_core_python")
    if found is None:
        raise BrowserError("axe-core is not installed: pip install axe-core-python")
    return Path(found.submodule_search_locations[0], "axe.min.js")


class Browser:
    """One headless Chromium with a profile of its own; use it in a `with` statement. Each thread has a connection of its own."""

    def __init__(self, executable: str | None = None, patience: float = 300.0, axe: Path | None = None):
        self.executable = executable or find_chromium()
        if not self.executable:
            raise BrowserError("No Chromium found: install it, or name the executable in $CHROMIUM.")
        self.patience = patience  # seconds to wait for any one answer
        self.axe = (axe or find_axe()).read_text(encoding="utf-8")
        self.own = threading.local()
        self.open: list[Connection] = []

    def __enter__(self) -> Browser:
        self.folder = tempfile.TemporaryDirectory(prefix="browse-", ignore_cleanup_errors=True)
        self.process = subprocess.Popen(
            [self.executable, *FLAGS, f"--user-data-dir={self.folder.name}", "about:blank"],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            self.address = "ws://127.0.0.1:{}{}".format(*self._address())
            self.connection()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        for connection in self.open:
            connection.socket.close()
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.folder.cleanup()

    def _address(self) -> tuple[str, str]:
        """Chromium writes the port and path that it chose into its profile."""
        note = Path(self.folder.name, "DevToolsActivePort")
        deadline = time.monotonic() + self.patience
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise BrowserError(f"{self.executable} ended at once with status {self.process.returncode}.")
            lines = note.read_text().splitlines() if note.exists() else []
            if len(lines) >= 2:
                return lines[0], lines[1]
            time.sleep(0.05)
        raise BrowserError(f"{self.executable} opened no DevTools port within {self.patience:.0f} s.")

    def connection(self) -> Connection:
        """That of this thread."""
        if not hasattr(self.own, "connection"):
            socket = websocket.create_connection(self.address, timeout=self.patience, suppress_origin=True)
            self.own.connection = Connection(socket)
            self.open.append(self.own.connection)
        return self.own.connection

    def visit(self, origin: str, page: str, width: int, dark: bool = False, shot: bool = False) -> Visit:
        """Open `origin`/`page` in a fresh tab `width` pixels wide and report."""
        seen = Visit(page, width)
        with self.connection().tab() as tab:
            tab.look(width, dark)
            tab.load(f"{origin}/{page}")
            tab.evaluate(SETTLE)
            tab.measure(seen)
            if shot:
                # a window as high as the page: menus that stick to the window then stand where a reader sees them
                tab.look(width, dark, min(tab.evaluate("document.documentElement.scrollHeight"), 16000))
                seen.png = base64.b64decode(tab.call("Page.captureScreenshot", format="png")["data"])
        for event in tab.events:
            note(seen, origin, event.get("method", ""), event.get("params", {}))
        return seen

    def inspect(self, origin: str, page: str, widths: Sequence[int] = WIDTHS) -> list[str]:
        """What is wrong with a page at all `widths`, light and dark, with scripts and without.

        It is loaded once with scripts, and the window and its colours change; axe-core looks at everything in the light, and at
        contrast alone in the dark, since no other rule knows colours.
        """
        found, text = [], 0
        with self.connection().tab() as tab:
            tab.call("Network.setCacheDisabled", cacheDisabled=True)
            for place, width in enumerate(widths):
                seen = Visit(page, width)
                tab.look(width, False)
                if place == 0:
                    tab.load(f"{origin}/{page}")
                    tab.evaluate(SETTLE)
                    seen.bytes = sum(event["params"]["encodedDataLength"] for event in tab.events if event.get("method") == LOADED)
                    tab.evaluate(self.axe + ";0")
                    tab.evaluate(AT_ONCE)
                tab.evaluate(SETTLED)
                tab.measure(seen)
                seen.small = tab.evaluate(f"{FIGURE_TEXT}({str(width == max(widths)).lower()})")
                seen.cut = tab.evaluate(CUT)
                seen.axe = tab.evaluate(f"{AXE}(null)")
                text = text or tab.evaluate(VISIBLE)
                tab.look(width, True)
                tab.evaluate(SETTLED)
                seen.axe += [f"dark: {said}" for said in tab.evaluate(f"{AXE}(['color-contrast'])")]
                if place == len(widths) - 1:
                    for event in tab.events:
                        note(seen, origin, event.get("method", ""), event.get("params", {}))
                found += seen.problems()
        return found + self._without_scripts(origin, page, widths, text)

    def _without_scripts(self, origin: str, page: str, widths: Sequence[int], text: int) -> list[str]:
        """What is wrong where no script runs; text: how many characters are seen with scripts."""
        found = []
        with self.connection().tab() as tab:
            tab.call("Emulation.setScriptExecutionDisabled", value=True)
            for place, width in enumerate(widths):
                tab.look(width, False)
                if place == 0:
                    tab.load(f"{origin}/{page}")
                seen = Visit(page, width)
                tab.measure(seen)
                seen.maths = 0  # formulas are shown as they are written
                found += [f"{said} (without scripts)" for said in seen.problems()]
            there = tab.evaluate(VISIBLE)
            if there < SHARE_WITHOUT_SCRIPTS * text:
                found.append(f"{page} without scripts: {there} of {text} characters are shown")
        return found


class Connection:
    """One DevTools connection; not for several threads at a time."""

    def __init__(self, socket):
        self.socket = socket
        self.numbers = itertools.count(1)
        self.events: list[dict] = []

    def receive(self) -> dict:
        try:
            return json.loads(self.socket.recv())
        except (OSError, ValueError, websocket.WebSocketException) as error:
            raise BrowserError(f"Chromium stopped answering: {error}") from error

    def call(self, method: str, session: str | None = None, **params) -> dict:
        number = next(self.numbers)
        message = {"id": number, "method": method, "params": params} | ({"sessionId": session} if session else {})
        self.socket.send(json.dumps(message))
        while True:
            answer = self.receive()
            if answer.get("id") == number:
                if "error" in answer:
                    raise BrowserError(f"{method}: {answer['error'].get('message')}")
                return answer["result"]
            self.events.append(answer)

    @contextlib.contextmanager
    def tab(self):
        """A fresh tab, closed in the end; its events are kept."""
        self.events.clear()
        target = self.call("Target.createTarget", url="about:blank", newWindow=True)["targetId"]
        tab = Tab(self, self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"])
        for domain in ("Page", "Network", "Runtime", "Log"):
            tab.call(f"{domain}.enable")
        try:
            yield tab
        finally:
            self.call("Target.closeTarget", targetId=target)


@dataclass
class Tab:
    connection: Connection
    session: str

    @property
    def events(self) -> list[dict]:
        return self.connection.events

    def call(self, method: str, **params) -> dict:
        return self.connection.call(method, self.session, **params)

    def evaluate(self, expression: str):
        answer = self.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in answer:
            details = answer["exceptionDetails"]
            raise BrowserError(f"the page's own script failed: {details.get('exception', {}).get('description') or details.get('text')}")
        return answer["result"].get("value")

    def look(self, width: int, dark: bool, height: int = 900) -> None:
        """The window's size and the colours that its reader asks for."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self.call("Emulation.setEmulatedMedia", features=scheme)

    def load(self, url: str) -> None:
        self.call("Page.navigate", url=url)
        while not any(event.get("method") == "Page.loadEventFired" for event in self.events):
            self.events.append(self.connection.receive())

    def measure(self, seen: Visit) -> None:
        for name, value in self.evaluate(MEASURE).items():
            setattr(seen, name, value)


def note(seen: Visit, origin: str, method: str, params: dict) -> None:
    """Enter one DevTools event into the report if it is something to complain about."""
    if method in ("Network.requestWillBeSent", "Network.webSocketCreated"):
        url = params["request"]["url"] if "request" in params else params["url"]
        if urlsplit(url).scheme not in LOCAL_SCHEMES and not url.startswith(f"{origin}/"):
            seen.outside.append(url)
    elif method == "Network.responseReceived" and params["response"]["status"] >= 400:
        seen.failed.append(f"{params['response']['url']} ({params['response']['status']})")
    elif method == "Runtime.consoleAPICalled" and params["type"] in ("error", "assert"):
        seen.console.append(" ".join(str(a.get("value", a.get("description", ""))) for a in params["args"]))
    elif method == "Runtime.exceptionThrown":
        details = params["exceptionDetails"]
        seen.console.append(details.get("exception", {}).get("description") or details["text"])
    elif method == "Log.entryAdded" and params["entry"]["level"] == "error":
        seen.console.append(f"{params['entry']['text']} {params['entry'].get('url', '')}".strip())


def pages(folder: Path) -> list[str]:
    """The pages of a built site, relative to it; what themes and tools keep in folders with an underscore is none."""
    found = (path.relative_to(folder) for path in sorted(folder.rglob("*.html")))
    return [path.as_posix() for path in found if not any(part.startswith("_") for part in path.parts)]


def sample(names: Iterable[str], each: int = 3) -> list[str]:
    """All pages of the book, and of those made from a template the list and a few, spread over their names."""
    names, found = list(names), []
    for folder in FOLDERS:
        made = [name for name in names if name.startswith(f"{folder}/") and name != f"{folder}/index.html"]
        found += made[:: max(1, len(made) // each)][:each]
    return [
        name for name in names if not name.startswith(tuple(f"{folder}/" for folder in FOLDERS)) or name.endswith("/index.html")
    ] + found


def inspect_all(browser: Browser, origin: str, names: Sequence[str], tabs: int = 4) -> list[str]:
    """What is wrong with all pages `names`, several at a time."""

    def inspect(name: str) -> list[str]:
        try:
            return browser.inspect(origin, name)
        except BrowserError as error:
            raise BrowserError(f"{name}: {error}") from error

    with ThreadPoolExecutor(tabs) as pool:
        return [said for found in pool.map(inspect, names) for said in found]


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("site", type=Path, metavar="HTML_DIR", help="folder of the built pages")
    parser.add_argument("--all", action="store_true", help="also every page of a record or source, not a few of them")
    parser.add_argument("--page", action="append", help="only this page; repeatable")
    parser.add_argument("--out", type=Path, metavar="SHOTS_DIR", help="save a full-page PNG of each page here")
    parser.add_argument("--width", type=int, action="append", help="of the pictures, in pixels; repeatable (1280 and 360)")
    parser.add_argument("--dark", action="store_true", help="pictures in the dark colours")
    parser.add_argument("--axe", type=Path, metavar="FILE", help="another axe.min.js than that of axe-core-python")
    options = parser.parse_args(arguments)
    names = options.page or (pages(options.site) if options.all else sample(pages(options.site)))
    if not names:
        parser.error(f"there is no built page in {options.site}: run `make book` first")
    if options.out:
        options.out.mkdir(parents=True, exist_ok=True)
    start = time.monotonic()
    try:
        with serve(options.site) as origin, Browser(axe=options.axe) as browser:
            found = inspect_all(browser, origin, names)
            for page, width in itertools.product(names, options.width or WIDTHS) if options.out else ():
                look = "-dark" if options.dark else ""
                shot = options.out / f"{page.removesuffix('.html').replace('/', '-')}-{width}{look}.png"
                shot.write_bytes(browser.visit(origin, page, width, dark=options.dark, shot=True).png)
    except BrowserError as error:
        print(error, file=sys.stderr)
        return 2
    print(f"{len(names)} pages, {len(found)} problems, {time.monotonic() - start:.0f} s")
    print("\n".join(found), file=sys.stderr, end="\n" if found else "")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
