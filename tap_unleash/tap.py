"""The tap: settings, discovery, signals, and errors as one line with exit code 1."""

from __future__ import annotations

import gc
import json
import os
import signal
import sys
import threading
from functools import cached_property
from io import StringIO
from typing import TYPE_CHECKING, Any, ClassVar, cast

import click
import msgspec
from singer_sdk import Stream, Tap, metrics
from singer_sdk import typing as th
from singer_sdk.authenticators import APIKeyAuthenticator, BearerTokenAuthenticator
from singer_sdk.exceptions import ConfigValidationError
from singer_sdk.plugin_base import SingerCommand
from singer_sdk.tap_base import CliTestOptionValue
from typing_extensions import override

from tap_unleash import streams
from tap_unleash.api.client import API_URL, UnleashClient
from tap_unleash.api.errors import FatalError, UnleashError
from tap_unleash.config import (
    Config,
    InvalidConfiguration,
    explain,
    unknown_variables,
)
from tap_unleash.writer import BufferedWriter, output_error

if TYPE_CHECKING:
    from types import FrameType
    from typing import TextIO

    from singer_sdk.authenticators import APIAuthenticatorBase

TOKEN_PREFIX = "ul_pat_"  # noqa: S105
"""Prefix of personal access tokens, according to the vendor."""

SHUTDOWN_GRACE = 4.0
"""Seconds after a signal until the process ends, even if its output is not read."""

GC_THRESHOLD = 50_000
"""Allocations between two runs of the garbage collector, which finds next to nothing."""

MAX_NAMES = 10
"""Most failed devices that are named in the last line."""

# Python leaves closed streams as None, which loggers and progress bars do not expect. The
# null device takes the place of the file descriptor, so that no socket gets it.
if sys.stderr is None:
    sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123, SIM115


class _CatalogMetadata(msgspec.Struct):
    breadcrumb: list[str]
    metadata: dict[str, Any] = {}


class _CatalogEntry(msgspec.Struct):
    tap_stream_id: str
    stream: str | None = None
    schema: dict[str, Any] = {}
    metadata: list[_CatalogMetadata] = []


class _Catalog(msgspec.Struct):
    streams: list[_CatalogEntry] = []

    def check(self) -> None:
        """Check what the SDK relies on.

        Raises:
            ValueError: If a stream is renamed, or lacks its replication key.
        """
        for entry in self.streams:
            name = entry.tap_stream_id
            if entry.stream not in {None, name}:
                msg = (
                    f"stream '{name}' has the name '{entry.stream}'. Rename it with "
                    "'__alias__' in 'stream_maps' instead."
                )
                raise ValueError(msg)
            fields = entry.schema.get("properties", {})
            if name == streams.Analytics.name and "timestamp" not in fields:
                msg = f"the schema of stream '{name}' lacks the field 'timestamp'."
                raise ValueError(msg)


class _Context(msgspec.Struct):
    device_id: str


class _Partition(msgspec.Struct):
    context: _Context


class _Bookmark(msgspec.Struct):
    partitions: list[_Partition] = []


class _Bookmarks(msgspec.Struct):
    analytics: _Bookmark | None = None


class _State(msgspec.Struct):
    bookmarks: _Bookmarks | None = None


class SyncIncomplete(UnleashError):
    """Some devices or streams failed; the others were synced."""


class _Command(SingerCommand):
    """Reports errors as one line."""

    @override
    def main(self, *args: Any, **kwargs: Any) -> Any:
        try:
            if sys.stdout is None:
                msg = "Standard output is closed."
                raise FatalError(msg)
            return super().main(*args, **kwargs)
        except UnleashError as error:
            click.echo(f"tap-unleash: {error}", err=True)
            sys.exit(1)


