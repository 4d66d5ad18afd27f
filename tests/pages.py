"""Reports, and a headless browser, driven by the DevTools protocol over pipes."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, BinaryIO
from xml.etree import ElementTree as ET

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PROGRAM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), ""
)


class Page:
    """A report, read without a browser."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.source = path.with_suffix(".jsonl")
        # It is XML, too, so that anything that is not escaped stands out.
        self.root = ET.parse(path).getroot()  # noqa: S314 - our own
        self.text = " ".join(" ".join(self.root.itertext()).split())

    def table(self, name: str) -> list[list[str]]:
        """The rows of a table, without its head."""
        (table,) = self.root.iterfind(f".//div[@aria-label='{name}']/table")
        rows = [["".join(cell.itertext()) for cell in row] for row in table.iter("tr")]
        return rows[1:]

    def marks(self, label: str) -> dict[str, list[str]]:
        """The titles of the marks of each row of a chart."""
        (chart,) = (
            f for f in self.root.iter("figure") if f.get("aria-label", "").startswith(label)
        )
        return {
            next(row.iter("span")).get("title", ""): [t.text or "" for t in row.iter("title")]
            for row in chart.iter("div")
        }

    def figures(self) -> dict[tuple[str, str], list[str]]:
        """The figures of each device and class."""
        found, device = {}, ""
        for name, *cells in self.table("Classes"):
            if cells:
                found[device, name] = cells
            else:
                device = name
        return found


class Browser:
    """A page of the browser.

    Attributes:
        requests: The URLs that it has asked for.
        errors: The exceptions and error messages of the page.
    """

    def __init__(self, answers: BinaryIO, commands: BinaryIO) -> None:
        self._answers = answers
        self._commands = commands
        self._session: dict[str, str] = {}
        self._number = 0
        self.requests: list[str] = []
        self.errors: list[Any] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        session = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = {"sessionId": session["sessionId"]}
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **params: object) -> dict[str, Any]:
        """Send a command, and return its result."""
        self._number += 1
        command = {"id": self._number, "method": method, "params": params, **self._session}
        self._commands.write(json.dumps(command).encode() + b"\0")
        self._commands.flush()
        while "id" not in (message := self._receive()):
            pass
        assert "error" not in message, message
        result: dict[str, Any] = message["result"]
        return result

    def open(self, page: Path, width: int, scheme: str) -> None:
        """Load a page, until it is complete."""
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=900,
            deviceScaleFactor=1,
            mobile=False,
        )
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.call("Emulation.setEmulatedMedia", features=features)
        self.requests.clear()
        self.errors.clear()
        self.call("Page.navigate", url=page.as_uri())
        while self._receive().get("method") != "Page.loadEventFired":
            pass

    def evaluate(self, expression: str) -> Any:  # noqa: ANN401 - as JSON
        """Evaluate JavaScript."""
        result = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def _receive(self) -> dict[str, Any]:
        text = b""
        while (byte := self._answers.read(1)) != b"\0":
            assert byte, "The browser has ended."
            text += byte
        message: dict[str, Any] = json.loads(text)
        method, params = message.get("method"), message.get("params", {})
        if method == "Network.requestWillBeSent":
            self.requests.append(params["request"]["url"])
        elif method == "Runtime.exceptionThrown" or (
            method == "Log.entryAdded" and params["entry"]["level"] == "error"
        ):
            self.errors.append(params)
        return message


@contextmanager
def browser(profile: Path) -> Iterator[Browser]:
    """Run the browser."""
    (their_in, our_out), (our_in, their_out) = os.pipe(), os.pipe()
    flags = (
        *("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-sync"),
        *("--disable-background-networking", "--disable-component-update"),
        *("--remote-debugging-pipe", f"--user-data-dir={profile}"),
    )
    # It reads commands from descriptor 3 and answers on 4.
    script = f'exec "$@" 3<&{their_in} 4>&{their_out}'
    command = ["bash", "-c", script, "bash", PROGRAM, *flags]
    with (
        open(our_in, "rb") as answers,  # noqa: PTH123 - a descriptor
        open(our_out, "wb") as commands,  # noqa: PTH123
        subprocess.Popen(
            command,
            pass_fds=(their_in, their_out),
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        ) as process,
    ):
        os.close(their_in)
        os.close(their_out)
        try:
            yield Browser(answers, commands)
        finally:
            os.killpg(process.pid, signal.SIGKILL)
