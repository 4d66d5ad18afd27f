"""Servers, networks and proxies that misbehave, for a moment or for good."""

from __future__ import annotations

import json
import os
import ssl
import time
from concurrent.futures import ThreadPoolExecutor
from socketserver import BaseRequestHandler, TCPServer
from threading import Thread
from typing import TYPE_CHECKING, Any, get_args

import pytest
import trustme

from mock_api import Fault, MockAPI
from mock_api.faults import Kind
from reliability.runs import (
    Run,
    account,
    assert_complete,
    assert_isolated,
    assert_loaded,
    assert_one_line,
    at,
    catalog,
    run,
    state,
)

if TYPE_CHECKING:
    import socket
    from pathlib import Path

FATAL: dict[Kind, str] = {
    "status_401": "Authentication failed (HTTP 401 Unauthorized)",
    "status_403": "Authentication failed (HTTP 403 Forbidden)",
    "redirect": "Unexpected redirect (HTTP 302 Found). Check 'api_url'.",
}
REJECTED: dict[Kind, str] = {
    "status_400": "Request rejected (HTTP 400 Bad Request). Check 'start_date'",
    "status_404": "Request rejected (HTTP 404 Not Found). Check 'api_url'",
    "status_413": "Request rejected (HTTP 413 ",
    "status_422": "Request rejected (HTTP 422 ",
}
LASTING: dict[Kind, str] = {
    "status_408": "API error (HTTP 408 Request Timeout) after 9 attempts",
    "status_500": "API error (HTTP 500 Internal Server Error) after 9 attempts",
    "status_502": "API error (HTTP 502 Bad Gateway: Internal server error) after ",
    "status_503": "API error (HTTP 503 Service Unavailable) after 9 attempts",
    "status_504": "API error (HTTP 504 Gateway Timeout: Endpoint request timed out) ",
    "errors_in_200": "nexpected API response",
    "errors_and_no_data": "nexpected API response (API error: ",
    "timed_out_half": "nexpected API response (the API timed out) after 9 attempts",
    "html": "nexpected API response",
    "malformed": "nexpected API response",
    "no_data": "nexpected API response",
    "drop": "closed before the response was complete after 9 attempts",
    "reset_amid": "closed before the response was complete after 9 attempts",
    "cut": "closed before the response was complete after 9 attempts",
    "hang": "within 'request_timeout' after ",
}
FEW = {"stall", "stall_amid", "slow", "hang", "status_204", "null_data", "swallowed"}


def mock(*faults: Fault, **options: Any) -> MockAPI:
    return MockAPI(account(Wa=3, Wb=90, Wc=3), page_size=25, faults=faults, **options)


def assert_all(api: MockAPI, result: Run) -> None:
    assert_complete(api, result)
    assert result.err == ""
    assert [len(result.records(name)) for name in ("devices", "sessions")] == [3, 1]
    assert result.records("api_version") == [{"version": "1.0.1"}]


@pytest.mark.parametrize("kind", [k for k in get_args(Kind) if k not in {*FATAL, *REJECTED}])
def test_a_transient_fault_costs_no_record(kind: Kind) -> None:
    tableau = len(kind) % 2 == 0
    where = "tableau" if tableau else "analytics"
    response_format = "tableau" if tableau else "size_optimized"
    # Every address is affected once, but for faults that last long or look like an end.
    limits: dict[str, Any] = {"until": 1} if kind in FEW else {"times": 1}
    limits["seconds"] = 0.001 if kind == "drip" else 2
    addresses = [where] if kind in FEW else [where, "devices$", "sessions$", "version$"]
    faults = [Fault(kind=kind, where=a, **limits) for a in addresses]
    with mock(*faults) as api:
        assert_all(api, run(api, response_format=response_format, request_timeout=1))
        retried = len(api.requests) > len({request.path for request in api.requests})
        assert retried or kind in {"slow", "drip", "status_204", "null_data", "swallowed"}


@pytest.mark.parametrize("kind", [*REJECTED, *LASTING])
def test_a_device_that_fails_stops_no_other(kind: Kind) -> None:
    reason = REJECTED.get(kind) or LASTING[kind]
    with mock(Fault(kind=kind, where="/Wb/", start=1 if kind == "hang" else 2)) as api:
        result = run(api, state=state(Wb=at(10)), request_timeout=1)
        assert len(api.requests) < 80
        rows = api.truth("Wa") + api.truth("Wc")
    (error,) = assert_isolated(result, "Wb")
    assert reason in error
    assert_loaded(rows, result)
    assert len(result.records("devices")) == 3
    assert result.bookmarks() == {"Wa": at(2), "Wb": at(10), "Wc": at(2)}
    with mock() as api:
        again = run(api, state=result.state, lookback_minutes=0)
        since = [r for r in api.truth("Wb") if r["timestamp"] >= at(10)]
        assert_loaded(rows + since, result, again)


