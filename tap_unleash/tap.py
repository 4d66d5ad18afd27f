"""The tap: its settings and streams."""

from __future__ import annotations

import gc
import ipaddress
import os
import signal
import threading
from io import StringIO
from typing import TYPE_CHECKING, Any, ClassVar, cast
from urllib.parse import urlsplit

import msgspec
from singer_sdk import Stream, Tap
from singer_sdk import typing as th
from singer_sdk.exceptions import ConfigValidationError
from typing_extensions import override

from tap_unleash import streams
from tap_unleash.client import TapError
from tap_unleash.slices import instant
from tap_unleash.writer import BufferedWriter

if TYPE_CHECKING:
    from types import FrameType
    from typing import TextIO

LEAVE_WITHIN = 4.0
"""Seconds after a signal at which the process ends, even if nobody reads its output."""

GC_THRESHOLD = 50_000
"""Objects made between two looks for garbage, of which the tap makes next to none."""


class _CatalogEntry(msgspec.Struct):
    tap_stream_id: str
    schema: dict[str, Any] = {}
    metadata: list[dict[str, Any]] = []


class _Catalog(msgspec.Struct):
    streams: list[_CatalogEntry] = []


class _Context(msgspec.Struct):
    device_id: str


class _Partition(msgspec.Struct):
    context: _Context


class _Bookmark(msgspec.Struct):
    partitions: list[_Partition] = []


class _State(msgspec.Struct):
    bookmarks: dict[str, _Bookmark] = {}


class TapUnleash(Tap):
    """Singer tap for Unleash live (unleashlive.com): AI on video from drones and cameras."""

    name = "tap-unleash"
    message_writer_class = BufferedWriter

    config_jsonschema: ClassVar[dict[str, Any]] = th.PropertiesList(
        th.Property(
            "api_key",
            th.StringType,
            required=True,
            secret=True,
            title="API key",
            description="The API key of your account, or a personal access token. A value "
            "that begins with `ul_pat_` is sent as a bearer token, any other as "
            "`x-api-key`.",
        ),
        th.Property(
            "api_url",
            th.StringType,
            default="https://api.unleashlive.com/v1",
            title="API URL",
            description="Base URL of the API. Plain `http` is accepted for this machine "
            "only.",
        ),
        th.Property(
            "start_date",
            th.DateTimeType,
            title="Start date",
            description="Timestamp of the earliest row wanted. Without it, all history is "
            "read.",
        ),
        th.Property(
            "end_date",
            th.DateTimeType,
            title="End date",
            description="Timestamp of the latest row wanted. Without it, rows are read up "
            "to the instant at which the run began.",
        ),
        th.Property(
            "device_ids",
            th.ArrayType(th.StringType),
            title="Devices",
            description="Read these devices only. A device that the account does not have "
            "is an error.",
        ),
        th.Property(
            "lookback_minutes",
            th.IntegerType(minimum=0),
            default=60,
            title="Lookback",
            description="Minutes before its bookmark from which a device is read again, as "
            "rows can arrive late.",
        ),
        th.Property(
            "response_format",
            th.StringType,
            default="size_optimized",
            allowed_values=["size_optimized", "tableau"],
            title="Response format",
            description="Which of the two analytics endpoints is read. The records are the "
            "same.",
        ),
        th.Property(
            "concurrency",
            th.IntegerType(minimum=1, maximum=32),
            default=4,
            title="Concurrency",
            description="Most requests in flight at once.",
        ),
        th.Property(
            "shard",
            th.StringType(pattern=r"^[1-9][0-9]{0,5}/[1-9][0-9]{0,5}$"),
            title="Shard",
            description="Read one share of the devices, such as `2/5` for the second of "
            "five. So workers share an account without knowing its devices.",
        ),
        th.Property(
            "request_timeout",
            th.IntegerType(minimum=1),
            default=60,
            title="Request timeout",
            description="Seconds to wait for an answer.",
        ),
        additional_properties=False,
    ).to_dict()

    @override
    def __init__(self, *args: Any, validate_config: bool = True, **kwargs: Any) -> None:
        try:
            super().__init__(*args, validate_config=validate_config, **kwargs)
        except ConfigValidationError as error:
            config = kwargs.get("config") or {}
            msg = "; ".join(error.errors)
            if secret := str(config.get("api_key") or ""):
                msg = msg.replace(secret, "***")
            msg = f"The settings are not right: {msg}."
            raise TapError(msg) from None
        if validate_config:
            self._check_config()
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, self._leave)

    @override
    @classmethod
    def cb_config(cls, *args: Any) -> Any:
        try:
            return super().cb_config(*args)
        except (OSError, ValueError) as error:
            msg = f"The config file cannot be read: {error}"
            raise TapError(msg) from None

    @override
    @classmethod
    def invoke(cls, **kwargs: Any) -> None:
        for name, kind in {"catalog": _Catalog, "state": _State}.items():
            if file := kwargs.get(name):
                kwargs[name] = StringIO(_read(file, name, kind))
        # What is held are pages that are wanted, not garbage to look for at every page.
        gc.freeze()
        gc.set_threshold(GC_THRESHOLD)
        super().invoke(**kwargs)

    def _check_config(self) -> None:
        """Check what a schema cannot."""
        key: str = self.config["api_key"]
        if not key or not key.isascii() or not key.isprintable() or " " in key:
            msg = "`api_key` is empty, or holds a character that no key has: check it."
            raise TapError(msg)
        url = urlsplit(self.config["api_url"])
        if (
            url.scheme not in {"http", "https"}
            or not url.hostname
            or "@" in url.netloc
            or url.query
            or url.fragment
        ):
            msg = "`api_url` must be an address such as https://api.unleashlive.com/v1."
            raise TapError(msg)
        if url.scheme == "http" and not _is_loopback(url.hostname):
            msg = "`api_url` must begin with https://, or the credential could be read."
            raise TapError(msg)
        streams.shard(self.config)
        for setting in ("start_date", "end_date"):
            instant(self.config, setting)

    @override
    def discover_streams(self) -> list[Stream]:
        return [
            streams.ApiVersion(self),
            streams.Devices(self),
            streams.Sessions(self),
            streams.Analytics(self),
        ]

    def _leave(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002
        """Write STATE and leave with the signal's code, not waiting for the network."""
        exit_code = 128 + number
        watchdog = threading.Timer(LEAVE_WITHIN, os._exit, [exit_code])
        watchdog.daemon = True
        watchdog.start()
        writer = cast("BufferedWriter", self.message_writer)

        def leave() -> None:
            self.state_writer.write_state(self.state)
            writer.flush()
            os._exit(exit_code)

        writer.when_idle(leave)


def _read(file: TextIO, name: str, kind: type) -> str:
    """Read a file of the command line, which the SDK takes as it is."""
    try:
        text = file.read()
        msgspec.json.decode(text, type=kind)
    except (msgspec.MsgspecError, UnicodeError) as error:
        msg = f"The {name} file cannot be read: {error}"
        raise TapError(msg) from None
    return text


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
