"""A headless Chromium, driven over a pair of pipes in the language of its own developer tools: pages, keys, the pointer, what was asked of the net.

`--remote-debugging-pipe` needs no port and no library. Everything that a page asks for, and
everything that it complains about, is kept.
"""

import base64
import fcntl
import functools
import http.server
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
from contextlib import contextmanager, suppress
from pathlib import Path

CHROMIUM = next(
    (
        path
        for name in ("chromium", "chromium-browser", "google-chrome")
        if (path := shutil.which(name))
    ),
    None,
)
FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--hide-scrollbars",
    "--remote-debugging-pipe",
)  # fmt: skip
KEYS = {
    "Enter": 13,
    "Escape": 27,
    " ": 32,
    "End": 35,
    "Home": 36,
    "ArrowLeft": 37,
    "ArrowUp": 38,
    "ArrowRight": 39,
    "ArrowDown": 40,
    "Tab": 9,
}
#: Chromium reads commands from 3 and writes to 4, whatever numbers the pipes have here.
MOVE = "import os, sys\nos.dup2(int(sys.argv[1]), 3)\nos.dup2(int(sys.argv[2]), 4)\nos.execv(sys.argv[3], sys.argv[3:])"


def _pipe():
    """Return a pipe's two ends, with numbers that are in nobody's way."""
    ends = os.pipe()
    moved = [fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 20) for end in ends]
    for end in ends:
        os.close(end)
    return moved


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@contextmanager
def served(folder):
    """Serve a folder on this machine alone, as `python -m http.server -d FOLDER` does, and give its address."""
    loopback = socket.getaddrinfo(None, 0, socket.AF_INET)[0][4]
    server = http.server.ThreadingHTTPServer(
        loopback, functools.partial(_Quiet, directory=str(folder))
    )
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield "http://{}:{}".format(*server.server_address)
    finally:
        server.shutdown()
        server.server_close()


class Browser:
    """One tab; `requests` are the addresses that pages asked for, `complaints` errors and warnings of their console."""

    def __init__(self):
        self.requests, self.complaints, self.loaded, self._number = [], [], 0, 0
        self.folder = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        (theirs_in, self._out), (self._in, theirs_out) = _pipe(), _pipe()
        line = [
            sys.executable,
            "-S",
            "-c",
            MOVE,
            str(theirs_in),
            str(theirs_out),
            str(CHROMIUM),
            *FLAGS,
            f"--user-data-dir={self.folder.name}",
        ]
        quiet = {
            "stdin": subprocess.DEVNULL,
            "stdout": subprocess.DEVNULL,
            "stderr": subprocess.DEVNULL,
        }
        self._process = subprocess.Popen(line, pass_fds=(theirs_in, theirs_out), **quiet)
        os.close(theirs_in)
        os.close(theirs_out)
        self._unread, self._session = b"", None
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)[
            "sessionId"
        ]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def call(self, method, **parameters):
        """Send a command and return its answer; what arrives before it is taken note of."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._out, json.dumps(message).encode() + b"\0")
        while (answer := self._read()).get("id") != self._number:
            self._note(answer)
        assert "error" not in answer, (method, answer["error"])
        return answer["result"]

    def _read(self):
        while b"\0" not in self._unread:
            part = os.read(self._in, 1 << 20)
            assert part, "the browser has gone"
            self._unread += part
        message, self._unread = self._unread.split(b"\0", 1)
        return json.loads(message)

    def _note(self, event):
        method, about = event.get("method"), event.get("params", {})
        if method == "Page.loadEventFired":
            self.loaded += 1
        elif method == "Network.requestWillBeSent":
            self.requests.append(about["request"]["url"])
        elif method == "Runtime.exceptionThrown":
            self.complaints.append(
                about["exceptionDetails"]
                .get("exception", about["exceptionDetails"])
                .get("description", "an exception")
            )
        elif method == "Runtime.consoleAPICalled" and about["type"] in ("error", "warning"):
            self.complaints.append(str(about["args"]))
        elif method == "Log.entryAdded" and about["entry"]["level"] in ("error", "warning"):
            self.complaints.append(about["entry"]["text"])

    def open(self, address):
        """Go to an address, or to the page in a file, and wait until it has loaded."""
        before = self.loaded
        self.call(
            "Page.navigate",
            url=address.resolve().as_uri() if isinstance(address, Path) else address,
        )
        while self.loaded == before:
            self._note(self._read())

    def ask(self, expression):
        """Return what an expression of JavaScript is worth."""
        answer = self.call(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def press(self, *keys):
        """Press keys one after the other, as a person does."""
        for key in keys:
            about = {"key": key, "code": key, "windowsVirtualKeyCode": KEYS[key]}
            letter = {"Enter": "\r", " ": " "}.get(key)
            self.call(
                "Input.dispatchKeyEvent",
                type="keyDown",
                **about,
                **({"text": letter} if letter else {}),
            )
            self.call("Input.dispatchKeyEvent", type="keyUp", **about)

    def point(self, selector, click=False):
        """Move the pointer to the middle of an element; with `click`, press there."""
        where = f"document.querySelector({json.dumps(selector)})"
        x, y = self.ask(
            f"(({where}).scrollIntoView({{block: 'center', inline: 'center'}}), "
            f"(r => [r.x + r.width / 2, r.y + r.height / 2])(({where}).getBoundingClientRect()))"
        )
        self.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)
        for kind in ("mousePressed", "mouseReleased") if click else ():
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def look(self, width=1000, *, dark=False, gray=False, still=False, phone=False):
        """Set the width of the window, the reader's wishes on color and motion, and whether all color is taken away."""
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=900,
            deviceScaleFactor=1,
            mobile=phone,
        )
        features = [
            ("prefers-color-scheme", "dark" if dark else "light"),
            ("prefers-reduced-motion", "reduce" if still else "no-preference"),
        ]
        self.call(
            "Emulation.setEmulatedMedia",
            features=[{"name": name, "value": value} for name, value in features],
        )
        self.call("Emulation.setEmulatedVisionDeficiency", type="achromatopsia" if gray else "none")

    def scripts(self, allowed):
        """Say whether pages that are opened from now on may run scripts."""
        self.call("Emulation.setScriptExecutionDisabled", value=not allowed)

    def photograph(self, path, selector="body"):
        """Write an element as a PNG."""
        size = "r => ({x: r.x + scrollX, y: r.y + scrollY, width: r.width, height: r.height})"
        box = self.ask(
            f"({size})(document.querySelector({json.dumps(selector)}).getBoundingClientRect())"
        )
        data = self.call(
            "Page.captureScreenshot", clip={**box, "scale": 1}, captureBeyondViewport=True
        )["data"]
        Path(path).write_bytes(base64.b64decode(data))

    def close(self):
        """End the browser and take its folder away."""
        with suppress(OSError):
            os.write(self._out, json.dumps({"id": 0, "method": "Browser.close"}).encode() + b"\0")
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        os.close(self._out)
        os.close(self._in)
        self.folder.cleanup()