@pytest.mark.parametrize("where", ["devices$", "/Wb/"])
@pytest.mark.parametrize("kind", FATAL)
def test_a_fault_that_concerns_everything_ends_the_run(kind: Kind, where: str) -> None:
    with mock() as other:
        location = f"{other.url}/devices"
        with mock(Fault(kind=kind, where=where, location=location)) as api:
            assert FATAL[kind] in assert_one_line(run(api))
            assert len(api.requests) < 16  # no attempt is repeated
        assert not other.requests


@pytest.mark.parametrize("where", ["version$", "sessions$"])
def test_a_list_that_fails_stops_no_other(where: str) -> None:
    with mock(Fault(kind="malformed", where=where)) as api:
        result = run(api)
        assert_loaded(api.truth(), result)
    name = "sessions" if where == "sessions$" else "api_version"
    (error,) = assert_isolated(result, streams=[name])
    assert "after 9 attempts" in error


def test_without_the_devices_nothing_is_read() -> None:
    with mock(Fault(kind="status_500", where="devices$")) as api:
        assert "HTTP 500" in assert_one_line(run(api))
        assert len(api.requests) == 9


def test_an_outage_ends_the_run() -> None:
    devices = account(**{f"W{n}": 1 for n in range(30)})
    with MockAPI(devices, faults=[Fault(kind="status_503", where="analytics")]) as api:
        result = run(api)
        assert len(api.requests) < 100
    last = result.err.splitlines()[-1]
    assert last.startswith("tap-unleash: 3 devices in a row failed. API error (HTTP 503")
    assert result.code == 1


def test_the_last_line_names_ten_failed_devices() -> None:
    devices = account(**{f"W{n:02}": 1 for n in range(12)})
    with MockAPI(devices, faults=[Fault(kind="status_404", where="/W")]) as api:
        result = run(api)
    assert_isolated(result, *devices.devices)
    assert "12 failed (device 'W00', " in result.err
    assert ", device 'W09', …); " in result.err


def test_each_retry_is_one_warning() -> None:
    with mock(Fault(kind="status_500", where="/Wb/", until=2)) as api:
        lines = run(api, loglevel="WARNING").err.splitlines()
    text = "Request failed: API error (HTTP 500 Internal Server Error) (attempt "
    assert len(lines) == sum(text in line for line in lines) == 2


@pytest.mark.parametrize("kind", ["status_429", "status_503"])
@pytest.mark.parametrize("form", ["121", "Fri, 31 Dec 9999 23:59:59 GMT"])
def test_a_retry_after_that_is_too_long_ends_the_run(kind: Kind, form: str) -> None:
    with mock(Fault(kind=kind, where="/Wb/", retry_after=form)) as api:
        line = assert_one_line(run(api, speed=1))
    assert line.startswith("tap-unleash: The API accepts no requests for ")


@pytest.mark.parametrize(
    "form", ["0", "-1", "1.5", "9" * 400 + "x", "date", "soon", "nan", "", None]
)
def test_every_form_of_retry_after_is_understood(form: str | None) -> None:
    with mock(Fault(kind="status_429", until=2, retry_after=form)) as api:
        assert_all(api, run(api))


def test_a_quota_costs_no_record() -> None:
    with mock(rate_limit=5, rate_window=0.05) as api:
        assert_all(api, run(api))
        assert 429 in {r.status for r in api.requests}


def test_an_exhausted_rate_limit_ends_the_run() -> None:
    with mock(rate_limit=3) as api:
        line = assert_one_line(run(api, constants={"session.MAX_RETRY_AFTER": 9}))
    assert line.startswith("tap-unleash: Rate limit exceeded (HTTP 429 Too Many Requests")
    assert "no request was accepted for 9 s" in line


def test_a_server_that_was_never_reached_is_tried_three_times() -> None:
    line = assert_one_line(run("http://127.0.0.1:1/v1"))
    assert line.startswith("tap-unleash: Cannot connect to http://127.0.0.1:1 (")
    assert "after 3 attempts" in line


