"""The demo, as `make demo` runs it: to its end, and broken off in the middle."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
from contextlib import contextmanager
from html import unescape
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest

from demo.__main__ import DEVICES, END, ROWS, START
from demo.pipeline import ROOT, compare
from mock_api import Account, MockAPI

if TYPE_CHECKING:
    from collections.abc import Iterator

ACCOUNT = Account.generate(devices=DEVICES, rows=ROWS, start=START, end=END)

pytestmark = pytest.mark.timeout(600)


@contextmanager
def demo(folder: Path, *args: str) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [sys.executable, "-m", "demo", *args],
        cwd=ROOT,
        env=os.environ | {"TMPDIR": str(folder), "COLUMNS": "80"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """The output of the demo, and the picture of it."""
    folder, svg = (tmp_path_factory.mktemp("tmp"), tmp_path_factory.mktemp("svg") / "a")
    with demo(folder, "--save", str(svg)) as process:
        output, _ = process.communicate()
    assert process.returncode == 0, output
    assert not [*folder.iterdir()]
    return output, svg.read_text(encoding="utf-8")


def test_shows_every_record_and_says_so(saved: tuple[str, str]) -> None:
    output, _ = saved
    words = " ".join(output.split())
    assert "12,000 in the table: 0 missing, 0 unexpected, 0 duplicates" in words
    assert "12,180 in the table: 0 missing, 0 unexpected, 0 duplicates" in words
    assert re.search(r" \d+ records: the 180 new ones and \d+ in the lookback", words)
    assert output.endswith("the table held exactly the account's records.\n")


def test_fits_80_columns_with_every_device(saved: tuple[str, str]) -> None:
    output, _ = saved
    assert max(map(len, output.splitlines())) == 80
    assert "…" not in output
    *devices, silent = ACCOUNT.devices
    bookmarks, counts = output.split("Bookmarks")[1], output.split("Records per")[1]
    assert re.findall(r"W[0-9a-f]{15}", bookmarks) == [*devices, silent]
    assert re.findall(r"W[0-9a-f]{15}", counts.split("bicycle")[0]) == sorted(devices)


def test_samples_are_records_of_the_account(saved: tuple[str, str]) -> None:
    output, _ = saved
    _, lines, _ = re.split("unleash.analytics:|The first record", output)
    samples = [json.loads(" ".join(text.split())) for text in lines.split("\n\n")[1:-1]]
    with MockAPI(ACCOUNT) as api:
        assert compare(samples, api.truth()) == (0, 12_000 - 3)
    first = samples[0]
    assert (
        f"In frame {first['frame_number']} of the recording "
        f"{first['source_file_name']}, the model {first['model_id']} found "
        f"{first['count']:.0f} persons."
    ) in " ".join(output.split())


def test_picture_shows_the_output_and_loads_nothing(saved: tuple[str, str]) -> None:
    output, svg = saved
    text = unescape(re.sub("<[^>]+>", "", svg))
    assert "".join(output.split()) in "".join(text.split())
    servers = set(re.findall(r"\w+://[^/:\"]+", svg))
    assert servers == {"http://www.w3.org", "http://127.0.0.1"}
    assert "@" not in svg


def test_chart_shows_detections(saved: tuple[str, str]) -> None:
    output, _ = saved
    (picture,) = re.findall(r"class and hour: (.+\.svg)$", output, re.MULTILINE)
    chart = (ROOT / picture).read_text(encoding="utf-8")
    assert ">person</text>" in chart
    assert "total_count" not in chart


def test_database_runs_until_it_is_stopped(tmp_path: Path) -> None:
    with demo(tmp_path, "--keep") as process:
        output, _ = process.communicate()
    assert process.returncode == 0, output
    connect, stop = re.findall(r"^\S+/(?:psql|python.*) .+$", output, re.MULTILINE)
    folder = Path(shlex.split(stop)[-1])
    query = f"{connect} --command='TABLE unleash.analytics'"
    try:
        assert shell(query).stdout.endswith("(12180 rows)\n\n")
    finally:
        stopped = shell(stop)
    assert (stopped.returncode, stopped.stdout) == (0, "")
    assert not folder.exists()
    assert not [*tmp_path.iterdir()]
    assert shell(query).returncode == 2
    again = shell(stop)
    assert again.returncode == 2
    assert again.stderr.endswith(f"error: {folder} has no database\n")


def shell(command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # noqa: S602 - a command for a shell
        command,
        capture_output=True,
        check=False,
        cwd=ROOT,
        shell=True,
        text=True,
    )


def test_make_keeps_the_database_if_it_is_asked_to() -> None:
    assert "-m demo --keep\n" in shell("make --dry-run demo KEEP=1").stdout
    assert "--keep" not in shell("make --dry-run demo").stdout


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_leaves_nothing_behind(tmp_path: Path, number: signal.Signals) -> None:
    with demo(tmp_path) as process:
        assert process.stdout
        line = next(line for line in process.stdout if line.startswith("The mock"))
        line += next(process.stdout)
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
pipeline.ROOT = pathlib.Path(sys.argv.pop())
(pipeline.ROOT / "meltano.yml").touch()
demo.main()
"""
