"""A real headless Chromium for tests that touch a page: DevTools protocol over its own pipe, standard library only.

``--remote-debugging-pipe`` speaks JSON ended by a NUL byte on descriptors 3 and 4, so that neither a port nor a
WebSocket is needed, and the browser ends when the pipe does.
"""

from __future__ import annotations

import base64
import fcntl
import json
import os
import select
import shutil
import subprocess
import sys
import time
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
BROWSER = next((found for found in map(shutil.which, NAMES) if found), None)
NO_BROWSER = f"no browser here: none of {', '.join(NAMES)} is installed"
SECONDS = 240.0  # two on an idle machine; a crowded one took twelve
FAKE_CAMERA = ("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream")
OPTIONS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--remote-debugging-pipe",
)  # fmt: skip
# Puts the pipe where the browser looks for it, and becomes the browser.
LAUNCHER = (
    "import os, sys; r, w = map(int, sys.argv[1:3]); os.dup2(r, 3); os.dup2(w, 4); os.execv(sys.argv[3], sys.argv[3:])"
)


class Chromium:
    """One browser process with its own profile; a context manager.

    Args:
        profile: folder of the profile, made if need be.
        options: words for its command line beyond :data:`OPTIONS`.
    """

    def __init__(self, profile: Path, options: Sequence[str] = ()) -> None:
        assert BROWSER is not None, NO_BROWSER
        theirs_in, ours_out = os.pipe()
        ours_in, theirs_out = os.pipe()
        # Above 10, so that neither stands where the other one goes.
        ends = [fcntl.fcntl(end, fcntl.F_DUPFD, 10) for end in (theirs_in, theirs_out)]
        os.close(theirs_in)
        os.close(theirs_out)
        words = [BROWSER, *OPTIONS, f"--user-data-dir={profile}", *options, "about:blank"]
        self._process = subprocess.Popen(
            [sys.executable, "-c", LAUNCHER, *map(str, ends), *words],
            pass_fds=ends,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for end in ends:
            os.close(end)
        self._in, self._out = ours_in, ours_out
        self._partial = b""
        self._arrived: deque[dict[str, Any]] = deque()
        self._last = 0
        self.pages: dict[str, Page] = {}

    def call(self, method: str, params: Mapping[str, Any] | None = None, session: str | None = None) -> dict[str, Any]:
        """Send one command and return its result; events that arrive meanwhile go to their pages."""
        self._last += 1
        message: dict[str, Any] = {"id": self._last, "method": method, "params": dict(params or {})}
        if session is not None:
            message["sessionId"] = session
        data = json.dumps(message).encode() + b"\0"
        while data:
            data = data[os.write(self._out, data) :]
        until = time.monotonic() + SECONDS
        while True:
            answer = self._next(until, method)
            if answer.get("id") == self._last:
                assert "error" not in answer, f"{method}: {answer['error']}"
                result: dict[str, Any] = answer["result"]
                return result

    def _next(self, until: float, awaited: str) -> dict[str, Any]:
        while not self._arrived:
            ready, _, _ = select.select([self._in], [], [], max(0.0, until - time.monotonic()))
            assert ready, f"the browser did not answer {awaited} in {SECONDS:.0f} s"
            data = os.read(self._in, 1 << 20)
            assert data, f"the browser went away during {awaited}"
            *whole, self._partial = (self._partial + data).split(b"\0")
            self._arrived.extend(map(json.loads, whole))
        message = self._arrived.popleft()
        if "method" in message and message.get("sessionId") in self.pages:
            self.pages[message["sessionId"]].note(message["method"], message["params"])
        return message

    def open(
        self, url: str, *, width: int = 1200, height: int = 900, scheme: str = "light", scale: float = 1.0
    ) -> Page:
        """Open ``url`` in a new tab of ``width`` x ``height`` pixels, ``scheme`` light or dark."""
        target = self.call("Target.createTarget", {"url": "about:blank"})["targetId"]
        session = self.call("Target.attachToTarget", {"targetId": target, "flatten": True})["sessionId"]
        page = self.pages[session] = Page(self, session, target)
        for domain in ("Page", "Runtime", "Log"):
            page.call(f"{domain}.enable")
        page.resize(width, height, scale)
        page.call("Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": scheme}]})
        page.call("Page.navigate", {"url": url})
        page.wait_for("document.readyState != 'loading'")
        return page

    def close(self) -> None:
        """End the browser."""
        if self._process.poll() is None:
            try:
                self.call("Browser.close")
                self._process.wait(20)
            except (AssertionError, OSError, subprocess.TimeoutExpired):
                self._process.kill()
        self._process.wait()
        os.close(self._in)
        os.close(self._out)

    def __enter__(self) -> Chromium:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Page:
    """One tab.

    Attributes:
        errors: what the page complained about: uncaught errors, console.error and warnings of the browser, such as a
            file that is not there.
    """

    def __init__(self, browser: Chromium, session: str, target: str) -> None:
        self._browser, self._session, self._target = browser, session, target
        self.errors: list[str] = []

    def call(self, method: str, params: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Send one DevTools command to this tab and return its result."""
        return self._browser.call(method, params, self._session)

    def note(self, method: str, params: Mapping[str, Any]) -> None:
        """Keep what an event says against the page."""
        if method == "Runtime.exceptionThrown":
            details = params["exceptionDetails"]
            self.errors.append(details.get("exception", {}).get("description") or details["text"])
        elif method == "Runtime.consoleAPICalled" and params["type"] in ("error", "assert"):
            self.errors.append(" ".join(str(arg.get("value", arg.get("description"))) for arg in params["args"]))
        elif method == "Log.entryAdded" and params["entry"]["level"] == "error":
            entry = params["entry"]
            self.errors.append(f"{entry['text']} {entry.get('url', '')}")

    def evaluate(self, expression: str) -> Any:
        """Return the value of a JavaScript expression, awaited if it is a promise."""
        answer = self.call("Runtime.evaluate", {"expression": expression, "awaitPromise": True, "returnByValue": True})
        problem = answer.get("exceptionDetails")
        assert problem is None, problem.get("exception", {}).get("description") or problem["text"]
        return answer["result"].get("value")

    def wait_for(self, expression: str, seconds: float = SECONDS) -> Any:
        """Return the value of a JavaScript expression once it is true."""
        until = time.monotonic() + seconds
        while not (value := self.evaluate(expression)):
            assert time.monotonic() < until, f"not true within {seconds:.0f} s: {expression}; complaints: {self.errors}"
            time.sleep(0.05)
        return value

    def resize(self, width: int, height: int, scale: float = 1.0) -> None:
        """Make the tab ``width`` x ``height`` CSS pixels of ``scale`` device pixels each."""
        size = {"width": width, "height": height, "deviceScaleFactor": scale, "mobile": False}
        self.call("Emulation.setDeviceMetricsOverride", size)

    def click(self, selector: str) -> None:
        """Click into the middle of the element that ``selector`` finds, as a mouse would."""
        place = self.evaluate(
            f"(() => {{ const e = document.querySelector({json.dumps(selector)}); "
            "e.scrollIntoView({block: 'center'}); const r = e.getBoundingClientRect(); "
            "return [r.x + r.width / 2, r.y + r.height / 2]; })()"
        )
        for kind in ("mousePressed", "mouseReleased"):
            event = {"type": kind, "x": place[0], "y": place[1], "button": "left", "clickCount": 1}
            self.call("Input.dispatchMouseEvent", event)

    def choose_files(self, selector: str, *paths: Path) -> None:
        """Choose files in the file input that ``selector`` finds."""
        found = self.call("Runtime.evaluate", {"expression": f"document.querySelector({json.dumps(selector)})"})
        files = {"files": [str(path) for path in paths], "objectId": found["result"]["objectId"]}
        self.call("DOM.setFileInputFiles", files)

    def slide(self, selector: str, value: float) -> None:
        """Set a slider and tell the page, as a hand on it would."""
        self.evaluate(
            f"(() => {{ const e = document.querySelector({json.dumps(selector)}); e.value = {value!r};"
            " for (const kind of ['input', 'change']) e.dispatchEvent(new Event(kind, {bubbles: true})); })()"
        )

    def screenshot(self, path: Path | None = None, *, whole: bool = False) -> NDArray[np.uint8]:
        """Return what the tab shows, BGR uint8 (H, W, 3); ``whole``: also what has to be scrolled to."""
        answer = self.call("Page.captureScreenshot", {"format": "png", "captureBeyondViewport": whole})
        data = base64.b64decode(answer["data"])
        if path is not None:
            path.write_bytes(data)
        return np.asarray(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR), np.uint8)

    def close(self) -> None:
        """Close the tab."""
        self._browser.call("Target.closeTarget", {"targetId": self._target})
        self._browser.pages.pop(self._session, None)
