"""`python -m mock_api`, as a shell or another program runs it."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

COMMAND = [sys.executable, "-m", "mock_api"]


@contextmanager
def running(*options: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    pipe = subprocess.PIPE
    with subprocess.Popen([*COMMAND, *options], stdout=pipe, stderr=pipe, text=True) as process:
        try:
            assert process.stdout
            yield process, process.stdout.readline().strip()
        finally:
            process.kill()


def get(url: str, key: str = "mock") -> bytes:
    request = Request(url, headers={"x-api-key": key})  # noqa: S310
    with urlopen(request, timeout=30) as response:  # noqa: S310
        return bytes(response.read())


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_starts_and_stops(number: signal.Signals) -> None:
    with running("--latency", "0.01") as (process, url):
        assert url.startswith("http://127.0.0.1:")
        assert url.endswith("/v1")
        assert get(f"{url}/analytics/version") == b'{"1.0.1"}'
        start = time.monotonic()
        process.send_signal(number)
        out, err = process.communicate(timeout=10)
        assert (process.returncode, out, err) == (0, "", "")
        assert time.monotonic() - start < 2


def test_options() -> None:
    options = """--devices 2 --rows 30 --page-size 8 --seed 5 --start 2021-01-01
        --end 2021-01-02T00:00:00Z --api-key key --version-form bare --bounds open
        --fault kind=status_503,where=sessions,times=1
        --fault kind=html,where=devices,start=2 --rows-per-second 9"""
    with running(*options.split()) as (_, url):
        assert get(f"{url}/analytics/version", "key") == b"1.0.1"
        first, _second = json.loads(get(f"{url}/analytics/devices", "key"))
        assert get(f"{url}/analytics/devices", "key").startswith(b"<!doctype")
        with pytest.raises(HTTPError, match="503") as raised:
            get(f"{url}/analytics/sessions", "key")
        raised.value.close()
        path = f"{url}/analytics/tableau/{first}/1609459199999/1609545600000/1"
        page = json.loads(get(path, "key"))
        assert (page["total_num_pages"], len(page["data"])) == (4, 8)
        times = {row["timestamp"] for row in page["data"]}
        assert times == {"2021-01-01T00:00:00.000Z"}
        truth = get(f"{url.removesuffix('/v1')}/mock/truth")
        assert len(truth.splitlines()) == 60


@pytest.mark.parametrize(
    "options",
    [
        "--bounds ajar",
        "--page-size 0",
        "--fault kind=x",
        "--rows many",
        "--seed x",
        "--start x",
    ],
)
def test_wrong_options(options: str) -> None:
    done = subprocess.run(
        [*COMMAND, *options.split()],
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    assert done.returncode == 2
    assert "usage: python -m mock_api" in done.stderr
    assert "Traceback" not in done.stderr


def test_help() -> None:
    done = subprocess.run([*COMMAND, "--help"], capture_output=True, text=True, check=True)
    for option in ("--port", "--rate-limit", "--tableau-form", "--fault", "--max-body"):
        assert option in done.stdout
