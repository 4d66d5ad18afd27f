"""What a run says of how far it is."""

from __future__ import annotations

import fcntl
import logging
import os
import pty
import struct
import subprocess
import termios
from typing import TYPE_CHECKING

from reliability.runs import command, run

from mock_api import Account, MockAPI
from tap_unleash import progress

if TYPE_CHECKING:
    import pytest


def test_a_log_says_how_far_the_run_is() -> None:
    with MockAPI(Account.generate(devices=4, rows=50)) as api:
        result = run(api, constants={"progress.LOG_INTERVAL": 0}, loglevel="INFO")
        rows = len(api.truth())
    lines = [line for line in result.err.splitlines() if " devices done, " in line]
    assert len(lines) == 4
    assert f"4 of 4 devices done, {rows} rows, " in lines[-1]
    assert "http_request_duration" not in result.err  # one line per request is too much
    assert "record_count" in result.err


def test_a_short_run_has_no_such_line() -> None:
    with MockAPI(Account.generate(devices=2, rows=5)) as api:
        assert " devices done, " not in run(api, loglevel="INFO").err


def test_the_time_left_is_estimated_only_with_evidence(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "LOG_INTERVAL", 0)
    caplog.set_level("INFO")
    shown = progress.Progress(10, logging.getLogger("test"))
    shown.advance(0, 1e-9)  # the windows before the first record
    shown.advance(100, 0.2)
    first, second = caplog.messages
    assert first == "0 of 10 devices done, 0 rows, 0 rows/s"
    assert second.startswith("0 of 10 devices done, 100 rows, ")
    assert second.endswith(" minutes left")


def test_a_terminal_shows_a_bar() -> None:
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 90, 0, 0))
    with (
        MockAPI(Account.generate(devices=4, rows=1000), page_size=100) as api,
        command(api) as (arguments, env),
    ):
        subprocess.run(
            arguments, env=env, stdout=subprocess.DEVNULL, stderr=theirs, check=True
        )
        rows = len(api.truth())
    shown = os.read(ours, 65536).decode()
    os.close(theirs)
    os.close(ours)
    assert f"4/4 devices, {rows:,} rows, " in shown
    assert all(len(line) <= 90 for line in shown.replace("\r", "\n").splitlines())
