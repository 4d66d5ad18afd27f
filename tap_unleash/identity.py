"""The identity of rows: an id for each, though the API gives none."""

from __future__ import annotations

from collections import Counter, defaultdict
from functools import partial
from hashlib import blake2b
from itertools import chain, count, repeat
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tap_unleash.page import Page

IDENTIFYING = (
    "device_id",
    "session_id",
    "model_id",
    "source_file_name",
    "frame_number",
    "class_name",
    "timestamp",
)
"""The columns that identify a row, but for its ordinal among the rows that share them."""

_encoder = msgspec.json.Encoder()
_hasher = blake2b(digest_size=16)


def record_ids(pages: Sequence[Page]) -> Iterator[list[str]]:
    """Make the ids of all rows of a time slice.

    An id is the BLAKE2b-128, in hex, of the compact JSON array of the identifying values
    and the row's ordinal. Rows that share all these values are told apart by the ordinal,
    in the order of their count and extra fields; so it must be the whole slice, which
    holds all of them, as they share their timestamp. Where even those agree, the rows are
    equal to the letter and it does not matter which of the ids is whose.

    Args:
        pages: The pages of the slice, each once, in any order.

    Yields:
        The ids of each page, row by row.
    """
    for page, ordinals in zip(pages, _ordinals_across(pages), strict=True):
        columns = [page.columns[name] for name in IDENTIFYING]
        rows = zip(*columns, repeat(0, len(page)), strict=True)
        lines = _encoder.encode_lines(list(rows)).split(b"\n")[:-1]
        for row, ordinal in ordinals.items():
            lines[row] = _with_ordinal(lines[row], ordinal)
        times = Counter(lines)
        if len(times) < len(lines):
            twins = [row for row, line in enumerate(lines) if times[line] > 1]
            _number(page, twins, lines)
        yield list(map(_hash, lines))


def _number(page: Page, twins: list[int], lines: list[bytes]) -> None:
    """Give all but the first of a page's rows whose lines are equal their ordinals."""
    counts = page.columns["count"]
    simple = None not in counts and not any(page.extras)
    twins.sort(key=counts.__getitem__ if simple else partial(_order, page))
    ordinals: defaultdict[bytes, Iterator[int]] = defaultdict(count)
    for row in twins:
        if ordinal := next(ordinals[lines[row]]):
            lines[row] = _with_ordinal(lines[row], ordinal)


def _with_ordinal(line: bytes, ordinal: int) -> bytes:
    return line[: -len(b"0]")] + b"%d]" % ordinal


def _hash(line: bytes) -> str:
    hasher = _hasher.copy()  # much quicker than a new one
    hasher.update(line)
    return hasher.hexdigest()


def _ordinals_across(pages: Sequence[Page]) -> list[dict[int, int]]:
    """For each page, the ordinals of those of its rows that have twins on other pages."""
    ordinals: list[dict[int, int]] = [{} for _ in pages]
    pages_at = Counter(chain.from_iterable(page.instants for page in pages))
    shared = {stamp for stamp, times in pages_at.items() if times > 1}
    groups = defaultdict(list)
    for number, page in enumerate(pages):
        if not shared.isdisjoint(page.instants):
            columns = [page.columns[name] for name in IDENTIFYING]
            stamps = page.columns["timestamp"]
            for row in [row for row, stamp in enumerate(stamps) if stamp in shared]:
                key = tuple(column[row] for column in columns)
                groups[key].append((*_order(page, row), number, row))
    for members in groups.values():
        for ordinal, (*_, number, row) in enumerate(sorted(members)[1:], 1):
            ordinals[number][row] = ordinal
    return ordinals


def _order(page: Page, row: int) -> tuple[bool, float, bytes]:
    count, extra = page.columns["count"][row], page.extras[row]
    return count is None, count or 0, _encoder.encode(extra) if extra else b""
