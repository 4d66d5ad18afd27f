"""Each fault, on each stream and in each response format, transient and persistent."""

from __future__ import annotations

import socket
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import datetime, timedelta, timezone
from functools import cache
from itertools import cycle
from typing import Any, get_args

import pytest

from mock_api import Account, Fault, MockAPI, Row
from mock_api.faults import Kind
from reliability.runs import (
    EVERY_WINDOW,
    FEW_ATTEMPTS,
    IMPATIENT,
    Run,
    Table,
    assert_isolated,
    assert_one_line,
    assert_truth,
    at,
    catalog,
    expected,
    row,
    run,
    started,
)
from tap_unleash.api import client, failures, rate_limiter

FEW_PAGES = {"api.pagination.MAX_PAGES": 3}

FORMATS = {"size_optimized": "analytics", "tableau": "tableau"}
"""The response formats, and the names of their endpoints in the mock API."""

LISTS = {"api_version": "version", "devices": "devices", "sessions": "sessions"}
"""The other streams, and the names of theirs."""

REJECTED: dict[str, str] = {
    "status_400": "Request rejected (HTTP 400 Bad Request). ",
    "status_401": "Authentication failed (HTTP 401 Unauthorized). Check that 'api_key' ",
    "status_403": "Authentication failed (HTTP 403 Forbidden). Check that 'api_key' ",
    "status_404": "Request rejected (HTTP 404 Not Found). ",
    "status_422": "Request rejected (HTTP 422 Unprocessable Entity: Validation failed). ",
}
"""Faults after which nothing is retried, and their error lines."""

FATAL: dict[str, str] = {
    "redirect": "Unexpected redirect (HTTP 302 Found). Check 'api_url'.",
    "bomb": "Response larger than 64 MiB.",
    "endless": "Response larger than 64 MiB.",
    "status_429": "Rate limit exceeded (HTTP 429 Too Many Requests) after 3 pauses. ",
    "quota": "Rate limit exceeded (HTTP 429 Too Many Requests: Limit Exceeded) after 3 ",
}
"""Faults that end the sync wherever they occur, and their error lines."""

SPLITTING = {
    "status_413",
    "status_502",
    "status_504",
    "stall",
    "stall_amid",
    "hang",
    "drip",
    "drip_headers",
}
"""Faults after which a shorter time range is requested."""

TIMED_OUT = {"stall", "stall_amid", "hang", "drip", "drip_headers"}

DRIP = {"drip": 0.5, "drip_headers": 0.5}
"""Seconds between two chunks: less than the time-out."""

HARMLESS = {"slow"}

OF_PAGES = {"no_data", "no_total", "string_total", "short_row"}
"""Faults that only a response with rows can have."""

HARMLESS_TO_LISTS = {"drip"}
"""Their bodies are so short that they are complete in time."""

ACCEPTED = {("other_shape", "tableau"), *(("no_total", form) for form in FORMATS)}
"""Rows without an object around them, and pages without a total."""

UNDETECTABLE = ("short_row", "tableau")
"""An object without a field: the API may leave out fields that are null."""

SPAN = 64
WINDOW: dict[str, Any] = {"start_date": at(-1), "end_date": at(SPAN)}


@cache
def account() -> Account:
    long = [row("Wlong", s, frame_number=f) for s in range(SPAN) for f in (1, 1)]
    brief = [row("Wbrief", s) for s in range(0, SPAN, 9)]
    return Account({"Wlong": map(Row, long), "Wbrief": map(Row, brief)})


def try_it(*faults: Fault, response_format: str, **options: Any) -> tuple[Run, MockAPI]:
    constants = FEW_PAGES | EVERY_WINDOW | options.pop("constants")
    timeout = 2 if TIMED_OUT & {fault.kind for fault in faults} else 20
    with MockAPI(account(), page_size=9, faults=faults) as api:
        result = run(
            api,
            catalog=catalog(),
            constants=constants,
            response_format=response_format,
            request_timeout=timeout,
            **WINDOW,
            **options,
        )
    return result, api


