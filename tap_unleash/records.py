"""Rows to records, with deterministic IDs: the API provides none."""

from __future__ import annotations

from collections import Counter
from hashlib import blake2b
from itertools import repeat
from operator import attrgetter
from typing import TYPE_CHECKING, Any

import msgspec

from tap_unleash.page import COLUMNS, TEXTS, Row

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

CHUNK = 500
"""Records that are converted at a time: more are slower, and need more memory."""

_FIELDS = ("record_id", *TEXTS, "count", "frame_number", "timestamp", "extra_fields")
"""The fields of a record, in the order of the schema."""

Record = msgspec.defstruct("Record", _FIELDS, gc=False)

_encoder = msgspec.json.Encoder()
_hasher = blake2b(digest_size=16)


def records(rows: Sequence[Row]) -> Iterator[Iterable[msgspec.Struct]]:
    """Convert the rows of a window to records.

    Args:
        rows: The rows, sorted by timestamp.

    Yields:
        Records, some at a time, in the order of the rows.
    """
    end = 0
    while end < len(rows):
        start, end = end, end + CHUNK
        while end < len(rows) and rows[end].timestamp == rows[end - 1].timestamp:
            end += 1  # rows that share a timestamp are numbered together
        chunk = rows[start:end]
        values: dict[str, Any] = {n: [*map(attrgetter(n), chunk)] for n in Row.__struct_fields__}
        values["record_id"] = record_ids(values)
        values["extra_fields"] = (msgspec.Raw(x) if x else msgspec.UNSET for x in values["extra"])
        yield map(Record, *map(values.__getitem__, _FIELDS))


def record_ids(columns: Mapping[str, Sequence[Any]]) -> list[str]:
    """Compute the record IDs of rows.

    An ID is the BLAKE2b-128 hash, in hex, of the compact JSON array of the identifying
    values (all but the count and the extra fields) and the occurrence index. The index
    numbers the records that share all of these values, ordered by their count and extra
    fields. Of records that are identical in these too, it does not matter which has which
    ID.

    Args:
        columns: The values of the rows, in any order, by column; with all rows of each
            timestamp.

    Returns:
        The IDs, in the order of the rows.
    """
    counts, extras = columns["count"], columns["extra"]
    identities = zip(*map(columns.__getitem__, COLUMNS[:-1]), repeat(0), strict=False)
    lines = _encoder.encode_lines([*identities]).split(b"\n")[:-1]
    occurrences = Counter(lines)
    if len(occurrences) < len(lines):
        places = [i for i, line in enumerate(lines) if occurrences[line] > 1]
        places.sort(key=lambda i: (counts[i] is None, counts[i] or 0, extras[i]))
        for i in reversed(places):
            line = lines[i]
            occurrences[line] -= 1
            lines[i] = line[: -len(b"0]")] + b"%d]" % occurrences[line]
    return [*map(_hash, lines)]


def _hash(line: bytes) -> str:
    hasher = _hasher.copy()  # much faster than a new one
    hasher.update(line)
    return hasher.hexdigest()
