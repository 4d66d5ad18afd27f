"""Pages of analytics rows: typed columns in one form, whichever endpoint sent them."""

from __future__ import annotations

import json
import re
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from itertools import compress, count
from math import isfinite
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

import msgspec

from tap_unleash.api.errors import InvalidRecord, InvalidResponse
from tap_unleash.api.timestamps import EPOCH, MILLISECOND, parse_timestamp

if TYPE_CHECKING:
    from collections.abc import (
        Callable,
        Collection,
        Hashable,
        Iterable,
        Iterator,
        Sequence,
    )
    from collections.abc import (
        Set as AbstractSet,
    )

T = TypeVar("T")

TEXT_COLUMNS = ("session_id", "model_id", "source_file_name", "class_name")
"""Nullable text columns, in the order of the schema."""

COLUMNS = frozenset({"device_id", *TEXT_COLUMNS, "count", "frame_number", "timestamp"})
"""The documented columns; all others are stored in ``extra_fields``."""

LARGEST_INTEGER = 2**63 - 1
"""The largest integer that the integer columns of warehouses store."""

_DOCUMENTED = re.compile(r"(?:\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z)*", re.ASCII)
_TOKEN = re.compile(rb'"(?:[^"\\]|\\.)*"|[][{},]', re.DOTALL)


class _SizeOptimized(msgspec.Struct):
    data: list[tuple[Any, ...]]
    keys: list[str] = []
    total_num_pages: int | None = None


class _Tableau(msgspec.Struct):
    data: list[dict[str, Any]]
    total_num_pages: int | None = None


RawPage: TypeAlias = tuple["int | None", dict[str, "Sequence[Any]"], int]
"""The total number of pages, the values by column, and the number of rows."""

_encoder = msgspec.json.Encoder(order="sorted")


