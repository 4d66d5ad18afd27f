"""Runs of the tap, and checks of their output."""

from __future__ import annotations

import gzip
import json
import multiprocessing
import os
import re
import subprocess
import sys
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, TYPE_CHECKING, Any, get_args

import pytest

from demo.pipeline import ROOT
from mock_api import Account, Options, Row
from reliability import program

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from mock_api import MockAPI

CATALOG = Path(__file__).parents[1] / "catalog.json"
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["tap_unleash.tap"])  # which takes a second to import

SPEED = 1000
"""How many times shorter the tap waits for retries and rate limits, unless a test says so."""


def choices(option: str) -> tuple[str, ...]:
    """Return the values of an option of the mock API."""
    return get_args(vars(Options)["__pydantic_fields__"][option].annotation)


@dataclass(frozen=True)
class Run:
    """Exit code and output of a process."""

    code: int
    out: bytes
    err: str

    @cached_property
    def messages(self) -> list[dict[str, Any]]:
        """The complete messages; every line of stdout must be one."""
        *lines, _torn = self.out.split(b"\n")
        found = [json.loads(line) for line in lines]
        assert {message["type"] for message in found} <= {"SCHEMA", "RECORD", "STATE", "BATCH"}
        return found

    def records(self, stream: str = "analytics") -> list[dict[str, Any]]:
        found = (m for m in self.messages if m["type"] == "RECORD")
        return [message["record"] for message in found if message["stream"] == stream]

    @property
    def state(self) -> dict[str, Any] | None:
        """The last state."""
        states = [m["value"] for m in self.messages if m["type"] == "STATE"]
        return states[-1] if states else None

    def bookmarks(self) -> dict[str, str]:
        partitions = (self.state or {})["bookmarks"]["analytics"]["partitions"]
        return {
            p["context"]["device_id"]: p["replication_key_value"]
            for p in partitions
            if "replication_key_value" in p
        }


def table(*runs: Run) -> dict[str, dict[str, Any]]:
    """The table of the stream `analytics` in the destination of an upserting target."""
    messages = (m for r in runs for m in r.messages if m.get("stream") == "analytics")
    return {record["record_id"]: record for m in messages for record in _records(m)}


def _records(message: dict[str, Any]) -> Iterable[dict[str, Any]]:
    """The records of a message, also those in the files of a BATCH."""
    if message["type"] == "RECORD":
        yield message["record"]
    for url in message.get("manifest", []):
        with gzip.open(url.removeprefix("file://")) as file:
            yield from map(json.loads, file)


def cells(rows: Iterable[Mapping[str, Any]]) -> Counter[Any]:
    """The rows of the API, or of a table, in a form to compare; 3 and 3.0 are equal."""
    return Counter(tuple(sorted((k, r[k]) for k in r if k != "record_id")) for r in rows)


def assert_loaded(rows: Iterable[Mapping[str, Any]], *runs: Run) -> None:
    """Check that the runs together load exactly these rows of the API."""
    truth, loaded = cells(rows), cells(table(*runs).values())
    missing, invented = truth - loaded, loaded - truth
    assert not missing, f"{missing.total()} missing, such as {next(iter(missing))}"
    assert not invented, f"{invented.total()} invented, such as {next(iter(invented))}"


def assert_complete(api: MockAPI, *runs: Run) -> None:
    """Check that the last run succeeded, and that all together load the account's rows."""
    assert runs[-1].code == 0, runs[-1].err
    assert_loaded(api.truth(), *runs)


@contextmanager
def job(  # noqa: PLR0913
    api: MockAPI | str,
    *,
    state: object = None,
    catalog: object = None,
    constants: Mapping[str, Any] | None = None,
    speed: float = SPEED,
    loglevel: str = "ERROR",
    env: Mapping[str, str] | None = None,
    arguments: Iterable[str] = (),
    **settings: Any,
) -> Iterator[dict[str, Any]]:
    """What `program.py` is told about a run, while its files exist."""
    url = api if isinstance(api, str) else api.url
    config = {"api_key": "mock", "api_url": url, **settings}
    with TemporaryDirectory() as folder:
        arguments = [*arguments]
        for name, content in {"config": config, "state": state, "catalog": catalog}.items():
            if content is not None:
                path = Path(folder, f"{name}.json")
                path.write_text(json.dumps(content), encoding="utf-8")
                arguments += [f"--{name}", str(path)]
        yield {
            "arguments": arguments,
            "constants": dict(constants or {}),
            "env": os.environ | {"TAP_UNLEASH_LOGLEVEL": loglevel} | dict(env or {}),
            "speed": speed,
            "out": f"{folder}/out",
            "err": f"{folder}/err",
        }


