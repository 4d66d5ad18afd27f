"""Bodies to pages of typed rows, in one form, whichever endpoint sent them."""

from __future__ import annotations

import json
import re
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache, partial
from itertools import repeat
from math import isfinite
from operator import attrgetter
from typing import TYPE_CHECKING, Annotated, Any

import msgspec

from tap_unleash.errors import UnleashError
from tap_unleash.timestamps import EPOCH, MILLISECOND, parse_timestamp

if TYPE_CHECKING:
    from collections.abc import Container, Iterable

_Int64 = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]


class Row(msgspec.Struct, frozen=True, gc=False):
    """A row is a value: the documented columns, and `extra`, other fields as sorted JSON."""

    device_id: str | None
    session_id: str | None
    model_id: str | None
    source_file_name: str | None
    frame_number: _Int64 | None
    class_name: str | None
    timestamp: str
    count: _Int64 | float | None
    extra: bytes


_TYPES = {field.name: field.type for field in msgspec.structs.fields(Row)[:-1]}
COLUMNS = tuple(_TYPES)
"""The documented columns, in the order of a row."""

TEXTS = tuple(name for name, kind in _TYPES.items() if kind == str | None)
"""The columns of text."""

_DOCUMENTED = re.compile(r"(?:\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z)*", re.ASCII)
_encoder = msgspec.json.Encoder(order="sorted")


class InvalidResponse(Exception):
    """A body differs from the documentation; another attempt may not."""


@dataclass(frozen=True, slots=True)
class Page:
    """The rows of one response.

    Attributes:
        rows: The rows.
        instants: Their distinct timestamps, with their epoch milliseconds, rounded down.
        total: Number of pages of the range, as the API claims; `None` if it does not say.
    """

    rows: list[Row] = field(default_factory=list)
    instants: dict[str, int] = field(default_factory=dict)
    total: int | None = None

    def at(self, row: Row) -> int:
        """Return the instant of a row.

        Args:
            row: The row.

        Returns:
            Its epoch milliseconds.
        """
        return self.instants[row.timestamp]

    def within(self, instants: Container[int]) -> list[Row]:
        """Return the rows of some instants.

        Args:
            instants: Epoch milliseconds.

        Returns:
            The rows.
        """
        stamps = {stamp for stamp, at in self.instants.items() if at in instants}
        if len(stamps) == len(self.instants):
            return self.rows
        return [row for row in self.rows if row.timestamp in stamps] if stamps else []


EMPTY = Page()


class _Envelope(msgspec.Struct):
    data: msgspec.Raw
    keys: tuple[str, ...] | None = None
    total_num_pages: Annotated[int, msgspec.Meta(ge=0)] | None = None
    errors: Any = None
    error: Any = None
    timed_out: Any = None


_envelope = msgspec.json.Decoder(_Envelope, strict=False)  # a total may be text


@cache
def _documented(keys: tuple[str, ...] | None) -> msgspec.json.Decoder[list[Any]]:
    """Decode rows of exactly the documented columns and types: arrays, or objects without keys."""
    default = () if keys else (None,)  # an object may omit what is null
    row: Any = msgspec.defstruct(
        "Row",
        [(name, _TYPES[name], *default) for name in keys or COLUMNS],
        array_like=bool(keys),
        forbid_unknown_fields=True,
        gc=False,
        kw_only=True,
    )
    return msgspec.json.Decoder(list[row])


def decode_page(body: bytes, *, device_id: str, number: int = 1) -> Page:
    """Decode a response, size-optimized or for Tableau.

    A value that does not match the type of its column is kept as an extra field.

    Args:
        body: The body; ``null`` data are a page without rows.
        device_id: The requested device, for rows without one.
        number: The requested page number, for messages.

    Returns:
        The page.

    Raises:
        InvalidResponse: If the body is not a page.
        UnleashError: If a row has an invalid timestamp.
    """
    place = f"page {number} of device {device_id!r}"
    try:
        answer = _open(body)
        columns = _documented_columns(answer) or _typed_columns(answer)
    except (msgspec.MsgspecError, ValueError, TypeError, RecursionError) as error:
        raise InvalidResponse(str(error)) from None
    columns["timestamp"], instants = _timestamps(columns["timestamp"], place)
    for name in TEXTS:  # equal texts share one object
        one = {None: device_id} if name == "device_id" else {}
        columns[name] = map(one.setdefault, columns[name], columns[name])
    return Page([*map(Row, *columns.values())], instants, answer.total_num_pages)


