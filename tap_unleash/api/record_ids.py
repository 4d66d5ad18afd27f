"""Deterministic record IDs: the API provides none."""

from __future__ import annotations

from collections import Counter, defaultdict
from hashlib import blake2b
from itertools import chain, repeat
from typing import TYPE_CHECKING

import msgspec

from tap_unleash.api.page import sortable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

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
    times = Counter(chain.from_iterable(page.instants for page in pages))
    shared = {stamp for stamp, count in times.items() if count > 1}
    across = _occurrences(
        (line, _order(page, row), (number, row))
        for number, page in enumerate(pages)
        for row, line in _lines_at(page, shared)
    )
    for number, page in enumerate(pages):
        lines = _encode(page)
        counts = Counter(lines)
        duplicates = len(counts) < len(lines)
        within = _occurrences(
            (line, _order(page, row), (number, row))
            for row, line in enumerate(lines if duplicates else ())
            if counts[line] > 1
        )
        # Rows that share their timestamp with another page are numbered across pages.
        occurrences = within.get(number, {}) | across.get(number, {})
        for row, occurrence in occurrences.items():
            if occurrence:
                lines[row] = lines[row][: -len(b"0]")] + b"%d]" % occurrence
        yield list(map(_hash, lines))


def _encode(page: Page) -> list[bytes]:
    """Encode the identifying values of each row, with occurrence index 0."""
    columns = [page.columns[name] for name in IDENTIFYING]
    rows = zip(*columns, repeat(0, len(page)), strict=True)
    return _encoder.encode_lines(list(rows)).split(b"\n")[:-1]


def _lines_at(page: Page, stamps: set[str]) -> Iterable[tuple[int, bytes]]:
    """Encode the rows of some timestamps only."""
    rows = page.rows_of(stamps & page.instants.keys())
    return zip(rows, _encode(page.take(rows)), strict=True)


def _occurrences(
    rows: Iterable[tuple[bytes, tuple[bool, float, bytes], tuple[int, int]]],
) -> dict[int, dict[int, int]]:
    """Number the rows that share their identifying values, by page and row."""
    groups = defaultdict(list)
    for line, order, place in rows:
        groups[line].append((order, place))
    occurrences: defaultdict[int, dict[int, int]] = defaultdict(dict)
    for duplicates in groups.values():
        for occurrence, (_, (number, row)) in enumerate(sorted(duplicates)):
            occurrences[number][row] = occurrence
    return occurrences


def _order(page: Page, row: int) -> tuple[bool, float, bytes]:
    count = page.columns["count"][row]
    return count is None, count or 0, sortable(page.extras[row])


def _hash(line: bytes) -> str:
    hasher = _hasher.copy()  # much faster than a new one
    hasher.update(line)
    return hasher.hexdigest()
