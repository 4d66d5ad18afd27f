"""The streams."""

from __future__ import annotations

import sys
import time
from contextlib import contextmanager
from functools import cached_property, partial
from itertools import islice
from typing import TYPE_CHECKING, Any, ClassVar, cast

from singer_sdk import SchemaDirectory, StreamSchema
from singer_sdk.helpers.conform import TypeConformanceLevel
from singer_sdk.singerlib.catalog import REPLICATION_INCREMENTAL
from typing_extensions import override

from tap_unleash import schemas
from tap_unleash.api.errors import (
    FatalError,
    RequestRejected,
    Unavailable,
    UnleashError,
)
from tap_unleash.api.page import escape, sortable
from tap_unleash.api.prefetcher import Prefetcher, read_one_by_one
from tap_unleash.api.time_window import TimeWindow
from tap_unleash.api.timestamps import format_timestamp, sort_key
from tap_unleash.bookmarks import Bookmarks
from tap_unleash.bulk_records import BatchStream, BulkStream
from tap_unleash.progress import Progress

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from singer_sdk.helpers._batch import BaseBatchFileEncoding, BatchConfig
    from singer_sdk.helpers.types import Context, Record

    from tap_unleash.api.client import UnleashClient
    from tap_unleash.api.page import Page
    from tap_unleash.config import Config
    from tap_unleash.tap import TapUnleash

STATE_INTERVAL = 5.0
"""Least number of seconds between two STATE messages."""

STATE_INTERVAL_PER_DEVICE = 0.005
"""Additional seconds per device, because a STATE message holds all bookmarks."""

MAX_UNAVAILABLE = 3
"""Devices in a row that are unavailable before the sync ends."""

DENIED = {401, 403}
"""Statuses with which the API rejects the credential."""

SCHEMAS = SchemaDirectory(schemas)


class UnleashStream(BatchStream):
    """Base of the streams."""

    schema: ClassVar[StreamSchema[str]] = StreamSchema(SCHEMAS)

    @property
    def tap(self) -> TapUnleash:
        """The tap."""
        return cast("TapUnleash", self._tap)

    @property
    def settings(self) -> Config:
        """The parsed settings."""
        return self.tap.settings

    @property
    def client(self) -> UnleashClient:
        """The client that all streams share."""
        return self.tap.client

    @property
    def tested(self) -> bool:
        """Whether the connection is being tested, so that one record is enough."""
        return self.ABORT_AT_RECORD_COUNT is not None

    def isolate(self, name: str, error: UnleashError) -> None:
        """Log an error that concerns one device or stream, and go on with the others.

        Args:
            name: The device or stream.
            error: The error.

        Raises:
            UnleashError: If it concerns the whole sync.
        """
        if self.tested or isinstance(error, FatalError):
            raise error
        self.logger.error("Failed to sync %s: %s", name, error)
        self.tap.failures.append(name)

    @override
    def log(self, *args: Any, **kwargs: Any) -> None:
        # The SDK logs a failed sync as unhandled; the error message says more.
        if not isinstance(sys.exc_info()[1], UnleashError):
            super().log(*args, **kwargs)

    @override
    def log_sync_costs(self) -> None:
        # Called once for each stream, after the sync of all of them.
        super().log_sync_costs()
        self.tap.report_failures()


class FullTableStream(UnleashStream):
    """A stream that every sync reads completely."""

    def read(self) -> Iterable[Record]:
        """Request the records.

        Returns:
            The records.
        """
        raise NotImplementedError

    @override
    def get_records(self, context: Context | None) -> Iterable[Record]:
        try:
            yield from islice(self.read(), self.ABORT_AT_RECORD_COUNT)
        except RequestRejected as error:
            if error.status in DENIED:
                raise FatalError(str(error)) from error
            self.isolate(f"stream '{self.name}'", error)
        except UnleashError as error:
            self.isolate(f"stream '{self.name}'", error)


class ListStream(FullTableStream):
    """A stream of the values of one response.

    Attributes:
        field: The only field of its records.
    """

    field: ClassVar[str]

    def get_values(self) -> list[str]:
        """Request the values.

        Returns:
            The value of the only field of each record.
        """
        raise NotImplementedError

    @override
    def read(self) -> Iterable[Record]:
        return [{self.field: escape(value)} for value in self.get_values()]


