"""A page of analytics rows, by column: typed, in one form, whichever endpoint sent it."""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any, TypeAlias

import msgspec

from tap_unleash.client import InvalidBodyError, TapError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

TEXTS = ("session_id", "model_id", "source_file_name", "class_name")
"""Nullable text columns, in the order of the schema."""

COLUMNS = frozenset({"device_id", *TEXTS, "count", "frame_number", "timestamp"})
"""What the API documents; a column beyond these goes to ``extra_fields``."""

LARGEST_INTEGER = 2**63 - 1
"""The largest integer that the integer columns of warehouses hold."""

_TIMESTAMP = re.compile(
    r"(\d{4}-\d\d-\d\d)[T ](\d\d:\d\d(?::\d\d)?)(?:[.,](\d+))?(Z|[+-]\d\d:?\d\d)?",
    re.ASCII,
)
_DOCUMENTED = re.compile(r"(?:\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z)*", re.ASCII)
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_MILLISECOND = timedelta(milliseconds=1)


class _SizeOptimized(msgspec.Struct):
    keys: list[str]
    data: list[list[Any]]
    total_num_pages: int


class _Tableau(msgspec.Struct):
    data: list[dict[str, Any]]
    total_num_pages: int


_size_optimized = msgspec.json.Decoder(_SizeOptimized)
_tableau = msgspec.json.Decoder(_Tableau | list[dict[str, Any]])


RawPage: TypeAlias = tuple["int | None", dict[str, "Sequence[Any]"], int]
"""The total of pages, the values by column and the number of rows."""


@dataclass(slots=True)
class Page:
    """Rows as columns of equal length.

    Attributes:
        total: Number of pages of the range, `None` where the API does not say.
        columns: The documented columns by name, in the order of the schema.
        extras: What the schema does not know or could not type, row by row.
        instants: The timestamps of the rows, each once, with their epoch milliseconds,
            rounded down.
    """

    total: int | None
    columns: dict[str, Sequence[Any]]
    extras: list[dict[str, Any] | None]
    instants: dict[str, int]

    def __len__(self) -> int:
        """Count the rows."""
        return len(self.columns["timestamp"])

    def take(self, rows: Sequence[int]) -> Page:
        """Make a page of some of the rows.

        Args:
            rows: Their indices.

        Returns:
            The page, with the same total.
        """
        stamps = self.columns["timestamp"]
        return Page(
            self.total,
            {name: [column[i] for i in rows] for name, column in self.columns.items()},
            [self.extras[i] for i in rows],
            {stamp: self.instants[stamp] for stamp in (stamps[i] for i in rows)},
        )


def size_optimized(body: bytes) -> RawPage:
    """Decode ``{"keys": […], "total_num_pages": n, "data": [[…], …]}``.

    Args:
        body: The body of the documented *Size Optimized Data* endpoint.

    Returns:
        The total of pages, the values by column and the number of rows.

    Raises:
        InvalidBodyError: If rows and keys do not match.
    """
    answer = _size_optimized.decode(body)
    widths = set(map(len, answer.data))
    if not widths <= {len(set(answer.keys))} or len(set(answer.keys)) < len(
        answer.keys
    ):
        msg = "a row is shorter or longer than `keys`, or a key stands there twice"
        raise InvalidBodyError(msg)
    columns: dict[str, Sequence[Any]]
    columns = dict(zip(answer.keys, zip(*answer.data, strict=True), strict=False))
    return answer.total_num_pages, columns, len(answer.data)


def tableau(body: bytes) -> RawPage:
    """Decode ``{"total_num_pages": n, "data": [{…}, …]}``, or the bare array of rows.

    Args:
        body: The body of the documented *Tableau Formatted Data* endpoint.

    Returns:
        The total of pages, the values by column and the number of rows.
    """
    answer = _tableau.decode(body)
    rows, total = (
        (answer, None)
        if isinstance(answer, list)
        else (answer.data, answer.total_num_pages)
    )
    names = dict.fromkeys(name for row in rows for name in row)
    return total, {name: [row.get(name) for row in rows] for name in names}, len(rows)


def read_page(
    body: bytes,
    *,
    decode: Callable[[bytes], RawPage],
    device_id: str,
    page: int,
    on_new_column: Callable[[str], None],
) -> Page:
    """Make a page of a body.

    A value that its column cannot hold stays with its row, in ``extra_fields``, and the
    column is null; a row without a readable timestamp ends the run.

    Args:
        body: The body.
        decode: `size_optimized` or `tableau`.
        device_id: The device that was asked for.
        page: The number of the page that was asked for.
        on_new_column: Is told each column that the schema does not know.

    Returns:
        The page.

    Raises:
        TapError: If a timestamp cannot be read: it names the row's place.
    """
    total, raw, length = decode(body)
    if b"\\" in body and rb"\u0000" in body:  # the first look is the quick one
        raw = {name: [without_nul(value) for value in raw[name]] for name in raw}
    nulls = [None] * length
    extras: list[dict[str, Any] | None] = [None] * length

    def keep(name: str, row: int, value: Any) -> None:  # noqa: ANN401
        extras[row] = {**(extras[row] or {}), name: value}

    for name in raw.keys() - COLUMNS:
        on_new_column(name)
        for row, value in enumerate(raw[name]):
            if value is not None:
                keep(name, row, value)
    columns = {
        name: _column(raw.get(name, nulls), types, name, keep)
        for name, types in _COLUMN_TYPES.items()
    }
    if None in columns["device_id"]:
        columns["device_id"] = [value or device_id for value in columns["device_id"]]
    columns["timestamp"], instants = _timestamps(
        raw.get("timestamp", nulls), device_id=device_id, page=page
    )
    return Page(total, columns, extras, instants)