def _open(body: bytes) -> _Envelope:
    """Decode all but the rows, and check that the response is complete."""
    if body.lstrip()[:1] == b"[":  # a bare array of Tableau rows
        return _Envelope(msgspec.json.decode(body, type=msgspec.Raw))
    answer = _envelope.decode(body)
    if said := answer.errors or answer.error:
        msg = f"API error: {' '.join(str(said).split())[:200]}"
        raise InvalidResponse(msg)
    if answer.timed_out:
        msg = "the API timed out"
        raise InvalidResponse(msg)
    return answer


def _documented_columns(answer: _Envelope) -> dict[str, Any] | None:
    """Decode the values by column, if all rows are as documented."""
    if answer.keys and sorted(answer.keys) != sorted(COLUMNS):
        return None
    try:
        rows = _documented(answer.keys).decode(answer.data)
    except msgspec.ValidationError:
        return None
    return {name: [*map(attrgetter(name), rows)] for name in COLUMNS} | {"extra": repeat(b"")}


def _typed_columns(answer: _Envelope) -> dict[str, Any]:
    """Decode the values by column; those that do not fit are extra fields."""
    rows: list[dict[str, Any]] = []
    for sent in _named(answer.keys, _lenient(bytes(answer.data))):
        row = {name: _typed(name, sent.get(name)) for name in COLUMNS}
        extra = {k: v for k, v in sent.items() if v is not None and row.get(k) is None}
        rows.append(row | {"extra": _encoder.encode(extra) if extra else b""})
    return {name: [row[name] for row in rows] for name in (*COLUMNS, "extra")}


def _lenient(data: bytes) -> Any:  # noqa: ANN401
    """Decode any JSON; numbers that no double represents become texts."""

    def number(kind: type[int | float], text: str) -> int | float | str:
        return kind(text) if isfinite(float(text)) else text

    return json.loads(data, parse_float=partial(number, float), parse_int=partial(number, int))


def _named(keys: tuple[str, ...] | None, data: Any) -> Iterable[dict[str, Any]]:  # noqa: ANN401
    """Return the rows of a page as values by name."""
    if data is not None and not isinstance(data, list):
        msg = "'data' is not an array"
        raise InvalidResponse(msg)
    for row in data or ():
        if isinstance(row, dict):
            yield row
        elif isinstance(row, list) and keys and len(set(keys)) == len(row) == len(keys):
            yield dict(zip(keys, row, strict=True))
        else:
            msg = "rows and 'keys' do not match"
            raise InvalidResponse(msg)


def _typed(name: str, value: Any) -> Any:  # noqa: ANN401
    """Return a value in the type of its column, or nothing if it has another."""
    kind = type(value)
    if name in TEXTS:
        return str(value) if kind is int else value if kind is str else None
    if name == "count":
        return value if kind in {int, float} else None
    if name == "frame_number":
        whole = kind is float and value.is_integer()
        if whole or (kind is str and re.fullmatch(r"-?\d{1,19}", value, re.ASCII)):
            value = int(value)
        return value if type(value) is int and -(2**63) <= value < 2**63 else None
    return value


def _timestamps(values: list[Any], place: str) -> tuple[list[str], dict[str, int]]:
    """Return the timestamps in the form that is emitted, and their instants."""
    one: dict[str, str] = {}
    with suppress(TypeError, msgspec.ValidationError):
        column = [*map(one.setdefault, values, values)]
        if _DOCUMENTED.fullmatch("".join(one)):  # one match for all of them is faster
            times = msgspec.convert([*one], list[datetime])
            instants = [(utc - EPOCH) // MILLISECOND for utc in times]
            return column, dict(zip(one, instants, strict=True))
    known: dict[Any, tuple[str, int]] = {}
    try:
        for value in values:
            if value not in known:
                known[value] = parse_timestamp(value)
    except (TypeError, ValueError, OverflowError):
        msg = (
            f"Invalid timestamp {str(value)[:80]!r} in row {values.index(value) + 1}, {place}. "
            "Exclude the device with 'device_ids' and report the record to Unleash live."
        )
        raise UnleashError(msg) from None
    return [known[value][0] for value in values], dict(known.values())
