"""Signals and a closed pipe: STATE is emitted last, and the next sync resumes from it."""

from __future__ import annotations

import fcntl
import signal
from functools import cache
from typing import IO

import pytest

from mock_api import Account, Fault, MockAPI
from reliability.runs import (
    EVERY_WINDOW,
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
"""Seconds until a test gives up on a run that does not end."""

CODES = {signal.SIGTERM: 143, signal.SIGINT: 130, signal.SIGHUP: 129}

CONSTANTS = EVERY_WINDOW | {"api.pagination.MAX_PAGES": 5}


@cache
def account() -> Account:
    """Many more rows than a pipe holds."""
    return Account.generate(devices=3, rows=3_000)


def assert_resumes(api: MockAPI, broken: Run) -> None:
    """Records are true, and complete up to the bookmarks; the next sync reads the rest."""
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
def test_a_signal_during_the_sync_ends_it_with_state(
    number: signal.Signals, after: int
) -> None:
    with MockAPI(account(), page_size=50) as api:
        with (
            started(api, constants={"api.pagination.MAX_PAGES": 5}) as process,
        ):
            out = read(process.stdout, after)
            process.send_signal(number)
            rest, err = process.communicate(timeout=LONG)
        broken = Run(process.returncode, out + rest, err.decode())
        assert (broken.code, broken.err) == (CODES[number], "")
        # The only STATE: none was due before.
        assert broken.out.endswith(b"\n")
        assert broken.messages[-1]["type"] == "STATE"
        assert_resumes(api, broken)


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_signal_during_a_write_tears_no_message(
    unbuffered: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONUNBUFFERED", unbuffered)
    with MockAPI(account()) as api:
        with started(api) as process:
            assert process.stdout is not None
            # A pipe so small that the tap is writing nearly all the time.
            fcntl.fcntl(process.stdout, fcntl.F_SETPIPE_SZ, 4096)
            out = read(process.stdout, 500_000)
            process.send_signal(signal.SIGTERM)
            rest, err = process.communicate(timeout=LONG)
        broken = Run(process.returncode, out + rest, err.decode())
        assert (broken.code, broken.err) == (CODES[signal.SIGTERM], "")
        assert broken.messages[-1]["type"] == "STATE"


@pytest.mark.parametrize("number", CODES)
def test_a_signal_ends_a_sync_whose_output_is_not_read(
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
        assert_resumes(api, Run(CODES[number], out, ""))


@pytest.mark.parametrize("number", CODES)
def test_a_signal_ends_a_sync_that_waits_for_the_api(
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


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
def test_a_signal_that_the_parent_process_ignores_is_ignored(
    number: signal.Signals,
) -> None:
    handler = signal.signal(number, signal.SIG_IGN)  # as nohup does
    try:
        with MockAPI(account(), page_size=50) as api, started(api) as process:
            out = read(process.stdout, 100_000)
            process.send_signal(number)
            rest, err = process.communicate(timeout=LONG)
    finally:
        signal.signal(number, handler)
    complete = Run(process.returncode, out + rest, err.decode())
    assert (complete.code, complete.err) == (0, "")
    table = Table()
    table.load(complete.messages)
    assert_truth(table, expected(api.truth()))


def test_a_fatal_error_does_not_wait_for_requests_in_flight() -> None:
    _, waiting, redirected = account().devices
    faults = (
        Fault(kind="hang", where=f"/{waiting}/"),
        Fault(kind="redirect", where=f"/{redirected}/"),
    )
    with MockAPI(account(), faults=faults) as api:
        result = run(api, request_timeout=600)
    assert "Unexpected redirect" in assert_one_line(result)
    assert result.messages[-1]["type"] == "STATE"


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
    line = assert_one_line(Run(process.returncode, b"", err))
    assert "Output pipe closed: the target exited." in line