class ApiVersion(ListStream):
    """The version of the API."""

    name = "api_version"
    field = "version"
    primary_keys = ("version",)
    selected_by_default = False

    @override
    def get_values(self) -> list[str]:
        return [self.client.version()]


class Devices(ListStream):
    """The devices that are extracted."""

    name = "devices"
    field = "device_id"
    primary_keys = ("device_id",)

    @override
    def get_values(self) -> list[str]:
        return self.tap.device_ids


class Sessions(ListStream):
    """The sessions of the account."""

    name = "sessions"
    field = "session_id"
    primary_keys = ("session_id",)

    @override
    def get_values(self) -> list[str]:
        return self.tap.session_ids


class FlightLogs(FullTableStream):
    """The flight logs of the company."""

    name = "flight_logs"
    primary_keys = ("id",)
    selected_by_default = False

    TYPE_CONFORMANCE_LEVEL = TypeConformanceLevel.NONE  # the client converts the values

    @override
    def read(self) -> Iterable[Record]:
        # The flight logs are those of all devices.
        wanted = TimeWindow("", self.settings.start, self.settings.end + 1)
        seen: set[str] = set()
        try:
            for flights in read_one_by_one(partial(self._fetch, wanted), wanted):
                # Sorted, so that the version of an ID that is kept does not depend on the
                # order of the response.
                for flight in sorted(flights, key=sortable):
                    if flight["id"] not in seen:
                        seen.add(flight["id"])
                        yield flight
        except RequestRejected as error:
            if error.status not in DENIED:
                raise
            msg = f"The API key may not be valid for flight logs. {error}"
            raise UnleashError(msg) from error

    def _fetch(
        self,
        wanted: TimeWindow,
        window: TimeWindow,
        _number: int,
        splittable: bool,  # noqa: FBT001
    ) -> list[Record]:
        # Parts overlap by a millisecond, in case the API excludes the bounds of a range.
        start: int | None = window.start if window.first else window.start - 1
        end: int | None = window.end - 1 if window.last else window.end
        if window == wanted:
            # Without bounds, flights without a date are found as well.
            start = start if self.config.get("start_date") else None
            end = end if self.config.get("end_date") else None
        return self.client.flight_logs(start, end, splittable=splittable)


