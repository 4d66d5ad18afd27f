"""The documentation: it builds, and it matches the program, message by message."""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import subprocess
import sys
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from reliability.runs import command, row

from mock_api import Account, Fault, MockAPI, Row
from scripts import reference

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
VERIFIED = ROOT / "tests" / "verified_by.json"
ERRORS = (DOCS / "reference" / "errors.md").read_text()
LINES = [
    line
    for block in re.findall(r"```text\n(.*?)```", ERRORS, re.DOTALL)
    for line in block.splitlines()
]

PLACE = "\0"
"""Stands for a placeholder in a message."""

DESCRIPTIVE = {"bar_format", "description", "epilog", "help", "title"}
"""Keyword arguments whose texts are not messages."""

SILENT = {"cast", "compile", "debug", "fullmatch"}
"""Functions whose texts are not messages."""

NEVER_SHOWN = {f"{PLACE} windows instead of one"}
"""The messages of exceptions that are always caught."""

FOREIGN = [
    *(status.phrase for status in HTTPStatus),
    # before Python 3.13
    "Request Entity Too Large",
    "Unprocessable Entity",
    # of the command line
    "catalog",
    "config",
    "state",
    # of the API
    "Validation failed",
    "Limit Exceeded",
    # of the operating system
    "No such file or directory",
    "No space left on device",
    # of Python and of libraries
    "invalid literal for int() with base 10",
    "can't start new thread",
    "Could not find a suitable TLS CA certificate bundle, invalid path",
    "Expecting value: line 1 column 1 (char 0)",
    "Expecting ',' delimiter: line 3 column 5 (char 42)",
    "api.unleashlive.com",
    "407 Proxy Authentication Required",
    "502 Bad Gateway",
    "Connection refused",
    "Hostname mismatch, certificate is not valid for",
    "Missing dependencies for SOCKS support.",
    "The plain HTTP request was sent to HTTPS port",
    "certificate has expired",
    "got more than 100 headers",
    "unable to get local issuer certificate",
    "unexpected eof while reading",
    "wrong version number",
    "Expected `object`, got `array`",
    "File at 'missing.json' was not found",
    "Input data was truncated",
    "is greater than the maximum of",
]
"""Texts inside of messages that are not the tap's own."""


def literals(node: ast.AST) -> Iterator[str]:
    """The texts of a module, except for its docstrings and descriptions."""
    if isinstance(node, ast.JoinedStr):
        yield "".join(
            str(part.value) if isinstance(part, ast.Constant) else PLACE
            for part in node.values
        )
        for part in node.values:
            if isinstance(part, ast.FormattedValue):
                yield from literals(part.value)
    elif isinstance(node, ast.Constant):
        if isinstance(node.value, str):
            yield re.sub(r"%(?:[drs]|\.\df)", PLACE, node.value)
    elif not (
        isinstance(node, ast.Compare | ast.Subscript)
        or (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant))
        or (isinstance(node, ast.keyword) and node.arg in DESCRIPTIVE)
        or (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and node.func.attr in SILENT
        )
    ):
        for child in ast.iter_child_nodes(node):
            yield from literals(child)


def messages() -> Iterator[str]:
    """Every text of two words or more in the source of the tap: a message or part of one."""
    for file in sorted(ROOT.glob("tap_unleash/**/*.py")):
        for text in literals(ast.parse(file.read_text())):
            if re.search(r"[A-Za-z]{2}.*\s.*[A-Za-z]{2}", text):
                yield text


MESSAGES = sorted({*messages()} - NEVER_SHOWN)
PARTS = {part.strip("'") for message in MESSAGES for part in message.split(PLACE)}


@pytest.mark.parametrize("message", MESSAGES)
def test_every_message_is_explained(message: str) -> None:
    pattern = ".*".join(map(re.escape, message.split(PLACE)))
    # A reason is capitalized where it begins the line.
    assert any(re.search(pattern, line, re.IGNORECASE) for line in LINES)


@pytest.mark.parametrize("line", LINES)
def test_every_explained_line_is_in_the_source(line: str) -> None:
    rest = line.removeprefix("tap-unleash: ")
    for part in sorted([*PARTS, *FOREIGN], key=len, reverse=True):
        if re.search(r"[A-Za-z]{2}", part):
            rest = re.sub(re.escape(part), PLACE, rest, flags=re.IGNORECASE)
    values = (
        r"(?:device |stream )?'[^']*'|HTTP \d+|[A-Z_]{4,}|https?://\S+|/\S+|\S*\d\S*"
    )
    assert not re.findall(r"[A-Za-z]{2,}", re.sub(values, PLACE, rest))


def test_messages_are_found() -> None:
    assert len(MESSAGES) > 50
    assert {*messages()} >= NEVER_SHOWN


LOG_PREFIX = re.compile(r"^[-\d]+ [:,\d]+ \| \w+ +\| \S+ +\| ")

