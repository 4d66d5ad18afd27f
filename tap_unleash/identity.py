"""The identity of rows: an id for each, though the API gives none."""

from __future__ import annotations

from collections import Counter
from hashlib import blake2b
from itertools import chain, repeat
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from collections.abc import Sequence

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
        _hash(list(zip(*(page.columns[name] for name in IDENTIFYING), repeat(0))))
        for page in pages
    ]
    if len(set(chain.from_iterable(ids))) < sum(map(len, ids)):
        _number(pages, ids)
    return ids


def _hash(values: Sequence[tuple[Any, ...]]) -> list[str]:
    lines = _encoder.encode_lines(values).split(b"\n")[:-1]
    return [blake2b(line, digest_size=16).hexdigest() for line in lines]


def _number(pages: Sequence[Page], ids: list[list[str]]) -> None:
    """Give those that share an id ordinals, and ids that say so."""
    times = Counter(chain.from_iterable(ids))
    groups: dict[str, list[tuple[Page, list[str], int]]]
    groups = {record_id: [] for record_id, count in times.items() if count > 1}
    for page, of_page in zip(pages, ids, strict=True):
        for row in [
            row for row, record_id in enumerate(of_page) if record_id in groups
        ]:
            groups[of_page[row]].append((page, of_page, row))
    twins, values = [], []
    for members in groups.values():
        members.sort(key=_order)
        for ordinal, (page, of_page, row) in enumerate(members[1:], 1):
            twins.append((of_page, row))
            values.append((*(page.columns[name][row] for name in IDENTIFYING), ordinal))
    for (of_page, row), record_id in zip(twins, _hash(values), strict=True):
        of_page[row] = record_id


def _order(member: tuple[Page, list[str], int]) -> tuple[bool, float, bytes]:
    page, _, row = member
    count, extra = page.columns["count"][row], page.extras[row]
    return count is None, count or 0, _encoder.encode(extra) if extra else b""
