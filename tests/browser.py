"""A real Chromium that tests steer through its pipe: opens addresses, hears the console, measures."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import select
import shutil
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

__all__ = ["Page", "Seen", "browser"]

# What is wider than the page, unless it scrolls by itself; what was fetched; the colours; short
# words that stand on two lines.
PROBE = """
(() => {
  const root = document;
  const held = e => { for (; e; e = e.parentElement)
    if (e.matches(".wide, svg, pre") || /auto|scroll/.test(getComputedStyle(e).overflowX)) return true; };
  return JSON.stringify({
    title: root.title,
    scrolls: root.documentElement.scrollWidth - root.documentElement.clientWidth,
    wide: [...root.querySelectorAll("body *")]
      .filter(e => e.getBoundingClientRect().right > root.documentElement.clientWidth + 1 && !held(e.parentElement))
      .map(e => e.outerHTML.slice(0, 80)),
    background: getComputedStyle(root.body).backgroundColor,
    colour: getComputedStyle(root.body).color,
    canvas: (() => { const e = root.createElement("div"); e.style.color = "Canvas";
      root.body.append(e); const c = getComputedStyle(e).color; e.remove(); return c; })(),
    broken: (() => { const found = [], texts = root.createTreeWalker(root.body, NodeFilter.SHOW_TEXT);
      for (let text; text = texts.nextNode();) if (!text.parentElement.closest("svg, script, style"))
        for (const word of text.data.matchAll(/\\p{L}{2,14}/gu)) {
          const range = root.createRange();
          range.setStart(text, word.index); range.setEnd(text, word.index + word[0].length);
          if (new Set([...range.getClientRects()].map(r => Math.round(r.top))).size > 1) found.push(word[0]);
        }
      return found; })(),
    fetched: performance.getEntriesByType("resource").map(e => e.name),
    dead: [...root.querySelectorAll("a[href^='#']")].map(a => a.hash)
      .filter(h => h.length > 1 && !root.getElementById(h.slice(1))),
    viewport: root.querySelector("meta[name=viewport]")?.content ?? "",
    text: root.body.innerText,
  });
})()
"""


@dataclass(frozen=True)
class Seen:
    """What a page looked like."""

    title: str
    scrolls: int
    wide: list[str]
    background: str
    colour: str
    canvas: str
    broken: list[str]
    fetched: list[str]
    dead: list[str]
    viewport: str
    text: str


@dataclass
class Page:
    """One page of the browser."""

    process: subprocess.Popen[bytes]
    out: int
    back: int
    session: str = ""
    # Errors and warnings of the console, and exceptions of scripts, since the page was opened.
    console: list[str] = field(default_factory=list)
    _number: int = 0
    _buffer: bytes = b""

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Send one command of the DevTools protocol, and give its result."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if self.session:
            message["sessionId"] = self.session
        os.write(self.out, json.dumps(message).encode() + b"\0")
        while True:
            value = self._receive(60)
            if value.get("id") == self._number:
                assert "error" not in value, value
                result: dict[str, Any] = value["result"]
                return result

    def _receive(self, seconds: float) -> dict[str, Any]:
        until = time.monotonic() + seconds
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self.back], [], [], max(0.0, until - time.monotonic()))
            assert ready, "the browser does not answer"
            data = os.read(self.back, 1 << 20)
            assert data, "the browser is gone"
            self._buffer += data
        line, _, self._buffer = self._buffer.partition(b"\0")
        value: dict[str, Any] = json.loads(line)
        self._hear(value.get("method", ""), value.get("params", {}))
        return value

    def _hear(self, method: str, facts: dict[str, Any]) -> None:
        if method == "Runtime.exceptionThrown":
            self.console.append(json.dumps(facts["exceptionDetails"]))
        elif method == "Log.entryAdded" and facts["entry"]["level"] in ("error", "warning"):
            self.console.append(facts["entry"]["text"])
        elif method == "Runtime.consoleAPICalled" and facts["type"] in ("error", "warning"):
            self.console.append(json.dumps(facts["args"]))

    def open(self, address: str, *, width: int = 1000, dark: bool = False) -> Seen:
        """Open an address on a screen of this width, and look at it once it has loaded."""
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width, height=900, deviceScaleFactor=1, mobile=False,
        )  # fmt: skip
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])
        self.call("Page.navigate", url="about:blank")
        self.console.clear()
        failed = self.call("Page.navigate", url=address).get("errorText")
        assert failed is None, failed
        self.wait_for("document.readyState === 'complete' && location.href !== 'about:blank'")
        return self.look()

    def look(self) -> Seen:
        """Measure the page as it is now."""
        return Seen(**json.loads(self.evaluate(PROBE)))

    def evaluate(self, script: str) -> Any:
        """Run a script in the page and give its value."""
        done = self.call("Runtime.evaluate", expression=script, awaitPromise=True)
        assert "exceptionDetails" not in done, done
        return done["result"].get("value")

    def wait_for(self, condition: str, seconds: float = 30.0) -> None:
        """Wait until a condition holds in the page."""
        until = time.monotonic() + seconds
        while not self.evaluate(condition):
            assert time.monotonic() < until, f"it did not come true: {condition}"
            time.sleep(0.1)

    def picture(self, name: str) -> None:
        """Keep the whole page as an image, where CONTLEARN_PICTURES names a folder to look into."""
        folder = os.environ.get("CONTLEARN_PICTURES")
        if folder:
            done = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=True)
            Path(folder, f"{name}.png").write_bytes(base64.b64decode(done["data"]))


@contextlib.contextmanager
def browser(folder: Path) -> Iterator[Page]:
    """Start Chromium with a profile in the folder; skip the test where there is none."""
    program = shutil.which("chromium") or shutil.which("chromium-browser")
    if program is None:
        # CI installs it and forbids skips (CONTLEARN_FORBID_SKIPS).
        pytest.skip("needs chromium (Debian package chromium)")
    their_in, out = os.pipe()
    back, their_out = os.pipe()
    process = subprocess.Popen(
        [
            # The protocol's pipe is expected on the descriptors 3 and 4.
            "bash", "-c", f'exec "$@" 3<&{their_in} 4>&{their_out}', "bash",
            program, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
            "--no-first-run", "--remote-debugging-pipe", f"--user-data-dir={folder / 'profile'}",
        ],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, pass_fds=(their_in, their_out),
    )  # fmt: skip
    os.close(their_in)
    os.close(their_out)
    page = Page(process, out, back)
    try:
        target = page.call("Target.createTarget", url="about:blank")["targetId"]
        attached = page.call("Target.attachToTarget", targetId=target, flatten=True)
        page.session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            page.call(f"{domain}.enable")
        # As on a phone they take no room.
        page.call("Emulation.setScrollbarsHidden", hidden=True)
        yield page
    finally:
        process.kill()
        process.wait()
        os.close(out)
        os.close(back)
