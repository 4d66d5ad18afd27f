"""Deterministic record IDs: the API provides none."""

from __future__ import annotations

from collections import Counter, defaultdict
from hashlib import blake2b
from itertools import chain, repeat
from typing import TYPE_CHECKING

import msgspec

from tap_unleash.api.page import sortable

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tap_unleash.api.page import Page

IDENTIFYING = (
    "device_id",
    "session_id",
    "model_id",
    "source_file_name",
    "frame_number",
    "class_name",
    "timestamp",
)
"""The columns that, with the occurrence index, identify a record."""

_encoder = msgspec.json.Encoder()
_hasher = blake2b(digest_size=16)


def record_ids(pages: Sequence[Page]) -> Iterator[list[str]]:
    """Compute the record IDs of a time window.

    An ID is the BLAKE2b-128 hash, in hex, of the compact JSON array of the identifying
    values and the occurrence index. The index numbers the records that share all of these
    values, ordered by their count and extra fields. Of records that are identical in these
    too, it does not matter which has which ID.

    Args:
        pages: All pages of the window, in any order: records that share their identifying
            values share their timestamp, so they are in one window.

    Yields:
        The IDs of each page, row by row.
    """
    shared = _on_several_pages(pages)
    encoded = [_encode(page) for page in pages]
    groups: defaultdict[bytes, list[tuple[tuple[bool, float, bytes], int, int]]]
    groups = defaultdict(list)
    for number, (page, lines) in enumerate(zip(pages, encoded, strict=True)):
        for row in _candidates(page, lines, shared):
            groups[lines[row]].append((_order(page, row), number, row))
    for line, duplicates in groups.items():
        for occurrence, (_, number, row) in enumerate(sorted(duplicates)[1:], 1):
            encoded[number][row] = line[: -len(b"0]")] + b"%d]" % occurrence
    for lines in encoded:
        yield list(map(_hash, lines))


def _encode(page: Page) -> list[bytes]:
    """Encode the identifying values of each row, with occurrence index 0."""
    columns = [page.columns[name] for name in IDENTIFYING]
    rows = zip(*columns, repeat(0, len(page)), strict=True)
    return _encoder.encode_lines(list(rows)).split(b"\n")[:-1]


def _on_several_pages(pages: Sequence[Page]) -> set[str]:
    times = Counter(chain.from_iterable(page.instants for page in pages))
    return {stamp for stamp, count in times.items() if count > 1}


def _candidates(page: Page, lines: list[bytes], shared: set[str]) -> Iterator[int]:
    """Return the rows whose identifying values can occur more than once in the window."""
    times = Counter(lines)
    if len(times) < len(lines) or not shared.isdisjoint(page.instants):
        stamps = page.columns["timestamp"]
        for row, (line, stamp) in enumerate(zip(lines, stamps, strict=True)):
            if times[line] > 1 or stamp in shared:
                yield row


def _order(page: Page, row: int) -> tuple[bool, float, bytes]:
    count = page.columns["count"][row]
    return count is None, count or 0, sortable(page.extras[row])


def _hash(line: bytes) -> str:
    hasher = _hasher.copy()  # much faster than a new one
    hasher.update(line)
    return hasher.hexdigest()
