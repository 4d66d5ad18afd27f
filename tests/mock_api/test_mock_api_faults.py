"""Each fault as a client without a library sees it, and which requests it strikes."""

from __future__ import annotations

import json
import time
import zlib
from contextlib import closing, contextmanager
from email.utils import parsedate_to_datetime
from http.client import (
    HTTPConnection,
    HTTPResponse,
    IncompleteRead,
    RemoteDisconnected,
)
from typing import TYPE_CHECKING, get_args
from urllib.parse import urlsplit

import pytest
from pydantic import ValidationError

from mock_api import Account, Fault, MockAPI
from mock_api.faults import Kind

if TYPE_CHECKING:
    from collections.abc import Iterator

ACCOUNT = Account.generate(devices=1, rows=200)
(ID,) = ACCOUNT.devices
ANALYTICS = f"{ID}/1000000000000/9999999999999/1"
PATHS = {
    "version": "version",
    "devices": "devices",
    "sessions": "sessions",
    "analytics": ANALYTICS,
    "tableau": f"tableau/{ANALYTICS}",
}


@contextmanager
def asking(api: MockAPI, path: str = ANALYTICS, timeout: float = 10) -> Iterator[HTTPResponse]:
    headers = {"x-api-key": "mock"}
    with closing(HTTPConnection(urlsplit(api.url).netloc, timeout=timeout)) as connection:
        connection.request("GET", f"/v1/analytics/{path}", headers=headers)
        with connection.getresponse() as response:
            yield response


def ask(api: MockAPI, path: str = ANALYTICS) -> tuple[int, bytes]:
    with asking(api, path) as response:
        return response.status, response.read()


@contextmanager
def broken_off(kind: str, broken: list[str]) -> Iterator[None]:
    try:
        yield
    except (ConnectionError, IncompleteRead):
        broken.append(kind)


def faulty(kind: str, **more: object) -> MockAPI:
    return MockAPI(ACCOUNT, faults=[Fault(kind=kind, **more)])  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def right() -> bytes:
    with MockAPI(ACCOUNT) as api:
        return ask(api)[1]


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("status_400", "Bad Request"),
        ("status_401", "Unauthorized"),
        ("status_403", "Forbidden"),
        ("status_404", "Not Found"),
        ("status_408", "Request Timeout"),
        ("status_413", "Request Too Long"),
        ("status_421", "Misdirected Request"),
        ("status_422", "Validation failed"),
        ("status_425", "Too Early"),
        ("status_429", "Too Many Requests"),
        ("status_500", "Internal Server Error"),
        ("status_502", "Internal server error"),
        ("status_503", "Service Unavailable"),
        ("status_504", "Endpoint request timed out"),
        ("quota", "Limit Exceeded"),
    ],
)
@pytest.mark.parametrize("path", PATHS.values(), ids=PATHS)
def test_error_answers(kind: str, message: str, path: str) -> None:
    with faulty(kind) as api, asking(api, path) as response:
        assert response.status == int(kind.replace("quota", "status_429")[-3:])
        assert response.read() == b'{"message":"%s"}' % message.encode()
        assert response.headers["retry-after"] is None


@pytest.mark.parametrize("value", ["0", "7", "999999", "date"])
def test_retry_after(value: str) -> None:
    with (
        faulty("status_429", retry_after=value) as api,
        asking(api) as response,
    ):
        header, date = response.headers["retry-after"], response.headers["date"]
    if value == "date":
        wait = parsedate_to_datetime(header) - parsedate_to_datetime(date)
        assert 2 <= wait.total_seconds() <= 3
    else:
        assert header == value


