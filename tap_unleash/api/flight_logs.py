"""Flight logs: typed records of one response."""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec

from tap_unleash.api.errors import InvalidRecord
from tap_unleash.api.page import decode_json, deepest_row, escape
from tap_unleash.api.timestamps import parse_timestamp

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


class _Items(msgspec.Struct):
    items: list[dict[str, Any]]


_FORM = _Items | list[dict[str, Any]]
_decoder = msgspec.json.Decoder(_FORM)


def _id(value: Any) -> str:  # noqa: ANN401
    return str(msgspec.convert(value, str | int))


def _timestamp(value: str) -> str:
    return parse_timestamp(value)[0]


_MISMATCH = (TypeError, ValueError, OverflowError, msgspec.ValidationError)

_text = partial(msgspec.convert, type=str)
_texts = partial(msgspec.convert, type=list[str])
_number = partial(msgspec.convert, type=float)
_boolean = partial(msgspec.convert, type=bool)

FIELDS: dict[str, Any] = {
    "id": _id,
    "s3Path": _text,
    "name": _text,
    "teamId": _text,
    "teamName": _text,
    "companyId": _text,
    "ownerId": _text,
    "deviceId": _text,
    "pilotName": _text,
    "version": _text,
    "flightStartDate": _timestamp,
    "flightEndDate": _timestamp,
    "flightDuration": _text,
    "flightDistance": _text,
    "takeOffLocation": {"lat": _number, "long": _number},
    "droneName": _text,
    "deviceSerial": _text,
    "hasComments": _boolean,
    "missionIds": _texts,
    "taskIds": _texts,
    "jobIds": _texts,
}
"""The documented fields in the order of the schema, with the conversion of their values; all
others are stored in ``extra_fields``."""


def decode_flight_logs(
    body: bytes,
    *,
    place: str = "flight logs",
    on_unknown_field: Callable[[str], None] = lambda _: None,
) -> list[dict[str, Any]]:
    """Decode a response body: ``{"items": […]}`` or the bare array.

    A value of an unexpected type is stored in ``extra_fields`` and its field is null.

    Args:
        body: The body.
        place: What was requested, for error messages.
        on_unknown_field: Called with the name of each field outside of the schema.

    Returns:
        The records.

    Raises:
        InvalidResponse: If the body has another form.
        InvalidRecord: If a record has no ID, or a value that cannot be stored.
    """
    try:
        answer = decode_json(body, _decoder, _FORM)
        items = escape(answer if isinstance(answer, list) else answer.items)
    except RecursionError:
        msg = _advice("Value nested too deeply", deepest_row(body), place)
        raise InvalidRecord(msg) from None
    records = []
    for row, item in enumerate(items, 1):
        record, extra = _typed(item, FIELDS, on_unknown_field)
        if not record["id"]:
            msg = _advice("Missing or invalid 'id'", row, place)
            raise InvalidRecord(msg)
        records.append(record | ({"extra_fields": extra} if extra else {}))
    return records


def _advice(what: str, row: int, place: str) -> str:
    return f"{what} in row {row} of {place}. Report the record to Unleash live."


def _typed(
    item: Mapping[str, Any],
    fields: Mapping[str, Any],
    on_unknown_field: Callable[[str], None],
) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """Return the documented fields of an object, and all other values."""
    known: dict[str, Any] = dict.fromkeys(fields)
    extra: dict[str, Any] = {}
    for name, value in item.items():
        rest, convert = value, fields.get(name)
        if convert is None:
            on_unknown_field(name)
        elif isinstance(convert, dict):
            if isinstance(value, dict):
                known[name], rest = _typed(value, convert, on_unknown_field)
        elif value is not None:
            with suppress(*_MISMATCH):
                known[name], rest = convert(value), None
        if rest is not None:
            extra[name] = rest
    return known, extra or None
