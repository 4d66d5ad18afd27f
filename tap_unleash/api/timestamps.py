"""Conversion between ISO 8601 timestamps and epoch milliseconds."""

from __future__ import annotations

import re
from datetime import datetime, timedelta, timezone

EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
MILLISECOND = timedelta(milliseconds=1)

_TIMESTAMP = re.compile(
    r"(\d{4}-\d\d-\d\d)(?:[T ](\d\d:\d\d(?::\d\d)?)(?:[.,](\d+))?(Z|[+-]\d\d:?\d\d)?)?",
    re.ASCII,
)


def parse_timestamp(value: str, *, date_only: bool = False) -> tuple[str, int]:
    """Convert a timestamp to the form that is emitted.

    Args:
        value: An ISO 8601 date and time; without an offset it is UTC.
        date_only: Whether a date without a time is accepted, as midnight UTC.

    Returns:
        The instant as ``YYYY-MM-DDTHH:MM:SS.sssZ``, with more decimals where they are not
        zero, and as epoch milliseconds, rounded down.

    Raises:
        TypeError: If `value` is not a string.
        ValueError: If `value` is not such a timestamp.
        OverflowError: If the instant is outside of the years 1 to 9999 in UTC.
    """
    match = _TIMESTAMP.fullmatch(value)
    if not match or not (match[2] or date_only):
        raise ValueError
    date, clock, fraction, offset = match.groups()
    if not offset or offset == "Z":
        offset = "+00:00"
    elif ":" not in offset:
        offset = f"{offset[:3]}:{offset[3:]}"
    text = f"{date}T{clock or '00:00'}{offset}"
    utc = datetime.fromisoformat(text).astimezone(timezone.utc)
    decimals = (fraction or "").rstrip("0").ljust(3, "0")
    milliseconds = (utc - EPOCH) // MILLISECOND + int(decimals[:3])
    return f"{utc.replace(tzinfo=None).isoformat()}.{decimals}Z", milliseconds


def format_timestamp(milliseconds: int) -> str:
    """Convert epoch milliseconds to ``YYYY-MM-DDTHH:MM:SS.sssZ``.

    Args:
        milliseconds: The instant; the years 1 to 9999.

    Returns:
        The timestamp.
    """
    utc = (EPOCH + milliseconds * MILLISECOND).replace(tzinfo=None)
    return f"{utc.isoformat(timespec='milliseconds')}Z"


def sort_key(timestamp: str) -> str:
    """Return a key by which emitted timestamps sort in time.

    Args:
        timestamp: A timestamp in the form that is emitted.

    Returns:
        The timestamp without its ``Z``, which sorts after digits.
    """
    return timestamp[:-1]
