"""`make probe`: polite, read-only, and silent about the account."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from reliability.probes import Clock, config, probe
from reliability.runs import row
from reliability.servers import server

from demo.pipeline import ROOT
from mock_api import Account, Fault, MockAPI, Row
from scripts.probe import asker
from scripts.probe.__main__ import run
from scripts.probe.asker import Asker, Stopped
from scripts.probe.exchange import Range
from scripts.probe.report import markdown
from tap_unleash.api import transport

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from scripts.probe.report import Report

EXAMPLE = ROOT / "examples" / "probe"
PAGE_SIZE = 250


def program(
    url: str, folder: Path, *options: str, key: str = "mock"
) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "scripts.probe", "--api-url", url]
    return subprocess.run(
        [*command, "--output", str(folder), *options],
        cwd=ROOT,
        env=os.environ | {"TAP_UNLEASH_API_KEY": key},
        capture_output=True,
        text=True,
        check=False,
    )


def assert_line(done: subprocess.CompletedProcess[str], expected: str) -> None:
    assert done.returncode == 1
    assert done.stdout == ""
    assert re.fullmatch(f"probe: {expected}\n", done.stderr)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("status_403", r"The API rejected .+ \(HTTP 403 Forbidden\)\. Check that .+"),
        (
            "status_404",
            r"The API rejected .+ \(HTTP 404 Not Found\)\. Check --api-url\.",
        ),
        ("status_502", r"The API rejected .+ \(HTTP 502 Bad Gateway\)\. Retry later\."),
        ("redirect", r"The API rejected .+ \(HTTP 302 Found\)\. Check --api-url\."),
        ("hang", r"The API does not respond: time-out after 0\.3 s\."),
        ("drip", r"The API does not respond: time-out after 0\.3 s\."),
        ("drop", r"The API does not respond: connection .+ closed .+\."),
    ],
)
def test_an_api_that_cannot_be_probed_ends_in_one_line(
    tmp_path: Path, kind: str, expected: str
) -> None:
    with MockAPI(faults=[Fault.parse(f"kind={kind},seconds=1")]) as api:
        done = program(api.url, tmp_path, "--timeout", "0.3")
        assert len(api.requests) <= 3
    assert_line(done, expected)


def test_an_address_without_a_server_ends_in_one_line(tmp_path: Path) -> None:
    done = program("http://127.0.0.1:9/v1", tmp_path)
    assert_line(done, "The API does not respond: cannot connect to .+")


@pytest.mark.parametrize(
    ("options", "key", "expected"),
    [
        ([], "", r"Missing credential\. Set TAP_UNLEASH_API_KEY\."),
        ([], "two words", "'api_key' is empty or contains whitespace .+"),
        (["--start", "soon"], "mock", "'start_date' must be an ISO 8601 date .+"),
        (["--api-url", "http://example.com"], "mock", "'api_url' must use https:// .+"),
    ],
)
def test_a_wrong_option_ends_in_one_line(
    tmp_path: Path, options: list[str], key: str, expected: str
) -> None:
    assert_line(program("http://127.0.0.1:9/v1", tmp_path, *options, key=key), expected)


def test_a_folder_that_is_not_writable_costs_no_request(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with MockAPI() as api:
        done = program(api.url, tmp_path / "file" / "folder")
        assert not api.requests
    assert_line(
        done, r"Cannot write to '.+': Not a directory\. Choose another --output\."
    )


def test_make_writes_both_reports(tmp_path: Path) -> None:
    with MockAPI() as api:
        device = next(iter(api.account.devices))
        options = f"--api-url {api.url} --device {device} --start 2020-08-10 --budget 9"
        done = subprocess.run(
            ["make", "--silent", "probe", f"ARGS={options} --output '{tmp_path}'"],  # noqa: S607
            cwd=ROOT,
            env=os.environ | {"TAP_UNLEASH_API_KEY": "mock"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert len(api.requests) == 9
    assert (done.returncode, done.stderr) == (0, "")
    ended = "the budget of 9 requests was spent"
    assert done.stdout.startswith(
        f"9 requests were sent. The probe ended early: {ended}."
    )
    made = json.loads((tmp_path / "report.json").read_text())
    assert made["ended_early"] == ended
    assert made["answers"]["unknown_device"]["finding"] is None
    assert markdown(made) == (tmp_path / "report.md").read_text()
    assert {one["device"] for one in made["requests"] if "device" in one} == {
        "device-1"
    }


def without_times(made: Report) -> Report:
    answers = made["answers"].items()
    return made | {"answers": {k: a for k, a in answers if not a["timing"]}}


def test_the_example_is_a_report_of_the_mock_api() -> None:
    with MockAPI(page_size=PAGE_SIZE) as api:
        made = probe(api)
    shipped = json.loads((EXAMPLE / "report.json").read_text())
    assert without_times(json.loads(json.dumps(made))) == without_times(shipped)
    assert markdown(shipped) == (EXAMPLE / "report.md").read_text()
    assert "mock API; not the live API" in shipped["source"]
    assert shipped["source"] in markdown(shipped)


CANARY = "canary"
INSTANT = 1_714_521_600_000_000


class Singing(BaseHTTPRequestHandler):
    """Answers with canaries wherever the API could send private data."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        *_, name = path = self.path.split("/")
        status, content = 200, self.content(name, path)
        if content is None:
            status, content = 422, {"message": CANARY, CANARY: CANARY}
        body = json.dumps(content).encode()
        self.send_response(status, CANARY)
        for header in ("content-type", "retry-after", "x-ratelimit-limit", CANARY):
            self.send_header(header, CANARY)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def content(self, name: str, path: list[str]) -> object:
        ids = [f"{CANARY}-{number}" for number in range(3)]
        if name in {"devices", "sessions"}:
            return ids
        if name == "version":
            return f"{CANARY}-1.0"
        if path[-4] not in ids or len(path[-3]) != 13 or name == "0":
            return None
        rows = [
            {CANARY: CANARY, "timestamp": f"2024-05-01T00:00:{n:02}.000Z"}
            | dict.fromkeys(("class_name", "source_file_name"), f"{CANARY}-{n}")
            | {"count": 424242, "session_id": CANARY, "device_id": path[-4]}
            for n in range(60)
            if int(path[-3]) <= 1_714_521_600_000 + 1000 * n <= int(path[-2])
        ]
        if "tableau" in path:
            return rows
        values = [list(row.values()) for row in rows]
        return {
            "keys": [*rows[0]] if rows else [CANARY],
            "data": values,
            CANARY: CANARY,
        }

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def singing() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Singing) as api:
        thread = Thread(target=api.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{api.server_port}/v1"
        api.shutdown()
        thread.join()


def test_no_data_of_the_account_are_in_the_reports(tmp_path: Path) -> None:
    key = f"ul_pat_{CANARY}"
    with singing() as url:
        done = program(url, tmp_path, "--device", f"{CANARY}-1", key=key)
    assert (done.returncode, done.stderr) == (0, "")
    texts = [(tmp_path / f"report.{form}").read_text() for form in ("json", "md")]
    made = json.loads(texts[0])
    assert made["answers"]["columns"]["finding"]["unknown"] == [["string"]]
    assert made["answers"]["same_rows"]["finding"] is True
    assert made["answers"]["error_body"]["finding"] == "message"
    assert made["answers"]["rate_limit_headers"]["finding"] == [
        "retry-after",
        "x-ratelimit-limit",
    ]
    for text in (*texts, done.stdout):
        assert CANARY not in text.lower()
        assert "424242" not in text
        assert "2024-05-01" not in text


STRANGE: list[Any] = [
    *(
        "soon",
        "",
        None,
        17,
        [],
        {},
        "9999-99-99T00:00:00Z",
        "0001-01-01T00:00:00+23:00",
    ),
    msgspec.Raw(b'"2024-05-01T00:00:00.123456789123Z"'),
    *(msgspec.Raw(b"1e999"), msgspec.Raw(b'"\\ud800"'), msgspec.Raw(b"NaN")),
]


def shown(value: object) -> str:
    """Return an ID that is the same in all workers of pytest."""
    return repr(bytes(value) if isinstance(value, msgspec.Raw) else value)


@pytest.mark.parametrize("value", STRANGE, ids=shown)
@pytest.mark.parametrize(
    ("column", "fault"),
    [
        ("timestamp", "string_total"),
        ("count", "other_shape"),
        ("class_name", "string_total"),
        (CANARY, "other_shape"),
    ],
)
def test_strange_values_are_described(value: object, column: str, fault: str) -> None:
    rows = [
        Row(row("W1", n, **({column: value} if n == 7 else {})), INSTANT + n)
        for n in range(9)
    ]
    fault_of_pages = Fault.parse(f"kind={fault},where=/W1/,start=9")
    with MockAPI(Account({"W1": rows}), page_size=4, faults=[fault_of_pages]) as api:
        text = json.dumps(probe(api))
    assert "soon" not in text
    assert CANARY not in text


def test_there_are_60_requests_per_minute_at_most() -> None:
    clock = Clock()
    starts = []
    with MockAPI() as api:
        ask = Asker(api.url, "mock", clock=clock, sleep=clock.sleep)
        for _ in range(60):
            ask.get("version", "version")
            starts.append(clock())
        with pytest.raises(Stopped, match="budget of 60 requests"):
            ask.get("version", "version")
        assert len(api.requests) == 60
    assert starts == [float(second) for second in range(60)]


@pytest.mark.parametrize(("value", "seconds"), [(None, 30), ("7", 7), ("soon", 30)])
def test_http_429_is_honored(value: str | None, seconds: float) -> None:
    clock = Clock()
    fault = Fault(kind="status_429", until=2, retry_after=value)
    with MockAPI(faults=[fault]) as api:
        ask = Asker(api.url, "mock", clock=clock, sleep=clock.sleep)
        assert ask.get("version", "version").status == 200
    assert [exchange.status for exchange in ask.log] == [429, 429, 200]
    assert clock() == 2 * seconds


@pytest.mark.parametrize(
    ("value", "why"), [("121", "more than 120"), ("1", "3 attempts")]
)
def test_http_429_that_does_not_end_stops_the_probe(value: str, why: str) -> None:
    clock = Clock()
    with MockAPI(faults=[Fault(kind="status_429", retry_after=value)]) as api:
        ask = Asker(api.url, "mock", clock=clock, sleep=clock.sleep)
        with pytest.raises(Stopped, match=why):
            ask.get("version", "version")


def test_an_interrupted_probe_is_reported() -> None:
    def interrupt(_seconds: float) -> None:
        raise KeyboardInterrupt

    with MockAPI() as api:
        ask = Asker(api.url, "mock", clock=Clock(), sleep=interrupt)
        made = run(ask, config(api), None)
    assert made["ended_early"] == "it was interrupted"
    assert made["answers"]["version_form"]["finding"] == "braces"
    assert made["answers"]["devices"]["finding"] is None


def test_a_huge_body_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "MAX_BODY", 2**20)
    with MockAPI(faults=[Fault(kind="endless")]) as api:
        exchange = Asker(api.url, "mock").get("version", "version")
    assert exchange.status is None
    assert exchange.failure == asker.TOO_LARGE


def test_a_redirect_is_recorded_and_the_credential_stays() -> None:
    with server(b"") as (port, received):
        fault = Fault(kind="redirect", location=f"http://127.0.0.1:{port}/")
        with MockAPI(faults=[fault]) as api:
            assert Asker(api.url, "mock").get("version", "version").status == 302
        assert received == []


@pytest.mark.parametrize("key", ["mock", "ul_pat_mock"])
def test_a_wrong_key_is_sent_without_the_right_one(key: str) -> None:
    with MockAPI(api_key=key) as api:
        ask = Asker(api.url, key, interval=0)
        assert ask.get("version", "version").status == 200
        assert ask.get("wrong-key", "version", right_key=False).status == 403
        right, wrong = (request.headers for request in api.requests)
    assert key in str(right)
    assert key not in str(wrong.values()).replace(
        f"{key.removesuffix('mock')}wrong", ""
    )
    assert right.keys() == wrong.keys()


def test_ids_are_one_segment_of_the_path() -> None:
    with MockAPI(Account({"W/1?#%": []})) as api:
        asked = Range("W/1?#%", 10**12, 10**12)
        assert Asker(api.url, "mock").rows("scan", asked).empty
