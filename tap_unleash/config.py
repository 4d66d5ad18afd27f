"""The settings: checks beyond their JSON schema, and the devices that they select."""

from __future__ import annotations

import re
from hashlib import blake2b
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from jsonschema import Draft7Validator

from tap_unleash.checks import PREFIX, hint
from tap_unleash.errors import FatalError
from tap_unleash.timestamps import parse_timestamp
from tap_unleash.windows import EARLIEST, LATEST

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

SHORTEST_SECRET = 8
"""Characters below which a key is not redacted in messages, which it would garble."""

ALL = "1/1"
"""The only shard, if the devices are not divided."""

_LOOPBACK = r"localhost|127(\.\d+){3}|::1"


def explain(settings: Mapping[str, Any], schema: Mapping[str, Any]) -> str:
    """Explain why settings do not match their JSON schema.

    Args:
        settings: The settings.
        schema: Their JSON schema.

    Returns:
        The error message, without the credential; empty if they match.
    """
    known = schema["properties"]
    unknown = sorted(settings.keys() - known.keys())
    reasons = [f"unknown setting '{name}'.{hint(name, known)}" for name in unknown]
    reasons += [
        f"missing required setting '{name}'. Set it in the config file, or set "
        f"{PREFIX}{name.upper()} and pass --config=ENV."
        for name in schema["required"]
        if name not in settings
    ]
    reasons += [
        f"'{'.'.join(map(str, error.path))}': {error.message}."
        for error in Draft7Validator(schema).iter_errors(dict(settings))
        if error.path
    ]
    text = f"Invalid configuration: {' '.join(reasons)}" if reasons else ""
    key = str(settings.get("api_key") or "")
    return text.replace(key, "***") if len(key) >= SHORTEST_SECRET else text


def problems(settings: Mapping[str, Any]) -> Iterator[str]:
    """Find invalid values in settings that match their JSON schema.

    Args:
        settings: The settings.

    Yields:
        Error messages.
    """
    if batch := settings.get("batch_config"):
        encoding, storage = batch.get("encoding") or {}, batch.get("storage") or {}
        if not (encoding.get("format") and storage.get("root") and batch.get("batch_size", 1) > 0):
            yield (
                "Invalid configuration: 'batch_config' needs 'encoding.format', 'storage.root', "
                "and a 'batch_size' of 1 or more."
            )
        if settings.get("stream_maps") or settings.get("flattening_enabled"):
            yield (
                "'batch_config' cannot be combined with 'stream_maps' or 'flattening_enabled': "
                "they are not applied to batch files. Remove one of them."
            )
    if not re.fullmatch(r"[!-~]+", settings["api_key"]):
        yield "'api_key' is empty or contains whitespace or non-ASCII characters."
    text = settings["api_url"]
    try:
        url = urlsplit(text)
        valid = url.scheme in {"http", "https"} and url.hostname and url.port != 0
    except ValueError:
        valid = False
    if not valid or not re.fullmatch(r"[^\s@?#\\{}]+", text):
        yield "'api_url' must be a URL such as https://api.unleashlive.com/v1."
    elif url.scheme == "http" and not re.fullmatch(_LOOPBACK, str(url.hostname)):
        yield "'api_url' must use https:// so that the credential is encrypted in transit."
    shard = settings.get("shard") or ALL
    if not (match := re.fullmatch(r"([1-9]\d{0,5})/([1-9]\d{0,5})", shard, re.ASCII)):
        yield f"Invalid configuration: 'shard' must look like '2/5'; got {shard!r}."
    elif int(match[1]) > int(count := match[2]):
        yield (
            f"Invalid configuration: shard {shard} is out of range (1/{count} to {count}/{count})."
        )


def time_range(settings: Mapping[str, Any], *, now: int) -> tuple[int, int]:
    """Return the range to extract.

    Args:
        settings: The settings.
        now: Start of the sync in epoch milliseconds: `end_date`, if that is not set.

    Returns:
        Its first instant and the first one after it, in epoch milliseconds.

    Raises:
        FatalError: If there is no such range.
    """
    start = max(_parse_date(settings, "start_date", "00:00", EARLIEST), EARLIEST)
    end = _parse_date(settings, "end_date", "23:59:59.999", now)
    if end < EARLIEST:
        msg = "'end_date' is before 2001-09-09, the first date that can be requested."
        raise FatalError(msg)
    if start > end:
        last = settings.get("end_date") or "the start of the sync"
        msg = f"'start_date' ({settings.get('start_date')}) is later than 'end_date' ({last})."
        raise FatalError(msg)
    return start, end + 1


def _parse_date(settings: Mapping[str, Any], name: str, clock: str, default: int) -> int:
    """Parse a setting; the time of a date without one is `clock`."""
    if not (value := settings.get(name)):
        return default
    try:
        _, instant = parse_timestamp(value if ":" in value else f"{value} {clock}")
    except (ValueError, OverflowError):
        msg = (
            f"'{name}' must be an ISO 8601 date or datetime, for example 2024-01-31T00:00:00Z; "
            f"got {value!r}."
        )
        raise FatalError(msg) from None
    return min(instant, LATEST - 1)


def select(settings: Mapping[str, Any], device_ids: Sequence[str]) -> list[str]:
    """Select the devices to extract.

    Args:
        settings: The settings.
        device_ids: The devices of the account.

    Returns:
        Those that `device_ids` and `shard` select.

    Raises:
        FatalError: If the account does not have one of `device_ids`.
    """
    chosen = set(settings.get("device_ids") or device_ids)
    if unknown := chosen.difference(device_ids):
        msg = f"Unknown device in 'device_ids': {', '.join(sorted(unknown))}."
        raise FatalError(msg)
    number, count = map(int, (settings.get("shard") or ALL).split("/"))
    return [d for d in device_ids if d in chosen and shard_of(d, count) == number]


def shard_of(device_id: str, count: int) -> int:
    """Return the shard that a device belongs to.

    Args:
        device_id: The device.
        count: Number of shards.

    Returns:
        A number from 1 to `count`, the same on every machine and in every run.
    """
    digest = blake2b(device_id.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") % count + 1
