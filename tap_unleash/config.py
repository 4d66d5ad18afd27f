"""The settings, checked and parsed once."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from difflib import get_close_matches
from hashlib import blake2b
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from jsonschema import Draft7Validator

from tap_unleash.api.errors import FatalError
from tap_unleash.api.time_window import EARLIEST, LATEST
from tap_unleash.api.timestamps import parse_timestamp

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

PREFIX = "TAP_UNLEASH_"
"""Prefix of the environment variables of the settings."""

SHORTEST_SECRET = 8
"""Characters below which a key is not redacted in messages, which it would garble."""


class InvalidConfiguration(FatalError):
    """A setting is missing or invalid."""


@dataclass(frozen=True)
class Config:
    """The settings in the units of the API.

    Attributes:
        api_key: The credential.
        api_url: Base URL without a trailing slash.
        start: First instant to read, in epoch milliseconds.
        end: Last instant to read, in epoch milliseconds.
        device_ids: The devices to read; all if `None`.
        lookback: Lookback window in milliseconds.
        response_format: ``size_optimized`` or ``tableau``.
        concurrency: Maximum number of concurrent requests.
        shard: Number of the shard and of all shards, if set.
        request_timeout: Seconds.
    """

    api_key: str
    api_url: str
    start: int
    end: int
    device_ids: frozenset[str] | None
    lookback: int
    response_format: str
    concurrency: int
    shard: tuple[int, int] | None
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
        device_ids = settings.get("device_ids")
        config = cls(
            api_key=_parse_key(settings["api_key"]),
            api_url=_parse_url(settings["api_url"]),
            start=max(_parse_date(settings, "start_date", EARLIEST), EARLIEST),
            end=_parse_date(settings, "end_date", now),
            device_ids=frozenset(device_ids) if device_ids else None,
            lookback=settings["lookback_minutes"] * 60_000,
            response_format=settings["response_format"],
            concurrency=settings["concurrency"],
            shard=_parse_shard(settings.get("shard")),
            request_timeout=settings["request_timeout"],
        )
        if config.end < EARLIEST:
            msg = (
                "'end_date' is before 2001-09-09, the first date that can be requested."
            )
            raise InvalidConfiguration(msg)
        if config.start > config.end:
            end = settings.get("end_date") or "the start of the sync"
            start = settings.get("start_date")
            msg = f"'start_date' ({start}) is later than 'end_date' ({end})."
            raise InvalidConfiguration(msg)
        return config

    def selects(self, device_id: str) -> bool:
        """Return whether a device is extracted.

        Args:
            device_id: The device.

        Returns:
            Whether `device_ids` and `shard` select it.
        """
        if self.device_ids is not None and device_id not in self.device_ids:
            return False
        if self.shard is None:
            return True
        number, shards = self.shard
        return shard_of(device_id, shards) == number


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
        The error message, without the credential.
    """
    reasons = []
    known = schema["properties"]
    for error in Draft7Validator(schema).iter_errors(dict(settings)):
        setting = ".".join(map(str, error.path)) or None
        if error.validator == "required":
            missing = next(
                name for name in error.validator_value if name not in settings
            )
            reasons.append(
                f"missing required setting '{missing}'. Set it in the config file, or set "
                f"{PREFIX}{missing.upper()} and pass --config=ENV"
            )
        elif error.validator == "additionalProperties" and setting is None:
            for name in sorted(settings.keys() - known.keys()):
                near = get_close_matches(name, known, 1, 0.4)
                reasons.append(
                    f"unknown setting '{name}'"
                    + (f". Did you mean '{near[0]}'?" if near else "")
                )
        elif setting == "shard" and error.validator == "pattern":
            reasons.append(f"'shard' must look like '2/5'; got {error.instance!r}")
        else:
            reasons.append(f"'{setting}': {error.message}")
    text = f"Invalid configuration: {'; '.join(reasons)}"
    key = str(settings.get("api_key") or "")
    if len(key) >= SHORTEST_SECRET:
        text = text.replace(key, "***")
    return text if text.endswith("?") else f"{text}."


def unknown_variables(
    environment: Iterable[str], schema: Mapping[str, Any]
) -> Iterator[str]:
    """Find environment variables that look like settings, and are none.

    Args:
        environment: The names of the variables.
        schema: The JSON schema of the settings.

    Yields:
        A warning per variable.
    """
    known = {PREFIX + name.upper() for name in schema["properties"]}
    for name in sorted(set(environment) - known - {f"{PREFIX}LOGLEVEL"}):
        if name.startswith(PREFIX):
            near = get_close_matches(name, known, 1, 0.8)
            yield (
                f"Ignoring the environment variable {name}: there is no such setting"
                + (f". Did you mean {near[0]}?" if near else "")
            )


def _parse_key(key: str) -> str:
    if not key or not key.isascii() or not key.isprintable() or " " in key:
        msg = "'api_key' is empty or contains whitespace or non-ASCII characters."
        raise InvalidConfiguration(msg)
    return key


def _parse_url(text: str) -> str:
    try:
        url = urlsplit(text)
        valid = (
            url.scheme in {"http", "https"}
            and url.hostname
            and re.fullmatch(r"[^\s@?#\\]+", text)
            and url.port != 0
        )
    except ValueError:
        valid = False
    if not valid:
        msg = "'api_url' must be a URL such as https://api.unleashlive.com/v1."
        raise InvalidConfiguration(msg)
    if url.scheme == "http" and not _is_loopback(str(url.hostname)):
        msg = "'api_url' must use https:// so that the credential is encrypted in transit."
        raise InvalidConfiguration(msg)
    return text.rstrip("/")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _parse_date(settings: Mapping[str, Any], name: str, default: int) -> int:
    if not (value := settings.get(name)):
        return default
    try:
        return min(parse_timestamp(value, date_only=True)[1], LATEST - 1)
    except (TypeError, ValueError, OverflowError):
        msg = (
            f"'{name}' must be an ISO 8601 date or datetime, for example "
            f"2024-01-31T00:00:00Z; got {value!r}."
        )
        raise InvalidConfiguration(msg) from None


def _parse_shard(value: str | None) -> tuple[int, int] | None:
    if value is None:
        return None
    number, shards = map(int, value.split("/"))
    if number > shards:
        msg = (
            f"Invalid configuration: shard {value} is out of range (1/{shards} to "
            f"{shards}/{shards})."
        )
        raise InvalidConfiguration(msg)
    return number, shards