LISTED = {
    "devices": [{"device_id": "Wlong"}, {"device_id": "Wbrief"}],
    "sessions": [{"session_id": "1714521600000"}],
    "api_version": [{"version": "1.0.1"}],
}


def assert_complete(result: Run, table: Table) -> None:
    assert (result.code, result.err) == (0, "")
    table.load(result.messages)
    assert_truth(table, truth())
    assert {name: result.records(name) for name in LISTED} == LISTED


def truth() -> Any:  # noqa: ANN401
    return expected(MockAPI(account()).truth())


def retried(api: MockAPI, where: str) -> bool:
    """Return whether requests for an endpoint were repeated."""
    paths = [r.path for r in api.requests if where in r.path]
    return len(paths) > len(set(paths))


def passes(kind: Kind, response_format: str) -> None:
    """A fault that strikes every address of every stream once or twice."""
    if (kind, response_format) == UNDETECTABLE:
        return
    times = 1 if kind in SPLITTING else 2
    seconds = DRIP.get(kind) or (1 if kind == "slow" else 4)
    faults = [
        Fault(kind=kind, where=where, times=times, seconds=seconds)
        for where in LISTS.values()
    ]
    # Every split requests other addresses, for which a 413 would strike again.
    until = 40 if kind == "status_413" else None
    where = FORMATS[response_format]
    faults.append(
        Fault(kind=kind, where=where, times=times, until=until, seconds=seconds)
    )
    result, api = try_it(*faults, response_format=response_format, constants=IMPATIENT)
    assert_complete(result, Table())
    if kind not in OF_PAGES | HARMLESS | HARMLESS_TO_LISTS:
        assert all(retried(api, where) for where in LISTS.values())
    if kind not in HARMLESS and (kind, response_format) not in ACCEPTED:
        assert retried(api, "/Wlong/")


def lasts(kind: Kind, stream: str, response_format: str) -> None:
    """A fault that persists: emitted records stay, and the next sync resumes after them."""
    if stream == "analytics" and (kind, response_format) == UNDETECTABLE:
        return
    where = LISTS.get(stream) or FORMATS[response_format]
    fault = Fault(
        kind=kind,
        where=where,
        start=1 if stream in LISTS else 16,
        seconds=DRIP.get(kind, 30),
    )
    result, _ = try_it(
        fault,
        response_format=response_format,
        constants=FEW_ATTEMPTS,
        concurrency=1,  # so that the windows before the fault are complete
    )
    if stream == "analytics" and (kind, response_format) in ACCEPTED:
        assert_complete(result, Table())
        return
    if (
        kind in FATAL
        or stream == "devices"
        or (stream in LISTS and kind in {"status_401", "status_403"})
    ):
        errors = [assert_one_line(result)]
    elif stream in LISTS:
        errors = assert_isolated(result, streams=[stream])
    else:
        errors = assert_isolated(result, "Wlong", "Wbrief")
    reason = (REJECTED | FATAL).get(kind, "after 3 attempts. Retry later")
    assert all(reason in error for error in errors)

    table = Table()
    table.load(result.messages)
    rows = table.rows()
    assert not rows - truth()
    bookmarks = result.bookmarks()
    safe = [
        row
        for row in MockAPI(account()).truth()
        if row["timestamp"] <= bookmarks.get(row["device_id"], "")
    ]
    assert not expected(safe) - rows
    if stream == "devices":
        assert not table
    elif stream in LISTS:
        # It is synced after analytics.
        assert_truth(table, truth())
        if kind not in FATAL | REJECTED:
            others = LISTED.keys() - {stream}
            assert all(result.records(name) == LISTED[name] for name in others)
    else:
        assert bookmarks.keys() == {"Wlong"}
        assert result.messages[-1]["type"] == "STATE"
        assert 0 < len(table) < truth().total()
        again, _ = try_it(
            response_format=response_format,
            constants={},
            state=result.state,
            lookback_minutes=0,
        )
        assert_complete(again, table)


