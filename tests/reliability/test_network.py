"""Error lines and numbers of attempts with servers, proxies and networks that misbehave."""

from __future__ import annotations

import os
import shutil
import socket
import ssl
import subprocess
import time
from contextlib import ExitStack, contextmanager, suppress
from datetime import datetime, timedelta, timezone
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest
import requests
import trustme

from mock_api import Account, Fault, MockAPI, Row
from reliability.runs import (
    FEW_ATTEMPTS,
    IMPATIENT,
    Table,
    assert_one_line,
    assert_truth,
    expected,
    row,
    run,
)
from reliability.servers import listening, server
from tap_unleash.api.failures import Failure, no_response

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

CERTIFICATES = {"CURL_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "SSL_CERT_DIR", "SSL_CERT_FILE"}

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]"
HEADERS = b"".join(b"X-%d: 1\r\n" % number for number in range(200))
NGINX = (
    b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/html\r\n\r\n"
    b"<html>\r\n<head><title>400 %b</title></head>\r\n<body></body>\r\n</html>\r\n"
)


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the proxies and certificates of the machine."""
    for name in os.environ:
        if name.lower().endswith("_proxy") or name in CERTIFICATES:
            monkeypatch.delenv(name)


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def bundle(authority: trustme.CA, tmp_path: Path) -> str:
    path = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(path)
    return str(path)


def tls(
    authority: trustme.CA, host: str = "localhost", until: datetime | None = None
) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    since = until and until - timedelta(days=365)
    certificate = authority.issue_cert(host, not_before=since, not_after=until)
    certificate.configure_cert(context)
    return context


def old_tls(authority: trustme.CA) -> ssl.SSLContext:
    context = tls(authority)
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
    context.maximum_version = ssl.TLSVersion.TLSv1
    return context


def with_client_certificate(authority: trustme.CA) -> ssl.SSLContext:
    context = tls(authority)
    # In TLS 1.3, the server may close the connection before its alert is read.
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.verify_mode = ssl.CERT_REQUIRED
    authority.configure_trust(context)
    return context


PROXIES = {
    b"407 Proxy Authentication Required": (
        "The proxy requires authentication (407 Proxy Authentication Required). Add ",
        1,
    ),
    b"403 Forbidden": (
        "The proxy does not connect to the API (403 Forbidden). Check ",
        1,
    ),
    b"502 Bad Gateway": (
        "The proxy does not connect to the API (502 Bad Gateway) after 9 attempts. ",
        9,
    ),
}


@pytest.mark.parametrize("status", PROXIES, ids=str)
def test_a_proxy_that_refuses_is_named(
    status: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    text, attempts = PROXIES[status]
    with server(b"HTTP/1.1 %b\r\n\r\n" % status) as (port, received):
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{port}")
        line = assert_one_line(run("https://api.invalid/v1", constants=IMPATIENT))
    assert text in line
    assert len(received) == attempts
    assert all(r.startswith(b"CONNECT api.invalid:443 ") for r in received)


@pytest.mark.parametrize(
    ("by_proxy", "start"),
    [(True, b"HTTP/1.1 200 OK\r\nX: "), (False, b"\x16\x03\x03\x40\x00")],
    ids=["CONNECT", "TLS"],
)
def test_a_handshake_that_drips_times_out(
    by_proxy: bool,  # noqa: FBT001
    start: bytes,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def drip(connection: socket.socket) -> None:
        with suppress(OSError), connection:
            connection.recv(65_536)
            connection.sendall(start)
            while True:
                connection.sendall(b"\0")
                time.sleep(0.1)

    with listening(drip) as port:
        url = "https://api.invalid/v1" if by_proxy else f"https://127.0.0.1:{port}/v1"
        if by_proxy:
            monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{port}")
        result = run(url, constants=FEW_ATTEMPTS, request_timeout=1)
    assert "No complete response from" in assert_one_line(result)


@pytest.mark.parametrize(
    ("proxy", "text"),
    [
        (
            "socks5://127.0.0.1:9",
            "cannot be used: Missing dependencies for SOCKS support",
        ),
        ("ftp://127.0.0.1:9", "cannot be used: Proxy URL had unsupported scheme ftp"),
        ("http://", "cannot be used: Please check proxy URL. It is malformed"),
        (
            "http://proxy.invalid:9",
            "Host name of the proxy not found after 3 attempts. ",
        ),
        (
            "http://127.0.0.1:9",
            "Cannot connect to the proxy (Connection refused) after 9",
        ),
    ],
)
def test_a_proxy_that_cannot_be_used_is_reported_with_its_reason(
    proxy: str, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", proxy)
    assert text in assert_one_line(run("https://api.invalid/v1", constants=IMPATIENT))


def test_a_host_name_that_is_not_found_is_tried_three_times() -> None:
    line = assert_one_line(run("https://api.invalid/v1", constants=IMPATIENT))
    assert "Host name 'api.invalid' not found after 3 attempts. " in line


PAST = datetime(2020, 1, 1, tzinfo=timezone.utc)

SECURED: dict[str, tuple[Callable[[trustme.CA], ssl.SSLContext], str]] = {
    "expired": (
        lambda ca: tls(ca, until=PAST),
        "is not accepted: certificate has expired.",
    ),
    "host": (lambda ca: tls(ca, "example.org"), "is not accepted: Hostname mismatch, "),
    "issuer": (
        lambda _: tls(trustme.CA()),
        "is not accepted: unable to get local issuer certificate. If your network ",
    ),
    "old": (old_tls, "No TLS connection to localhost: tlsv1 alert protocol version. "),
    "client": (
        with_client_certificate,
        "No TLS connection to localhost: sslv3 alert handshake failure. Check ",
    ),
}


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1 is deprecated")
@pytest.mark.parametrize("kind", SECURED)
@pytest.mark.parametrize("variable", ["SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"])
def test_a_failed_handshake_is_reported_with_its_reason(
    kind: str,
    variable: str,
    authority: trustme.CA,
    bundle: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    context, text = SECURED[kind]
    monkeypatch.setenv(variable, bundle)
    with server(OK, context(authority)) as (port, received):
        line = assert_one_line(run(f"https://localhost:{port}/v1", constants=IMPATIENT))
    assert text in line
    assert len(received) == 1


def test_the_other_protocol_is_recognized(
    bundle: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", bundle)
    with server(OK) as (port, received):
        line = assert_one_line(run(f"https://localhost:{port}/v1", constants=IMPATIENT))
        assert (
            "No TLS connection to localhost: wrong version number. Check 'api_" in line
        )
        assert len(received) == 1
    with server(NGINX % b"The plain HTTP request was sent to HTTPS port") as (port, _):
        line = assert_one_line(run(f"http://localhost:{port}/v1", constants=IMPATIENT))
    assert (
        "Request rejected (HTTP 400 Bad Request: The plain HTTP request was sent to HTTPS "
        "port). The response is not from the API: check 'api_url' and the proxy."
    ) in line
    assert "start_date" not in line


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (b"SSH-2.0-OpenSSH_9.2\r\n", "is not valid HTTP (SSH-2.0-OpenSSH_9.2"),
        (OK[:17] + HEADERS + b"\r\n", "is not valid HTTP (got more than 100 headers)"),
    ],
    ids=["SSH", "headers"],
)
def test_a_response_that_is_not_http_is_tried_three_times(
    answer: bytes, text: str
) -> None:
    with server(answer) as (port, received):
        line = assert_one_line(run(f"http://localhost:{port}/v1", constants=IMPATIENT))
    assert text in line
    assert "after 3 attempts" in line
    assert len(received) == 3


def test_a_bundle_without_a_certificate_is_reported(
    authority: trustme.CA, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    empty = tmp_path / "empty.pem"
    empty.write_text("nothing")
    monkeypatch.setenv("SSL_CERT_FILE", str(empty))
    with server(OK, tls(authority)) as (port, _):
        line = assert_one_line(run(f"https://localhost:{port}/v1", constants=IMPATIENT))
    assert "The CA bundle has no certificate. Check SSL_CERT_FILE." in line


@pytest.mark.parametrize("variable", ["SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"])
def test_an_own_certificate_authority_is_trusted(
    variable: str, authority: trustme.CA, bundle: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, bundle)
    with server(OK, tls(authority)) as (port, received):
        result = run(f"https://localhost:{port}/v1")
    assert (result.code, result.err) == (0, "")
    assert all(request.startswith(b"GET /v1/analytics/") for request in received)


def test_a_directory_of_certificates_is_trusted(
    authority: trustme.CA, bundle: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = str(Path(bundle).parent)
    openssl = shutil.which("openssl")
    if not openssl:
        pytest.skip("OpenSSL's command is not installed")
    subprocess.run([openssl, "rehash", folder], check=True, capture_output=True)
    monkeypatch.setenv("SSL_CERT_DIR", folder)
    with server(OK, tls(authority)) as (port, _):
        result = run(f"https://localhost:{port}/v1")
    assert (result.code, result.err) == (0, "")


def relay(source: socket.socket, sink: socket.socket, bytes_per_second: int) -> None:
    with suppress(OSError):
        while data := source.recv(bytes_per_second // 20 or 1):
            time.sleep(len(data) / bytes_per_second)
            sink.sendall(data)
    for end in (source, sink):
        with suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)


@contextmanager
def slow_link(url: str, bytes_per_second: int) -> Iterator[str]:
    """Relay each connection at that rate, and yield the URL of the relay."""
    host = str(urlsplit(url).netloc)
    address = host.partition(":")[0], int(host.partition(":")[2])
    threads: list[Thread] = []
    sockets: list[socket.socket] = []

    def join(inside: socket.socket) -> None:
        outside = socket.create_connection(address)
        outside.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        for ends in ((inside, outside, 10**6), (outside, inside, bytes_per_second)):
            thread = Thread(target=relay, args=ends, daemon=True)
            thread.start()
            threads.append(thread)
        sockets.extend((inside, outside))

    try:
        with listening(join) as port:
            yield url.replace(host, f"127.0.0.1:{port}")
    finally:
        for end in sockets:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        for thread in threads:
            thread.join()
        for end in sockets:
            end.close()


def test_windows_shrink_until_a_slow_link_delivers_them_in_time() -> None:
    rows = [row("Wa", second) for second in range(250)]
    with (
        MockAPI(Account({"Wa": map(Row, rows)})) as api,
        slow_link(api.url, 20_000) as url,
    ):
        result = run(url, constants=IMPATIENT, request_timeout=1)
        assert result.code == 0, result.err
        table = Table()
        table.load(result.messages)
        assert_truth(table, expected(api.truth()))
        full = [r for r in api.requests if r.path.count("/") > 3]
    assert len(full) > 3


def test_a_link_that_is_too_slow_ends_the_run_with_the_name_of_the_setting() -> None:
    account = Account({"Wa": map(Row, [row("Wa", 1)])})
    with MockAPI(account) as api, slow_link(api.url, 50) as url:
        result = run(url, constants=IMPATIENT, request_timeout=1)
    assert "within 1 s ('request_timeout') after 9 attempts" in assert_one_line(result)


def test_an_address_that_does_not_respond_has_a_time_out_of_its_own() -> None:
    # A full backlog drops connections, as a firewall does.
    with (
        socket.create_server(("127.0.0.1", 0), backlog=0) as listener,
        ExitStack() as stack,
    ):
        address = listener.getsockname()
        for _ in range(3):
            client = stack.enter_context(socket.socket())
            client.settimeout(0)
            with suppress(BlockingIOError):
                client.connect(address)
        constants = IMPATIENT | {"api.transport.CONNECT_TIMEOUT": 0.2}
        url = f"http://127.0.0.1:{address[1]}/v1"
        result = run(url, constants=constants, request_timeout=1000)
    assert "(timed out) after 9 attempts. " in assert_one_line(result)


NAMES_THAT_ARE_NOT_FOUND = """
import socket
from itertools import count

