"""The command line: settings, catalog, state, environment and standard streams."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
from functools import cache
from threading import Thread
from typing import TYPE_CHECKING, Any

import pytest
from reliability.runs import (
    Run,
    Table,
    assert_one_line,
    assert_truth,
    at,
    command,
    expected,
    read,
    row,
    run,
    started,
)

from mock_api import Account, Fault, MockAPI, Row

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

LONG = 60.0
"""Seconds until a run that does not end is given up."""


@pytest.fixture
def api() -> Iterator[MockAPI]:
    rows = {
        "Wa": [row("Wa", second, frame_number=second) for second in range(50)],
        "Wb": [row("Wb", second) for second in range(5)],
    }
    account = Account({name: map(Row, of_device) for name, of_device in rows.items()})
    with MockAPI(account, page_size=10) as server:
        yield server


def run_in_shell(api: MockAPI, redirections: str, **options: Any) -> Run:
    """Run the tap from a shell, which can close or redirect its standard streams."""
    with command(api, **options) as (arguments, env):
        done = subprocess.run(
            ["/bin/sh", "-c", f'exec "$@" {redirections}', "sh", *arguments],
            env=env,
            capture_output=True,
            timeout=LONG,
            check=False,
        )
    return Run(done.returncode, done.stdout, done.stderr.decode())


def assert_complete(api: MockAPI, result: Run) -> None:
    assert result.code == 0, result.err
    table = Table()
    table.load(result.messages)
    assert_truth(table, expected(api.truth()))


@cache
def discovered() -> str:
    return subprocess.check_output(
        [sys.executable, "-m", "tap_unleash", "--discover"], text=True
    )


def catalog() -> dict[str, dict[str, Any]]:
    """The discovered catalog, by stream."""
    return {
        entry["tap_stream_id"]: entry for entry in json.loads(discovered())["streams"]
    }


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"api_url": "https://[::1/v1"}, "'api_url' must be a URL"),
        ({"api_url": "https://localhost:99999/v1"}, "'api_url' must be a URL"),
        ({"api_url": "https://local host/v1"}, "'api_url' must be a URL"),
        ({"api_url": "http://example.com/v1"}, "'api_url' must use https://"),
        (
            {"start_date": "2024-06-01", "end_date": "2024-05-01"},
            "'start_date' (2024-06-01) is later than 'end_date' (2024-05-01)",
        ),
        (
            {"start_date": "2999-01-01"},
            "'start_date' (2999-01-01) is later than 'end_date'",
        ),
        ({"end_date": "1999-12-31"}, "'end_date' is before 2001-09-09"),
        ({"start_dat": "2024-06-01"}, "Did you mean 'start_date'?"),
        ({"shard": "0/2"}, "'shard' must look like '2/5'; got '0/2'"),
        ({"shard": "3/2"}, "shard 3/2 is out of range (1/2 to 2/2)"),
    ],
)
def test_an_invalid_setting_is_reported_before_any_request(
    api: MockAPI, settings: dict[str, Any], text: str
) -> None:
    assert text in assert_one_line(run(api, **settings))
    assert not api.requests


def run_with_environment(
    monkeypatch: pytest.MonkeyPatch, *args: str, **settings: str
) -> Run:
    """Run the tap with settings from environment variables only."""
    for name, value in {"api_key": "mock", **settings}.items():
        monkeypatch.setenv(f"TAP_UNLEASH_{name.upper()}", value)
    arguments = [sys.executable, "-m", "tap_unleash", "--config=ENV", *args]
    done = subprocess.run(arguments, capture_output=True, timeout=LONG, check=False)
    return Run(done.returncode, done.stdout, done.stderr.decode())


def test_an_unknown_environment_variable_is_reported(
    api: MockAPI, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = run_with_environment(
        monkeypatch,
        api_url=api.url,
        strat_date="2024-01-01",
        stream_maps="{}",
        loglevel="WARNING",
    )
    assert_complete(api, result)
    (warning,) = result.err.splitlines()
    assert warning.endswith(
        "Ignoring the environment variable TAP_UNLEASH_STRAT_DATE: there is no such "
        "setting. Did you mean TAP_UNLEASH_START_DATE?"
    )


@pytest.mark.parametrize(
    ("setting", "value"), [("concurrency", "many"), ("batch_config", "{")]
)
def test_an_environment_variable_that_cannot_be_read_is_reported(
    setting: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = run_with_environment(monkeypatch, **{setting: value, "loglevel": "ERROR"})
    text = "Cannot read an environment variable TAP_UNLEASH_…: "
    assert text in assert_one_line(result)


@pytest.mark.parametrize("devices", [None, '["Wa"]'])
def test_the_connection_test_says_that_the_connection_works(
    api: MockAPI, monkeypatch: pytest.MonkeyPatch, devices: str | None
) -> None:
    settings = {"device_ids": devices} if devices else {}
    result = run_with_environment(monkeypatch, "--test", api_url=api.url, **settings)
    assert result.code == 0
    assert result.err.splitlines()[-1].endswith(
        "The connection works. Devices in the account: 2; sessions: 1"
    )
    assert len(api.requests) == 4


def test_a_rate_limit_is_reported_with_its_estimate() -> None:
    account = Account({f"W{n}": [Row(row(f"W{n}", 1))] for n in range(45)})
    with MockAPI(account, rate_limit=20, rate_window=1) as api:
        result = run(api, loglevel="INFO")
        assert_complete(api, result)
    (estimate, *_) = re.findall(r"Estimated rate limit: (\d+) requests/min", result.err)
    assert 0 < int(estimate) < 10_000
    assert re.search(
        r"Rate limited \(HTTP 429\): pausing all requests for \d+ s", result.err
    )


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("unknown", "Invalid configuration: unknown setting 'strat_date'."),
        ("strat_date", "Invalid configuration: unknown setting '***'."),
    ],
)
def test_a_short_key_does_not_garble_messages(key: str, text: str) -> None:
    line = assert_one_line(run("https://api.invalid/v1", api_key=key, strat_date=1))
    assert line.startswith(f"tap-unleash: {text}")


def test_dates_outside_of_the_range_of_the_api_are_clamped(api: MockAPI) -> None:
    result = run(api, start_date="1999-01-01", end_date="9999-12-31")
    assert_complete(api, result)
    ranges = [r.path.split("/")[4:6] for r in api.requests if r.path.count("/") == 6]
    assert ranges
    for since, until in ranges:
        assert len(since) == len(until) == 13
        assert int(since) < int(until)


@pytest.mark.parametrize("content", ["[1]", "null", "{"])
def test_a_config_file_that_is_no_object_is_reported(content: str) -> None:
    with command("https://localhost/v1") as (arguments, env):
        path = arguments[arguments.index("--config") + 1]
        with open(path, "w", encoding="utf-8") as file:  # noqa: PTH123
            file.write(content)
        done = subprocess.run(arguments, env=env, capture_output=True, check=False)
    line = assert_one_line(Run(done.returncode, b"", done.stderr.decode()))
    assert "Cannot read the config file" in line


def test_a_ca_bundle_that_does_not_exist_is_reported(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "missing/bundle.pem")
    assert "missing/bundle.pem" in assert_one_line(run("https://localhost:1/v1"))


def test_a_loopback_url_is_never_requested_through_a_proxy(
    api: MockAPI, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as proxy:
        received: list[bytes] = []

        def accept() -> None:
            try:
                while True:
                    connection, _ = proxy.accept()
                    with connection:
                        received.append(connection.recv(1024))
            except OSError:
                return

        thread = Thread(target=accept)
        thread.start()
        url = f"http://127.0.0.1:{proxy.getsockname()[1]}"
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, url)
        result = run(api)
        proxy.shutdown(socket.SHUT_RDWR)
        thread.join()
    assert_complete(api, result)
    assert not received


def test_a_catalog_without_key_properties_makes_a_load_append_only(
    api: MockAPI,
) -> None:
    entries = catalog()
    for entry in entries.values():
        del entry["key_properties"]
        for metadata in entry["metadata"]:
            metadata["metadata"].pop("table-key-properties", None)
    result = run(api, catalog={"streams": list(entries.values())})
    assert_complete(api, result)
    schemas = [m for m in result.messages if m["type"] == "SCHEMA"]
    assert len(schemas) == 3
    assert not any(schema.get("key_properties") for schema in schemas)


@pytest.mark.parametrize("compression", [None, "none"])
def test_a_catalog_with_fewer_properties_emits_only_these(
    api: MockAPI, compression: str | None, tmp_path: Path
) -> None:
    api.add("Wa", [Row(row("Wa", 60, weather="rain"))])
    entries = catalog()
    fields = entries["analytics"]["schema"]["properties"]
    del fields["count"], fields["extra_fields"]
    options: dict[str, Any] = {"catalog": {"streams": list(entries.values())}}
    if compression:
        options["batch_config"] = {
            "encoding": {"format": "jsonl", "compression": compression},
            "storage": {"root": tmp_path.as_uri()},
        }
    result = run(api, **options)
    assert result.code == 0, result.err
    found = result.records()
    if compression:
        files = tmp_path.glob("*analytics*")
        lines = [line for file in files for line in file.read_text().splitlines()]
        found = list(map(json.loads, lines))
    assert len(found) == len(api.truth())
    assert {frozenset(record) for record in found} == {frozenset(fields)}


def without_timestamp(entries: dict[str, dict[str, Any]]) -> None:
    del entries["analytics"]["schema"]["properties"]["timestamp"]


def renamed(entries: dict[str, dict[str, Any]]) -> None:
    entries["analytics"]["stream"] = "detections"


def without_breadcrumb(entries: dict[str, dict[str, Any]]) -> None:
    del entries["devices"]["metadata"][0]["breadcrumb"]


@pytest.mark.parametrize("change", [without_timestamp, renamed, without_breadcrumb])
def test_a_catalog_that_cannot_be_used_is_reported(
    api: MockAPI, change: Callable[[dict[str, dict[str, Any]]], None]
) -> None:
    entries = catalog()
    change(entries)
    result = run(api, catalog={"streams": list(entries.values())})
    assert "Cannot read the catalog file: " in assert_one_line(result)
    assert not api.requests


def test_full_table_replication_writes_no_bookmark(api: MockAPI) -> None:
    entries = catalog()
    entries["analytics"]["replication_method"] = "FULL_TABLE"
    result = run(api, catalog={"streams": list(entries.values())})
    assert_complete(api, result)
    assert result.bookmarks() == {}


def test_activate_version_is_emitted_for_full_tables_only(api: MockAPI) -> None:
    result = run(api, emit_activate_version_messages=True)
    assert_complete(api, result)
    activated = {
        m["stream"] for m in result.messages if m["type"] == "ACTIVATE_VERSION"
    }
    assert activated == {"devices", "sessions"}


def state(*bookmarks: tuple[str, str], **others: Any) -> dict[str, Any]:
    partitions = [
        {
            "context": {"device_id": device_id},
            "replication_key": "timestamp",
            "replication_key_value": value,
        }
        for device_id, value in bookmarks
    ]
    return {"bookmarks": {"analytics": {"partitions": partitions}, **others}}


@pytest.mark.parametrize("order", [1, -1])
def test_of_two_bookmarks_of_one_device_the_earlier_wins(
    api: MockAPI, order: int
) -> None:
    bookmarks = [("Wa", at(40)), ("Wa", at(10))][::order]
    result = run(api, state=state(*bookmarks), lookback_minutes=0)
    assert result.code == 0, result.err
    found = [r["timestamp"] for r in result.records() if r["device_id"] == "Wa"]
    assert sorted(found) == [at(second) for second in range(10, 50)]
    assert result.bookmarks()["Wa"] == at(49)


def test_partitions_of_another_stream_are_kept(api: MockAPI) -> None:
    other = {"partitions": [{"context": {"site": 1}, "replication_key_value": 2}]}
    result = run(api, state=state(("Wa", at(40)), other=other), lookback_minutes=0)
    assert result.code == 0, result.err
    assert result.state
    assert result.state["bookmarks"]["other"] == other


def test_a_whole_state_message_is_accepted(api: MockAPI) -> None:
    message = {"type": "STATE", "value": state(("Wa", at(40)), ("Wb", at(4)))}
    result = run(api, state=message, lookback_minutes=0)
    assert result.code == 0, result.err
    assert len(result.records()) == 10 + 1


def test_a_bookmark_in_the_future_is_reported(api: MockAPI) -> None:
    future = state(("Wb", "2999-01-01T00:00:00.000Z"))
    result = run(api, state=future, loglevel="WARNING")
    assert result.code == 0
    assert "The bookmark of device 'Wb' is in the future" in result.err
    assert result.bookmarks()["Wb"] == "2999-01-01T00:00:00.000Z"
    assert {r["device_id"] for r in result.records()} == {"Wa"}


def test_a_closed_stderr_costs_no_record(api: MockAPI) -> None:
    assert_complete(api, run_in_shell(api, "2>&-", loglevel="INFO"))


@pytest.mark.parametrize("target", ["&-", "/dev/full"])
def test_a_stdout_that_takes_nothing_is_reported(api: MockAPI, target: str) -> None:
    line = assert_one_line(run_in_shell(api, f">{target}"))
    assert "tandard output" in line


def test_a_catalog_that_cannot_be_written_is_reported() -> None:
    with open("/dev/full", "wb") as full:  # noqa: PTH123
        done = subprocess.run(
            [sys.executable, "-m", "tap_unleash", "--discover"],
            env=os.environ | {"LOGLEVEL": "ERROR"},
            stdout=full,
            stderr=subprocess.PIPE,
            check=False,
        )
    line = assert_one_line(Run(done.returncode, b"", done.stderr.decode()))
    assert "Cannot write to standard output" in line


def test_a_batch_folder_that_cannot_be_written_is_reported(api: MockAPI) -> None:
    batch_config = {
        "encoding": {"format": "jsonl", "compression": "none"},
        "storage": {"root": "file:///dev/null/batches"},
    }
    line = assert_one_line(run(api, batch_config=batch_config))
    assert "Cannot write a batch file to file:///dev/null/batches" in line


def test_a_thread_that_cannot_be_started_is_reported(api: MockAPI) -> None:
    with command(api) as (arguments, env):
        program = (
            "import sys, threading\n"
            'def refuse(self):\n    raise RuntimeError("can\'t start new thread")\n'
            "threading.Thread.start = refuse\n"
            "from tap_unleash.tap import TapUnleash\nTapUnleash.cli()"
        )
        arguments[1:3] = ["-c", program]
        done = subprocess.run(arguments, env=env, capture_output=True, check=False)
    line = assert_one_line(Run(done.returncode, b"", done.stderr.decode()))
    assert "can't start new thread" in line


def test_a_non_blocking_stdout_tears_no_message() -> None:
    with (
        MockAPI(Account.generate(devices=3, rows=3_000)) as api,
        command(api) as (arguments, env),
    ):
        reading, writing = os.pipe()
        os.set_blocking(writing, False)
        with (
            subprocess.Popen(
                arguments, env=env, stdout=writing, stderr=subprocess.PIPE
            ) as process,
            open(reading, "rb") as out,  # noqa: PTH123 - a file descriptor
        ):
            os.close(writing)
            found = out.read()
            assert process.stderr is not None
            err = process.stderr.read().decode()
        assert_complete(api, Run(process.returncode, found, err))


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGTERM])
def test_a_hangup_ends_the_run_with_state(number: signal.Signals) -> None:
    stalls = Fault(kind="hang", where="/Wb/")
    rows = {name: [Row(row(name, n)) for n in range(50)] for name in ("Wa", "Wb")}
    with (
        MockAPI(Account(rows), page_size=10, faults=(stalls,)) as api,
        started(api) as process,
    ):
        out = read(process.stdout, 500)  # of the SCHEMA message
        process.send_signal(number)
        rest, err = process.communicate(timeout=LONG)
    broken = Run(process.returncode, out + rest, err.decode())
    assert (broken.code, broken.err) == (128 + number, "")
    assert broken.messages[-1]["type"] == "STATE"