@pytest.mark.parametrize("kind", get_args(Kind))
def test_fault(kind: Kind) -> None:
    lists = () if kind in OF_PAGES | HARMLESS_TO_LISTS else LISTS
    with ThreadPoolExecutor(4) as pool:
        cells = []
        if kind not in REJECTED | FATAL or kind in {"status_429", "quota"}:
            cells += [pool.submit(passes, kind, form) for form in FORMATS]
        if kind not in HARMLESS:
            cells += [pool.submit(lasts, kind, "analytics", form) for form in FORMATS]
            # The lists have one format only.
            cells += [
                pool.submit(lasts, kind, stream, form)
                for stream, form in zip(lists, cycle(FORMATS))
            ]
    for cell in cells:
        cell.result()


RETRY_AFTER = [
    "0",
    "1",
    "-1",
    "1.5",
    "9" * 400,
    "date",
    "Wed, 21 Oct 2015 07:28:00 GMT",
    "Fri, 99 Foo 2099 99:99:99 GMT",
    "soon",
    "nan",
    "inf",
    "\u0662",
    "",
    None,
]


@pytest.mark.parametrize("kind", ["status_429", "status_503"])
def test_every_form_of_retry_after_is_accepted(kind: Kind) -> None:
    def try_form(form: str | None) -> None:
        encoded = form and form.encode().decode("latin-1")
        fault = Fault(kind=kind, where="", until=2, retry_after=encoded)
        result, api = try_it(
            fault, response_format="size_optimized", constants=IMPATIENT
        )
        assert_complete(result, Table())
        assert [r.status for r in api.requests[:2]] == [int(kind[-3:])] * 2

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(try_form, RETRY_AFTER))


@pytest.mark.parametrize("kind", ["status_429", "status_503"])
@pytest.mark.parametrize(
    "form",
    [
        "121",
        "86400",
        "99999999999",
        "Fri, 31 Dec 9999 23:59:59 GMT",
        "Fri, 31 Dec 9999 23:59:59 -0000",
    ],
)
def test_a_retry_after_that_is_too_long_ends_the_sync(kind: Kind, form: str) -> None:
    fault = Fault(kind=kind, start=12, retry_after=form)
    with MockAPI(account(), page_size=9, faults=(fault,)) as api:
        result = run(api, constants=FEW_PAGES | EVERY_WINDOW, concurrency=1)
        line = assert_one_line(result)
        assert len(api.requests) == 12
    when = "9999-12-31 23:59:59"
    if form.isdecimal():
        until = datetime.now(timezone.utc) + timedelta(seconds=int(form))
        when = f"{until:%Y-%m-%d}"
    assert f"The API accepts no requests until {when}" in line
    assert f" (HTTP {kind[-3:]} " in line
    assert result.bookmarks().keys() == {"Wlong"}


OTHERS: list[Kind] = ["html", "no_data", "cut", "reset_before", "status_500", "hang"]


@pytest.mark.parametrize("kind", [*REJECTED, *OTHERS])
def test_a_device_that_fails_stops_no_other_device_or_stream(kind: Kind) -> None:
    names = ("Wa", "Wb", "Wc")
    rows = {name: [row(name, second) for second in range(60)] for name in names}
    account = Account({name: map(Row, of_device) for name, of_device in rows.items()})
    before = {
        "context": {"device_id": "Wb"},
        "replication_key": "timestamp",
        "replication_key_value": at(10),
    }
    options: dict[str, Any] = {
        "state": {"bookmarks": {"analytics": {"partitions": [before]}}},
        "lookback_minutes": 0,
    }
    # Its first page is answered once.
    fault = Fault(kind=kind, where="/Wb/", start=2)
    with MockAPI(account, page_size=20, faults=(fault,)) as api:
        first = run(api, constants=FEW_ATTEMPTS, request_timeout=1, **options)
    (reason,) = assert_isolated(first, "Wb")
    assert reason
    table = Table()
    table.load(first.messages)
    assert_truth(table, expected(rows["Wa"] + rows["Wc"]))
    assert [r["device_id"] for r in first.records("devices")] == ["Wa", "Wb", "Wc"]
    assert first.records("sessions")
    assert first.bookmarks() == {"Wa": at(59), "Wb": at(10), "Wc": at(59)}

    with MockAPI(account, page_size=20) as api:
        second = run(api, **(options | {"state": first.state}))
    assert (second.code, second.err) == (0, "")
    table.load(second.messages)
    assert_truth(table, expected(rows["Wa"] + rows["Wb"][10:] + rows["Wc"]))


