"""The programs, their command lines, and how to read the rows that they emit."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
import psycopg
from psycopg.rows import dict_row

from demo.pipeline import ROOT, Pipeline

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

OURS = "tap-unleash"
_HERE = Path(__file__).parent


@dataclass(frozen=True)
class Task:
    """The input of a program."""

    url: str  # base URL of the API
    work: Path  # an empty folder
    concurrency: int
    database: str  # its URL; pipelines load into it

    def config(self, **settings: object) -> str:
        """Write a configuration, and return its path."""
        path = self.work / "config.json"
        path.write_text(json.dumps({"api_url": self.url, **settings}))
        return str(path)


class Program(NamedTuple):
    """A program: its command line, and the rows that it emitted."""

    command: Callable[[Task], list[str]]
    rows: Callable[[Task], Iterator[Mapping[str, Any]]]


VARIABLES = {
    "RUNTIME__DLTHUB_TELEMETRY": "false",
    "EXTRACT__WORKERS": "16",
    "EXTRACT__MAX_PARALLEL_ITEMS": "16",
    # All others write plain text, too; it saves dlt a fifth of its time.
    "DATA_WRITER__DISABLE_COMPRESSION": "true",
    # These affect Arrow tables only.
    "NORMALIZE__PARQUET_NORMALIZER__ADD_DLT_ID": "true",
    "NORMALIZE__PARQUET_NORMALIZER__ADD_DLT_LOAD_ID": "true",
}
"""Environment variables of all programs; only dlt reads them."""


def _singer_rows(task: Task) -> Iterator[Mapping[str, Any]]:
    with (task.work / "stdout").open("rb") as file:
        for line in file:
            message = msgspec.json.decode(line)
            if message["type"] == "RECORD" and message["stream"] == "analytics":
                yield message["record"]


def _dlt_rows(task: Task) -> Iterator[Mapping[str, Any]]:
    for path in task.work.glob("unleash/normalize/extracted/*/new_jobs/analytics.*"):
        for line in path.read_bytes().splitlines():
            yield from msgspec.json.decode(line)


def _loaded_rows(task: Task) -> Iterator[Mapping[str, Any]]:
    with psycopg.connect(task.database, row_factory=dict_row) as connection:
        connection.execute("SET timezone TO 'UTC'")  # dlt loads instants
        yield from connection.execute(
            'SELECT *, "timestamp"::timestamp AS "timestamp" FROM unleash.analytics'
        )
        connection.execute("DROP SCHEMA unleash CASCADE")


def _ours(task: Task) -> list[str]:
    config = task.config(api_key="mock", concurrency=task.concurrency)
    return [sys.executable, "-m", "tap_unleash", "--config", config]


def _template(task: Task) -> list[str]:
    config = task.config(auth_token="mock", start_date="2020-01-01T00:00:00Z")  # noqa: S106
    return [sys.executable, str(_HERE / "tap_template.py"), "--config", config]


def _meltano(task: Task, extractor: str = OURS) -> list[str]:
    Pipeline(task.work, task.url, task.database)
    url = task.database.replace("postgresql:", "postgresql+psycopg:")
    (task.work / ".env").write_text(
        f"TAP_UNLEASH_API_URL={task.url}\n"
        f"TAP_UNLEASH_CONCURRENCY={task.concurrency}\n"
        f"TARGET_POSTGRES_SQLALCHEMY_URL={url}\n"
    )
    meltano = (sys.executable, "-m", "meltano.cli", "--environment", "mock")
    return [*meltano, "run", "--no-install", extractor, "target-postgres"]


def _dlt(task: Task, *options: str) -> list[str]:
    python = ROOT / ".venvs" / "dlt" / "bin" / "python"
    return [str(python), str(_HERE / "dlt_pipeline.py"), task.url, str(task.work), *options]


EXTRACTORS = {
    OURS: Program(_ours, _singer_rows),
    "SDK template": Program(_template, _singer_rows),
    "dlt": Program(_dlt, _dlt_rows),
    "dlt, 16 workers": Program(lambda task: _dlt(task, "--parallel"), _dlt_rows),
}
PIPELINES = {
    "meltano run": Program(_meltano, _loaded_rows),
    "meltano run, BATCH": Program(lambda task: _meltano(task, f"{OURS}-in-batches"), _loaded_rows),
    "dlt merge": Program(lambda task: _dlt(task, "--database", task.database), _loaded_rows),
    "dlt merge, Arrow": Program(
        lambda task: _dlt(task, "--database", task.database, "--arrow"), _loaded_rows
    ),
}
