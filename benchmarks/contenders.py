"""The programs, their command lines, and how to read the rows that they emit."""

# ruff: noqa: S603 - the programs run are our own

from __future__ import annotations

import json
from dataclasses import dataclass, field
from subprocess import DEVNULL, check_output
from typing import TYPE_CHECKING, Any

import msgspec

from benchmarks.data import Row
from benchmarks.environments import OURS, PROGRAMS, executable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from pathlib import Path

KEY = "benchmark"
TEMPLATE = "SDK template"


@dataclass(frozen=True)
class Task:
    """The input of a program."""

    url: str  # base URL of the API
    work: Path  # an empty folder
    settings: Mapping[str, Any]  # of ours, in addition to credential and URL
    database: str = ""  # the URL of the database that a pipeline loads

    def write(self, name: str, content: object) -> str:
        """Write a JSON file into the folder, and return its path."""
        path = self.work / name
        path.write_text(json.dumps(content))
        return str(path)


@dataclass(frozen=True)
class Contender:
    """A program: its environments, its command line, its rows, and its variables."""

    environments: tuple[str, ...]
    command: Callable[[Task], list[str]]
    rows: Callable[[Task], Iterable[Row]]
    variables: Mapping[str, str] = field(default_factory=dict)


class _Message(msgspec.Struct):
    record: Row


def lines(output: Path, kind: bytes, stream: bytes = b"") -> Iterator[bytes]:
    """Yield the lines of a file that are Singer messages of a type, and of a stream."""
    with output.open("rb") as file:
        for line in file:
            head = line[:64]
            if kind in head and stream in head:
                yield line


def _singer_rows(task: Task) -> Iterator[Row]:
    decode = msgspec.json.Decoder(_Message).decode
    for line in lines(task.work / "stdout", b'"RECORD"', b'"analytics"'):
        yield decode(line).record


def _dlt_rows(task: Task) -> Iterator[Row]:
    decode = msgspec.json.Decoder(list[Row]).decode
    for path in task.work.glob("unleash/normalize/extracted/*/new_jobs/analytics.*"):
        with path.open("rb") as file:
            for line in file:
                yield from decode(line)


def _singer_command(program: str, task: Task, config: Mapping[str, Any]) -> list[str]:
    command = [program, "--config", task.write("config.json", config)]
    catalog = json.loads(check_output([*command, "--discover"], stderr=DEVNULL))
    for stream in catalog["streams"]:
        for entry in stream["metadata"]:
            if not entry["breadcrumb"]:
                entry["metadata"]["selected"] = stream["tap_stream_id"] == "analytics"
    command += ["--catalog", task.write("catalog.json", catalog)]
    return command


def _tap_unleash(task: Task) -> list[str]:
    config = {"api_key": KEY, "api_url": task.url, **task.settings}
    return _singer_command(executable(OURS, OURS), task, config)


def _template(task: Task) -> list[str]:
    since = "2020-01-01T00:00:00Z"
    config = {"auth_token": KEY, "api_url": task.url, "start_date": since}
    return _singer_command(executable("template", "tap-template"), task, config)


def _dlt(*options: str) -> Contender:
    command = [executable("dlt", "python"), str(PROGRAMS / "dlt" / "extract.py")]
    return Contender(
        ("dlt",),
        lambda task: [*command, task.url, KEY, str(task.work), *options],
        _dlt_rows,
        {
            "RUNTIME__DLTHUB_TELEMETRY": "false",
            "EXTRACT__WORKERS": "16",
            "EXTRACT__MAX_PARALLEL_ITEMS": "16",
            # All others write plain text, too; it saves dlt a fifth of its time.
            "DATA_WRITER__DISABLE_COMPRESSION": "true",
        },
    )


CONTENDERS = {
    OURS: Contender((OURS,), _tap_unleash, _singer_rows),
    TEMPLATE: Contender(("template",), _template, _singer_rows),
    "dlt": _dlt(),
    "dlt, 16 workers": _dlt("--parallel"),
}
"""The programs that extract."""
