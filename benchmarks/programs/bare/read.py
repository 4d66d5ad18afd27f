"""The limit: a script that reads every row and writes Singer records, with nothing else to do.

No settings, no state, no retries; usage: read.py URL KEY [--threads N] [--ids].
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
    "device_id",
    "session_id",
    "model_id",
    "source_file_name",
    "frame_number",
    "class_name",
    "timestamp",
)

encoder = msgspec.json.Encoder()


class Page(msgspec.Struct):
    """A response in the size-optimised format."""

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
        """Prepare the session.

        Args:
            url: The base URL.
            key: The API key.
        """
        self.url = f"{url}/analytics"
        self.session = requests.Session()
        self.session.headers["x-api-key"] = key
        self.page = msgspec.json.Decoder(Page)

    def get(self, path: str) -> bytes:
        """Ask for a path.

        Args:
            path: The path below the analytics.

        Returns:
            The body.
        """
        with self.session.get(f"{self.url}/{path}", stream=True) as response:
            response.raise_for_status()
            body: bytes = response.raw.read(decode_content=True)
        return body

    def device_ids(self) -> list[str]:
        """Ask for the devices.

        Returns:
            Their ids.
        """
        return msgspec.json.decode(self.get("devices"), type=list[str])

    def pages(self, device_id: str, end: int) -> Iterator[Page]:
        """Read a device.

        Args:
            device_id: The device.
            end: The latest instant, in milliseconds.

        Yields:
            Its pages.
        """
        number, total = 1, 1
        while number <= total:
            page = self.page.decode(self.get(f"{device_id}/0/{end}/{number}"))
            yield page
            number, total = number + 1, page.total_num_pages


def identified(page: Page, seen: dict[bytes, int]) -> Iterator[dict[str, Any]]:
    """Make the records of a page, each with an id of its own.

    Args:
        page: The page.
        seen: How many rows of the device had these identifying values.

    Yields:
        The records.
    """
    identity = itemgetter(*map(page.keys.index, IDENTITY))
    for row in page.data:
        values = encoder.encode(identity(row))
        ordinal = seen.get(values, 0)
        seen[values] = ordinal + 1
        record = dict(zip(page.keys, row, strict=True))
        digest = blake2b(b"%b%d" % (values, ordinal), digest_size=16)
        record["record_id"] = digest.hexdigest()
        yield record


def read(reader: Reader, device_id: str, *, ids: bool) -> None:
    """Write the records of a device.

    Args:
        reader: The reader.
        device_id: The device.
        ids: Whether records get ids.
    """
    seen: dict[bytes, int] = {}
    for page in reader.pages(device_id, int(time.time() * 1000)):
        now = time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime())
        if ids:
            records = identified(page, seen)
        else:
            records = (dict(zip(page.keys, row, strict=True)) for row in page.data)
        lines = encoder.encode_lines(
            [Record("analytics", record, now) for record in records]
        )
        sys.stdout.buffer.write(lines)


def main() -> None:
    """Read the account."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url")
    parser.add_argument("key")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--ids", action="store_true")
    arguments = parser.parse_args()
    reader = Reader(arguments.url, arguments.key)
    with ThreadPoolExecutor(arguments.threads) as pool:
        for _ in pool.map(
            lambda device_id: read(reader, device_id, ids=arguments.ids),
            reader.device_ids(),
        ):
            pass


if __name__ == "__main__":
    main()