def test_an_isolated_error_is_logged_at_once() -> None:
    account = Account({name: [Row(row(name, 0))] for name in ("Wa", "Wb")})
    faults = (
        Fault(kind="status_404", where="/Wa/"),
        Fault(kind="hang", where="/Wb/"),
    )
    with MockAPI(account, faults=faults) as api, started(api) as process:
        assert process.stderr is not None
        assert b"Failed to sync device 'Wa': " in process.stderr.readline()
        process.terminate()
        process.communicate()
    assert process.returncode == 143


def test_the_last_line_names_ten_failed_devices() -> None:
    names = [f"W{number:02}" for number in range(12)]
    account = Account({name: [Row(row(name, 0))] for name in names})
    with MockAPI(account, faults=(Fault(kind="status_404", where="/W"),)) as api:
        result = run(api)
    assert_isolated(result, *names)
    assert ", device 'W09', …); " in result.err


@pytest.mark.parametrize("failing", [1, 2, 3])
def test_three_unavailable_devices_in_a_row_end_the_sync(failing: int) -> None:
    names = [f"W{number}" for number in range(9)]
    account = Account({name: [Row(row(name, 0))] for name in names})
    where = f"/W[{names[2][1]}-{names[1 + failing][1]}7]/"
    fault = Fault(kind="status_503", where=where)
    with MockAPI(account, faults=(fault,)) as api:
        result = run(api, constants=FEW_ATTEMPTS)
    if failing < 3:
        assert_isolated(result, *names[2 : 2 + failing], "W7")
        assert result.bookmarks().keys() == {*names} - {"W7", *names[2 : 2 + failing]}
        return
    *logged, last = result.err.splitlines()
    assert [
        line.partition("Failed to sync ")[2].partition(":")[0] for line in logged
    ] == [f"device {name!r}" for name in names[2:5]]
    assert last.startswith(
        "tap-unleash: 3 devices in a row failed. API error (HTTP 503 Service "
        "Unavailable) after 3 attempts."
    )
    assert result.code == 1
    assert result.bookmarks().keys() == {"W0", "W1"}
    assert result.messages[-1]["type"] == "STATE"


@pytest.mark.parametrize(
    "kind", ["status_413", "status_502", "status_503", "status_504"]
)
def test_an_outage_costs_tens_of_requests(kind: Kind) -> None:
    names = [f"W{number:02}" for number in range(60)]
    rows = {name: [row(name, second) for second in range(200)] for name in names}
    account = Account({name: map(Row, of_device) for name, of_device in rows.items()})
    # It begins after two devices.
    fault = Fault(kind=kind, where="analytics", start=20)
    with MockAPI(account, page_size=30, faults=(fault,)) as api:
        result = run(api, constants=IMPATIENT)
    assert result.code == 1
    assert "tap-unleash: 3 devices in a row failed. " in result.err
    assert 20 < len(api.requests) < 100


def test_a_credential_that_is_revoked_ends_the_sync_in_one_line() -> None:
    for kind in ("status_401", "status_403"):
        fault = Fault(kind=kind, start=12)
        with MockAPI(account(), page_size=9, faults=(fault,)) as api:
            result = run(api, constants=FEW_PAGES | EVERY_WINDOW, concurrency=1)
        assert REJECTED[kind] in assert_one_line(result)
        assert result.bookmarks().keys() == {"Wlong"}


def test_retries_outlast_a_rate_limit_per_minute() -> None:
    waits = [min(2**n, client.MAX_WAIT) / 2 for n in range(failures.MAX_ATTEMPTS - 1)]
    assert sum(waits) > 60
    pauses = [min(2**n, rate_limiter.MAX_PAUSE) for n in range(failures.MAX_ATTEMPTS)]
    assert sum(pauses) > 60
    with MockAPI(account(), page_size=9, rate_limit=5, rate_window=1) as api:
        result = run(api, catalog=catalog())
    assert 429 in {r.status for r in api.requests}
    assert_complete(result, Table())


