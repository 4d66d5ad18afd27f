"""Signals and a closed pipe: STATE goes out last, and the next run goes on from it."""

from __future__ import annotations

import fcntl
import signal
from functools import cache
from typing import IO

import pytest

from mock_api import Account, Fault, MockAPI
from reliability.runs import (
    EVERY_SLICE,
    Run,
    Table,
    assert_one_line,
    assert_truth,
    expected,
    read,
    run,
    started,
)

LONG = 60.0
"""Seconds until a run that does not end is given up."""

CODES = {signal.SIGTERM: 143, signal.SIGINT: 130}

CONSTANTS = EVERY_SLICE | {"reader.MAX_PAGES": 5}


@cache
def account() -> Account:
    """More rows than a pipe holds, by far."""
    return Account.generate(devices=3, rows=3_000)


def assert_gone_on_with(api: MockAPI, broken: Run) -> None:
    """What came out is true, what the state passed is there, and the rest follows."""
    table = Table()
    table.load(broken.messages)
    truth = expected(api.truth())
    assert 0 < len(table) < truth.total()
    assert not table.rows() - truth
    marks = broken.bookmarks()
    assert marks
    safe = [
        row
        for row in api.truth()
        if row["timestamp"] <= marks.get(row["device_id"], "")
    ]
    assert not expected(safe) - table.rows()
    again = run(api, state=broken.state, lookback_minutes=0)
    assert (again.code, again.err) == (0, "")
    table.load(again.messages)
    assert_truth(table, truth)


def rest_of(stream: IO[bytes] | None) -> bytes:
    assert stream is not None
    return stream.read()


@pytest.mark.parametrize("number", CODES)
@pytest.mark.parametrize("after", [200_000, 500_000, 2_000_000])
def test_a_signal_amid_the_run_ends_it_with_state(
    number: signal.Signals, after: int
) -> None:
    with MockAPI(account(), page_size=50) as api:
        with (
            started(api, constants={"reader.MAX_PAGES": 5}) as process,
        ):
            out = read(process.stdout, after)
            process.send_signal(number)
            rest, err = process.communicate(timeout=LONG)
        broken = Run(process.returncode, out + rest, err.decode())
        assert (broken.code, broken.err) == (CODES[number], "")
        # The one STATE so far: none was due by the clock.
        assert broken.out.endswith(b"\n")
        assert broken.messages[-1]["type"] == "STATE"
        assert_gone_on_with(api, broken)


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_signal_amid_a_write_tears_no_message(
    unbuffered: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONUNBUFFERED", unbuffered)
    with MockAPI(account()) as api:
        with started(api) as process:
            assert process.stdout is not None
            # So small a pipe that the tap is amid a write nearly all the time.
            fcntl.fcntl(process.stdout, fcntl.F_SETPIPE_SZ, 4096)
            out = read(process.stdout, 500_000)
            process.send_signal(signal.SIGTERM)
            rest, err = process.communicate(timeout=LONG)
        broken = Run(process.returncode, out + rest, err.decode())
        assert (broken.code, broken.err) == (CODES[signal.SIGTERM], "")
        assert broken.messages[-1]["type"] == "STATE"


@pytest.mark.parametrize("number", CODES)
def test_a_signal_is_obeyed_though_nobody_reads_the_output(
    number: signal.Signals,
) -> None:
    with MockAPI(account(), page_size=50) as api:
        with (
            started(api, constants=CONSTANTS) as process,
        ):
            # The pipe holds a tenth of what follows.
            out = read(process.stdout, 100_000)
            process.send_signal(number)
            assert process.wait(LONG) == CODES[number]
            out += rest_of(process.stdout)
            assert rest_of(process.stderr) == b""
        assert_gone_on_with(api, Run(CODES[number], out, ""))


@pytest.mark.parametrize("number", CODES)
def test_a_signal_is_obeyed_while_the_server_keeps_the_tap_waiting(
    number: signal.Signals,
) -> None:
    stalls = Fault(kind="stall", where="analytics", seconds=LONG * 2)
    with (
        MockAPI(account(), faults=(stalls,)) as api,
        started(api) as process,
    ):
        out = read(process.stdout, 500)
        process.send_signal(number)
        rest, err = process.communicate(timeout=LONG)
    broken = Run(process.returncode, out + rest, err.decode())
    assert (broken.code, broken.err) == (CODES[number], "")
    assert broken.messages[-1]["type"] == "STATE"


@pytest.mark.parametrize("size", [1, 100_000])
def test_a_pipe_that_is_closed_early_ends_the_run_in_one_line(size: int) -> None:
    with (
        MockAPI(account(), page_size=50) as api,
        started(api) as process,
    ):
        read(process.stdout, size)
        assert process.stdout is not None
        process.stdout.close()
        err = rest_of(process.stderr).decode()
        process.wait(LONG)
    assert "has closed it" in assert_one_line(Run(process.returncode, b"", err))
