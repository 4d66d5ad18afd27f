"""Bodies to pages of typed rows, in one form, whichever endpoint sent them."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache
from itertools import repeat
from math import isfinite
from typing import TYPE_CHECKING, Annotated, Any, Final, TypeAlias

import msgspec

from tap_unleash.errors import UnleashError
from tap_unleash.timestamps import EPOCH, MILLISECOND, parse_timestamp

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterable, Sequence

COLUMNS = (
    "device_id",
    "session_id",
    "model_id",
    "source_file_name",
    "frame_number",
    "class_name",
    "timestamp",
    "count",
)
"""The documented columns, in the order of a row."""

TIMESTAMP: Final = 6
COUNT: Final = 7
EXTRA: Final = 8

Row: TypeAlias = (
    "tuple[str, str | None, str | None, str | None, int | None, str | None, str, "
    "float | None, bytes]"
)
"""A row is a value: the documented columns, and the extra fields as JSON with sorted keys
(empty if there are none)."""

_Int64 = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
_TYPES: dict[str, Any] = {
    **dict.fromkeys(COLUMNS, str | None),
    "device_id": str,
    "frame_number": _Int64 | None,
    "timestamp": str,
    "count": _Int64 | float | None,
}
_TEXTS = ("device_id", "session_id", "model_id", "source_file_name", "class_name")
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
        return self.instants[row[TIMESTAMP]]

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
        return [row for row in self.rows if row[TIMESTAMP] in stamps] if stamps else []


EMPTY = Page()


class _Envelope(msgspec.Struct):
    data: msgspec.Raw
    keys: list[str] | None = None
    total_num_pages: Any = None
    errors: Any = None
    error: Any = None
    timed_out: Any = None


_envelope = msgspec.json.Decoder(_Envelope)


_Tableau = msgspec.defstruct(
    "_Tableau",
    [(name, *((kind,) if kind is str else (kind, None))) for name, kind in _TYPES.items()],
    kw_only=True,
    forbid_unknown_fields=True,
)
_tableau = msgspec.json.Decoder(list[_Tableau])  # type: ignore[valid-type]


@cache
def _size_optimized(keys: tuple[str, ...]) -> msgspec.json.Decoder[list[tuple[Any, ...]]]:
    """Decode rows of documented types only, in the order of the keys."""
    row: Any = tuple[tuple(_TYPES[key] for key in keys)]  # type: ignore[misc]
    return msgspec.json.Decoder(list[row])


def decode_page(
    body: bytes,
    *,
    device_id: str,
    number: int = 1,
    on_unknown_field: Callable[[str], object] = lambda _: None,
) -> Page:
    """Decode a response, size-optimized or for Tableau.

    A value that does not match the type of its column is kept as an extra field.

    Args:
        body: The body; ``null`` data are a page without rows.
        device_id: The requested device, for rows without one.
        number: The requested page number, for messages.
        on_unknown_field: Called with the name of each field outside of the schema.

    Returns:
        The page.

    Raises:
        InvalidResponse: If the body is not a page.
        UnleashError: If a row has an invalid timestamp.
    """
    place = f"page {number} of device {device_id!r}"
    try:
        answer = _open(body)
        total = _total(answer.total_num_pages)
        if columns := _documented(answer):
            columns["timestamp"], instants = _timestamps(columns["timestamp"], place)
            one: dict[Any, Any] = {}  # equal texts share one object
            for name in _TEXTS:
                columns[name] = [*map(one.setdefault, columns[name], columns[name])]
            values = zip(*(columns[name] for name in COLUMNS), repeat(b""), strict=False)
            return Page([*values], instants, total)
        rows = [
            _row(names, device_id, on_unknown_field)
            for names in _named(answer.keys, _lenient(bytes(answer.data)))
        ]
        stamps, instants = _timestamps([row[TIMESTAMP] for row in rows], place)
        rows = [
            (*row[:TIMESTAMP], stamp, *row[COUNT:]) for row, stamp in zip(rows, stamps, strict=True)
        ]
        msgspec.json.encode(rows)  # a lone surrogate has no UTF-8
    except (msgspec.MsgspecError, ValueError, TypeError, RecursionError) as error:
        raise InvalidResponse(str(error)) from None
    return Page(rows, instants, total)


def _documented(answer: _Envelope) -> dict[str, Sequence[Any]]:
    """Decode rows of the documented columns and types, by column; nothing if there are others."""
    keys = tuple(_TYPES) if answer.keys is None else tuple(answer.keys)
    if _TYPES.keys() != set(keys):
        return {}
    try:
        if answer.keys is None:
            rows = [*map(msgspec.structs.astuple, _tableau.decode(answer.data))]
        else:
            rows = _size_optimized(keys).decode(answer.data)
    except msgspec.ValidationError:
        return {}
    return dict(zip(keys, zip(*rows, strict=True), strict=False))


def _open(body: bytes) -> _Envelope:
    """Decode all but the rows, and check that the response is complete."""
    if body.lstrip()[:1] == b"[":  # a bare array of Tableau rows
        return _Envelope(msgspec.Raw(body))
    answer = _envelope.decode(body)
    if said := answer.errors or answer.error:
        msg = f"API error: {' '.join(str(said).split())[:200]}"
        raise InvalidResponse(msg)
    if answer.timed_out:
        msg = "the API timed out"
        raise InvalidResponse(msg)
    return answer


def _total(value: Any) -> int | None:  # noqa: ANN401
    """Return the number of pages, also if it is written as text or with a fraction."""
    if value is None:
        return None
    total = float(value)
    if total < 0 or not total.is_integer():
        msg = f"'total_num_pages' is {value!r}"
        raise InvalidResponse(msg)
    return int(total)


def _lenient(data: bytes) -> Any:  # noqa: ANN401
    """Decode any JSON; numbers that no double represents become texts."""

    def number(text: str) -> int | float | str:
        value = float(text)
        if not isfinite(value):
            return text
        return value if set(text) & set(".eE") else int(text)

    return json.loads(data, parse_float=number, parse_int=number)


def _named(keys: list[str] | None, data: Any) -> Iterable[dict[str, Any]]:  # noqa: ANN401
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


def _row(values: dict[str, Any], device_id: str, on_unknown_field: Callable[[str], object]) -> Row:
    """Type the values of a row, but its timestamp."""
    row: list[Any] = []
    extra = {}
    for name, value in values.items():
        if name not in _TYPES:
            on_unknown_field(name)
            if value is not None:
                extra[name] = value
    for name in COLUMNS:
        value = typed = values.get(name)
        if name == "frame_number":
            if (isinstance(value, float) and value.is_integer()) or (
                isinstance(value, str) and re.fullmatch(r"-?\d{1,19}", value, re.ASCII)
            ):
                typed = int(value)
        elif type(value) is int and name not in {"count", "timestamp"}:
            typed = str(value)
        if name != "timestamp" and not _fits(name, typed):
            extra[name], typed = value, None
        row.append(typed)
    row[0] = device_id if row[0] is None else row[0]
    return (*row, _encoder.encode(extra) if extra else b"")


def _fits(name: str, value: Any) -> bool:  # noqa: ANN401
    """Tell whether a value has the type of its column."""
    if value is None:
        return True
    if name == "count":
        return type(value) in {int, float}
    if name == "frame_number":
        return type(value) is int and -(2**63) <= value < 2**63
    return type(value) is str


def _timestamps(values: Sequence[Any], place: str) -> tuple[list[str], dict[str, int]]:
    """Return the timestamps in the form that is emitted, and their instants."""
    one: dict[str, str] = {}
    try:
        column: list[Any] = [*map(one.setdefault, values, values)]
        if _DOCUMENTED.fullmatch("".join(one)):  # one match for all of them is faster
            times = msgspec.convert(list(one), list[datetime])
            instants = [(utc - EPOCH) // MILLISECOND for utc in times]
            return column, dict(zip(one, instants, strict=True))
    except (TypeError, msgspec.ValidationError):
        pass
    texts: dict[Any, tuple[str, int]] = {}
    row, value = 0, None
    try:
        for row, value in enumerate(values, 1):  # noqa: B007 - the message needs it
            if value not in texts:
                texts[value] = parse_timestamp(value)
    except (TypeError, ValueError, OverflowError):
        msg = (
            f"Invalid timestamp {str(value)[:80]!r} in row {row}, {place}. Exclude the device "
            "with 'device_ids' and report the record to Unleash live."
        )
        raise UnleashError(msg) from None
    return [texts[value][0] for value in values], dict(texts.values())
