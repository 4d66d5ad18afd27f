"""Each fault, on each stream, in each response format: transient, and one that lasts."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import cache
from itertools import accumulate, cycle
from typing import Any, get_args

import pytest

from mock_api import Account, Fault, MockAPI, Row
from mock_api.faults import Kind
from reliability.runs import (
    EVERY_SLICE,
    IMPATIENT,
    SHORT_OF_TRIES,
    Run,
    Table,
    assert_one_line,
    assert_truth,
    at,
    expected,
    row,
    run,
    started,
)
from tap_unleash import client

FORMATS = {"size_optimized": "analytics", "tableau": "tableau"}
"""The response formats, and what the mock API calls their endpoints."""

LISTS = {"api_version": "version", "devices": "devices", "sessions": "sessions"}
"""The other streams, and what the mock API calls theirs."""

FATAL = {
    "status_400": "did not understand",
    "status_401": "did not accept the credential",
    "status_403": "refused the credential",
    "status_404": "does not know this address",
    "status_422": "found a parameter invalid",
    "redirect": "redirects to another address",
    "bomb": "64 MiB",
    "endless": "64 MiB",
}
"""Faults that end a run at once, and what it says."""

LASTING = {
    "status_429": "request limit is used up",
    "quota": "request limit is used up",
    "cut": "broke off its answer after 3 tries",
    "reset_amid": "broke off its answer after 3 tries",
}
"""What a run says when a fault does not go away, if it is not the number of tries."""

DIVIDING = {"status_413", "status_502", "status_504", "stall", "stall_amid"}
"""Faults after which less is asked for, where less can be."""

HARMLESS = {"slow"}

OF_PAGES = {"no_data", "no_total", "string_total", "short_row"}
"""Faults that only an answer with rows can have."""

ALSO_DOCUMENTED = {("other_shape", "tableau"), ("short_row", "tableau")}
"""Rows alone, and a row without a column: the second format may look so."""

SPAN = 64
WINDOW: dict[str, Any] = {"start_date": at(-1), "end_date": at(SPAN)}


@cache
def account() -> Account:
    long = [row("Wlong", s, frame_number=f) for s in range(SPAN) for f in (1, 1)]
    brief = [row("Wbrief", s) for s in range(0, SPAN, 9)]
    return Account({"Wlong": map(Row, long), "Wbrief": map(Row, brief)})


@cache
def catalog() -> dict[str, Any]:
    """All streams, the version too, which is not selected unless asked for."""
    found: dict[str, Any] = json.loads(
        subprocess.check_output([sys.executable, "-m", "tap_unleash", "--discover"])
    )
    for stream in found["streams"]:
        for entry in stream["metadata"]:
            if not entry["breadcrumb"]:
                entry["metadata"]["selected"] = True
    return found


def try_it(*faults: Fault, response_format: str, **options: Any) -> tuple[Run, MockAPI]:
    constants = {"reader.MAX_PAGES": 3} | EVERY_SLICE | options.pop("constants")
    timeout = 2 if any("stall" in fault.kind for fault in faults) else 20
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


def assert_complete(result: Run, table: Table) -> None:
    assert (result.code, result.err) == (0, "")
    table.load(result.messages)
    assert_truth(table, truth())
    assert result.records("devices") == [
        {"device_id": "Wlong"},
        {"device_id": "Wbrief"},
    ]
    assert result.records("sessions") == [{"session_id": "1714521600000"}]
    assert result.records("api_version") == [{"version": "1.0.1"}]


def truth() -> Any:  # noqa: ANN401
    return expected(MockAPI(account()).truth())


def struck(api: MockAPI, where: str) -> bool:
    """Whether requests for an endpoint came again, as they do after a fault."""
    paths = [r.path for r in api.requests if where in r.path]
    return len(paths) > len(set(paths))


def passes(kind: Kind, response_format: str) -> None:
    """A fault that strikes every address of every stream once or twice."""
    if (kind, response_format) == ("short_row", "tableau"):
        return
    fault = Fault(kind=kind, times=1 if kind in DIVIDING else 2, seconds=4)
    result, api = try_it(fault, response_format=response_format, constants=IMPATIENT)
    assert_complete(result, Table())
    lists = {} if kind in OF_PAGES | HARMLESS else LISTS
    assert all(struck(api, where) for where in lists.values())
    harmless = kind in HARMLESS or (kind, response_format) in ALSO_DOCUMENTED
    assert harmless or struck(api, "/Wlong/")


def lasts(kind: Kind, stream: str, response_format: str) -> None:
    """A fault that does not go away: what was read is safe, and is gone on with."""
    if (kind, response_format) in ALSO_DOCUMENTED and stream == "analytics":
        return
    where = LISTS.get(stream) or FORMATS[response_format]
    fault = Fault(
        kind=kind, where=where, start=1 if stream in LISTS else 16, seconds=30
    )
    result, _ = try_it(
        fault,
        response_format=response_format,
        constants=SHORT_OF_TRIES,
        concurrency=1,  # so that the slices before the fault are read whole
    )
    line = assert_one_line(result)
    assert (FATAL | LASTING).get(kind, "after 3 tries") in line
    table = Table()
    table.load(result.messages)
    rows = table.rows()
    assert not rows - truth()
    marks = result.bookmarks()
    assert marks or where == "devices"
    safe = [
        row
        for row in MockAPI(account()).truth()
        if row["timestamp"] <= marks.get(row["device_id"], "")
    ]
    assert not expected(safe) - rows
    if stream == "analytics":
        assert 0 < len(table) < truth().total()
        assert result.messages[-1]["type"] == "STATE"
        again, _ = try_it(
            response_format=response_format,
            constants={},
            state=result.state,
            lookback_minutes=0,
        )
        assert_complete(again, table)


@pytest.mark.parametrize("kind", get_args(Kind))
def test_fault(kind: Kind) -> None:
    lists = () if kind in OF_PAGES else LISTS
    with ThreadPoolExecutor(4) as pool:
        cells = []
        if kind not in FATAL:
            cells += [pool.submit(passes, kind, form) for form in FORMATS]
        if kind not in HARMLESS:
            cells += [pool.submit(lasts, kind, "analytics", form) for form in FORMATS]
            # A list has but one format.
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
    "99999999999",
    "9" * 400,
    "date",
    "Wed, 21 Oct 2015 07:28:00 GMT",
    "Fri, 31 Dec 9999 23:59:59 GMT",
    "Fri, 31 Dec 9999 23:59:59 -0000",
    "Fri, 99 Foo 2099 99:99:99 GMT",
    "soon",
    "nan",
    "inf",
    "\u0662",
    "",
    None,
]


@pytest.mark.parametrize("kind", ["status_429", "status_503"])
def test_no_form_of_retry_after_is_too_much(kind: Kind) -> None:
    def try_form(form: str | None) -> None:
        encoded = form and form.encode().decode("latin-1")
        fault = Fault(kind=kind, where="", until=3, retry_after=encoded)
        # Absurd waits are cut to this one; the run would not end otherwise.
        constants = IMPATIENT | {"client.MAX_RETRY_AFTER": 1.5}
        result, api = try_it(
            fault, response_format="size_optimized", constants=constants
        )
        assert_complete(result, Table())
        assert [r.status for r in api.requests[:3]] == [int(kind[-3:])] * 3

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(try_form, RETRY_AFTER))


def test_patience_outlasts_a_quota_that_is_counted_by_the_minute() -> None:
    waits = accumulate(
        min(2**tries, client.MAX_WAIT) / 2 for tries in range(client.MAX_TRIES - 1)
    )
    assert max(waits) > 60
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
        ({"max_body": 2_000, "page_size": 50}, 502),
    ],
    ids=str,
)
def test_less_is_asked_for_where_more_cannot_be_answered(
    limits: dict[str, Any], status: int
) -> None:
    for response_format in FORMATS:
        with MockAPI(account(), **{"page_size": 3, **limits}) as api:
            result = run(
                api, catalog=catalog(), response_format=response_format, **WINDOW
            )
        assert status in {r.status for r in api.requests}
        assert_complete(result, Table())


def test_a_server_that_cannot_be_reached_ends_the_run_in_one_line() -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        port = listener.getsockname()[1]
    url = f"http://127.0.0.1:{port}/v1"
    line = assert_one_line(run(url, constants=SHORT_OF_TRIES))
    assert f"{url} cannot be reached after 3 tries" in line


@pytest.mark.parametrize("amid_the_run", [False, True])
def test_a_server_that_comes_back_is_waited_for(amid_the_run: bool) -> None:  # noqa: FBT001
    constants = EVERY_SLICE | {"reader.MAX_PAGES": 3, "client.MAX_WAIT": 0.5}
    with MockAPI(account(), page_size=1, latency=0.01) as api:
        options = {"catalog": catalog(), "constants": constants, **WINDOW}
        if not amid_the_run:
            api.stop()
        with (
            started(api, loglevel="WARNING", **options) as process,
        ):
            assert process.stdout is not None
            assert process.stderr is not None
            out = b""
            while amid_the_run and b'"STATE"' not in out:
                out += process.stdout.readline()
            api.stop()
            while b"trying again" not in process.stderr.readline():
                pass
            api.start()
            rest, _ = process.communicate()
    assert_complete(Run(process.returncode, out + rest, ""), Table())