def test_a_server_that_is_reached_no_longer_ends_the_run() -> None:
    devices = account(**{f"W{n}": 3 for n in range(9)})
    constants = {"streams.Analytics.STATE_MSG_FREQUENCY": 1}
    with ThreadPoolExecutor() as pool:
        with MockAPI(devices, faults=[Fault(kind="hang", where="/W2/")]) as api:
            running = pool.submit(run, api, concurrency=1, constants=constants)
            while not any("/W2/" in exchange.path for exchange in api.requests):
                assert not running.done()
                time.sleep(0.01)
        result = running.result()
    line = assert_one_line(result)
    server = api.url.removesuffix("/v1")
    assert line.startswith(f"tap-unleash: Cannot connect to {server} (Connection refused) after 9 ")
    assert_loaded(api.truth("W0") + api.truth("W1"), result)
    assert result.bookmarks() == {"W0": at(2), "W1": at(2)}


class Server(TCPServer):
    """A server that is no mock API; a connection without a request is in `received`, too."""

    def __init__(self, answer: bytes, context: ssl.SSLContext | None = None) -> None:
        super().__init__(("127.0.0.1", 0), BaseRequestHandler)
        self.answer = answer
        self.received: list[bytes] = []
        if context:
            self.socket = context.wrap_socket(self.socket, server_side=True)
        Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()

    def get_request(self) -> tuple[socket.socket, object]:
        self.received.append(b"")
        return super().get_request()

    def finish_request(self, request: Any, client_address: object) -> None:  # noqa: ANN401, ARG002
        self.received[-1] = request.recv(65_536)
        request.sendall(self.answer)

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()


OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]"
REFUSAL = b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n"
SECURED = {
    "trusted": "",
    "host": "Hostname mismatch",
    "issuer": "self-signed certificate in certificate chain",
    "plain": "wrong version number",
    "bundle": "CA certificate bundle, invalid path: /none",
}


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the proxies and certificates of the machine."""
    for name in os.environ:
        if name.lower().endswith("_proxy") or name.endswith("CA_BUNDLE"):
            monkeypatch.delenv(name)


@pytest.mark.parametrize("kind", SECURED)
def test_only_a_trusted_server_is_read(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    bundle = "/none" if kind == "bundle" else str(tmp_path / "ca.pem")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", bundle)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    issuer = trustme.CA() if kind == "issuer" else authority
    issuer.issue_cert("example.org" if kind == "host" else "localhost").configure_cert(tls)
    lists = catalog("devices", "sessions")
    with Server(OK, None if kind == "plain" else tls) as server:
        url = f"https://localhost:{server.server_address[1]}"
        result = run(f"{url}/v1", catalog=lists)
    if kind == "trusted":
        assert (result.code, result.err) == (0, "")
        assert all(r.startswith(b"GET /v1/analytics/") for r in server.received)
    else:
        line = assert_one_line(result)
        assert line.startswith(f"tap-unleash: No TLS connection to {url}")
        assert SECURED[kind] in line or kind == "issuer"
        assert len(server.received) == (kind != "bundle")


def test_https_goes_through_the_proxy_and_loopback_does_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with Server(REFUSAL) as proxy, mock() as api:
        for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
            for variable in (name, name.lower()):
                monkeypatch.setenv(variable, f"http://127.0.0.1:{proxy.server_address[1]}")
        assert_all(api, run(api))
        assert not proxy.received
        line = assert_one_line(run("https://api.invalid/v1"))
        assert "proxy" in line
        assert "407" in line
        assert all(r.startswith(b"CONNECT api.invalid:443 ") for r in proxy.received)


@pytest.mark.parametrize("key", ["hunter2-Sup3rS3cret", "ul_pat_hunter2Sup3rS3cret"])
@pytest.mark.parametrize("kind", [None, "status_403", "status_500", "malformed"])
def test_the_credential_is_sent_in_one_header_only(key: str, kind: Kind | None) -> None:
    with mock(*[Fault(kind=kind, where="/Wb/")] if kind else [], api_key=key) as api:
        result = run(api, api_key=key, loglevel="DEBUG")
        sent = [{**r.headers, "path": r.path} for r in api.requests]
    expected = {"x-api-key": key}
    if key.startswith("ul_pat_"):
        expected = {"authorization": f"Bearer {key}"}
    assert all(s.items() >= expected.items() for s in sent)
    assert json.dumps(sent).count("hunter2") == len(sent)
    assert result.code == (1 if kind else 0)
    assert "hunter2" not in result.out.decode() + result.err


@pytest.mark.parametrize(
    "settings",
    [
        {"hunter2-unknown": "setting", "api_key": "hunter2-unknown"},
        {"concurrency": "hunter2-unknown", "api_key": "hunter2-unknown"},
        {"api_key": "hunter2 with spaces"},
        {"api_key": ["hunter2"]},
    ],
    ids=str,
)
def test_no_error_about_the_settings_holds_the_credential(settings: Any) -> None:  # noqa: ANN401
    assert "hunter2" not in assert_one_line(run("https://localhost/v1", **settings))
