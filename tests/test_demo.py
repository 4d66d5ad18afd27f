"""The demo, as `make demo` runs it: to its end, and broken off in the middle."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest

from demo.pipeline import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.timeout(600)


@contextmanager
def demo(folder: Path) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [sys.executable, "-m", "demo"],
        cwd=ROOT,
        env=os.environ | {"TMPDIR": str(folder), "COLUMNS": "200"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def test_shows_every_row_and_says_so(tmp_path: Path) -> None:
    with demo(tmp_path) as process:
        output, _ = process.communicate()
    assert process.returncode == 0, output
    assert "12,000 in the table; 0 missing, 0 invented, 0 doubled" in output
    assert "12,180 in the table; 0 missing, 0 invented, 0 doubled" in output
    assert "number_of_persons_in_group" in output
    assert re.search(r"fetched \d+ rows: the 180 new ones and \d+ of the look", output)
    assert output.endswith("the table held exactly the rows of the account.\n")
    assert not [*tmp_path.iterdir()]
    (picture,) = re.findall(r"per hour and class: (.+\.svg)$", output, re.MULTILINE)
    assert "person" in Path(picture).read_text(encoding="utf-8")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_leaves_nothing_behind(tmp_path: Path, number: signal.Signals) -> None:
    with demo(tmp_path) as process:
        assert process.stdout
        line = next(line for line in process.stdout if line.startswith("from "))
        ports = [int(port) for port in re.findall(r":(\d+)", line)]
        next(line for line in process.stdout if line.startswith("The account"))
        (server,) = (
            psutil.Process(connection.pid)
            for connection in psutil.net_connections("tcp4")
            if connection.status == "LISTEN"
            and connection.laddr
            and connection.laddr.port == ports[1]
        )
        data = Path(server.cwd())
        me = psutil.Process(process.pid)
        while not (pipeline := [p for p in me.children(recursive=True) if p != server]):
            assert process.poll() is None
        process.send_signal(number)
        output = process.stdout.read()
    assert process.returncode == 128 + number
    assert output.endswith("Interrupted; nothing was left behind.\n")
    _, alive = psutil.wait_procs([server, *pipeline], timeout=30)
    assert not alive
    assert not data.exists()
    assert not [*tmp_path.iterdir()]
    for port in ports:
        with socket.socket() as client, pytest.raises(ConnectionRefusedError):
            client.connect(("127.0.0.1", port))


def test_says_what_is_missing(tmp_path: Path) -> None:
    """Meltano's plugins are installed by make, not by the demo."""
    done = subprocess.run(
        [sys.executable, "-c", PATCHED, str(tmp_path)],
        capture_output=True,
        check=False,
        cwd=ROOT,
        text=True,
    )
    assert done.returncode == 1
    assert done.stdout.endswith("plugins are not installed: make .meltano/.ready\n")
    assert done.stderr == ""


PATCHED = """
import pathlib, sys
from demo import __main__ as demo, pipeline
pipeline.ROOT = pathlib.Path(sys.argv[1])
(pipeline.ROOT / "meltano.yml").touch()
demo.main()
"""
