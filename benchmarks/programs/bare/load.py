"""The limit of a load: COPY into a temporary table, then INSERT … ON CONFLICT.

No settings, no state, no retries; usage: load.py URL KEY DATABASE THREADS.
"""

# ruff: noqa: INP001 - a program in an environment of its own
# mypy: disable-error-code="import-not-found"
# What it imports is in that environment only.

from __future__ import annotations

import argparse
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
from read import IDENTITY, Reader, identified

COLUMNS = ("record_id", "count", *IDENTITY)

CREATE = """
CREATE SCHEMA IF NOT EXISTS unleash;
CREATE TABLE IF NOT EXISTS unleash.analytics (
    record_id text PRIMARY KEY, count numeric, device_id text, session_id text,
    model_id text, source_file_name text, frame_number bigint, class_name text,
    timestamp timestamptz
);
CREATE TEMPORARY TABLE loaded (LIKE unleash.analytics);
"""

UPSERT = f"""
INSERT INTO unleash.analytics SELECT * FROM loaded
ON CONFLICT (record_id) DO UPDATE
SET {", ".join(f"{name} = excluded.{name}" for name in COLUMNS[1:])}
"""  # noqa: S608 - the names are constants


def records(reader: Reader, device_id: str) -> list[dict[str, Any]]:
    """Read a device.

    Args:
        reader: The reader.
        device_id: The device.

    Returns:
        Its records.
    """
    seen: dict[bytes, int] = {}
    pages = reader.pages(device_id, int(time.time() * 1000))
    return [record for page in pages for record in identified(page, seen)]


def main() -> None:
    """Load the account."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url")
    parser.add_argument("key")
    parser.add_argument("database")
    parser.add_argument("threads", type=int)
    arguments = parser.parse_args()
    reader = Reader(arguments.url, arguments.key)
    copy = f"COPY loaded ({', '.join(COLUMNS)}) FROM STDIN"
    with (
        psycopg.connect(arguments.database) as connection,
        ThreadPoolExecutor(arguments.threads) as pool,
    ):
        connection.execute(CREATE)
        with connection.cursor() as cursor, cursor.copy(copy) as rows:
            for of_device in pool.map(
                lambda device_id: records(reader, device_id), reader.device_ids()
            ):
                for record in of_device:
                    rows.write_row([record[name] for name in COLUMNS])
        connection.execute(UPSERT)


if __name__ == "__main__":
    main()