@contextmanager
def command(api: MockAPI | str, **options: Any) -> Iterator[tuple[list[str], dict[str, str]]]:
    """The command line and environment of a run, while its files exist."""
    with job(api, **{"speed": 1, **options}) as made:
        arguments = ["-m", "tap_unleash", *made["arguments"]]
        if made["constants"]:
            arguments = [program.__file__, json.dumps(made)]
        yield [sys.executable, *arguments], made["env"]


def run(api: MockAPI | str, *, kill_at: int | None = None, **options: Any) -> Run:
    """Run the tap to its end, or kill it when so many bytes of its output were read."""
    with job(api, **options) as made:
        out, err = map(Path, (made["out"], made["err"]))
        process = FORKS.Process(target=program.fork, args=(made,))
        if kill_at is not None:
            os.mkfifo(out)
        process.start()
        written = b""
        if kill_at is not None:
            with out.open("rb", buffering=0) as pipe:
                written = read(pipe, kill_at)
                process.kill()
        process.join(120)
        if process.exitcode is None:
            process.kill()
            pytest.fail(f"the run does not end: {err.read_text()[-2000:]}")
        if kill_at is None:
            written = out.read_bytes()
        return Run(process.exitcode, written, err.read_text(encoding="utf-8"))


@contextmanager
def started(api: MockAPI | str, **options: Any) -> Iterator[subprocess.Popen[bytes]]:
    """Start the tap as a process of its own; only the test reads its output."""
    pipe = subprocess.PIPE
    with (
        command(api, **options) as (arguments, env),
        subprocess.Popen(arguments, env=env, stdout=pipe, stderr=pipe, bufsize=0) as process,
    ):
        try:
            yield process
        except BaseException:
            process.kill()  # otherwise, a test that fails would wait for it
            raise


def ended(process: subprocess.Popen[bytes], out: bytes = b"") -> Run:
    """Wait for the end of such a process, of whose output this was read."""
    rest, err = process.communicate()
    return Run(process.returncode, out + (rest or b""), err.decode())


def batches(folder: Path, size: int) -> dict[str, Any]:
    """Settings of batch files of so many records."""
    encoding = {"format": "jsonl", "compression": "gzip"}
    return {"encoding": encoding, "storage": {"root": folder.as_uri()}, "batch_size": size}


def state(**bookmarks: str) -> dict[str, Any]:
    """The state after a sync of these devices."""
    partitions = [
        {
            "context": {"device_id": device_id},
            "replication_key": "timestamp",
            "replication_key_value": value,
        }
        for device_id, value in bookmarks.items()
    ]
    return {"bookmarks": {"analytics": {"partitions": partitions}, "other": {"x": 1}}}


def catalog(*selected: str) -> dict[str, Any]:
    """A catalog in which these streams are selected, or all of them if none is named."""
    found: dict[str, Any] = json.loads(CATALOG.read_text(encoding="utf-8"))
    for stream in found["streams"]:
        for entry in stream["metadata"]:
            if not entry["breadcrumb"]:
                entry["metadata"]["selected"] = not selected or stream["tap_stream_id"] in selected
    return found


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
    assert len(line) < 240  # three lines of a terminal
    assert _EXPLAINED.match(line.removeprefix("tap-unleash: ")), line
    assert result.code == 1
    return line


_PAGE = (ROOT / "docs/reference/errors.md").read_text().partition("## Messages")[2]
MESSAGES = re.findall(r"`([^`]+)`(?=<br>| \|)", _PAGE)
"""The messages on the page; `…` stands for anything."""

_EXPLAINED = re.compile(
    "|".join(re.escape(m.removesuffix(" …")).replace("…", ".*") for m in MESSAGES)
    + r"|\w+Error: "  # of the SDK
)
_FAILURE = re.compile(r".*\| ERROR +\| .*\| Failed to sync ((?:device|stream) '.+?'): (.+\.)")


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
    assert all(map(_EXPLAINED.match, errors.values())), errors
    names = ", ".join([*errors][:10]) + (", …" if len(errors) > 10 else "")
    assert last.startswith(f"tap-unleash: Sync incomplete: {len(logged)} failed ({names}); ")
    assert result.code == 1
    return errors


def assert_isolated(result: Run, *devices: str, streams: Iterable[str] = ()) -> list[str]:
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


def account(**rows: int) -> Account:
    """Devices with so many rows, one per second."""
    return Account({n: [Row(row(n, s)) for s in range(count)] for n, count in rows.items()})
