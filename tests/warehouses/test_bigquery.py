"""Into BigQuery with the real loader; the warehouse itself is emulated."""

from __future__ import annotations

import json
import socket
import subprocess
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from demo.pipeline import compare
from mock_api import Account, MockAPI
from warehouses.pipeline import Project, program

if TYPE_CHECKING:
    from collections.abc import Iterator

EMULATED = Path(__file__).with_name("emulated_bigquery.py")

# DuckDB would fetch its extensions from where the tests cannot reach.
SERVE = """
from duckdb_extensions import import_extension
from local_bigquery.cli import main
import_extension("ducklake")
import_extension("icu")
import_extension("spatial")
main()
"""

TYPES = {
    "record_id": "STRING",
    "device_id": "STRING",
    "session_id": "STRING",
    "model_id": "STRING",
    "source_file_name": "STRING",
    "class_name": "STRING",
    "count": "FLOAT64",
    "frame_number": "INT64",
    "timestamp": "TIMESTAMP",
    "extra_fields": "JSON",
}


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def listens(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


@contextmanager
def emulator(data: Path) -> Iterator[str]:
    port = free_port()
    with (data / "log").open("wb") as log:
        server = subprocess.Popen(
            [
                *(program("local-bigquery", "python"), "-c", SERVE, "serve"),
                *("--port", str(port), "--grpc-port", str(free_port())),
                *("--data-dir", data, "--project", "my-project"),
            ],
            env={"HOME": str(data)},
            stdout=log,
            stderr=log,
        )
    try:
        while not listens(port):
            assert server.poll() is None, (data / "log").read_text()
            time.sleep(0.1)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.kill()
        server.wait()


@pytest.mark.timeout(600)  # the loader sleeps a lot
def test_table_equals_the_truth(tmp_path: Path) -> None:
    python = program("target-bigquery", "python")
    loader = tmp_path / "target-bigquery"
    loader.write_text(f'#!/bin/sh\nexec "{python}" "{EMULATED}" "$@"\n')
    loader.chmod(0o755)
    (data := tmp_path / "bigquery").mkdir()
    (project := tmp_path / "project").mkdir()
    meltano = Project(
        project, "warehouses/bigquery.yml", target_bigquery=loader
    ).meltano
    account = Account.generate(rows=1000, non_ascii=True)
    with MockAPI(account) as api, emulator(data) as warehouse:

        def query(sql: str) -> list[dict[str, Any]]:
            found = subprocess.run(
                [loader, sql],
                env={"BIGQUERY_EMULATOR_HOST": warehouse},
                stdout=subprocess.PIPE,
                check=True,
                text=True,
            )
            return [json.loads(line) for line in found.stdout.splitlines()]

        def analytics() -> list[dict[str, Any]]:
            return query("SELECT * FROM unleash.analytics")

        environment = {
            "BIGQUERY_EMULATOR_HOST": warehouse,
            "TAP_UNLEASH_API_URL": api.url,
        }
        meltano("run", "tap-unleash", "target-bigquery", **environment)
        assert compare(api.truth(), analytics()) == (0, 0)
        api.account.grow(300)
        api.account.grow(100, late_minutes=30)
        meltano("run", "tap-unleash", "target-bigquery", **environment)
        loaded = analytics()
        assert compare(api.truth(), loaded) == (0, 0)
        assert len({row["record_id"] for row in loaded}) == len(loaded) == 4200
        types = {
            column["column_name"]: column["data_type"]
            for column in query(
                "SELECT column_name, data_type FROM unleash.INFORMATION_SCHEMA.COLUMNS "
                "WHERE table_name = 'analytics'"
            )
        }
    assert {name: types[name] for name in TYPES} == TYPES
