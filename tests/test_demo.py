"""The demo, as `make demo` runs it: to its end, and interrupted."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest
from pages import Page

from demo.pipeline import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator

FIGURES = "SELECT device_id, class_name, count(*) FROM unleash.analytics GROUP BY 1, 2"

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


def shell(command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # noqa: S602 - a command for a shell
        command, capture_output=True, check=False, cwd=ROOT, shell=True, text=True
    )


def test_shows_every_record_and_keeps_the_database(tmp_path: Path) -> None:
    with demo(tmp_path, "--keep", "--save", str(tmp_path / "svg")) as process:
        output, _ = process.communicate()
    assert process.returncode == 0, output
    assert max(map(len, output.partition("PostgreSQL keeps")[0].splitlines())) == 80
    said = " ".join(output.split())
    for records in ("12,000", "12,180"):
        assert f"{records} in the table: 0 missing, 0 unexpected, 0 dupl" in said
    assert re.search(r" \d+ records: the 180 new ones and \d+ in the lookback", said)
    (path,) = re.findall(r"for your browser: (.+\.html)$", output, re.MULTILINE)
    page = Page(ROOT / path)
    assert "Records 12,180 Devices with records 3 of 4" in page.text
    servers = set(re.findall(r"\w+://[^/:\"\s]+", (tmp_path / "svg").read_text(encoding="utf-8")))
    assert servers <= {"http://www.w3.org", "http://127.0.0.1", "https://www.textualize.io"}

    connect, stop = re.findall(r"^\S+/(?:psql|python.*) .+$", output, re.MULTILINE)
    query = f"{connect} --command='TABLE unleash.analytics'"
    try:
        assert shell(query).stdout.endswith("(12180 rows)\n\n")
        figures = shell(f"{connect} --csv --tuples-only --command='{FIGURES}'").stdout
        assert {
            f"{device},{name},{records.replace(',', '')}"
            for device, name, records, *_ in page.table("Classes")
        } == {*figures.splitlines()}
        url = connect.split()[-1]
        shell(f"{connect} --command='DROP TABLE unleash.devices'")
        report = "examples/report.py --output output/report.html --database"
        again = shell(f"{shlex.quote(sys.executable)} {report} {url.replace(':', '+psycopg:', 1)}")
        assert again.returncode == 0, again.stderr
        assert "Devices with records 3 of 3" in Page(ROOT / path).text
    finally:
        stopped = shell(stop)
    assert (stopped.returncode, stopped.stdout) == (0, "")
    assert not Path(shlex.split(stop)[-1]).exists()
    assert shell(query).returncode == 2
    assert shell(stop).stderr.endswith("has no database\n")
    assert "-m demo --keep\n" in shell("make --dry-run demo KEEP=1").stdout


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_leaves_nothing_behind(tmp_path: Path, number: signal.Signals) -> None:
    with demo(tmp_path) as process:
        assert process.stdout
        next(line for line in process.stdout if line.startswith("The account"))
        me = psutil.Process(process.pid)
        while not (pipeline := me.children(recursive=True)):
            assert process.poll() is None
        process.send_signal(number)
        output = process.stdout.read()
    assert process.returncode == 128 + number
    assert output.endswith("Interrupted; nothing was left behind.\n")
    _, alive = psutil.wait_procs(pipeline, timeout=30)
    assert not alive
    assert not [*tmp_path.iterdir()]


def test_says_what_is_missing(tmp_path: Path) -> None:
    """Meltano's plugins are installed by make, not by the demo."""
    (tmp_path / "meltano.yml").touch()
    patched = (
        "import pathlib\nfrom demo import __main__ as demo, pipeline\n"
        f"pipeline.ROOT = pathlib.Path({str(tmp_path)!r})\ndemo.main()"
    )
    done = shell(shlex.join([sys.executable, "-c", patched]))
    assert done.returncode == 1
    assert done.stdout.endswith("plugins are not installed: make .meltano/.ready\n")
    assert done.stderr == ""
