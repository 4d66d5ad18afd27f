"""The identity of rows: an id for each, though the API gives none."""

from __future__ import annotations

from collections import defaultdict
from hashlib import blake2b
from itertools import chain, repeat
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

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

_encode = msgspec.json.Encoder().encode


def record_ids(pages: Sequence[Page]) -> list[list[str]]:
    """Make the ids of all rows of a time slice.

    An id is the BLAKE2b-128, in hex, of the compact JSON array of the identifying values
    and the row's ordinal. Rows that share all these values are told apart by the ordinal,
    in the order of their count and extra fields; so it must be the whole slice, which
    holds all of them, as they share their timestamp. Where even those agree, the rows are
    equal to the letter and it does not matter which of the ids is whose.

    Args:
        pages: The pages of the slice, each once, in any order.

    Returns:
        The ids, page by page and row by row.
    """
    ids = [
        _hash(
            zip(*(page.columns[name] for name in IDENTIFYING), repeat(0), strict=False)
        )
        for page in pages
    ]
    if len(set(chain.from_iterable(ids))) < sum(map(len, ids)):
        _number(pages, ids)
    return ids


def _hash(rows: Iterable[tuple[Any, ...]]) -> list[str]:
    return [blake2b(_encode(row), digest_size=16).hexdigest() for row in rows]


def _number(pages: Sequence[Page], ids: list[list[str]]) -> None:
    seen: set[str] = set()
    shared = {
        record_id
        for record_id in chain.from_iterable(ids)
        if record_id in seen or seen.add(record_id)  # type: ignore[func-returns-value]
    }
    groups = defaultdict(list)
    for number, (page, of_page) in enumerate(zip(pages, ids, strict=True)):
        counts, extras = page.columns["count"], page.extras
        for row, record_id in enumerate(of_page):
            if record_id in shared:
                count = counts[row]
                order = (count is None, count or 0, _encode(extras[row]))
                groups[record_id].append((order, number, row))
    for members in groups.values():
        members.sort()
        for ordinal, (_, number, row) in enumerate(members):
            columns = pages[number].columns
            values = (*(columns[name][row] for name in IDENTIFYING), ordinal)
            ids[number][row] = _hash([values])[0]