@dataclass(slots=True)
class Page:
    """The rows of one response, as columns of equal length.

    Attributes:
        total: Number of pages of the time range; `None` if the API does not say.
        columns: The documented columns by name, in the order of the schema.
        extras: Unknown fields and values of an unexpected type, one entry per row.
        instants: The distinct timestamps with their epoch milliseconds, rounded down.
    """

    total: int | None
    columns: dict[str, Sequence[Any]]
    extras: list[dict[str, Any] | None]
    instants: dict[str, int]

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.columns["timestamp"])

    def is_within(self, start: int, end: int) -> bool:
        """Tell whether all rows are between two instants.

        Args:
            start: The first instant, in epoch milliseconds.
            end: The instant after the last, in epoch milliseconds.

        Returns:
            Whether they are.
        """
        at = self.instants.values()
        return not at or (start <= min(at) and max(at) < end)

    def take(self, rows: Sequence[int]) -> Page:
        """Return a page of some of the rows.

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

    def rows_of(self, stamps: Collection[str]) -> list[int]:
        """Find rows by their timestamp.

        Args:
            stamps: Timestamps.

        Returns:
            The indices of their rows.
        """
        if not stamps:
            return []
        column = self.columns["timestamp"]
        return list(compress(count(), map(stamps.__contains__, column)))

    def without(self, instants: AbstractSet[int]) -> Page:
        """Return the page without the rows of some instants.

        Args:
            instants: Epoch milliseconds.

        Returns:
            The page.
        """
        if instants.isdisjoint(self.instants.values()):
            return self
        kept = {stamp for stamp, at in self.instants.items() if at not in instants}
        return self.take(self.rows_of(kept))

    def rows_at(
        self, instants: AbstractSet[int]
    ) -> Iterator[tuple[int, int, Hashable]]:
        """Find rows by their time, with a key that only identical rows share.

        Args:
            instants: Epoch milliseconds.

        Yields:
            The instant, the index and the key of each of these rows.
        """
        stamps = {stamp: at for stamp, at in self.instants.items() if at in instants}
        columns = tuple(self.columns.values())
        for row in self.rows_of(stamps):
            values = tuple(column[row] for column in columns)
            at = stamps[self.columns["timestamp"][row]]
            yield at, row, (values, sortable(self.extras[row]))


def sortable(extra: dict[str, Any] | None) -> bytes:
    """Encode the extra fields of a row, independently of the order of keys.

    Args:
        extra: The extra fields, if any.

    Returns:
        JSON with sorted keys; empty if there are none.
    """
    return _encoder.encode(extra) if extra else b""


def empty_page() -> Page:
    """Return a page without rows.

    Returns:
        The page; its total is unknown.
    """
    return Page(None, {name: [] for name in (*_COLUMN_TYPES, "timestamp")}, [], {})


def _size_optimized(answer: _SizeOptimized) -> RawPage:
    """Read ``{"keys": […], "total_num_pages": n, "data": [[…], …]}``."""
    names = set(answer.keys)
    if not set(map(len, answer.data)) <= {len(names)} or len(names) < len(answer.keys):
        msg = "rows and 'keys' do not match"
        raise InvalidResponse(msg)
    values = zip(*answer.data, strict=True)
    return (
        answer.total_num_pages,
        dict(zip(answer.keys, values, strict=False)),
        len(answer.data),
    )


def _tableau(answer: _Tableau | list[dict[str, Any]]) -> RawPage:
    """Read ``{"total_num_pages": n, "data": [{…}, …]}``, or the bare array of rows."""
    rows, total = (
        (answer, None)
        if isinstance(answer, list)
        else (answer.data, answer.total_num_pages)
    )
    names = dict.fromkeys(name for row in rows for name in row)
    return total, {name: [row.get(name) for row in rows] for name in names}, len(rows)


_FORMATS: dict[str, tuple[msgspec.json.Decoder[Any], Any, Callable[[Any], RawPage]]] = {
    "size_optimized": (
        msgspec.json.Decoder(_SizeOptimized),
        _SizeOptimized,
        _size_optimized,
    ),
    "tableau": (
        msgspec.json.Decoder(_Tableau | list[dict[str, Any]]),
        _Tableau | list[dict[str, Any]],
        _tableau,
    ),
}


def decode_page(
    body: bytes,
    *,
    response_format: str,
    device_id: str,
    number: int,
    on_unknown_field: Callable[[str], None] = lambda _: None,
) -> Page:
    """Decode a response body.

    A value of an unexpected type is stored in ``extra_fields`` and its column is null.

    Args:
        body: The body.
        response_format: ``size_optimized`` or ``tableau``.
        device_id: The requested device.
        number: The requested page number.
        on_unknown_field: Called with the name of each field outside of the schema.

    Returns:
        The page.

    Raises:
        InvalidResponse: If the body is not a page.
        InvalidRecord: If a row has a timestamp or a value that cannot be stored.
    """
    decoder, form, read = _FORMATS[response_format]
    place = f"page {number} of device {device_id!r}"
    try:
        total, raw, length = read(decode_json(body, decoder, form))
        # The first test is the fast one.
        if b"\\" in body and rb"\u0000" in body:
            raw = {escape(name): list(map(escape, raw[name])) for name in raw}
    except RecursionError:
        msg = _advice("Value nested too deeply", deepest_row(body), place)
        raise InvalidRecord(msg) from None
    if total is not None and total < 0:
        msg = f"'total_num_pages' is {total}"
        raise InvalidResponse(msg)
    nulls = [None] * length
    extras: list[dict[str, Any] | None] = [None] * length

    def keep(name: str, row: int, value: Any) -> None:  # noqa: ANN401
        extras[row] = {**(extras[row] or {}), name: value}

    for name in sorted(raw.keys() - COLUMNS):
        on_unknown_field(name)
        for row, value in enumerate(raw[name]):
            if value is not None:
                keep(name, row, value)
    columns = {
        name: _column(raw.get(name, nulls), types, name, keep)
        for name, types in _COLUMN_TYPES.items()
    }
    if None in columns["device_id"]:
        columns["device_id"] = [
            device_id if value is None else value for value in columns["device_id"]
        ]
    columns["timestamp"], instants = _timestamps(raw.get("timestamp", nulls), place)
    return Page(total, columns, extras, instants)


def decode_json(body: bytes, decoder: msgspec.json.Decoder[T], form: Any) -> T:  # noqa: ANN401
    """Decode JSON, also with values that no column stores.

    Args:
        body: JSON, perhaps with NaN, numbers beyond the range of a float, or lone
            surrogates. Numbers that no float represents become texts.
        decoder: Decodes JSON that has none of these, which is faster.
        form: The type that `decoder` returns.

    Returns:
        The value, in which lone surrogates are escaped.

    Raises:
        InvalidResponse: If `body` is not JSON, or not of this form.
    """
    try:
        return decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        pass  # also for a number out of range, which is a ValidationError
    try:
        value = json.loads(
            body,
            parse_float=lambda text: float(text) if isfinite(float(text)) else text,
            parse_constant=str,
        )
        found: T = msgspec.convert(escape(value), form)
    except (ValueError, msgspec.ValidationError) as error:
        raise InvalidResponse(str(error)) from None
    return found


def deepest_row(body: bytes) -> int:
    """Find the row in which brackets are nested most deeply.

    Args:
        body: JSON: an array of rows, or an object that holds it.

    Returns:
        The number of the row, from 1.
    """
    depth = row = deepest = found = 0
    row_depth = 1 if body.lstrip().startswith(b"[") else 2
    for token in _TOKEN.findall(body):
        if token in b"[{":
            depth += 1
            if depth == row_depth:
                row = 1
            if depth > deepest:
                deepest, found = depth, row
        elif token in b"]}":
            depth -= 1
        elif token == b"," and depth == row_depth:
            row += 1
    return found


def _advice(what: str, row: int, place: str) -> str:
    return (
        f"{what} in row {row}, {place}. Exclude the device with 'device_ids' and report "
        "the record to Unleash live."
    )


def _timestamps(values: Sequence[Any], place: str) -> tuple[list[str], dict[str, int]]:
    """Return the timestamps in the form that is emitted, and their instants."""
    one: dict[str, str] = {}
    with suppress(TypeError, msgspec.ValidationError):
        column = list(map(one.setdefault, values, values))
        if _DOCUMENTED.fullmatch("".join(one)):  # one match for all of them is faster
            times = msgspec.convert(list(one), list[datetime])
            instants = [(utc - EPOCH) // MILLISECOND for utc in times]
            return column, dict(zip(one, instants, strict=True))
    texts: dict[Any, tuple[str, int]] = {}
    try:
        for row, value in enumerate(values, 1):  # noqa: B007 - the message needs it
            if value not in texts:
                texts[value] = parse_timestamp(value)
    except (TypeError, ValueError, OverflowError):
        what = f"Invalid timestamp {str(value)[:80]!r}"
        raise InvalidRecord(_advice(what, row, place)) from None
    return [texts[value][0] for value in values], dict(texts.values())


def _column(
    values: Sequence[Any],
    types: frozenset[type],
    name: str,
    keep: Callable[[str, int, Any], None],
) -> Sequence[Any]:
    """Return a column of the given types; equal texts and integers share one object."""
    if str in types and values and values.count(values[0]) == len(values):
        if type(values[0]) in types:
            return [values[0]] * len(values)
    # Equal numbers can differ in type, so a dict must not merge them.
    elif str in types or types.issuperset(map(type, values)):
        if float in types:
            return values
        one: dict[Any, Any] = {}
        with suppress(TypeError):  # a list or an object, which no column stores
            column = list(map(one.setdefault, values, values))
            if types.issuperset(map(type, one)) and (str in types or _fit(one)):
                return column
    result: list[Any] = []
    for row, value in enumerate(values):
        typed = value
        if name == "frame_number" and isinstance(value, float) and value.is_integer():
            typed = int(value)
        if type(typed) not in types or (float not in types and not _fit([typed])):
            keep(name, row, value)
            typed = None
        result.append(typed)
    return result


def _fit(values: Iterable[Any]) -> bool:
    numbers = [value for value in values if type(value) is int]
    return (
        not numbers
        or -LARGEST_INTEGER <= min(numbers) <= max(numbers) <= LARGEST_INTEGER
    )


_TEXT: frozenset[type] = frozenset({str, type(None)})
_COLUMN_TYPES: dict[str, frozenset[type]] = {
    "device_id": _TEXT,
    **dict.fromkeys(TEXT_COLUMNS, _TEXT),
    "count": frozenset({int, float, type(None)}),
    "frame_number": frozenset({int, type(None)}),
}


def escape(value: Any) -> Any:  # noqa: ANN401
    r"""Escape the characters that PostgreSQL and UTF-8 cannot store.

    Args:
        value: Any JSON value.

    Returns:
        The value, with NUL as ``\u0000`` and lone surrogates as ``\ud800``.
    """
    if isinstance(value, str):
        text = value.replace("\0", "\\u0000")
        return (
            text if text.isascii() else text.encode(errors="backslashreplace").decode()
        )
    if isinstance(value, list | tuple):
        return [escape(item) for item in value]
    if isinstance(value, dict):
        return {escape(name): escape(item) for name, item in value.items()}
    return value
