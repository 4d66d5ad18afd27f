"""The programs, how each is told what to read, and where each leaves its rows."""

# ruff: noqa: S603 - the programs run are our own

from __future__ import annotations

import json
from dataclasses import dataclass, field
from subprocess import DEVNULL, check_output
from typing import TYPE_CHECKING, Any

import msgspec

from benchmarks.environments import OURS, PROGRAMS, executable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from benchmarks.data import Row

KEY = "benchmark"
_LONG_AGO = "2020-01-01T00:00:00Z"


@dataclass(frozen=True)
class Task:
    """What a program is told.

    Attributes:
        url: The base URL of the API.
        work: A directory of its own.
        settings: Settings of ours beside credential and URL.
        state: A state to go on from.
    """

    url: str
    work: Path
    settings: Mapping[str, Any] = field(default_factory=dict)
    state: Mapping[str, Any] | None = None

    def write(self, name: str, content: object) -> str:
        """Write a file for the program to read.

        Args:
            name: The file's name.
            content: What it holds, as JSON.

        Returns:
            Its path.
        """
        path = self.work / name
        path.write_text(json.dumps(content))
        return str(path)


@dataclass(frozen=True)
class Contender:
    """A program.

    Attributes:
        environment: Where it is installed.
        command: Makes its command line.
        rows: Reads the rows that it left in its directory.
        variables: What it finds in its environment.
    """

    environment: str
    command: Callable[[Task], list[str]]
    rows: Callable[[Path], Iterator[Row]]
    variables: Mapping[str, str] = field(default_factory=dict)


class _Fields(msgspec.Struct):
    class_name: str
    count: int | float
    device_id: str
    frame_number: int
    model_id: str
    session_id: str
    source_file_name: str
    timestamp: str


class _SingerRecord(msgspec.Struct):
    record: _Fields


class _AirbyteData(msgspec.Struct):
    data: _Fields


class _AirbyteRecord(msgspec.Struct):
    record: _AirbyteData


def lines(output: Path, kind: bytes, stream: bytes = b"") -> Iterator[bytes]:
    """Read the messages of one kind.

    Args:
        output: The file they are in.
        kind: Their type.
        stream: The stream they are of, if they are of one.

    Yields:
        Their lines.
    """
    with output.open("rb") as file:
        for line in file:
            head = line[:64]
            if kind in head and stream in head:
                yield line


def _singer_rows(work: Path) -> Iterator[Row]:
    decode = msgspec.json.Decoder(_SingerRecord).decode
    for line in lines(work / "stdout", b'"RECORD"', b'"analytics"'):
        yield msgspec.structs.astuple(decode(line).record)


def _airbyte_rows(work: Path) -> Iterator[Row]:
    decode = msgspec.json.Decoder(_AirbyteRecord).decode
    for line in lines(work / "stdout", b'"RECORD"', b'"analytics"'):
        yield msgspec.structs.astuple(decode(line).record.data)


def _dlt_rows(work: Path) -> Iterator[Row]:
    decode = msgspec.json.Decoder(list[_Fields]).decode
    for path in work.glob("unleash/normalize/extracted/*/new_jobs/analytics.*"):
        with path.open("rb") as file:
            for line in file:
                yield from map(msgspec.structs.astuple, decode(line))


def _singer_command(program: str, task: Task, config: Mapping[str, Any]) -> list[str]:
    config_path = task.write("config.json", config)
    command = [program, "--config", config_path]
    catalog = json.loads(check_output([*command, "--discover"], stderr=DEVNULL))
    for stream in catalog["streams"]:
        for entry in stream["metadata"]:
            if not entry["breadcrumb"]:
                entry["metadata"]["selected"] = stream["tap_stream_id"] == "analytics"
    command += ["--catalog", task.write("catalog.json", catalog)]
    if task.state:
        command += ["--state", task.write("state.json", task.state)]
    return command


def _tap_unleash(task: Task) -> list[str]:
    config = {"api_key": KEY, "api_url": task.url, **task.settings}
    return _singer_command(executable(OURS, OURS), task, config)


def _template(task: Task) -> list[str]:
    config = {"auth_token": KEY, "api_url": task.url, "start_date": _LONG_AGO}
    return _singer_command(executable("template", "tap-template"), task, config)


def _dlt(*options: str) -> Callable[[Task], list[str]]:
    script = str(PROGRAMS / "dlt" / "extract.py")
    return lambda task: [
        executable("dlt", "python"),
        script,
        task.url,
        KEY,
        str(task.work),
        *options,
    ]


def _bare(*options: str) -> Callable[[Task], list[str]]:
    script = str(PROGRAMS / "bare" / "read.py")
    return lambda task: [executable("bare", "python"), script, task.url, KEY, *options]


def _airbyte(concurrency: int) -> Callable[[Task], list[str]]:
    def command(task: Task) -> list[str]:
        program = PROGRAMS / "airbyte"
        config = {
            "api_key": KEY,
            "api_url": task.url,
            "start_date": _LONG_AGO,
            "concurrency": concurrency,
        }
        return [
            executable("airbyte", "source-declarative-manifest"),
            "read",
            f"--config={task.write('config.json', config)}",
            f"--catalog={program / 'catalog.json'}",
            f"--manifest-path={program / 'manifest.yaml'}",
            f"--components-path={program / 'components.py'}",
        ]

    return command


_DLT_VARIABLES = {
    "RUNTIME__DLTHUB_TELEMETRY": "false",
    "EXTRACT__WORKERS": "16",
    "EXTRACT__MAX_PARALLEL_ITEMS": "16",
    # All others write plain text too; it spares dlt a fifth of its time.
    "DATA_WRITER__DISABLE_COMPRESSION": "true",
}
_AIRBYTE_VARIABLES = {"AIRBYTE_ENABLE_UNSAFE_CODE": "true"}

CONTENDERS = {
    OURS: Contender(OURS, _tap_unleash, _singer_rows),
    "SDK template": Contender("template", _template, _singer_rows),
    "dlt": Contender("dlt", _dlt(), _dlt_rows, _DLT_VARIABLES),
    "dlt, 16 workers": Contender("dlt", _dlt("--parallel"), _dlt_rows, _DLT_VARIABLES),
    "Airbyte CDK": Contender("airbyte", _airbyte(4), _airbyte_rows, _AIRBYTE_VARIABLES),
    "Airbyte CDK, 16 workers": Contender(
        "airbyte", _airbyte(16), _airbyte_rows, _AIRBYTE_VARIABLES
    ),
    "bare script": Contender("bare", _bare(), _singer_rows),
    "bare script, ids": Contender("bare", _bare("--ids"), _singer_rows),
    "bare script, 8 threads": Contender("bare", _bare("--threads", "8"), _singer_rows),
    "bare script, 16 threads": Contender(
        "bare", _bare("--threads", "16"), _singer_rows
    ),
}