@pytest.mark.parametrize(
    ("limits", "status"),
    [
        ({"max_pages": 3}, 413),
        ({"max_pages": 3, "too_large": "504"}, 504),
        ({"max_range_seconds": 7}, 413),
        ({"max_range_seconds": 7, "too_large": "504"}, 504),
        ({"max_pages": 3, "too_large": "400"}, 400),
        ({"max_range_seconds": 7, "too_large": "400"}, 400),
        ({"max_range_seconds": 7, "too_large": "422"}, 422),
        ({"max_range_seconds": 7, "too_large": "502"}, 502),
        ({"max_body": 2_000, "page_size": 50}, 502),
    ],
    ids=str,
)
def test_windows_that_the_api_cannot_answer_are_split(
    limits: dict[str, Any], status: int
) -> None:
    for response_format in FORMATS:
        with MockAPI(account(), **{"page_size": 3, **limits}) as api:
            result = run(
                api,
                catalog=catalog(),
                constants=IMPATIENT,
                response_format=response_format,
                **WINDOW,
            )
        assert status in {r.status for r in api.requests}
        assert_complete(result, Table())


@pytest.mark.parametrize("concurrency", [1, 4])
@pytest.mark.parametrize("status", ["400", "413", "504"])
def test_the_longest_accepted_window_is_remembered(
    status: str, concurrency: int
) -> None:
    names = [f"W{number:02}" for number in range(20)]
    rows = {name: [row(name, 86_400 * day) for day in range(60)] for name in names}
    account = Account({name: map(Row, of_device) for name, of_device in rows.items()})
    with MockAPI(account, max_range_seconds=86_400 * 10, too_large=status) as api:
        result = run(
            api,
            constants=IMPATIENT,
            concurrency=concurrency,
            start_date=at(0),
            end_date=at(86_400 * 60),
        )
        assert (result.code, result.err) == (0, "")
        table = Table()
        table.load(result.messages)
        assert_truth(table, expected(api.truth()))
        first = next(r for r in api.requests if f"/{names[-1]}/" in r.path)
    assert first.status == 200


def test_fewer_requests_are_sent_before_a_window_is_split() -> None:
    names = [f"W{number:02}" for number in range(40)]
    account = Account({name: [Row(row(name, 0))] for name in names})
    with MockAPI(account, serial_seconds=0.1, gateway_timeout=1) as api:
        result = run(api, constants=IMPATIENT, concurrency=32, end_date=at(99))
        assert (result.code, result.err) == (0, "")
        assert len(result.records()) == len(names)
    assert 504 in {r.status for r in api.requests}
    ranges = {tuple(r.path.split("/")[-3:-1]) for r in api.requests if "/W" in r.path}
    assert len(ranges) == 1


def test_a_server_that_cannot_be_reached_ends_the_run_in_one_line() -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        port = listener.getsockname()[1]
    url = f"http://127.0.0.1:{port}/v1"
    line = assert_one_line(run(url, constants=FEW_ATTEMPTS))
    reason = "(Connection refused) after 3 attempts. Retry later"
    assert f"Cannot connect to {url}/analytics {reason}" in line


@pytest.mark.parametrize("during_the_sync", [False, True])
def test_an_outage_is_waited_for(during_the_sync: bool) -> None:  # noqa: FBT001
    constants = FEW_PAGES | EVERY_WINDOW | {"api.client.MAX_WAIT": 0.5}
    with MockAPI(account(), page_size=4, latency=0.01) as api:
        options = {"catalog": catalog(), "constants": constants, **WINDOW}
        if not during_the_sync:
            api.stop()
        with (
            started(api, loglevel="WARNING", **options) as process,
        ):
            assert process.stdout is not None
            assert process.stderr is not None
            out = b""
            while during_the_sync and b'"STATE"' not in out:
                out += process.stdout.readline()
            api.stop()
            while b"Retrying in" not in process.stderr.readline():
                pass
            api.start()
            rest, err = process.communicate()
    assert process.returncode == 0, err
    assert_complete(Run(0, out + rest, ""), Table())