find, numbers = socket.getaddrinfo, count(1)

def find_or_fail(*args, **options):
    if next(numbers) in {failing}:
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
    return find(*args, **options)

socket.getaddrinfo = find_or_fail
"""


@pytest.mark.parametrize(
    ("broken", "failing"), [(0, range(2, 1000)), (1, range(2, 7))], ids=str
)
def test_a_sync_outlasts_a_failure_of_dns(
    broken: int, failing: range, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hook = NAMES_THAT_ARE_NOT_FOUND.format(failing=failing)
    (tmp_path / "sitecustomize.py").write_text(hook)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    faults = [Fault(kind="drop", where="analytics", start=3, until=3)] if broken else []
    with MockAPI(Account.generate(rows=300), page_size=50, faults=faults) as api:
        url = api.url.replace("127.0.0.1", "localhost")
        result = run(url, constants=IMPATIENT, concurrency=1, loglevel="WARNING")
        assert result.code == 0, result.err
        table = Table()
        table.load(result.messages)
        assert_truth(table, expected(api.truth()))
    not_found = result.err.count("host name 'localhost' not found (attempt ")
    assert not_found == broken * len(failing)


@pytest.mark.parametrize(("reached", "attempts"), [(False, 3), (True, 9)])
def test_a_name_that_was_found_before_is_tried_longer(
    reached: bool,  # noqa: FBT001
    attempts: int,
) -> None:
    url = "https://api.invalid/v1"
    with pytest.raises(requests.ConnectionError) as raised:
        requests.get(url, timeout=9)
    failure = no_response(raised.value, url, 60, reached=reached)
    assert isinstance(failure, Failure)
    assert failure.attempts == attempts
