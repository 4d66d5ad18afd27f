"""The streams."""

from __future__ import annotations

import re
import time
from contextlib import closing, contextmanager
from functools import cached_property
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, ClassVar, cast
from urllib.parse import quote

import msgspec
from singer_sdk.singerlib.catalog import REPLICATION_INCREMENTAL
from singer_sdk.streams.rest import HTTPRequest, PageContext
from typing_extensions import override

from tap_unleash.bulk import BulkStream
from tap_unleash.client import UnleashStream
from tap_unleash.config import select
from tap_unleash.errors import FatalError, UnleashError
from tap_unleash.pagination import TotalPagesPaginator
from tap_unleash.progress import Progress
from tap_unleash.reader import Reader
from tap_unleash.records import records
from tap_unleash.rules import PageSizes
from tap_unleash.session import Unavailable
from tap_unleash.timestamps import format_timestamp, parse_timestamp
from tap_unleash.windows import DAY, PageRequest, TimeWindow

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator, Sequence

    import requests
    from singer_sdk.helpers.types import Context, Record

    from tap_unleash.page import Row
    from tap_unleash.tap import TapUnleash

_VERSION = re.compile(r'(?:\{(?:"version": ?)?)?"?([0-9A-Za-z]+(?:[.-][0-9A-Za-z]+)*)"?\}?')


class ListStream(UnleashStream):
    """A stream of the values of one response.

    Attributes:
        field: The only field of its records.
    """

    field: ClassVar[str]

    @override
    def get_new_paginator(self) -> None:
        """Return nothing: there is one page."""

    @override
    def validate_response(self, response: requests.Response) -> None:
        super().validate_response(response)
        try:
            list(self.parse_response(response))
        except (msgspec.MsgspecError, ValueError) as error:
            msg = f"unexpected API response ({error})"
            raise Unavailable(msg) from None

    @override
    def parse_response(self, response: requests.Response) -> Iterable[Record]:
        body = b"null" if response.status_code == HTTPStatus.NO_CONTENT else response.content
        ids = msgspec.json.decode(body, type=list[str | int] | None)
        for value in dict.fromkeys(map(str, ids or ())):
            yield {self.field: value}

    @cached_property
    def values(self) -> list[str]:
        """The values of the response."""
        return [record[self.field] for record in self.request_records(None)]

    @override
    def get_records(self, context: Context | None) -> Iterable[Record]:
        try:
            for value in self.values:
                yield {self.field: value}
        except UnleashError as error:
            self.tap.isolate(f"stream '{self.name}'", error)


class ApiVersion(ListStream):
    """The version of the API."""

    name = "api_version"
    path = "/version"
    field = "version"
    primary_keys = ("version",)

    @override
    def parse_response(self, response: requests.Response) -> Iterable[Record]:
        # The vendor's page prints {"1.0.1"}, which is not JSON.
        if not (match := _VERSION.fullmatch(response.text.strip())):
            msg = "missing version"
            raise ValueError(msg)
        yield {self.field: match[1]}


class Devices(ListStream):
    """The devices that are extracted."""

    name = "devices"
    path = "/devices"
    field = "device_id"
    primary_keys = ("device_id",)

    @override
    def parse_response(self, response: requests.Response) -> Iterable[Record]:
        listed = [record[self.field] for record in super().parse_response(response)]
        return [{self.field: value} for value in select(self.config, listed)]


class Sessions(ListStream):
    """The sessions of the account."""

    name = "sessions"
    path = "/sessions"
    field = "session_id"
    primary_keys = ("session_id",)


