"""Runs of the real program, and checks of their output."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, TYPE_CHECKING, Any, get_args

from mock_api import Options

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from mock_api import MockAPI

_PROGRAM = """
import atexit, json, os, sys
from importlib import import_module
for name, value in json.loads(sys.argv.pop(1)).items():
    module, _, constant = name.rpartition(".")
    module = import_module(f"tap_unleash.{module}")
    getattr(module, constant)
    setattr(module, constant, value)
if path := os.environ.get("PEAK_MEMORY"):
    def note_peak():
        with open("/proc/self/status") as status, open(path, "w") as file:
            file.write(next(line for line in status if line.startswith("VmHWM")))
    atexit.register(note_peak)
from tap_unleash.tap import TapUnleash
TapUnleash.cli()
"""

IMPATIENT = {
    "api.client.MAX_WAIT": 0.02,
    "api.client.MIN_THROTTLED": 0,
    "api.rate_limiter.MAX_PAUSE": 0.02,
}
"""Constants of the tap for tests that do not measure its waits."""

FEW_ATTEMPTS = IMPATIENT | {"api.failures.MAX_ATTEMPTS": 3}
"""Constants of the tap for tests in which a fault persists."""

EVERY_WINDOW = {"streams.STATE_INTERVAL": 0, "streams.STATE_INTERVAL_PER_DEVICE": 0}
"""Constants of the tap for tests that need STATE after every time window."""

SINGER = {"SCHEMA", "RECORD", "STATE", "ACTIVATE_VERSION", "BATCH"}

COLUMNS = {
    "device_id",
    "session_id",
    "model_id",
    "source_file_name",
    "class_name",
    "count",
    "frame_number",
    "timestamp",
}

_FIELDS = vars(Options)["__pydantic_fields__"]


def choices(option: str) -> tuple[str, ...]:
    """Return the values of an option of the mock API."""
    return get_args(_FIELDS[option].annotation)


Cells = tuple[tuple[str, object], ...]


@dataclass(frozen=True)
class Run:
    """Exit code and output of a process."""

    code: int
    out: bytes
    err: str

    @property
    def messages(self) -> list[dict[str, Any]]:
        """The complete messages; every line of stdout must be one."""
        return messages(self.out)

    def records(self, stream: str = "analytics") -> list[dict[str, Any]]:
        return [
            message["record"]
            for message in self.messages
            if message["type"] == "RECORD" and message["stream"] == stream
        ]

    @property
    def state(self) -> dict[str, Any] | None:
        """The last state."""
        return last_state(self.messages)

    def bookmarks(self) -> dict[str, str]:
        return bookmarks(self.state)


def messages(out: bytes) -> list[dict[str, Any]]:
    *lines, _torn = out.split(b"\n")
    found = [json.loads(line) for line in lines]
    assert {message["type"] for message in found} <= SINGER
    return found


def last_state(found: Iterable[dict[str, Any]]) -> dict[str, Any] | None:
    state = None
    for message in found:
        if message["type"] == "STATE":
            state = message["value"]
    return state


def bookmarks(state: dict[str, Any] | None) -> dict[str, str]:
    if not state or "analytics" not in state["bookmarks"]:
        return {}
    return {
        partition["context"]["device_id"]: partition["replication_key_value"]
        for partition in state["bookmarks"]["analytics"].get("partitions", [])
        if "replication_key_value" in partition
    }


class Table(dict[str, dict[str, Any]]):
    """The table of the stream `analytics` in the destination of an upserting target."""

    def load(self, found: Iterable[dict[str, Any]]) -> None:
        for message in found:
            if message["type"] == "RECORD" and message["stream"] == "analytics":
                record = message["record"]
                self[record["record_id"]] = record

    def rows(self) -> Counter[Cells]:
        return Counter(map(cells, self.values()))


def cells(record: Mapping[str, Any]) -> Cells:
    """A record without its ID, hashable; 3 and 3.0 are equal."""
    row = dict(record)
    row.pop("record_id", None)
    if "extra_fields" in row:
        row["extra_fields"] = json.dumps(row["extra_fields"], sort_keys=True)
    return tuple(sorted(row.items()))


def expected(rows: Iterable[Mapping[str, Any]]) -> Counter[Cells]:
    """The rows of the table for rows of the API."""
    return Counter(map(_expected, rows))


def _expected(row: Mapping[str, Any]) -> Cells:
    record: dict[str, Any] = {name: row.get(name) for name in COLUMNS}
    record["timestamp"] = canonical(row["timestamp"])
    extra = {name: row[name] for name in row.keys() - COLUMNS if row[name] is not None}
    if extra:
        record["extra_fields"] = extra
    return cells(record)


def canonical(timestamp: str) -> str:
    """The form in which timestamps are emitted: UTC, at least three decimals, Z."""
    moment = datetime.fromisoformat(timestamp.replace("Z", "+00:00"))
    moment = moment.replace(tzinfo=moment.tzinfo or timezone.utc)
    text = f"{moment.astimezone(timezone.utc):%Y-%m-%dT%H:%M:%S.%f}"
    while text.endswith("0") and len(text) > len("2020-08-17T06:16:45.000"):
        text = text[:-1]
    return f"{text}Z"


def assert_truth(table: Table, truth: Counter[Cells]) -> None:
    missing, invented = truth - table.rows(), table.rows() - truth
    assert not missing, f"{missing.total()} missing, such as {next(iter(missing))}"
    assert not invented, f"{invented.total()} invented, such as {next(iter(invented))}"


@contextmanager
def command(
    api: MockAPI | str,
    *,
    state: dict[str, Any] | None = None,
    catalog: dict[str, Any] | None = None,
    constants: Mapping[str, float] | None = None,
    loglevel: str = "ERROR",
    **settings: Any,
) -> Iterator[tuple[list[str], dict[str, str]]]:
    """The command line and environment of a run, while its files exist."""
    url = api if isinstance(api, str) else api.url
    program = (
        ["-c", _PROGRAM, json.dumps(constants)] if constants else ["-m", "tap_unleash"]
    )
    with TemporaryDirectory() as folder:
        config = {"api_key": "mock", "api_url": url, **settings}
        arguments = [sys.executable, *program]
        files = {"config": config, "state": state, "catalog": catalog}
        for name, content in files.items():
            if content is not None:
                path = Path(folder, f"{name}.json")
                path.write_text(json.dumps(content), encoding="utf-8")
                arguments += [f"--{name}", str(path)]
        yield arguments, os.environ | {"TAP_UNLEASH_LOGLEVEL": loglevel}


def run(api: MockAPI | str, *, timeout: float = 120, **options: Any) -> Run:
    """Run the tap to its end."""
    with command(api, **options) as (arguments, env):
        done = subprocess.run(
            arguments, env=env, capture_output=True, timeout=timeout, check=False
        )
    return Run(done.returncode, done.stdout, done.stderr.decode())


@cache
def catalog(*selected: str) -> dict[str, Any]:
    """A catalog in which these streams are selected, or all of them if none is named."""
    found: dict[str, Any] = json.loads(
        subprocess.check_output([sys.executable, "-m", "tap_unleash", "--discover"])
    )
    for stream in found["streams"]:
        for entry in stream["metadata"]:
            if not entry["breadcrumb"]:
                entry["metadata"]["selected"] = (
                    not selected or stream["tap_stream_id"] in selected
                )
    return found


@contextmanager
def started(api: MockAPI | str, **options: Any) -> Iterator[subprocess.Popen[bytes]]:
    """Start the tap; only the test reads its output."""
    with (
        command(api, **options) as (arguments, env),
        subprocess.Popen(
            arguments,
            env=env,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
        ) as process,
    ):
        try:
            yield process
        except BaseException:
            process.kill()  # otherwise, a test that fails would wait for it
            raise


def run_until(api: MockAPI, byte: int, **options: Any) -> Run:
    """Run the tap and kill it as soon as so many bytes of its output were read."""
    with started(api, **options) as process:
        out = read(process.stdout, byte)
        process.kill()
        process.wait()
        assert process.stderr is not None
        return Run(process.returncode, out, process.stderr.read().decode())


def read(stream: IO[bytes] | None, count: int) -> bytes:
    """Read so many bytes, or all until the end."""
    assert stream is not None
    out = b""
    while len(out) < count and (more := stream.read(count - len(out))):
        out += more
    return out


def assert_one_line(result: Run) -> str:
    """Check that the run ended with exit code 1 and one line on stderr; return the line."""
    (line,) = result.err.splitlines()
    assert line.startswith("tap-unleash: ")
    assert result.code == 1
    return line


_FAILURE = re.compile(
    r".*\| ERROR +\| .*\| Failed to sync ((?:device|stream) '.+?'): (.+\.)"
)


def failures(result: Run) -> dict[str, str]:
    """Return the isolated errors by device or stream; there are no other lines on stderr.

    The log level of the run is ERROR.
    """
    if result.code == 0:
        assert result.err == ""
        return {}
    *logged, last = result.err.splitlines()
    found = [match for line in logged if (match := _FAILURE.fullmatch(line))]
    assert len(found) == len(logged), result.err
    errors = {match[1]: match[2] for match in found}
    names = ", ".join([*errors][:10]) + (", …" if len(errors) > 10 else "")
    assert last.startswith(
        f"tap-unleash: Sync incomplete: {len(logged)} failed ({names}); "
    )
    assert result.code == 1
    return errors


def assert_isolated(
    result: Run, *devices: str, streams: Iterable[str] = ()
) -> list[str]:
    """Check that these devices and streams failed, in this order; return their errors."""
    errors = failures(result)
    assert [*errors] == [f"device {name!r}" for name in devices] + [
        f"stream {name!r}" for name in streams
    ]
    return [*errors.values()]


START = datetime(2024, 5, 1, tzinfo=timezone.utc)


def at(seconds: float) -> str:
    """So many seconds after `START`, as the API formats it."""
    moment = START + timedelta(seconds=seconds)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{moment.microsecond // 1000:03}Z"


def row(device_id: str, seconds: float, **values: Any) -> dict[str, Any]:
    """A row as the API sends it."""
    return {
        "class_name": "person",
        "count": 1,
        "device_id": device_id,
        "frame_number": 1,
        "model_id": "starter-ai",
        "session_id": "1714521600000",
        "source_file_name": None,
        "timestamp": at(seconds),
        **values,
    }