def _timestamps(
    values: Sequence[Any], *, device_id: str, page: int
) -> tuple[list[str], dict[str, int]]:
    """What goes out for the timestamps of a page, and their epoch milliseconds."""
    one: dict[str, str] = {}
    with suppress(TypeError, msgspec.ValidationError):
        column = list(map(one.setdefault, values, values))
        if _DOCUMENTED.fullmatch("".join(one)):  # all at once: it is much quicker
            times = msgspec.convert(list(one), list[datetime])
            instants = [(utc - _EPOCH) // _MILLISECOND for utc in times]
            return column, dict(zip(one, instants, strict=True))
    texts: dict[Any, tuple[str, int]] = {}
    try:
        for row, value in enumerate(values, 1):  # noqa: B007 - the message needs it
            if value not in texts:
                texts[value] = timestamp(value)
    except (TypeError, ValueError, OverflowError):
        msg = (
            f"Row {row} of page {page} of device {device_id!r} has no timestamp that can "
            f"be read ({str(value)[:80]!r}). Report it to the vendor."
        )
        raise TapError(msg) from None
    return [texts[value][0] for value in values], dict(texts.values())


def timestamp(value: str) -> tuple[str, int]:
    """Bring a timestamp into the one form that goes out.

    Args:
        value: An ISO 8601 date and time; one without an offset is UTC.

    Returns:
        The instant as ``YYYY-MM-DDTHH:MM:SS.sssZ``, with more decimals where there were
        any that say something, and as epoch milliseconds, rounded down.

    Raises:
        TypeError: If it is not a string.
        ValueError: If it is not such a date and time.
    """
    if not (match := _TIMESTAMP.fullmatch(value)):
        raise ValueError
    date, clock, fraction, offset = match.groups()
    if not offset or offset == "Z":
        offset = "+00:00"
    elif ":" not in offset:
        offset = f"{offset[:3]}:{offset[3:]}"
    utc = datetime.fromisoformat(f"{date}T{clock}{offset}").astimezone(timezone.utc)
    decimals = (fraction or "").rstrip("0").ljust(3, "0")
    instant = (utc - _EPOCH) // _MILLISECOND + int(decimals[:3])
    return f"{utc.replace(tzinfo=None).isoformat()}.{decimals}Z", instant


def _column(
    values: Sequence[Any],
    types: frozenset[type],
    name: str,
    keep: Callable[[str, int, Any], None],
) -> Sequence[Any]:
    """A column whose values are of its types, equal texts and integers being one object."""
    if str in types and values and values.count(values[0]) == len(values):
        if type(values[0]) in types:
            return [values[0]] * len(values)
    # Numbers that are equal are not all of one type, so they are looked at one by one.
    elif str in types or types.issuperset(map(type, values)):
        if float in types:
            return values
        one: dict[Any, Any] = {}
        with suppress(TypeError):  # a list or an object, which no column can hold
            column = list(map(one.setdefault, values, values))
            if types.issuperset(map(type, one)) and (str in types or _fit(one)):
                return column
    result: list[Any] = []
    for row, value in enumerate(values):
        typed = value
        if name == "frame_number" and isinstance(value, float) and value.is_integer():
            typed = int(value)
        if type(typed) not in types or (
            float not in types
            and isinstance(typed, int)
            and abs(typed) > LARGEST_INTEGER
        ):
            keep(name, row, value)
            typed = None
        result.append(typed)
    return result


def _fit(numbers: Iterable[int | None]) -> bool:
    return all(number is None or abs(number) <= LARGEST_INTEGER for number in numbers)


_TEXT: frozenset[type] = frozenset({str, type(None)})
_COLUMN_TYPES: dict[str, frozenset[type]] = {
    "device_id": _TEXT,
    **dict.fromkeys(TEXTS, _TEXT),
    "count": frozenset({int, float, type(None)}),
    "frame_number": frozenset({int, type(None)}),
}


def without_nul(value: Any) -> Any:  # noqa: ANN401
    """Spell out the one character that PostgreSQL refuses in a text.

    Args:
        value: Any value of JSON.

    Returns:
        The value, with the six characters of its escape wherever that one stood.
    """
    if isinstance(value, str):
        return value.replace("\0", "\\u0000")
    if isinstance(value, list):
        return [without_nul(item) for item in value]
    if isinstance(value, dict):
        return {without_nul(name): without_nul(item) for name, item in value.items()}
    return value
