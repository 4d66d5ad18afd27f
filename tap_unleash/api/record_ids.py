"""Deterministic record IDs: the API provides none."""

from __future__ import annotations

from collections import Counter
from functools import partial
from hashlib import blake2b
from itertools import chain, repeat
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from tap_unleash.api.page import sortable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from tap_unleash.api.page import Page

T = TypeVar("T")

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
    across = _across_pages(pages, {stamp for stamp, n in times.items() if n > 1})
    for page, shared_rows in zip(pages, across, strict=True):
        lines = _encode(page)
        counts, occurrences = Counter(lines), shared_rows
        if len(counts) < len(lines):
            rows = [row for row, line in enumerate(lines) if counts[line] > 1]
            values = page.columns["count"]
            plain = None not in values and not any(page.extras)
            order = values.__getitem__ if plain else partial(_order, page)
            within = dict(_number(rows, lines.__getitem__, order))
            # Rows that share their timestamp with another page are numbered across pages.
            occurrences = within | shared_rows
        for row, occurrence in occurrences.items():
            lines[row] = lines[row][: -len(b"0]")] + b"%d]" % occurrence
        yield list(map(_hash, lines))


def _across_pages(pages: Sequence[Page], shared: set[str]) -> list[dict[int, int]]:
    """Return, for each page, the occurrence indices of rows of shared timestamps, but 0."""
    lines = {
        (number, row): line
        for number, page in enumerate(pages)
        for row, line in _lines_at(page, shared)
    }
    occurrences: list[dict[int, int]] = [{} for _ in pages]
    order = {place: _order(pages[place[0]], place[1]) for place in lines}
    for (number, row), n in _number(lines, lines.__getitem__, order.__getitem__):
        occurrences[number][row] = n
    return occurrences


def _number(
    places: Iterable[T], line_of: Callable[[T], bytes], order_of: Callable[[T], Any]
) -> Iterator[tuple[T, int]]:
    """Number the rows of equal lines, in the given order; leave out those with number 0."""
    last: dict[bytes, int] = {}
    for place in sorted(places, key=order_of):
        line = line_of(place)
        number = last[line] = last.get(line, -1) + 1
        if number:
            yield place, number


def _encode(page: Page) -> list[bytes]:
    """Encode the identifying values of each row, with occurrence index 0."""
    columns = [page.columns[name] for name in IDENTIFYING]
    rows = zip(*columns, repeat(0, len(page)), strict=True)
    return _encoder.encode_lines(list(rows)).split(b"\n")[:-1]


def _lines_at(page: Page, stamps: set[str]) -> Iterable[tuple[int, bytes]]:
    """Encode the rows of some timestamps only."""
    rows = page.rows_of(stamps & page.instants.keys())
    return zip(rows, _encode(page.take(rows)), strict=True)


def _order(page: Page, row: int) -> tuple[bool, float, bytes]:
    value = page.columns["count"][row]
    return value is None, value or 0, sortable(page.extras[row])


def _hash(line: bytes) -> str:
    hasher = _hasher.copy()  # much faster than a new one
    hasher.update(line)
    return hasher.hexdigest()
