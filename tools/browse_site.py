"""Open the pages of a built site in headless Chromium and report what a reader's browser would complain about.

    python tools/browse_site.py _build/html --out shots --width 1280 --width 390 [--dark]

Each page is served from 127.0.0.1, opened at each width and saved as a full-page PNG. Reported, with exit status 1:
console errors, requests that leave the machine, loads that fail, and pages that scroll sideways. Chromium is driven
through its DevTools protocol; the name of the executable can be given in $CHROMIUM.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import functools
import http.server
import itertools
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import websocket  # of websocket-client, which comes with jupyter-server

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-background-networking",
    "--disable-component-update", "--disable-default-apps", "--disable-extensions", "--disable-sync", "--no-first-run",
    "--hide-scrollbars", "--remote-debugging-port=0", "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1",
)  # fmt: skip
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
  return {scroll: root.scrollWidth, height: root.scrollHeight, wide: wide.slice(0, 3).map(name),
          maths: document.querySelectorAll('.math').length,
          typeset: document.querySelectorAll('mjx-container').length,
          bad_maths: document.querySelectorAll('mjx-merror').length};
})()"""


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


class Browser:
    """One headless Chromium with a profile of its own; use it in a `with` statement."""

    def __init__(self, executable: str | None = None, patience: float = 60.0):
        self.executable = executable or find_chromium()
        if not self.executable:
            raise BrowserError("No Chromium found: install it, or name the executable in $CHROMIUM.")
        self.patience = patience  # seconds to wait for any one answer
        self.numbers = itertools.count(1)
        self.events: list[dict] = []

    def __enter__(self) -> Browser:
        self.folder = tempfile.TemporaryDirectory(prefix="browse-", ignore_cleanup_errors=True)
        self.process = subprocess.Popen(
            [self.executable, *FLAGS, f"--user-data-dir={self.folder.name}", "about:blank"],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            port, path = self._address()
            self.socket = websocket.create_connection(f"ws://127.0.0.1:{port}{path}", timeout=self.patience, suppress_origin=True)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        if hasattr(self, "socket"):
            self.socket.close()
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

    def _receive(self) -> dict:
        try:
            return json.loads(self.socket.recv())
        except (OSError, ValueError, websocket.WebSocketException) as error:
            raise BrowserError(f"Chromium stopped answering: {error}") from error

    def _call(self, method: str, session: str | None = None, **params) -> dict:
        number = next(self.numbers)
        message = {"id": number, "method": method, "params": params} | ({"sessionId": session} if session else {})
        self.socket.send(json.dumps(message))
        while True:
            answer = self._receive()
            if answer.get("id") == number:
                if "error" in answer:
                    raise BrowserError(f"{method}: {answer['error'].get('message')}")
                return answer["result"]
            self.events.append(answer)

    def _evaluate(self, session: str, expression: str):
        answer = self._call("Runtime.evaluate", session, expression=expression, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in answer:
            raise BrowserError(f"the page's own script failed: {answer['exceptionDetails'].get('text')}")
        return answer["result"].get("value")

    def visit(self, origin: str, page: str, width: int, dark: bool = False, shot: bool = False) -> Visit:
        """Open `origin`/`page` in a fresh tab `width` pixels wide and report."""
        seen = Visit(page, width)
        self.events.clear()
        tab = self._call("Target.createTarget", url="about:blank")["targetId"]
        session = self._call("Target.attachToTarget", targetId=tab, flatten=True)["sessionId"]
        for domain in ("Page", "Network", "Runtime", "Log"):
            self._call(f"{domain}.enable", session)
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
        self._call("Emulation.setDeviceMetricsOverride", session, **size)
        scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self._call("Emulation.setEmulatedMedia", session, features=scheme)
        self._call("Page.navigate", session, url=f"{origin}/{page}")
        while not any(event.get("method") == "Page.loadEventFired" for event in self.events):
            self.events.append(self._receive())
        self._evaluate(session, SETTLE)
        for name, value in self._evaluate(session, MEASURE).items():
            if name != "height":
                setattr(seen, name, value)
            elif shot:
                # a window as high as the page: menus that stick to the window then stand where a reader sees them
                self._call("Emulation.setDeviceMetricsOverride", session, **size | {"height": min(value, 16000)})
                picture = self._call("Page.captureScreenshot", session, format="png")
                seen.png = base64.b64decode(picture["data"])
        self._call("Target.closeTarget", targetId=tab)
        for event in self.events:
            note(seen, origin, event.get("method", ""), event.get("params", {}))
        return seen


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


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("site", type=Path, metavar="HTML_DIR", help="folder of the built pages")
    parser.add_argument("--out", type=Path, metavar="SHOTS_DIR", help="save a full-page PNG of each page here")
    parser.add_argument("--width", type=int, action="append", help="window width in pixels; repeatable (1280 and 390)")
    parser.add_argument("--dark", action="store_true", help="ask for the dark colours")
    options = parser.parse_args(arguments)
    names = pages(options.site)
    if not names:
        parser.error(f"there is no built page in {options.site}: run `make book` first")
    if options.out:
        options.out.mkdir(parents=True, exist_ok=True)
    found = []
    try:
        with serve(options.site) as origin, Browser() as browser:
            for page, width in itertools.product(names, options.width or (1280, 390)):
                seen = browser.visit(origin, page, width, dark=options.dark, shot=options.out is not None)
                found += seen.problems()
                print(f"{page} at {width} px: {len(seen.problems()) or 'no'} problem(s)", flush=True)
                if options.out:
                    look = "-dark" if options.dark else ""
                    shot = options.out / f"{page.removesuffix('.html').replace('/', '-')}-{width}{look}.png"
                    shot.write_bytes(seen.png)
    except BrowserError as error:
        print(error, file=sys.stderr)
        return 2
    print("\n".join(found), file=sys.stderr, end="\n" if found else "")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
