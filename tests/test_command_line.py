"""The command line: settings, states, catalogs, and which lines are printed for people."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from reliability.runs import (
    Run,
    account,
    assert_complete,
    assert_isolated,
    assert_loaded,
    assert_one_line,
    at,
    catalog,
    command,
    row,
    run,
    state,
)
from singer_sdk.configuration._dict_config import parse_environment_config

from mock_api import Account, MockAPI, Row
from tap_unleash.tap import TapUnleash

if TYPE_CHECKING:
    from collections.abc import Iterator

DAY = 86_400


@pytest.fixture
def api() -> Iterator[MockAPI]:
    with MockAPI(account(Wa=50, Wb=5, Wc=0), page_size=40) as server:
        yield server


BATCH = {"encoding": {"format": "jsonl"}, "storage": {"root": "file:///x"}}
EMPTY: dict[str, Any] = {"schema": {}, "metadata": []}

INVALID: list[tuple[dict[str, Any], str]] = [
    ({"api_key": ""}, "'api_key' is empty or contains whitespace"),
    ({"api_key": "two words"}, "'api_key' is empty or contains whitespace"),
    ({"api_key": None}, "'api_key'"),
    ({"api_url": "unleash"}, "'api_url' must be a URL such as https://"),
    ({"api_url": "https://[::1/v1"}, "'api_url' must be a URL such as https://"),
    ({"api_url": "https://localhost:99999/v1"}, "'api_url' must be a URL"),
    ({"api_url": "https://user@localhost/v1"}, "'api_url' must be a URL"),
    ({"api_url": "https://localhost/{api_key}/v1"}, "'api_url' must be a URL"),
    ({"api_url": "http://example.com/v1"}, "'api_url' must use https://"),
    ({"start_date": "yesterday"}, "'start_date' must be an ISO 8601 date or datetime"),
    ({"end_date": "2024-02-30"}, "'end_date' must be an ISO 8601 date or datetime"),
    ({"end_date": "2001-09-08"}, "'end_date' is before 2001-09-09"),
    ({"start_date": "2024-06-02", "end_date": "2024-06-01"}, "'start_date' (2024-06-02) is"),
    ({"start_date": "2999-01-01"}, "is later than 'end_date' (the start of the sync)"),
    ({"start_dat": "2024-06-01"}, "unknown setting 'start_dat'. Did you mean 'start_date'?"),
    ({"emit_activate_version_messages": True}, "unknown setting 'emit_activate_version"),
    ({"concurrency": 2.0}, "'concurrency': Decimal('2.0') is not of type 'integer'"),
    ({"concurrency": 33}, "'concurrency': 33 is greater than the maximum of 32"),
    ({"concurrency": 0, "lookback_minutes": -1}, "'lookback_minutes': -1 is less than"),
    ({"response_format": "csv"}, "'response_format': 'csv' is not one of"),
    ({"shard": "0/2"}, "'shard'"),
    ({"shard": "3/2"}, "shard 3/2 is out of range"),
    ({"device_ids": "Wa"}, "'device_ids': 'Wa' is not of type"),
    ({"stream_maps": {"analytic": {}}}, "'analytic'. Did you mean 'analytics'?"),
    ({"stream_maps": {"analytics": {"source_filename": None}}}, "mean 'source_file_name'?"),
    ({"stream_maps": {"*": {"sourcefile": "__NULL__"}}}, "mean 'source_file_name'?"),
    ({"stream_maps": {"analytics": {"clas": "md5(clas)"}}}, "'clas'. Did you mean"),
    ({"stream_maps": {"a": {"__source__": "analytic"}}}, "'analytic'. Did you mean"),
    ({"stream_maps": {"analytics": {"x": "md5(("}}}, "Failed to parse expression md5(("),
    ({"flattening_enabled": True}, "flattening_max_depth is required"),
    ({"stream_maps": {"analytics": {"__fliter__": "False"}}}, "Did you mean '__filter__'?"),
    ({"batch_config": {"storage": {"root": "file:///x"}}}, "'batch_config' needs 'encoding"),
    ({"batch_config": {**BATCH, "storage": {}}}, "'batch_config' needs 'encoding.format'"),
    ({"batch_config": {**BATCH, "batch_size": 0}}, "and a 'batch_size' of 1 or more."),
    ({"catalog": {"streams": [{"tap_stream_id": "analytics", **EMPTY}]}}, "with --discover"),
    ({"catalog": {"streams": [{"tap_stream_id": "other", **EMPTY}]}}, "with --discover"),
    *(
        (
            {"env": {f"TAP_UNLEASH_{name}": value}, "arguments": ["--config=ENV"]},
            f"the variable TAP_UNLEASH_{name} is not of type {kind}",
        )
        for name, value, kind in (
            ("CONCURRENCY", "four", "integer"),
            ("FLATTENING_ENABLED", "flase", "boolean"),
            ("STREAM_MAPS", "{'analytics': null}", "object"),
            ("BATCH_CONFIG", "[1]", "object"),
        )
    ),
]


@pytest.mark.parametrize(("options", "text"), INVALID, ids=str)
def test_invalid_input_is_reported(api: MockAPI, options: dict[str, Any], text: str) -> None:
    assert text in assert_one_line(run(api, **options))
    assert not api.requests


def test_a_key_within_another_setting_is_not_printed(api: MockAPI) -> None:
    result = run(api, api_key="ul_pat_0123", response_format="Bearer ul_pat_0123")
    assert "'response_format': 'Bearer ***' is not one of" in assert_one_line(result)


S3 = {"encoding": {**BATCH["encoding"], "compression": "gzip"}, "storage": {"root": "s3://x/y"}}
LATER: list[tuple[dict[str, Any], str]] = [
    ({"stream_maps": {"analytics": {"x": "foo(count)"}}}, "foo(count)"),
    ({"stream_maps": {"analytics": {"__filter__": "nope > 1"}}}, "nope > 1"),
    ({"batch_config": S3}, "Install s3fs"),
    # The SDK cannot map a stream without its key.
    (
        {"catalog": catalog("analytics"), "stream_maps": {"*": {"tenant": "'acme'"}}},
        "was not detected in schema",
    ),
    ({"device_ids": ["Wa", "Wz", "Wy"]}, "tap-unleash: Unknown device in 'device_ids': Wy, Wz."),
]


@pytest.mark.parametrize(("options", "text"), LATER, ids=["map", "filter", "s3", "key", "device"])
def test_an_error_that_is_found_later_is_one_line(
    api: MockAPI, options: dict[str, Any], text: str
) -> None:
    result = run(api, loglevel="CRITICAL", **options)
    assert text in assert_one_line(result)
    assert not result.records()


def test_fields_are_added_and_removed_and_keys_are_replaced(api: MockAPI) -> None:
    added = {"hash": "md5(class_name)", "set": "config['new']", "none": "record.get('new')"}
    keys = {"__key_properties__": ["device_id", "timestamp"], "source_file_name": None}
    maps = {"analytics": {**added, **keys}}
    result = run(api, stream_maps=maps, stream_map_config={"new": "configured"})
    assert result.code == 0, result.err
    values = {"hash": "8b0a44048f58988b486bdd0d245b22a8", "set": "configured", "none": None}
    assert len(result.records()) == 55
    for record in result.records():
        assert record.items() >= values.items()
        assert "source_file_name" not in record
    (schema,) = [m for m in result.messages if m["type"] == "SCHEMA" and m["stream"] == "analytics"]
    assert schema["key_properties"] == keys["__key_properties__"]


def test_null_is_not_set(api: MockAPI) -> None:
    names = TapUnleash.config_jsonschema["properties"].keys() - {"api_key", "api_url"}
    assert_complete(api, run(api, **dict.fromkeys(names)))


def test_an_empty_variable_is_not_set(api: MockAPI) -> None:
    properties = TapUnleash.config_jsonschema["properties"]
    env = {f"TAP_UNLEASH_{name.upper()}": "" for name in properties} | {"LOGLEVEL": ""}
    assert_complete(api, run(api, env=env, arguments=["--config=ENV"]))


def test_a_misspelled_variable_is_reported(api: MockAPI) -> None:
    env = {"TAP_UNLEASH_START_DAT": "2024-06-01"}
    result = run(api, env=env, arguments=["--config=ENV"], loglevel="WARNING")
    assert "Did you mean 'TAP_UNLEASH_START_DATE'?" in result.err
    assert_complete(api, result)


def test_a_file_of_variables_takes_precedence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The settings page says so; the SDK looks for the file from its own folder upwards."""
    monkeypatch.setenv("TAP_UNLEASH_START_DATE", "2024-01-01")
    (tmp_path / ".env").write_text("TAP_UNLEASH_START_DATE=2025-01-01")
    schema = TapUnleash.config_jsonschema
    found = parse_environment_config(schema, "TAP_UNLEASH_", tmp_path / ".env")
    assert found == {"start_date": "2025-01-01"}