class Analytics(BulkStream, UnleashStream):
    """The detections and metrics of all devices."""

    name = "analytics"
    primary_keys = ("record_id",)
    replication_key = "timestamp"

    STATE_MSG_FREQUENCY = sys.maxsize  # STATE is written after windows, by time
    TYPE_CONFORMANCE_LEVEL = TypeConformanceLevel.NONE  # pages are typed by column

    @override
    def __init__(self, tap: TapUnleash) -> None:
        super().__init__(tap)
        self._prefetcher: Prefetcher | None = None
        self._progress: Progress | None = None
        self._pending: list[tuple[Context, str]] = []
        self._state_written_at = time.monotonic()
        self._unavailable = 0

    @override
    @cached_property
    def partitions(self) -> list[dict[str, Any]]:
        device_ids = self.tap.device_ids[: self.ABORT_AT_RECORD_COUNT]
        return [{"device_id": device_id} for device_id in device_ids]

    @override
    @cached_property
    def state_manager(self) -> Bookmarks:
        return Bookmarks(
            tap_name=self.tap_name,
            stream_name=self.name,
            tap_state=self.tap_state,
        )

    @override
    def get_windows(self, context: Context | None) -> Iterator[list[Page]]:
        if not context:
            return
        self._warn_of_future(context)
        wanted = self._range(context)
        if wanted is None:
            self._advance_progress(0, 1)
            return
        if self.tested:
            # One page is enough, and its windows do not matter.
            page = self._fetch(wanted, 1, False)  # noqa: FBT003 - not splittable
            yield [page.take(range(len(page))[: self.ABORT_AT_RECORD_COUNT])]
            return
        prefetcher = self._prefetcher or self._new_prefetcher([])
        try:
            for window, pages in prefetcher.read(wanted):
                yield pages
                if latest := _latest(window, pages):
                    self._pending.append((context, latest))
                if not self.config.get("batch_config"):
                    self._checkpoint(self._pending)
                share = (window.end - wanted.start) / (wanted.end - wanted.start)
                self._advance_progress(sum(map(len, pages)), share)
        except UnleashError as error:
            self._isolate_device(context["device_id"], error)
            self._advance_progress(0, 1)
        else:
            self._unavailable = 0
        finally:
            if prefetcher is not self._prefetcher:
                prefetcher.close()

    def _isolate_device(self, device_id: str, error: UnleashError) -> None:
        if isinstance(error, RequestRejected) and device_id not in self._listed(error):
            self.logger.warning("Device %r was removed from the account", device_id)
            return
        self.isolate(f"device {device_id!r}", error)
        self._unavailable = (
            self._unavailable + 1 if isinstance(error, Unavailable) else 0
        )
        if self._unavailable >= MAX_UNAVAILABLE:
            msg = f"{MAX_UNAVAILABLE} devices in a row failed. {error}"
            raise FatalError(msg) from error

    def _listed(self, error: RequestRejected) -> list[str]:
        try:
            return self.client.devices()
        except RequestRejected:
            raise FatalError(str(error)) from error

    @override
    @contextmanager
    def reading_ahead(self, contexts: Sequence[Mapping[str, Any]]) -> Iterator[None]:
        self._progress = Progress(len(contexts), self.logger)
        ranges = (window for c in contexts if (window := self._range(c)))
        self._prefetcher = self._new_prefetcher(ranges)
        try:
            yield
        finally:
            self._prefetcher.close()
            self._prefetcher = None

    def _new_prefetcher(self, ranges: Iterable[TimeWindow]) -> Prefetcher:
        return Prefetcher(self._fetch, self.settings.concurrency, ranges)

    def _fetch(self, window: TimeWindow, number: int, splittable: bool) -> Page:  # noqa: FBT001
        return self.client.page(
            window.device_id,
            *window.bounds,
            number,
            self.settings.response_format,
            splittable=splittable,
        )

    def _advance_progress(self, rows: int, share: float) -> None:
        if self._progress:
            self._progress.advance(rows, share)

    @override
    def get_batches(
        self,
        batch_config: BatchConfig,
        context: Context | None = None,
    ) -> Iterable[tuple[BaseBatchFileEncoding, list[str]]]:
        for batch in super().get_batches(batch_config, context):
            in_this_batch, self._pending = self._pending, []
            yield batch
            self._checkpoint(in_this_batch)
        self._checkpoint(self._pending)

    def _checkpoint(self, emitted: list[tuple[Context, str]]) -> None:
        """Advance bookmarks after their records, and write STATE if it is time."""
        if self.replication_method != REPLICATION_INCREMENTAL:
            emitted.clear()
        while emitted:
            self.state_manager.advance(*emitted.pop())
        now = time.monotonic()
        pause = STATE_INTERVAL + STATE_INTERVAL_PER_DEVICE * len(self.partitions)
        if not self.state_manager.is_flushed and now > self._state_written_at + pause:
            self.tap.state_writer.write_state(self.tap_state)
            self.state_manager.is_flushed = True
            self._state_written_at = now

    def _warn_of_future(self, context: Context) -> None:
        bookmark = self.state_manager.get(context)
        if bookmark and bookmark[1] > self.tap.initialized_at:
            self.logger.warning(
                "The bookmark of device %r is in the future (%s): new records before it are "
                "not extracted. Check the system clock and the state",
                context["device_id"],
                bookmark[0],
            )

    def _range(self, context: Context) -> TimeWindow | None:
        """Return the range to read of a device, if any."""
        start, end = self.settings.start, self.settings.end + 1
        bookmark = None
        if self.replication_method == REPLICATION_INCREMENTAL:
            bookmark = self.state_manager.get(context)
        if bookmark:
            start = max(start, bookmark[1] - self.settings.lookback)
        if start >= end:
            return None
        return TimeWindow(context["device_id"], start, end)


def _latest(window: TimeWindow, pages: list[Page]) -> str | None:
    """Return the greatest timestamp of a window, but none after its end."""
    instants = [page.instants for page in pages if page.instants]
    if not instants:
        return None
    limit = format_timestamp(window.end - 1)
    latest = max(max(of_page.values()) for of_page in instants)
    stamps = {
        stamp for of_page in instants for stamp, at in of_page.items() if at == latest
    }
    return min(max(stamps, key=sort_key), limit, key=sort_key)
