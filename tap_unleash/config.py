"""The settings, checked and parsed once."""

from __future__ import annotations

import re
from dataclasses import dataclass
from hashlib import blake2b
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from jsonschema import Draft7Validator

from tap_unleash.checks import PREFIX, InvalidConfiguration, hint
from tap_unleash.timestamps import parse_timestamp
from tap_unleash.windows import DAY, EARLIEST, LATEST

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

SHORTEST_SECRET = 8
"""Characters below which a key is not redacted in messages, which it would garble."""


@dataclass(frozen=True)
class Config:
    """The settings in the units of the API.

    Attributes:
        api_key: The credential.
        api_url: Base URL without a trailing slash.
        start: First instant to read, in epoch milliseconds.
        end: Last instant to read, in epoch milliseconds.
        device_ids: The devices to read; all if empty.
        lookback: Lookback window in milliseconds.
        response_format: ``size_optimized`` or ``tableau``.
        concurrency: Maximum number of concurrent requests.
        shard: Number of the shard and of all shards.
        request_timeout: Seconds.
    """

    api_key: str
    api_url: str
    start: int
    end: int
    device_ids: frozenset[str]
    lookback: int
    response_format: str
    concurrency: int
    shard: tuple[int, int]
    request_timeout: int

    @classmethod
    def parse(cls, settings: Mapping[str, Any], *, now: int) -> Config:
        """Parse settings that match the JSON schema.

        Args:
            settings: The settings.
            now: Start of the sync in epoch milliseconds: `end_date`, if that is not set.

        Returns:
            The configuration.

        Raises:
            InvalidConfiguration: If a setting is invalid.
        """
        batch = settings.get("batch_config")
        if batch and not (
            (batch.get("encoding") or {}).get("format")
            and (batch.get("storage") or {}).get("root")
            and batch.get("batch_size", 1) > 0
        ):
            msg = (
                "Invalid configuration: 'batch_config' needs 'encoding.format', 'storage.root', "
                "and a 'batch_size' of 1 or more."
            )
            raise InvalidConfiguration(msg)
        if batch and (settings.get("stream_maps") or settings.get("flattening_enabled")):
            msg = (
                "'batch_config' cannot be combined with 'stream_maps' or 'flattening_enabled': "
                "they are not applied to batch files. Remove one of them."
            )
            raise InvalidConfiguration(msg)
        config = cls(
            api_key=_parse_key(settings["api_key"]),
            api_url=_parse_url(settings["api_url"]),
            start=max(_parse_date(settings, "start_date", EARLIEST), EARLIEST),
            end=_parse_date(settings, "end_date", now),
            device_ids=frozenset(settings.get("device_ids") or ()),
            lookback=settings["lookback_minutes"] * 60_000,
            response_format=settings["response_format"],
            concurrency=settings["concurrency"],
            shard=_parse_shard(settings.get("shard") or "1/1"),
            request_timeout=settings["request_timeout"],
        )
        if config.end < EARLIEST:
            msg = "'end_date' is before 2001-09-09, the first date that can be requested."
            raise InvalidConfiguration(msg)
        if config.start > config.end:
            end = settings.get("end_date") or "the start of the sync"
            msg = f"'start_date' ({settings.get('start_date')}) is later than 'end_date' ({end})."
            raise InvalidConfiguration(msg)
        return config

    def select(self, device_ids: Sequence[str]) -> list[str]:
        """Select the devices to extract.

        Args:
            device_ids: The devices of the account.

        Returns:
            Those that `device_ids` and `shard` select.

        Raises:
            InvalidConfiguration: If the account does not have one of `device_ids`.
        """
        if unknown := self.device_ids.difference(device_ids):
            msg = f"Unknown device in 'device_ids': {', '.join(sorted(unknown))}."
            raise InvalidConfiguration(msg)
        number, shards = self.shard
        wanted = self.device_ids or frozenset(device_ids)
        return [d for d in device_ids if d in wanted and shard_of(d, shards) == number]


def shard_of(device_id: str, shards: int) -> int:
    """Return the shard that a device belongs to.

    Args:
        device_id: The device.
        shards: Number of shards.

    Returns:
        A number from 1 to `shards`, the same on every machine and in every run.
    """
    digest = blake2b(device_id.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") % shards + 1


def explain(settings: Mapping[str, Any], schema: Mapping[str, Any]) -> str:
    """Explain why settings do not match their JSON schema.

    Args:
        settings: The settings.
        schema: Their JSON schema.

    Returns:
        The error message, without the credential; empty if they match.
    """
    known, reasons = schema["properties"], []
    for error in Draft7Validator(schema).iter_errors(dict(settings)):
        setting = ".".join(map(str, error.path))
        if error.validator == "required" and not setting:
            missing = next(name for name in error.validator_value if name not in settings)
            reasons.append(
                f"missing required setting '{missing}'. Set it in the config file, or set "
                f"{PREFIX}{missing.upper()} and pass --config=ENV."
            )
        elif error.validator == "additionalProperties" and not setting:
            unknown = sorted(settings.keys() - known.keys())
            reasons += [f"unknown setting '{name}'.{hint(name, known)}" for name in unknown]
        else:
            reasons.append(f"'{setting}': {error.message}.")
    text = f"Invalid configuration: {' '.join(reasons)}" if reasons else ""
    key = str(settings.get("api_key") or "")
    return text.replace(key, "***") if len(key) >= SHORTEST_SECRET else text


def _parse_key(key: str) -> str:
    if not re.fullmatch(r"[!-~]+", key):
        msg = "'api_key' is empty or contains whitespace or non-ASCII characters."
        raise InvalidConfiguration(msg)
    return key


def _parse_url(text: str) -> str:
    try:
        url = urlsplit(text)
        valid = url.scheme in {"http", "https"} and url.hostname and url.port != 0
    except ValueError:
        valid = False
    if not valid or not re.fullmatch(r"[^\s@?#\\]+", text):
        msg = "'api_url' must be a URL such as https://api.unleashlive.com/v1."
        raise InvalidConfiguration(msg)
    loopback = re.fullmatch(r"localhost|127(\.\d+){3}|::1", str(url.hostname))
    if url.scheme == "http" and not loopback:
        msg = "'api_url' must use https:// so that the credential is encrypted in transit."
        raise InvalidConfiguration(msg)
    return text.rstrip("/")


def _parse_date(settings: Mapping[str, Any], name: str, default: int) -> int:
    if not (value := settings.get(name)):
        return default
    date_only = re.fullmatch(r"\d{4}-\d\d-\d\d", value)
    try:
        _, instant = parse_timestamp(f"{value}T00:00:00Z" if date_only else value)
    except (ValueError, OverflowError):
        msg = (
            f"'{name}' must be an ISO 8601 date or datetime, for example 2024-01-31T00:00:00Z; "
            f"got {value!r}."
        )
        raise InvalidConfiguration(msg) from None
    if date_only and name == "end_date":  # a date means its whole day
        instant += DAY - 1
    return min(instant, LATEST - 1)


def _parse_shard(value: str) -> tuple[int, int]:
    if not (match := re.fullmatch(r"([1-9]\d{0,5})/([1-9]\d{0,5})", value, re.ASCII)):
        msg = f"Invalid configuration: 'shard' must look like '2/5'; got {value!r}."
        raise InvalidConfiguration(msg)
    number, shards = map(int, match.groups())
    if number > shards:
        msg = (
            f"Invalid configuration: shard {value} is out of range (1/{shards} to "
            f"{shards}/{shards})."
        )
        raise InvalidConfiguration(msg)
    return number, shards