class Analytics(BulkStream):
    """The detections and metrics of all devices."""

    name = "analytics"
    path = "/{device_id}/{from}/{to}/{page}"
    primary_keys = ("record_id",)
    replication_key = "timestamp"
    is_sorted = True
    check_sorted = False  # the lookback window is read again

    _reading: tuple[Reader, Progress] | None = None
    _extracted: tuple[int, int] | None = None

    @override
    def __init__(self, tap: TapUnleash) -> None:
        super().__init__(tap)
        if self.config["response_format"] == "tableau":
            self.path = f"/tableau{self.path}"
        self._page_sizes = PageSizes()
        self._states: dict[str, dict[str, Any]] = {}

    @override
    def get_context_state(self, context: Context | None) -> dict[str, Any]:
        device_id = (context or {}).get("device_id", "")
        if device_id not in self._states:  # the SDK searches all partitions
            self._states[device_id] = super().get_context_state(context)
        return self._states[device_id]

    @override
    @cached_property
    def partitions(self) -> list[dict[str, Any]]:
        devices = cast("Devices", self.tap.streams["devices"])
        try:
            # A test of the connection takes one record.
            ids = devices.values[: self.ABORT_AT_RECORD_COUNT]
        except UnleashError as error:
            raise FatalError(str(error)) from error
        if not ids:
            self.logger.warning("There is no device to extract")
        return [{"device_id": device_id} for device_id in ids]

    @override
    def get_http_request(self, *, page: PageContext[PageRequest]) -> HTTPRequest:
        request = cast("PageRequest", page.next_page_token)
        start, end = request.window.bounds(request.look)
        device_id = quote(request.window.device_id, safe="")
        segments = {"device_id": device_id, "from": start, "to": end, "page": request.number}
        return HTTPRequest(self.get_url(segments))

    @override
    def get_new_paginator(self, window: TimeWindow | None = None) -> TotalPagesPaginator:
        return TotalPagesPaginator(cast("TimeWindow", window), self._page_sizes)

    @contextmanager
    def _reading_ahead(self, contexts: Sequence[Context]) -> Iterator[None]:
        """Read devices ahead, in this order, while the context manager is entered."""
        concurrency, ranges = self.config["concurrency"], map(self._range, contexts)
        reader = Reader(self.fetch, self.get_new_paginator, concurrency, filter(None, ranges))
        with closing(reader), Progress(len(contexts), self.logger) as progress:
            self._reading = reader, progress
            try:
                yield
            finally:
                self._reading = None
        self._extracted = progress.records, len(contexts)
        if contexts and not (progress.records or any(map(self._bookmark, contexts))):
            self.logger.warning(
                "No device has a record. Check 'start_date', 'end_date' and the key's account"
            )

    @override
    def log_sync_costs(self) -> None:
        if self._extracted:
            self.logger.info(
                "Extracted %d records of %d devices in %.0f s with %d requests",
                *self._extracted,
                time.time() - self.tap.initialized_at / 1000,
                self.requests_session.answered,
            )
        super().log_sync_costs()

    def _get_windows(self, context: Context) -> Iterator[list[Row]]:
        """Read a device, and yield the rows of each window, in order of time."""
        if not self._reading:
            with self._reading_ahead([context]):
                yield from self._get_windows(context)
            return
        reader, progress = self._reading
        device_id = context["device_id"]
        try:
            if wanted := self._range(context):
                for window, paginator in reader.read(wanted):
                    if paginator.missing is not None:
                        self.logger.warning(
                            "Records of device %r at %s are gone: the API deleted them",
                            device_id,
                            format_timestamp(paginator.missing),
                        )
                    if paginator.rows:
                        yield paginator.rows
                    share = (window.end - wanted.start) / wanted.duration
                    progress.advance(len(paginator.rows), share)
        except UnleashError as error:
            self.tap.isolate(f"device {device_id!r}", error)
        else:
            self.tap.unanswered = 0
        progress.next_device()

    def _bookmark(self, context: Context) -> str | None:
        return self.get_context_state(context).get("replication_key_value")

    def _range(self, context: Context) -> TimeWindow | None:
        """Return the range to read of a device, if there is one."""
        device_id, known = context["device_id"], None
        start, end = self.tap.time_range
        value = self._bookmark(context)
        if value and self.replication_method == REPLICATION_INCREMENTAL:
            try:
                _, bookmark = parse_timestamp(value)
            except (TypeError, ValueError, OverflowError):
                msg = (
                    f"Invalid bookmark {value!r} for device {device_id!r} in the state. "
                    "Correct it, or remove the partition to sync the device from 'start_date'."
                )
                raise FatalError(msg) from None
            lookback = self.config["lookback_minutes"] * 60_000
            start = max(bookmark - lookback, min(start, bookmark))
            known = bookmark if start <= bookmark < end <= bookmark + DAY else None
        return TimeWindow(device_id, start, end, known=known) if start < end else None

    @override
    def get_replication_key_signpost(self, context: Context | None = None) -> None:
        """Return nothing: a bookmark never passes the end of a window."""

    @override
    def get_records(self, context: Context | None) -> Iterable[Record]:
        for rows in self._get_windows(context) if context else ():
            for chunk in records(rows):
                yield from msgspec.json.decode(msgspec.json.encode([*chunk]))

    # A private member of the SDK: no public hook takes all devices together.
    @override
    def _sync_records(
        self, context: Context | None = None, *, write_messages: bool = True
    ) -> Generator[dict[str, Any], Any, Any]:
        contexts: Sequence[Context] = [context] if context else self.partitions or []
        try:
            with self._reading_ahead(contexts):
                if write_messages and self._emits_unmodified_records:
                    windows = ((c, rows) for c in contexts for rows in self._get_windows(c))
                    self._write_windows(windows)
                else:
                    yield from super()._sync_records(context, write_messages=write_messages)
        finally:
            if write_messages:
                self._tap.state_writer.write_state(self.tap_state)
