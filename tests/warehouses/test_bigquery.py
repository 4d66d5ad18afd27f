"""Into BigQuery with the real loader; the warehouse itself is emulated."""

from __future__ import annotations

import socket
import subprocess
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from warehouses.pipeline import Rows, documented, emulated, load_twice, program, query

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# DuckDB would fetch its extensions from where the tests cannot reach.
SERVE = """
from duckdb_extensions import import_extension
from local_bigquery.cli import main
for name in ("ducklake", "icu", "spatial"):
    import_extension(name)
main()
"""
COLUMNS = (
    "SELECT column_name, data_type FROM unleash.INFORMATION_SCHEMA.COLUMNS "
    "WHERE table_name = 'analytics'"
)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


@contextmanager
def emulator(data: Path) -> Iterator[str]:
    address = ("127.0.0.1", free_port())
    with (data / "log").open("wb") as log:
        server = subprocess.Popen(
            [
                *(program("local-bigquery", "python"), "-c", SERVE, "serve"),
                *("--port", str(address[1]), "--grpc-port", str(free_port())),
                *("--data-dir", data, "--project", "my-project"),
            ],
            env={"HOME": str(data)},
            stdout=log,
            stderr=log,
        )
    try:
        with socket.socket() as client:
            while client.connect_ex(address):
                assert server.poll() is None, (data / "log").read_text()
                time.sleep(0.1)
        yield f"http://127.0.0.1:{address[1]}"
    finally:
        server.kill()
        server.wait()


@pytest.mark.timeout(600)  # the loader sleeps a lot
def test_table_equals_the_truth(tmp_path: Path) -> None:
    loader = emulated(tmp_path, "target-bigquery")
    (data := tmp_path / "bigquery").mkdir()
    with emulator(data) as url:
        warehouse = {"BIGQUERY_EMULATOR_HOST": url}

        def rows() -> Rows:
            return query(loader, "SELECT * FROM unleash.analytics", warehouse)

        assert len(load_twice(tmp_path, loader, rows, warehouse)) == 4200
        types = {
            column["column_name"]: column["data_type"]
            for column in query(loader, COLUMNS, warehouse)
        }
    assert types.items() >= documented("bigquery").items()
