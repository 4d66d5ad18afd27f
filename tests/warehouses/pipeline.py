"""Real targets, and the warehouses that they load into: real, emulated, or files."""

from __future__ import annotations

import json
import socket
import subprocess
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import psycopg
import pytest
from programs import run
from psycopg.rows import dict_row

from demo.pipeline import ROOT
from demo.postgres import postgres

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

# DuckDB would fetch its extensions from where the tests cannot reach.
SERVE_BIGQUERY = """
from duckdb_extensions import import_extension
from local_bigquery.cli import main
for name in ("ducklake", "icu", "spatial"):
    import_extension(name)
main()
"""

Rows = list[dict[str, Any]]


class Warehouse(NamedTuple):
    """A target, the environment variables that it needs, and a way to query its tables."""

    target: Path
    environment: dict[str, str]
    query: Callable[[str], Rows]


def program(environment: str, name: str) -> Path:
    """Find a program of an environment, or skip the test."""
    path = ROOT / ".venvs" / environment / "bin" / name
    if not path.exists():
        pytest.skip(f"`make test-warehouses` installs {name} if possible")
    return path


def emulated(folder: Path, target: str, **environment: str) -> Warehouse:
    """Write a program that runs a target on an emulated warehouse."""
    python = program(target, "python")
    script = Path(__file__).with_name(f"emulated_{target.removeprefix('target-')}.py")
    loader = folder / target
    loader.write_text(f'#!/bin/sh\nexec "{python}" "{script}" "$@"\n')
    loader.chmod(0o755)

    def query(sql: str) -> Rows:
        rows = map(json.loads, run(loader, sql, cwd=folder, **environment).splitlines())
        return [{name.lower(): row[name] for name in row} for row in rows]

    return Warehouse(loader, environment, query)


@contextmanager
def jsonl(folder: Path) -> Iterator[Warehouse]:
    def query(_sql: str) -> Rows:
        texts = (file.read_text() for file in folder.glob("analytics*.jsonl"))
        return [json.loads(line) for text in texts for line in text.splitlines()]

    output = {"TARGET_JSONL_DESTINATION_PATH": str(folder)}
    yield Warehouse(program("target-jsonl", "target-jsonl"), output, query)


@contextmanager
def postgresql(_folder: Path) -> Iterator[Warehouse]:
    target = program("target-postgres", "target-postgres")
    with (
        postgres() as url,
        psycopg.connect(url, row_factory=dict_row, autocommit=True) as connection,
    ):

        def query(sql: str) -> Rows:
            cursor = connection.execute(sql.encode())
            return cursor.fetchall() if cursor.description else []

        query("ALTER ROLE CURRENT_USER SET timezone = 'Australia/Sydney'")
        driver = url.replace("://", "+psycopg://")
        yield Warehouse(target, {"TARGET_POSTGRES_SQLALCHEMY_URL": driver}, query)


@contextmanager
def snowflake(folder: Path) -> Iterator[Warehouse]:
    (data := folder / "snowflake").mkdir()
    environment = {"EMULATED_SNOWFLAKE": str(data), "TARGET_SNOWFLAKE_PASSWORD": "none"}
    yield emulated(folder, "target-snowflake", **environment)


@contextmanager
def bigquery(folder: Path) -> Iterator[Warehouse]:
    python = program("local-bigquery", "python")
    (data := folder / "bigquery").mkdir()
    ports = []
    for _ in range(2):
        with socket.create_server(("127.0.0.1", 0)) as listener:
            ports.append(listener.getsockname()[1])
    options = f"serve --port {ports[0]} --grpc-port {ports[1]} --project my-project"
    with (data / "log").open("wb") as log:
        server = subprocess.Popen(
            [python, "-c", SERVE_BIGQUERY, *options.split(), "--data-dir", data],
            env={"HOME": str(data)},
            stdout=log,
            stderr=log,
        )
    try:
        with socket.socket() as client:
            while client.connect_ex(("127.0.0.1", ports[0])):
                assert server.poll() is None, (data / "log").read_text()
                time.sleep(0.1)
        url = f"http://127.0.0.1:{ports[0]}"
        yield emulated(folder, "target-bigquery", BIGQUERY_EMULATOR_HOST=url)
    finally:
        server.kill()
        server.wait()