def test_the_tap_needs_no_signal_of_posix() -> None:
    program = (
        "import signal\ndel signal.SIGHUP\n"
        "from tap_unleash.tap import TapUnleash\nTapUnleash.cli(['--version'])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert done.stdout.startswith(b"tap-unleash v")


@pytest.mark.parametrize("name", ["LOGLEVEL", "TAP_UNLEASH_LOGLEVEL"])
def test_an_unknown_log_level_is_reported(name: str) -> None:
    env = {"LOGLEVEL": "INFO", "TAP_UNLEASH_LOGLEVEL": "", name: "verbose"}
    assert "VERBOSE" in assert_one_line(run("https://localhost/v1", env=env))


def test_discovery_says_what_it_does_not_need(api: MockAPI) -> None:
    result = run(api, loglevel="WARNING", start_dat="2024-06-01", arguments=["--discover"])
    assert result.code == 0
    assert "Discovery uses no settings." in result.err.splitlines()[-1]


def test_device_ids_and_shards_select_devices(api: MockAPI) -> None:
    env = {"TAP_UNLEASH_DEVICE_IDS": '["Wb"]'}
    result = run(api, env=env, arguments=["--config=ENV"])
    assert {r["device_id"] for r in result.records()} == {"Wb"}
    assert result.records("devices") == [{"device_id": "Wb"}]
    shards = [run(api, shard=f"{n}/2") for n in (1, 2)]
    names = [r["device_id"] for shard in shards for r in shard.records("devices")]
    assert sorted(names) == ["Wa", "Wb", "Wc"]
    assert_complete(api, *shards)


DATES = [
    ("2024-05-02", "2024-05-02", [DAY, 2 * DAY - 0.001]),
    ("2024-05-02T00:00:00", "2024-05-02T00:00:00Z", [DAY]),
    ("2024-05-02T02:00:00.001+02:00", "2024-05-02 23:59:59.999", [2 * DAY - 0.001]),
    ("1999-01-01", "9999-12-31", [DAY - 0.001, DAY, 2 * DAY - 0.001, 2 * DAY]),
]


@pytest.mark.parametrize(("start", "end", "seconds"), DATES)
def test_start_and_end_are_inclusive_and_a_date_is_a_whole_day(
    start: str, end: str, seconds: list[float]
) -> None:
    rows = [Row(row("Wa", s)) for s in (DAY - 0.001, DAY, 2 * DAY - 0.001, 2 * DAY)]
    # A long range is read in parts, also if it begins before the first instant of the API.
    with MockAPI(Account({"Wa": rows}), max_range_seconds=36_500 * DAY) as api:
        result = run(api, start_date=start, end_date=end)
    assert [r["timestamp"] for r in result.records()] == list(map(at, seconds))


@pytest.mark.parametrize("wrapper", ["", "value", "singer_state"])
def test_every_form_of_a_state_is_accepted(api: MockAPI, wrapper: str) -> None:
    given = state(Wa=at(40))
    result = run(api, state={wrapper: given} if wrapper else given, lookback_minutes=0)
    assert result.code == 0, result.err
    assert len(result.records()) == 10 + 5
    assert result.bookmarks() == {"Wa": at(49), "Wb": at(4)}
    assert result.state
    assert result.state["bookmarks"]["other"] == {"x": 1}
    assert_complete(api, run(api, state={}))


@pytest.mark.parametrize(("minutes", "count"), [(0, 1 + 1), (60, 50 + 5)])
def test_the_lookback_window_is_read_again(api: MockAPI, minutes: int, count: int) -> None:
    result = run(api, state=state(Wa=at(49), Wb=at(4)), lookback_minutes=minutes)
    assert len(result.records()) == count
    assert result.bookmarks() == {"Wa": at(49), "Wb": at(4)}


def test_a_deleted_record_of_the_bookmark_is_reported(api: MockAPI) -> None:
    # If it is older than a day, a retention period may have deleted it.
    result = run(api, state=state(Wa=at(49.5)), end_date=at(DAY), loglevel="WARNING")
    assert f"Records of device 'Wa' at {at(49.5)} are gone" in result.err
    assert_complete(api, result)


def test_a_start_date_trims_the_lookback_window(api: MockAPI) -> None:
    result = run(api, state=state(Wa=at(40), Wb=at(2)), start_date=at(35))
    # 'Wb' begins at its bookmark, so no record between it and the start is left out.
    seconds = [*range(35, 50), 2, 3, 4]
    assert [r["timestamp"] for r in result.records()] == list(map(at, seconds))


@pytest.mark.parametrize(
    "content",
    [
        {"Wa": at(40)},
        {"singer_state": {"Wa": at(40)}},
        {"singer_state": None},
        {"bookmarks": []},
        {"bookmarks": {"analytics": 1}},
        {"bookmarks": {"analytics": {"partitions": {}}}},
        {"bookmarks": {"analytics": {"replication_key_value": at(40)}}},
        {"bookmarks": {"analytics": {"partitions": ["Wa"]}}},
        {"bookmarks": {"analytics": {"partitions": [{"context": {"device": "Wa"}}]}}},
        {"bookmarks": {"analytic": state(Wa=at(40))["bookmarks"]["analytics"]}},
        state(Wa="soon"),
    ],
    ids=str,
)
def test_any_other_state_is_reported(api: MockAPI, content: object) -> None:
    line = assert_one_line(run(api, state=content))
    assert "state" in line
    assert "Error" not in line


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_files_are_utf_8_whatever_the_locale_is(encoding: str) -> None:
    rows = [Row(row("Dé", s)) for s in range(9)]
    with (
        MockAPI(Account({"Dé": rows})) as api,
        command(api, state=state(Dé=at(5)), catalog=catalog(), lookback_minutes=0) as (args, env),
    ):
        for name in ("--config", "--state", "--catalog"):
            path = Path(args[args.index(name) + 1])
            text = json.dumps(json.loads(path.read_text()), ensure_ascii=False)
            path.write_text(text, encoding=encoding)
        env |= {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
        result = Run(0, subprocess.check_output(args, env=env), "")
    assert [r["timestamp"] for r in result.records()] == [*map(at, range(5, 9))]


@pytest.mark.parametrize("name", ["config", "state", "catalog"])
@pytest.mark.parametrize("content", [b"[]", b"{", b"\xff", None])
def test_a_file_that_is_not_a_json_object_is_reported(
    tmp_path: Path, name: str, content: bytes | None
) -> None:
    if content:
        (tmp_path / "file").write_bytes(content)
    line = assert_one_line(run("https://localhost/v1", arguments=[f"--{name}={tmp_path}/file"]))
    reason = "it is not a JSON object." if content else ": No such file or directory."
    assert line.startswith(f"tap-unleash: Cannot read the {name} file: ")
    assert line.endswith(reason)


def test_only_selected_streams_are_emitted(api: MockAPI) -> None:
    result = run(api, catalog=catalog("devices", "sessions"))
    assert {m["stream"] for m in result.messages if "stream" in m} == {"devices", "sessions"}
    assert len(api.requests) == 2


def test_full_table_replication_writes_no_bookmark(api: MockAPI) -> None:
    chosen = catalog()
    for entry in chosen["streams"]:
        entry["replication_method"] = "FULL_TABLE"
    result = run(api, catalog=chosen, state=state(Wa=at(40)), lookback_minutes=0)
    assert_complete(api, result)


def test_progress_is_logged_and_no_metric_names_a_device(api: MockAPI) -> None:
    result = run(api, loglevel="INFO", constants={"progress.LOG_INTERVAL": -1})
    assert_complete(api, result)
    lines = result.err.splitlines()
    progress = [line for line in lines if "devices done" in line]
    assert progress[-1].endswith("3 of 3 devices done, 55 records")
    *_, last = [line for line in lines if "METRIC" not in line]
    said = re.search(r"Extracted 55 records of 3 devices in \d+ s with (\d+) requests$", last)
    assert said
    assert int(said[1]) == len(api.requests)
    counts = [json.loads(line.partition("METRIC: ")[2]) for line in lines if "METRIC" in line]
    found = {(c["metric"], c["tags"]["stream"]): c["value"] for c in counts}
    assert found["record_count", "analytics"] == 55
    assert "device_id" not in json.dumps(counts)


@pytest.mark.parametrize("bookmarks", [{}, {"Wc": at(0)}])
def test_a_first_sync_without_records_is_reported(bookmarks: dict[str, str]) -> None:
    with MockAPI(Account({"Wc": []})) as api:
        result = run(api, loglevel="WARNING", state=state(**bookmarks))
    assert result.code == 0
    assert ("No device has a record." in result.err) == (not bookmarks)


def test_a_terminal_shows_a_bar(api: MockAPI) -> None:
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 90, 0, 0))
    with command(api) as (arguments, env):
        subprocess.run(arguments, env=env, stdout=subprocess.DEVNULL, stderr=theirs, check=True)
    shown = os.read(ours, 65536).decode()
    os.close(theirs)
    os.close(ours)
    assert "3/3" in shown
    assert "55 records" in shown


HOSTILE = ["../../../admin", "x/../devices", "//evil.example/x", "..%2f..", "W odd/id?x=1#é"]


@pytest.mark.parametrize("response_format", ["size_optimized", "tableau"])
def test_no_device_id_changes_the_path_of_a_request(response_format: str) -> None:
    rows = {name: [Row(row(name, 0))] for name in [*HOSTILE, "{0}", "%s%n", "a\tb"]}
    with MockAPI(Account(rows)) as api:
        result = run(api, response_format=response_format)
        slashes = {r.path.count("/") for r in api.requests}
        truth = [r for r in api.truth() if r["device_id"] != "a\tb"]
    assert_isolated(result, "a\tb")  # the mock API rejects control characters
    assert_loaded(truth, result)
    assert slashes == {3, 7 if response_format == "tableau" else 6}
