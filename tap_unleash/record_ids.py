"""Deterministic record IDs: the API provides none."""

from __future__ import annotations

from collections import Counter, defaultdict
from hashlib import blake2b
from typing import TYPE_CHECKING

import msgspec

from tap_unleash.page import COUNT, EXTRA

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tap_unleash.page import Row

_encoder = msgspec.json.Encoder()
_hasher = blake2b(digest_size=16)


def record_ids(rows: Sequence[Row]) -> list[str]:
    """Compute the record IDs of a time window.

    An ID is the BLAKE2b-128 hash, in hex, of the compact JSON array of the identifying
    values (all but the count and the extra fields) and the occurrence index. The index
    numbers the records that share all of these values, ordered by their count and extra
    fields. Of records that are identical in these too, it does not matter which has which
    ID.

    Args:
        rows: All rows of the window, in any order: rows that share their identifying values
            share their timestamp, so they are in one window.

    Returns:
        The IDs, in the order of the rows.
    """
    lines = _encoder.encode_lines([(*row[:COUNT], 0) for row in rows]).split(b"\n")[:-1]
    counts = Counter(lines)
    if len(counts) < len(rows):
        places = [i for i, line in enumerate(lines) if counts[line] > 1]
        seen: defaultdict[bytes, int] = defaultdict(int)
        for i in sorted(places, key=lambda i: _order(rows[i])):
            line = lines[i]
            lines[i] = line[: -len(b"0]")] + b"%d]" % seen[line]
            seen[line] += 1
    return [*map(_hash, lines)]


def _hash(line: bytes) -> str:
    hasher = _hasher.copy()  # much faster than a new one
    hasher.update(line)
    return hasher.hexdigest()


def _order(row: Row) -> tuple[bool, float, bytes]:
    count = row[COUNT]
    return count is None, count or 0, row[EXTRA]
