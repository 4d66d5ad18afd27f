"""The credential is sent to the API and nowhere else, and IDs change no address."""

from __future__ import annotations

import json
import shutil
import ssl
import subprocess
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from mock_api import Account, Fault, MockAPI, Row
from reliability.runs import (
    FEW_ATTEMPTS,
    Run,
    Table,
    assert_isolated,
    assert_one_line,
    assert_truth,
    command,
    expected,
    row,
    run,
)
from reliability.servers import server

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from mock_api.faults import Kind

KEYS = ["hunter2-Sup3rS3cret", "ul_pat_hunter2Sup3rS3cret"]


def assert_secret(result: Run) -> None:
    for text in (result.out.decode(), result.err, json.dumps(result.state)):
        assert "hunter2" not in text


def account() -> Account:
    return Account({"Wa": [Row(row("Wa", second)) for second in range(9)]})


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize(
    "kind",
    [None, "status_403", "status_500", "redirect", "malformed", "reset_amid", "cut"],
)
def test_no_log_message_or_state_holds_the_credential(
    key: str, kind: Kind | None
) -> None:
    faults = (Fault(kind=kind, where="/Wa/"),) if kind else ()
    with MockAPI(account(), api_key=key, faults=faults) as api:
        result = run(api, constants=FEW_ATTEMPTS, api_key=key, loglevel="DEBUG")
        sent = {r.headers.get("x-api-key") for r in api.requests}
        bearer = {r.headers.get("authorization") for r in api.requests}
    assert result.code == (1 if kind else 0)
    assert "DEBUG" in result.err
    assert_secret(result)
    # It was sent in one header only.
    token = key.startswith("ul_pat_")
    assert sent == {None if token else key}
    assert bearer == {f"Bearer {key}" if token else None}
    assert not [r for r in api.requests if "hunter2" in r.path]


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize(
    "settings",
    [
        {"unknown": "setting"},
        {"api_url": "http://example.com/v1"},
        {"api_url": "https://user:word@localhost/v1"},
        {"concurrency": 0},
        {"start_date": "soon"},
        {"shard": "3/2"},
        {"device_ids": ["Wz"]},
        {"api_key": "hunter2 with\nlines"},
        {"api_key": ["hunter2"]},
        {"api_key": "hunter2!", "concurrency": "hunter2!"},
    ],
    ids=str,
)
def test_no_error_about_the_settings_holds_the_credential(
    key: str, settings: dict[str, Any]
) -> None:
    with MockAPI(account(), api_key=key) as api:
        options = {"api_key": key, **settings}
        with command(api, loglevel="DEBUG", **options) as (arguments, env):
            done = subprocess.run(arguments, env=env, capture_output=True, check=False)
    result = Run(done.returncode, done.stdout, done.stderr.decode())
    assert result.code == 1
    assert "Traceback" not in result.err
    assert not [m for m in result.messages if m["type"] == "RECORD"]
    assert_secret(result)


@pytest.mark.parametrize("form", [[], ["--format=json"], ["--format=markdown"]])
def test_about_does_not_print_the_credential(form: list[str]) -> None:
    with command("https://localhost/v1", api_key=KEYS[0]) as (arguments, env):
        done = subprocess.run(
            [*arguments, "--about", *form],
            env=env | {"TAP_UNLEASH_API_KEY": KEYS[0]},
            capture_output=True,
            check=True,
        )
    assert b"api_key" in done.stdout
    assert b"hunter2" not in done.stdout + done.stderr


@pytest.mark.parametrize("where", ["devices", "sessions", "analytics"])
def test_a_redirect_is_refused_and_the_credential_stays(where: str) -> None:
    with (
        MockAPI(account()) as other,
        MockAPI(
            account(),
            faults=(
                Fault(kind="redirect", where=where, location=f"{other.url}/devices"),
            ),
        ) as api,
    ):
        line = assert_one_line(run(api))
    assert "Unexpected redirect (HTTP 302 Found). Check 'api_url'." in line
    assert not other.requests


HOSTILE = ["../../../admin", "x/../../../devices", "//evil.example/x", "..%2f..", "a;b"]
HOSTILE += ["http://evil.example/", "@evil.example", "Wa/1/2/3?", "a\tb", "{0}", "%s%n"]


@pytest.mark.parametrize("response_format", ["size_optimized", "tableau"])
def test_no_id_changes_the_path_of_a_request(response_format: str) -> None:
    def try_id(hostile: str) -> None:
        with MockAPI(Account({hostile: [], "Wa": []})) as api:
            result = run(api, response_format=response_format)
        paths = {r.path for r in api.requests}
        paths -= {"/v1/analytics/devices", "/v1/analytics/sessions"}
        deep = 6 if response_format == "size_optimized" else 7
        assert paths
        assert {path.count("/") for path in paths} == {deep}
        assert all(path.startswith("/v1/analytics/") for path in paths)
        assert {r.headers["host"] for r in api.requests} == {api.url.split("/")[2]}
        # The mock API rejects control characters in an ID.
        assert_isolated(result, *([hostile] if "\t" in hostile else []))

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(try_id, HOSTILE))


def test_an_id_with_line_breaks_forges_no_header_and_no_message() -> None:
    forged = 'Wa\r\nx-evil: 1\r\n\r\n{"type": "STATE", "value": {"forged": 1}}\n'
    with MockAPI(Account({forged: []}, sessions=[forged])) as api:
        result = run(api)
    assert not any("x-evil" in r.headers for r in api.requests)
    assert not [m for m in result.messages if "forged" in m.get("value", {})]
    (line,) = assert_isolated(result, forged)
    assert line.startswith("Request rejected (HTTP 422 Unprocessable Entity: ")


def test_no_text_of_the_api_becomes_a_message_of_its_own() -> None:
    forged = '"}\n{"type": "STATE", "value": {"forged": 1}}\n\u2028\u0085'
    sent = row("Wa", 0, class_name=forged, model_id=forged, **{forged: forged})
    names = Account({"Wa": [Row(sent)]}, sessions=[forged])
    with MockAPI(names) as api:
        result = run(api)
        table = Table()
        table.load(result.messages)
        assert_truth(table, expected([sent]))
    assert result.code == 0
    assert result.records("sessions") == [{"session_id": forged}]
    states = [m["value"] for m in result.messages if m["type"] == "STATE"]
    assert states
    assert not [state for state in states if "forged" in state]


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """A self-signed certificate for localhost."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("needs openssl to make a certificate")
    path = tmp_path / "pair.pem"
    options = [
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-days",
        "2",
        "-subj",
        "/CN=localhost",
    ]
    names = ["-addext", "subjectAltName=DNS:localhost"]
    files = ["-keyout", str(path), "-out", str(tmp_path / "certificate.pem")]
    subprocess.run([openssl, *options, *names, *files], capture_output=True, check=True)
    with path.open("a", encoding="ascii") as pair:
        pair.write((tmp_path / "certificate.pem").read_text(encoding="ascii"))
    return path


@pytest.fixture
def impostor(certificate: Path) -> Iterator[tuple[str, list[bytes]]]:
    """A server with that certificate, and the requests that it received."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    with server(b"", context) as (port, received):
        yield f"https://localhost:{port}/v1", received


def test_a_self_signed_certificate_is_rejected(
    impostor: tuple[str, list[bytes]],
) -> None:
    url, received = impostor
    line = assert_one_line(run(url))
    assert "The TLS certificate of localhost is not accepted: self-signed" in line
    assert not any(received)