BAD_BOOKMARK = {
    "context": {"device_id": "W629f6fbd82c07cd"},
    "replication_key": "timestamp",
    "replication_key_value": "soon",
}
ONE_DEVICE = "where=/W629f6fbd82c07cd/"
TRUSTED = {"REQUESTS_CA_BUNDLE": "/missing.pem"}
INSTANT = 1_714_521_601_000_000


def printed(api: MockAPI, env: dict[str, str], **options: Any) -> list[str]:
    """Run the program, and return the lines that it prints for people."""
    constants = {
        "api.client.MAX_WAIT": 0.01,
        "api.client.MIN_THROTTLED": 0,
        "api.rate_limiter.MAX_PAUSE": 0.01,
    }
    with command(api, constants=constants, **options) as (arguments, environment):
        done = subprocess.run(
            arguments,
            env=environment | env,
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 1
    # Python 3.13 has the newer name of status 422.
    text = done.stderr.replace("Unprocessable Content", "Unprocessable Entity")
    lines = [LOG_PREFIX.sub("", line) for line in text.splitlines()]
    # The SDK adds this one to an error that ends the sync.
    return [line for line in lines if not line.startswith("An unhandled error occurr")]


@pytest.mark.parametrize(
    ("settings", "env"),
    [
        ({"strat_date": "2024-01-31"}, {}),
        ({"concurrency": 99}, {}),
        ({"shard": "0/2"}, {}),
        ({"shard": "3/2"}, {}),
        ({"api_key": "two words"}, {}),
        ({"api_url": "unleash"}, {}),
        ({"api_url": "http://api.unleashlive.com/v1"}, {}),
        ({"start_date": "yesterday"}, {}),
        ({"start_date": "2024-02-01", "end_date": "2024-01-31"}, {}),
        ({"start_date": "9999-12-31"}, {}),
        ({"end_date": "2001-01-01"}, {}),
        ({"device_ids": ["W1"]}, {}),
        ({"api_key": "mistyped"}, {}),
        ({"api_url": "https://localhost:9/v1"}, TRUSTED),
        ({"state": {"bookmarks": {"analytics": {"partitions": [BAD_BOOKMARK]}}}}, {}),
    ],
    ids=str,
)
def test_an_error_is_a_line_of_the_page(
    settings: dict[str, Any], env: dict[str, str]
) -> None:
    with MockAPI(Account.generate(rows=9)) as api:
        (line,) = printed(api, env, **settings)
    assert line in LINES
    assert len(line) < 240  # three lines of a terminal


@pytest.mark.parametrize(
    "fault",
    [
        "kind=status_401",
        "kind=status_400",
        "kind=status_404",
        "kind=status_422",
        "kind=quota",
        "kind=redirect",
        "kind=bomb",
        "kind=status_503,where=analytics",
        f"kind=status_400,{ONE_DEVICE}",
        f"kind=status_404,{ONE_DEVICE}",
        f"kind=status_422,{ONE_DEVICE}",
        f"kind=status_503,{ONE_DEVICE}",
        f"kind=html,{ONE_DEVICE}",
        f"kind=short_row,{ONE_DEVICE}",
        "kind=status_503,where=sessions",
        "kind=errors_in_200,where=sessions",
    ],
)
def test_the_lines_of_a_failed_sync_are_on_the_page(fault: str) -> None:
    with MockAPI(Account.generate(rows=9), faults=[Fault.parse(fault)]) as api:
        lines = printed(api, {})
    assert lines[-1].startswith("tap-unleash: ")
    isolated = "Sync incomplete" in lines[-1] or "devices in a row" in lines[-1]
    assert isolated == (len(lines) > 1)
    for line in lines:
        assert re.sub(r"\bW[0-9a-f]{15}\b", "W629f6fbd82c07cd", line) in LINES
        assert len(line) < 240


@pytest.mark.parametrize("status", [401, 403])
def test_the_lines_of_denied_flight_logs_are_on_the_page(status: int) -> None:
    catalog = json.loads(ROOT.joinpath("tests", "catalog.json").read_text())
    (stream,) = (s for s in catalog["streams"] if s["stream"] == "flight_logs")
    (entry,) = (entry for entry in stream["metadata"] if not entry["breadcrumb"])
    entry["metadata"]["selected"] = True
    fault = Fault.parse(f"kind=status_{status},where=flights")
    with MockAPI(Account.generate(rows=9), faults=[fault]) as api:
        lines = printed(api, {}, catalog={"streams": [stream]})
    assert len(lines) == 2
    assert {*lines} <= {*LINES}
    assert max(map(len, lines)) < 240


@pytest.mark.parametrize(
    "value", ['"soon"', f'"2024-05-01T00:00:00Z", "a": {"[" * 2000}']
)
def test_the_lines_of_an_invalid_record_are_on_the_page(value: str) -> None:
    deep = value + "]" * value.count("[")
    rows = [
        Row(row("W629f6fbd82c07cd", 0)),
        Row(row("W629f6fbd82c07cd", 1, timestamp=msgspec.Raw(deep.encode())), INSTANT),
    ]
    with MockAPI(Account({"W629f6fbd82c07cd": rows})) as api:
        lines = printed(api, {}, response_format="tableau")
    assert len(lines) == 2
    assert {*lines} <= {*LINES}


def test_a_missing_setting_is_a_line_of_the_page() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tap_unleash", "--config=ENV"],
        env=os.environ | {"LOGLEVEL": "ERROR"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.strip() in LINES


PARTITION = '{"bookmarks": {"analytics": {"partitions": [{}]}}}'


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("catalog", "no"),
        ("catalog", "[]"),
        ("catalog", '{"streams": 3}'),
        ("catalog", '{"streams": [{}]}'),
        ("state", "no"),
        ("state", "[]"),
        ("state", '{"type": "STATE"}'),
        ("state", '{"bookmarks": 3}'),
        ("state", PARTITION),
    ],
)
def test_an_invalid_file_is_reported_in_one_line(
    tmp_path: Path, name: str, content: str
) -> None:
    file = tmp_path / "file.json"
    file.write_text(content)
    done = subprocess.run(
        [sys.executable, "-m", "tap_unleash", "--config=ENV", f"--{name}", file],
        env=os.environ | {"TAP_UNLEASH_API_KEY": "mock"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"tap-unleash: Cannot read the {name} file: ")


def test_help_fits_80_columns() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tap_unleash", "--help"],
        env=os.environ | {"COLUMNS": "80"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert max(map(len, done.stdout.splitlines())) <= 80
    assert "--config" in done.stdout


def test_tables_are_those_of_the_tap(tmp_path: Path) -> None:
    shutil.copytree(DOCS, tmp_path / "docs")
    reference.main(tmp_path)
    for page in DOCS.glob("**/*.md"):
        written = (tmp_path / page.relative_to(ROOT)).read_text()
        assert page.read_text() == written, "run `make hub`"


def test_pages_build_and_their_links_lead_somewhere() -> None:
    done = subprocess.run(
        ["make", "docs"],  # noqa: S607
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_promises_have_tests() -> None:
    promises: set[str] = set()
    limits: set[str] = set()
    for page in ("guarantees.md", "rate-limits.md"):
        text = (DOCS / "how" / page).read_text()
        for table in re.findall(
            r"^\| (?:Guarantee|Event) \|.*\n(?:\|.*\n)+", text, re.MULTILINE
        ):
            promises.update(row.split(" | ")[0][2:] for row in table.splitlines()[2:])
        limits.update(re.findall(r"^- \*\*(.+?)\.\*\*", text, re.MULTILINE))
    verified: dict[str, list[str]] = json.loads(VERIFIED.read_text())
    assert promises <= verified.keys() <= promises | limits
    source = "".join(file.read_text() for file in ROOT.glob("tests/**/test_*.py"))
    tests = set(re.findall(r"^def (test_\w+)", source, re.MULTILINE))
    assert all(named and tests.issuperset(named) for named in verified.values())


def test_every_page_is_in_the_navigation() -> None:
    nav = ROOT.joinpath("mkdocs.yml").read_text()
    for page in DOCS.glob("**/*.md"):
        assert f" {page.relative_to(DOCS)}\n" in nav


def test_mock_apis_of_the_page_start() -> None:
    page = (DOCS / "guides" / "fault-injection.md").read_text()
    commands = re.findall(
        r"^\.venv/bin/python -m mock_api (--port .*)$", page, re.MULTILINE
    )
    assert len(commands) > 3
    for options in commands:
        free = options.replace("--port 8000", "--port 0").split()
        with subprocess.Popen(
            [sys.executable, "-m", "mock_api", *free], stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout
            assert process.stdout.readline().startswith("http://127.0.0.1:")
            process.terminate()


def test_client_examples_run() -> None:
    page = (DOCS / "guides" / "client.md").read_text()
    blocks = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    code = "\n".join(blocks)
    credential = "ul_pat_of_the_example"
    account = Account.generate(devices=1, rows=2_500)
    with MockAPI(account, api_key=credential, page_size=300) as api:
        assert "https://api.unleashlive.com/v1" in code
        done = subprocess.run(
            [
                *(sys.executable, "-W", "error", "-c"),
                code.replace("https://api.unleashlive.com/v1", api.url),
            ],
            env=os.environ | {"TAP_UNLEASH_API_KEY": credential},
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, "")
        assert {request.status for request in api.requests} == {200}
    version, summary, classes, read = done.stdout.splitlines()
    (device_id,) = account.devices
    assert version == "API version: 1.0.1"
    assert summary == f"300 records of {device_id}; 9 pages in all"
    assert len(ast.literal_eval(classes)) == 3
    assert read == "2500 records"
