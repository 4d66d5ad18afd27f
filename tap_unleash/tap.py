"""The tap: settings, discovery, isolated failures, and signals."""

from __future__ import annotations

import os
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, cast

import click
from singer_sdk import Stream, Tap
from singer_sdk import typing as th
from singer_sdk.exceptions import ConfigValidationError
from singer_sdk.helpers.capabilities import TapCapabilities
from singer_sdk.singerlib.json import deserialize_json
from typing_extensions import override

from tap_unleash import streams
from tap_unleash.checks import check_catalog, check_environment, check_stream_maps, parse_state
from tap_unleash.cli import JSON_FILE, leave
from tap_unleash.config import explain, problems, time_range
from tap_unleash.errors import FatalError, UnleashError
from tap_unleash.session import Session, Unavailable
from tap_unleash.writer import BufferedWriter

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import FrameType

API_URL = "https://api.unleashlive.com/v1"

MAX_UNANSWERED = 3
"""Devices in a row that fail, while the API answers nothing else, before the run ends."""

MAX_NAMES = 10
"""Most failed devices that are named in the last line."""


class TapUnleash(Tap):
    """Singer tap for Unleash live (unleashlive.com): AI on video from drones and cameras."""

    name = "tap-unleash"
    message_writer_class = BufferedWriter
    # A list that is restricted to some devices is not the whole table.
    capabilities: ClassVar = [
        c for c in Tap.capabilities if c is not TapCapabilities.ACTIVATE_VERSION
    ]

    config_jsonschema: ClassVar[dict[str, Any]] = th.PropertiesList(
        th.Property(
            "api_key",
            th.StringType,
            required=True,
            secret=True,
            description="Personal access token (recommended; starts with `ul_pat_` and is "
            "sent as a bearer token) or legacy API key (sent in the `x-api-key` header).",
        ),
        th.Property(
            "api_url",
            th.StringType,
            default=API_URL,
            description="Base URL of the API. Must use HTTPS; plain HTTP is accepted only "
            "for loopback addresses.",
        ),
        th.Property(
            "start_date",
            th.DateTimeType,
            description="Earliest record timestamp to extract (inclusive; ISO 8601, UTC if "
            "no offset is given). By default, all history is extracted.",
        ),
        th.Property(
            "end_date",
            th.DateTimeType,
            description="Latest record timestamp to extract (inclusive). Defaults to the "
            "start time of the sync.",
        ),
        th.Property(
            "device_ids",
            th.ArrayType(th.StringType),
            description="Extract only these devices. Fails if a device does not exist in "
            "the account. By default, all devices are extracted.",
        ),
        th.Property(
            "lookback_minutes",
            th.IntegerType(minimum=0),
            default=60,
            description="Lookback window in minutes: how far before its bookmark each "
            "device is read again to capture late-arriving records.",
        ),
        th.Property(
            "response_format",
            th.StringType,
            default="size_optimized",
            allowed_values=["size_optimized", "tableau"],
            description="Analytics endpoint to use. Both return the same records; "
            "`size_optimized` transfers less data.",
        ),
        th.Property(
            "concurrency",
            th.IntegerType(minimum=1, maximum=32),
            default=4,
            description="Maximum number of concurrent API requests.",
        ),
        th.Property(
            "shard",
            th.StringType,
            description="Extract only one shard of the devices: `2/5` is the second of "
            "five. Devices are assigned by a hash of their ID, so parallel workers need no "
            "coordination.",
        ),
        th.Property(
            "request_timeout",
            th.IntegerType(minimum=1, maximum=3_600),
            default=60,
            description="Seconds to wait for a complete response before the request is retried.",
        ),
        additional_properties=False,
    ).to_dict()

    @override
    def __init__(
        self,
        *,
        config: Mapping[str, Any] | None = None,
        parse_env_config: bool = False,
        validate_config: bool = True,
        **kwargs: Any,
    ) -> None:
        self._failures: list[str] = []
        self.unanswered = 0
        if parse_env_config:
            self.append_builtin_config(self.config_jsonschema)
            for warning in check_environment(self.config_jsonschema, os.environ):
                self.logger.warning(warning)
        try:
            super().__init__(
                config={k: v for k, v in (config or {}).items() if v is not None},
                parse_env_config=parse_env_config,
                validate_config=validate_config,
                **kwargs,
            )
        except ConfigValidationError as error:
            invalid = explain(self.config, self.config_jsonschema)
            msg = invalid or f"Invalid configuration: {' '.join(error.errors)}."
            raise FatalError(msg) from None
        if validate_config:
            if problem := next(problems(self.config), None):
                raise FatalError(problem)
            _ = self.time_range
        elif reason := explain(self.config, self.config_jsonschema):
            self.logger.warning("%s Discovery uses no settings.", reason)

    @cached_property
    def time_range(self) -> tuple[int, int]:
        """The first instant to extract and the first one after it, in epoch milliseconds."""
        return time_range(self.config, now=self.initialized_at)

    @cached_property
    def session(self) -> Session:
        """The connection that all streams share, and with it the rate limit."""
        return Session(self.config)

    def isolate(self, name: str, error: UnleashError) -> None:
        """Log an error that concerns one device or stream, and go on with the others.

        Args:
            name: The device or stream.
            error: The error.

        Raises:
            UnleashError: If it concerns the whole run, or if the connection is only tested.
        """
        tested = any(s.ABORT_AT_RECORD_COUNT is not None for s in self.streams.values())
        if tested or isinstance(error, FatalError):
            raise error
        self.logger.error("Failed to sync %s: %s", name, error)
        self._failures.append(name)
        alone = isinstance(error, Unavailable) and error.alone
        self.unanswered = self.unanswered + 1 if alone else 0
        if self.unanswered >= MAX_UNANSWERED:
            msg = f"{MAX_UNANSWERED} devices in a row failed. {error}"
            raise FatalError(msg) from error

    def report_failures(self) -> None:
        """End the sync if devices or streams failed.

        Raises:
            UnleashError: If any did.
        """
        if self._failures:
            names = ", ".join(self._failures[:MAX_NAMES])
            more = ", …" if len(self._failures) > MAX_NAMES else ""
            msg = (
                f"Sync incomplete: {len(self._failures)} failed ({names}{more}); the errors "
                "are above. The next sync tries them again."
            )
            raise UnleashError(msg)

    @override
    def discover_streams(self) -> list[Stream]:
        kinds = (streams.ApiVersion, streams.Devices, streams.Sessions, streams.Analytics)
        return [kind(self) for kind in kinds]

    @override
    def setup_mapper(self) -> None:
        if self.input_catalog is not None:
            check_catalog(self.input_catalog, self.streams)
        fields = {name: stream.schema["properties"] for name, stream in self.streams.items()}
        check_stream_maps(self.config.get("stream_maps") or {}, fields)
        super().setup_mapper()

    @override
    def load_state(self, state: dict[str, Any]) -> None:
        super().load_state(parse_state(state, self.streams))

    @override
    @classmethod
    def cb_config(cls, ctx: click.Context, param: click.Option, value: tuple[str, ...]) -> Any:
        # The SDK does not check that a file holds an object. It can be a pipe: read it once.
        given = super().cb_config(ctx, param, tuple(v for v in value if v == "ENV"))
        for path in value:
            if path != "ENV":
                given.config.update(deserialize_json(JSON_FILE.convert(path, param, ctx).read()))
        return given

    @override
    @classmethod
    def get_singer_command(cls) -> click.Command:
        command = super().get_singer_command()
        for option in command.params:
            if isinstance(option.type, click.File):
                option.type = JSON_FILE
        command.help = "Extract detections and metrics from Unleash live (unleashlive.com)."
        command.epilog = (
            "Settings come from a file (--config=config.json), from variables such as "
            "TAP_UNLEASH_API_KEY (--config=ENV), or both. --about --format=markdown describes all "
            "settings. The documentation is in the folder docs of the repository."
        )
        return command

    # The SDK's own handler ends with exit code 0, and can cut a message in half.
    @override
    def _handle_termination(self, signum: int, frame: FrameType | None) -> None:
        def end() -> None:
            # A BATCH file that is not complete holds records that the state includes.
            if not self.config.get("batch_config"):
                self.state_writer.write_state(self.state)
            leave(128 + signum, "Interrupted. The next sync resumes from the last checkpoint.")

        cast("BufferedWriter", self.message_writer).when_idle(end)
