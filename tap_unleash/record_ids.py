"""Deterministic record IDs: the API provides none."""

from __future__ import annotations

from collections import Counter
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

import msgspec

from tap_unleash.page import COLUMNS, COUNT, EXTRA

if TYPE_CHECKING:
    from collections.abc import Sequence

_Identity = msgspec.defstruct(
    "_Identity", [*COLUMNS[:COUNT], ("index", int, 0)], array_like=True, gc=False
)
_encoder = msgspec.json.Encoder()
_hasher = blake2b(digest_size=16)


def record_ids(columns: Sequence[Sequence[Any]]) -> list[str]:
    """Compute the record IDs of rows.

    An ID is the BLAKE2b-128 hash, in hex, of the compact JSON array of the identifying
    values (all but the count and the extra fields) and the occurrence index. The index
    numbers the records that share all of these values, ordered by their count and extra
    fields. Of records that are identical in these too, it does not matter which has which
    ID.

    Args:
        columns: The values of the rows, in any order, by column in the order of a row; with
            all rows of each timestamp.

    Returns:
        The IDs, in the order of the rows.
    """
    identity, counts, extras = columns[:COUNT], columns[COUNT], columns[EXTRA]
    lines = _encoder.encode_lines([*map(_Identity, *identity)]).split(b"\n")[:-1]
    occurrences = Counter(lines)
    if len(occurrences) < len(lines):
        order = [(n is None, n or 0, extra) for n, extra in zip(counts, extras, strict=True)]
        places = [i for i, line in enumerate(lines) if occurrences[line] > 1]
        for i in sorted(places, key=order.__getitem__, reverse=True):
            line = lines[i]
            occurrences[line] -= 1
            lines[i] = line[: -len(b"0]")] + b"%d]" % occurrences[line]
    return [*map(_hash, lines)]


def _hash(line: bytes) -> str:
    hasher = _hasher.copy()  # much faster than a new one
    hasher.update(line)
    return hasher.hexdigest()