def test_answers_that_are_no_answer(right: bytes) -> None:
    elsewhere = "http://x.example/"
    with faulty("redirect", location=elsewhere) as api, asking(api) as response:
        assert response.status == 302
        assert response.headers["location"] == elsewhere
    with faulty("html") as api, asking(api) as response:
        assert response.status == 200
        assert response.headers["content-type"].startswith("text/html")
        assert response.read().startswith(b"<!doctype html>")
    with faulty("empty") as api:
        assert ask(api) == (200, b"")
    with faulty("errors_in_200") as api:
        assert ask(api) == (200, b'{"errors":[{"message":"Internal Server Error"}]}')
    with faulty("status_204") as api, asking(api) as response:
        assert (response.status, response.read()) == (204, b"")
        assert response.headers["content-length"] is None
    with faulty("malformed") as api:
        assert ask(api) == (200, right[: len(right) // 2])


def test_answers_of_another_shape(right: bytes) -> None:
    page = json.loads(right)
    shapes = {
        "no_data": {name: page[name] for name in ("keys", "total_num_pages")},
        "no_total": {name: page[name] for name in ("keys", "data")},
        "string_total": page | {"total_num_pages": "1"},
        "short_row": page | {"data": [page["data"][0][:-1], *page["data"][1:]]},
        "null_data": page | {"data": None},
        "swallowed": page | {"data": [], "total_num_pages": 0},
        "errors_and_no_data": page
        | {
            "data": [],
            "total_num_pages": 0,
            "errors": [{"message": "Internal Server Error"}],
        },
        "timed_out_half": page | {"data": page["data"][:100], "timed_out": True},
        "other_shape": page["data"],
    }
    for kind, shape in shapes.items():
        with faulty(kind) as api:
            status, body = ask(api)
            assert (status, json.loads(body)) == (200, shape)
            assert ask(api, PATHS["tableau"])[0] == 200
            assert json.loads(ask(api, "devices")[1]) == (
                {"result": [ID]} if kind == "other_shape" else [ID]
            )


def test_connections_that_end_before_an_answer() -> None:
    with faulty("drop") as api, pytest.raises(RemoteDisconnected):
        ask(api)
    with faulty("reset_before") as api:
        with pytest.raises(ConnectionResetError) as raised:
            ask(api)
        assert raised.type is ConnectionResetError
        assert [request.status for request in api.requests] == [None]


def test_connections_that_end_amid_an_answer(right: bytes) -> None:
    half = right[: len(right) // 2]
    with faulty("reset_amid") as api, asking(api) as response:
        assert response.headers["content-length"] == str(len(right))
        assert response.read(len(half)) == half
        with pytest.raises(ConnectionResetError):
            response.read()
    with faulty("cut") as api, asking(api) as response:
        with pytest.raises(IncompleteRead) as raised:
            response.read()
        assert raised.value.partial == half


def test_stalls(right: bytes) -> None:
    with (
        faulty("stall", seconds=60) as api,
        pytest.raises(TimeoutError),
        asking(api, timeout=0.2),
    ):
        pass
    with (
        faulty("stall_amid", seconds=60) as api,
        asking(api, timeout=0.2) as response,
    ):
        assert response.read(len(right) // 2) == right[: len(right) // 2]
        with pytest.raises(TimeoutError):
            response.read()
    for kind in ("stall", "stall_amid", "slow"):
        start = time.monotonic()
        with faulty(kind, seconds=0.3) as api:
            assert ask(api) == (200, right)
        assert 0.3 <= time.monotonic() - start < 2


def test_a_body_drips_faster_than_a_read_times_out(right: bytes) -> None:
    with MockAPI(Account({ID: []}), faults=[Fault(kind="drip", seconds=0.1)]) as api:
        start = time.monotonic()
        with asking(api, timeout=0.7) as response:
            body = response.read()
        assert json.loads(body)["data"] == []
        assert time.monotonic() - start > 0.1 * (len(body) // 16) > 0.7
    with faulty("drip", seconds=0.01) as api, asking(api) as response:
        assert response.headers["content-length"] == str(len(right))
        assert response.read(40) == right[:40]


def test_headers_drip_faster_than_a_read_times_out() -> None:
    with (
        faulty("drip_headers", seconds=0.1) as api,
        closing(HTTPConnection(urlsplit(api.url).netloc, timeout=0.7)) as connection,
    ):
        start = time.monotonic()
        connection.request("GET", "/v1/analytics/devices")
        received = b""
        while len(received) < 200:
            received += connection.sock.recv(16)
    assert received.startswith(b"HTTP/1.1 200 OK\r\nx-drip: -----")
    assert time.monotonic() - start > 0.7


def test_hang() -> None:
    with faulty("hang", where="analytics") as api:
        with pytest.raises(TimeoutError), asking(api, timeout=0.2):
            pass
        assert ask(api, "devices")[0] == 200
        while api.state.in_flight:
            time.sleep(0.01)
        assert [request.status for request in api.requests] == [None, 200]


def test_a_device_that_fails_for_good() -> None:
    account = Account({ID: [], "Wother": []})
    fault = Fault(kind="status_425", where=f"/{ID}/")
    with MockAPI(account, faults=[fault]) as api:
        for form in ("", "tableau/"):
            other = form + ANALYTICS.replace(ID, "Wother")
            paths = (form + ANALYTICS, form + ANALYTICS, "devices", other)
            assert [ask(api, path)[0] for path in paths] == [425, 425, 200, 200]


def test_bomb() -> None:
    with faulty("bomb") as api, asking(api) as response:
        assert response.headers["content-encoding"] == "gzip"
        inflated = zlib.decompressobj(wbits=31).decompress(response.read(2**17))
        assert len(inflated) == 2**26
        assert not inflated.strip()


def test_endless() -> None:
    with faulty("endless") as api, asking(api) as response:
        assert response.headers["transfer-encoding"] == "chunked"
        assert len(response.read(2**24)) == 2**24


def test_the_mock_api_outlives_its_faults(caplog: pytest.LogCaptureFixture) -> None:
    kinds = [k for k in get_args(Kind) if k not in {"hang", "drip_headers"}]
    faults = [Fault(kind=kind, seconds=0.1, times=1) for kind in kinds]
    broken: list[str] = []
    with MockAPI(ACCOUNT, faults=faults) as api:
        for fault in faults:
            with (
                broken_off(fault.kind, broken),
                asking(api, "devices") as response,
            ):
                response.read(2**20)
        assert broken == ["drop", "reset_before", "reset_amid"]
        assert ask(api, "devices") == (200, b'["%s"]' % ID.encode())
        assert len(api.requests) == len(faults) + 1
    assert not caplog.records


@pytest.mark.parametrize("where", PATHS)
def test_where_by_stream(where: str) -> None:
    with faulty("status_503", where=where) as api:
        struck = [name for name, path in PATHS.items() if ask(api, path)[0] == 503]
    assert struck == [where]


def test_where_by_pattern() -> None:
    with faulty("status_503", where=f"{ID}/.*/1$") as api:
        struck = [name for name, path in PATHS.items() if ask(api, path)[0] == 503]
    assert struck == ["analytics", "tableau"]


def statuses(api: MockAPI, number: int, path: str = "devices") -> list[int]:
    return [ask(api, path)[0] for _ in range(number)]


def test_when() -> None:
    with faulty("status_503", times=2) as api:
        assert statuses(api, 3) == [503, 503, 200]
        assert statuses(api, 3, "sessions") == [503, 503, 200]
    with faulty("status_503", where="devices", start=2, until=3) as api:
        assert statuses(api, 2, "sessions") == [200, 200]
        assert statuses(api, 4) == [200, 503, 503, 200]
    with faulty("status_503", rate=0) as api:
        assert statuses(api, 3) == [200, 200, 200]


def test_rates_follow_the_seed() -> None:
    fault = Fault(kind="status_503", rate=0.4)
    runs = []
    for seed in (1, 1, 2):
        with MockAPI(ACCOUNT, faults=[fault], seed=seed) as api:
            runs.append(statuses(api, 60))
    assert runs[0] == runs[1] != runs[2]
    assert 10 < runs[0].count(503) < 40


def test_faults_in_words() -> None:
    spec = "kind=status_503,where=analytics,rate=0.1,times=2,start=5"
    fault = Fault(kind="status_503", where="analytics", rate=0.1, times=2, start=5)
    assert Fault.parse(spec) == fault
    for wrong in (
        "kind=status_599",
        "where=devices",
        "kind=cut,rate=2",
        "kind=cut,x=1",
        "cut",
    ):
        with pytest.raises((ValidationError, ValueError)):
            Fault.parse(wrong)