def authenticator(key: str) -> APIAuthenticatorBase:
    """Choose how requests are authenticated.

    Args:
        key: A personal access token, or a legacy API key.

    Returns:
        The authenticator, which adds the header to a request.
    """
    if key.startswith(TOKEN_PREFIX):
        return BearerTokenAuthenticator(token=key)
    return APIKeyAuthenticator(key="x-api-key", value=key, location="header")


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
            description="Personal access token (recommended; starts with `ul_pat_` and is "
            "sent as a bearer token) or legacy API key (sent in the `x-api-key` header).",
        ),
        th.Property(
            "api_url",
            th.StringType,
            default=API_URL,
            title="API URL",
            description="Base URL of the API. Must use HTTPS; plain HTTP is accepted only "
            "for loopback addresses.",
        ),
        th.Property(
            "start_date",
            th.DateTimeType,
            title="Start date",
            description="Earliest record timestamp to extract (inclusive; ISO 8601, UTC if "
            "no offset is given). By default, all history is extracted.",
        ),
        th.Property(
            "end_date",
            th.DateTimeType,
            title="End date",
            description="Latest record timestamp to extract (inclusive). Defaults to the "
            "start time of the sync.",
        ),
        th.Property(
            "device_ids",
            th.ArrayType(th.StringType),
            title="Devices",
            description="Extract only these devices. Fails if a device does not exist in "
            "the account. By default, all devices are extracted.",
        ),
        th.Property(
            "lookback_minutes",
            th.IntegerType(minimum=0),
            default=60,
            title="Lookback",
            description="Lookback window in minutes: how far before its bookmark each "
            "device is read again to capture late-arriving records.",
        ),
        th.Property(
            "response_format",
            th.StringType,
            default="size_optimized",
            allowed_values=["size_optimized", "tableau"],
            title="Response format",
            description="Analytics endpoint to use. Both return the same records; "
            "`size_optimized` transfers less data.",
        ),
        th.Property(
            "concurrency",
            th.IntegerType(minimum=1, maximum=32),
            default=4,
            title="Concurrency",
            description="Maximum number of concurrent API requests.",
        ),
        th.Property(
            "shard",
            th.StringType(pattern=r"^[1-9][0-9]{0,5}/[1-9][0-9]{0,5}$"),
            title="Shard",
            description="Extract only one shard of the devices: `2/5` is the second of "
            "five. Devices are assigned by a hash of their ID, so parallel workers need no "
            "coordination.",
        ),
        th.Property(
            "request_timeout",
            th.IntegerType(minimum=1),
            default=60,
            title="Request timeout",
            description="Seconds to wait for a complete response before the request is "
            "retried.",
        ),
        th.Property(
            "emit_activate_version_messages",
            th.BooleanType,
            default=False,
            title="Emit `ACTIVATE_VERSION` messages",
            description="Whether to emit `ACTIVATE_VERSION` messages.",
        ),
        additional_properties=False,
    ).to_dict()

    @override
    def __init__(
        self,
        *args: Any,
        parse_env_config: bool = False,
        validate_config: bool = True,
        **kwargs: Any,
    ) -> None:
        self.failures: list[str] = []
        try:
            super().__init__(
                *args,
                parse_env_config=parse_env_config,
                validate_config=validate_config,
                **kwargs,
            )
        except ConfigValidationError as error:
            msg = explain(self.config, error.schema or {})
            raise InvalidConfiguration(msg) from None
        except ValueError as error:
            if not parse_env_config:
                raise
            # The SDK parses the variables, and says nothing of the one that is invalid.
            msg = f"Cannot read an environment variable TAP_UNLEASH_…: {error}."
            raise InvalidConfiguration(msg) from None
        if parse_env_config:
            for warning in unknown_variables(os.environ, self.config_jsonschema):
                self.logger.warning(warning)
        if validate_config:
            _ = self.settings

    @cached_property
    def settings(self) -> Config:
        """The parsed settings."""
        return Config.parse(self.config, now=self.initialized_at)

    @cached_property
    def client(self) -> UnleashClient:
        """The client that all streams share, and with it the rate limit."""
        unknown: set[str] = set()

        def on_unknown_field(name: str) -> None:
            if name not in unknown:
                unknown.add(name)
                self.logger.warning(
                    "Unknown field %r in API response; storing it in 'extra_fields'",
                    name,
                )

        return UnleashClient(
            authenticator(self.settings.api_key),
            self.settings.api_url,
            user_agent=f"{self.name}/{self.plugin_version}",
            request_timeout=self.settings.request_timeout,
            concurrency=self.settings.concurrency,
            on_response=self._log_response,
            on_unknown_field=on_unknown_field,
        )

    @cached_property
    def listed_device_ids(self) -> list[str]:
        """The devices of the account."""
        try:
            return self.client.devices()
        except UnleashError as error:
            raise FatalError(str(error)) from error

    @cached_property
    def session_ids(self) -> list[str]:
        """The sessions of the account."""
        return self.client.sessions()

    @cached_property
    def device_ids(self) -> list[str]:
        """The devices to extract."""
        listed = self.listed_device_ids
        if unknown := (self.settings.device_ids or frozenset()).difference(listed):
            msg = f"Unknown device in 'device_ids': {', '.join(sorted(unknown))}."
            raise InvalidConfiguration(msg)
        return list(filter(self.settings.selects, listed))

    def _log_response(self, path: str, status: int, seconds: float) -> None:
        point = metrics.Point(
            "timer",
            metric=metrics.Metric.HTTP_REQUEST_DURATION,
            value=seconds,
            tags={
                metrics.Tag.ENDPOINT: path,
                metrics.Tag.HTTP_STATUS_CODE: status,
            },
        )
        # One line per request would bury the others, so not at the SDK's level, INFO.
        self.metrics_logger.debug("METRIC: %s", point)

    def report_failures(self) -> None:
        """End the sync if devices or streams failed.

        Raises:
            SyncIncomplete: If any did.
        """
        if self.failures:
            names = ", ".join(self.failures[:MAX_NAMES])
            more = ", …" if len(self.failures) > MAX_NAMES else ""
            msg = (
                f"Sync incomplete: {len(self.failures)} failed ({names}{more}); the errors "
                "are above. The next sync tries them again."
            )
            raise SyncIncomplete(msg)

    @override
    def discover_streams(self) -> list[Stream]:
        return [
            streams.ApiVersion(self),
            streams.Devices(self),
            streams.Sessions(self),
            streams.Analytics(self),
            streams.FlightLogs(self),
        ]

    @override
    def run_discovery(self) -> str:
        try:
            return super().run_discovery()
        except OSError as error:
            raise output_error(error) from None

    @override
    @classmethod
    def get_singer_command(cls) -> click.Command:
        command = super().get_singer_command()
        return _Command(
            name=command.name,
            callback=command.callback,
            params=command.params,
            help="Extract detections and metrics from Unleash live (unleashlive.com).",
            epilog="The configuration is a JSON file (--config=config.json), environment "
            "variables (--config=ENV), or both (one --config option each). Variables are "
            "named after the settings: TAP_UNLEASH_API_KEY, TAP_UNLEASH_START_DATE and so "
            "on. --about describes all settings. TAP_UNLEASH_LOGLEVEL sets the log level: "
            "DEBUG adds a line per request, and WARNING leaves out the progress. The "
            "documentation is in the folder docs of the repository.",
            context_settings=command.context_settings,
            logger=cls.logger,
        )

    @override
    @classmethod
    def cb_config(cls, *args: Any) -> Any:
        try:
            config = super().cb_config(*args)
        except (OSError, ValueError, TypeError) as error:
            known = isinstance(error, OSError | json.JSONDecodeError)
            reason = str(error) if known else "it is not a JSON object."
            msg = f"Cannot read the config file: {reason}"
            raise InvalidConfiguration(msg) from None
        return config

    @override
    @classmethod
    def cb_test(cls, ctx: click.Context, param: click.Option, value: str) -> None:
        if value == CliTestOptionValue.All.value and (config := ctx.params["config"]):
            # The SDK reports no success, and has no hook at the end of a test.
            tap = cls(config=config.config, parse_env_config=config.parse_env)
            # A credential that is not valid for flight logs can be valid for the others.
            tested = (
                s for s in tap.streams.values() if s.name != streams.FlightLogs.name
            )
            tap.run_sync_dry_run(streams=list(tested))
            tap.logger.info(
                "The connection works. Devices in the account: %d; sessions: %d",
                len(tap.listed_device_ids),
                len(tap.session_ids),
            )
            ctx.exit()
        super().cb_test(ctx, param, value)

    @override
    @classmethod
    def invoke(cls, **kwargs: Any) -> None:
        for name, form in {"catalog": _Catalog, "state": _State}.items():
            if file := kwargs.get(name):
                kwargs[name] = StringIO(_read(file, name, form))
        # Pages are kept until they are emitted, so there is next to no garbage among them.
        gc.freeze()
        gc.set_threshold(GC_THRESHOLD)
        super().invoke(**kwargs)

    @override
    def _setup_signal_handlers(self) -> None:
        # The SDK's hook would take SIGINT even if the parent process ignores it.
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                if signal.getsignal(number) is not signal.SIG_IGN:
                    signal.signal(number, self._handle_termination)

    @override
    def _handle_termination(self, signum: int, frame: FrameType | None) -> None:
        exit_code = 128 + signum
        watchdog = threading.Timer(SHUTDOWN_GRACE, os._exit, [exit_code])
        watchdog.daemon = True
        watchdog.start()
        writer = cast("BufferedWriter", self.message_writer)

        def leave() -> None:
            self.state_writer.write_state(self.state)
            writer.flush()
            os._exit(exit_code)

        writer.when_idle(leave)


def _read(file: TextIO, name: str, form: type) -> str:
    """Read and check a file of the command line."""
    try:
        text = file.read()
        if name == "state":
            message = json.loads(text)
            if isinstance(message, dict) and message.get("type") == "STATE":
                text = json.dumps(message.get("value"))
        content: object = msgspec.json.decode(text, type=form)
        if isinstance(content, _Catalog):
            content.check()
    except (msgspec.MsgspecError, ValueError) as error:
        msg = f"Cannot read the {name} file: {error}"
        raise FatalError(msg) from None
    return text
