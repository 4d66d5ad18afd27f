"""Conversion between timestamps and epoch milliseconds."""

from __future__ import annotations

import re
from datetime import datetime, timedelta, timezone

EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
MILLISECOND = timedelta(milliseconds=1)

_TIMESTAMP = re.compile(
    r"(\d{4}-\d\d-\d\d)[T ](\d\d:\d\d)(?::(\d\d)(?:[.,](\d+))?)? ?"
    r"(?:Z|([+-]\d\d)(?::?(\d\d)(?::(\d\d))?)?)?",
    re.ASCII | re.IGNORECASE,
)


def parse_timestamp(value: str) -> tuple[str, int]:
    """Convert a timestamp to the form that is emitted.

    Args:
        value: A date and time in a form of RFC 3339 or of PostgreSQL's text output; without
            an offset it is UTC. A leap second is the next instant.

    Returns:
        The instant as ``YYYY-MM-DDTHH:MM:SS.sssZ``, with more decimals where they are not
        zero, and as epoch milliseconds, rounded down.

    Raises:
        TypeError: If `value` is not a string.
        ValueError: If `value` is not such a timestamp.
        OverflowError: If the instant is outside of the years 1 to 9999 in UTC.
    """
    if not (match := _TIMESTAMP.fullmatch(value)):
        raise ValueError
    date, clock, seconds, fraction, hours, *rest = match.groups("00")
    leap = seconds == "60"
    offset = ":".join((hours.rjust(3, "+"), *rest))  # +00 if there is none
    text = f"{date}T{clock}:{'59' if leap else seconds}{offset}"
    utc = datetime.fromisoformat(text).astimezone(timezone.utc)
    utc += timedelta(seconds=leap)
    decimals = fraction.rstrip("0").ljust(3, "0")
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
