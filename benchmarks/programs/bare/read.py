"""The limit: a script that reads every row and writes Singer records, or loads them.

No settings, no state, no retries. A load is COPY into a temporary table, then INSERT … ON
CONFLICT. Usage: read.py URL KEY [--threads N] [--ids | --database URL].
"""

# ruff: noqa: INP001 - a program in an environment of its own

from __future__ import annotations

import argparse
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from hashlib import blake2b
from operator import itemgetter
from typing import TYPE_CHECKING, Any

import msgspec
import requests

if TYPE_CHECKING:
    from collections.abc import Iterator

IDENTITY = (
    *("device_id", "session_id", "model_id", "source_file_name"),
    *("frame_number", "class_name", "timestamp"),
)
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

encoder = msgspec.json.Encoder()


class Page(msgspec.Struct):
    """A response in the size-optimized format."""

    keys: list[str]
    total_num_pages: int
    data: list[list[Any]]


class Record(msgspec.Struct, tag_field="type", tag="RECORD"):
    """A Singer record."""

    stream: str
    record: dict[str, Any]
    time_extracted: str


class Reader:
    """Reads the account over one session."""

    def __init__(self, url: str, key: str) -> None:
        """Prepare the session."""
        self._url = f"{url}/analytics"
        self._session = requests.Session()
        self._session.headers["x-api-key"] = key
        self._page = msgspec.json.Decoder(Page)

    def device_ids(self) -> list[str]:
        """Request the IDs of the devices."""
        return msgspec.json.decode(self._get("devices"), type=list[str])

    def pages(self, device_id: str) -> Iterator[Page]:
        """Request the pages of a device."""
        end = int(time.time() * 1000)
        number, total = 1, 1
        while number <= total:
            page = self._page.decode(self._get(f"{device_id}/0/{end}/{number}"))
            yield page
            number, total = number + 1, page.total_num_pages

    def _get(self, path: str) -> bytes:
        with self._session.get(f"{self._url}/{path}", stream=True) as response:
            response.raise_for_status()
            body: bytes = response.raw.read(decode_content=True)
        return body


def _identified(page: Page, seen: dict[bytes, int]) -> Iterator[dict[str, Any]]:
    identity = itemgetter(*map(page.keys.index, IDENTITY))
    for row in page.data:
        values = encoder.encode(identity(row))
        ordinal = seen.get(values, 0)
        seen[values] = ordinal + 1
        record = dict(zip(page.keys, row, strict=True))
        digest = blake2b(b"%b%d" % (values, ordinal), digest_size=16)
        record["record_id"] = digest.hexdigest()
        yield record


def _write(reader: Reader, pool: ThreadPoolExecutor, *, ids: bool) -> None:
    def write(device_id: str) -> None:
        seen: dict[bytes, int] = {}
        for page in reader.pages(device_id):
            now = time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime())
            if ids:
                records = _identified(page, seen)
            else:
                records = (dict(zip(page.keys, row, strict=True)) for row in page.data)
            lines = [Record("analytics", record, now) for record in records]
            sys.stdout.buffer.write(encoder.encode_lines(lines))

    for _ in pool.map(write, reader.device_ids()):
        pass


def _load(reader: Reader, pool: ThreadPoolExecutor, database: str) -> None:
    import psycopg  # noqa: PLC0415 - not needed otherwise

    def read(device_id: str) -> list[dict[str, Any]]:
        seen: dict[bytes, int] = {}
        pages = reader.pages(device_id)
        return [record for page in pages for record in _identified(page, seen)]

    copy = f"COPY loaded ({', '.join(COLUMNS)}) FROM STDIN"
    with psycopg.connect(database) as connection:
        connection.execute(CREATE)
        with connection.cursor() as cursor, cursor.copy(copy) as rows:
            for records in pool.map(read, reader.device_ids()):
                for record in records:
                    rows.write_row([record[name] for name in COLUMNS])
        connection.execute(UPSERT)


def _main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url")
    parser.add_argument("key")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--ids", action="store_true")
    parser.add_argument("--database")
    arguments = parser.parse_args()
    reader = Reader(arguments.url, arguments.key)
    with ThreadPoolExecutor(arguments.threads) as pool:
        if arguments.database:
            _load(reader, pool, arguments.database)
        else:
            _write(reader, pool, ids=arguments.ids)


if __name__ == "__main__":
    _main()
