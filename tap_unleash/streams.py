"""The streams, declared."""

from __future__ import annotations

import re
import sys
import time
from datetime import datetime, timezone
from functools import cached_property, partial
from hashlib import blake2b
from itertools import chain
from typing import TYPE_CHECKING, Any, ClassVar, cast

import click
import msgspec
from singer_sdk import SchemaDirectory, StreamSchema
from singer_sdk.helpers.conform import TypeConformanceLevel
from singer_sdk.singerlib.catalog import REPLICATION_INCREMENTAL
from typing_extensions import override

from tap_unleash import schemas
from tap_unleash.bookmarks import Bookmarks
from tap_unleash.client import InvalidBodyError, RefusedError, TapError, UnleashStream
from tap_unleash.fast import PagedStream
from tap_unleash.identity import record_ids
from tap_unleash.page import Page, read_page, size_optimized, tableau, without_nul
from tap_unleash.progress import Progress
from tap_unleash.reader import Reader
from tap_unleash.slices import EARLIEST, Slice, instant

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from singer_sdk.helpers._batch import BaseBatchFileEncoding, BatchConfig
    from singer_sdk.helpers.types import Context, Record

STATE_INTERVAL = 5.0
"""Seconds at least between two STATE messages."""

STATE_INTERVAL_PER_DEVICE = 0.005
"""Seconds more for each device, as a STATE message holds the bookmarks of all."""

SCHEMAS = SchemaDirectory(schemas)

_VERSION = re.compile(
    r'{{"({0})"}}|"({0})"|({0})'.format(r"[0-9A-Za-z]+(?:[.-][0-9A-Za-z]+)*")
)

_ids = msgspec.json.Decoder(list[str | int])


def decode_ids(body: bytes) -> list[str]:
    """Decode an array of ids, each taken once.

    Args:
        body: The body of the documented devices or sessions endpoint.

    Returns:
        The ids, in their order.
    """
    return list(dict.fromkeys(map(str, _ids.decode(body))))


def decode_version(body: bytes) -> str:
    """Decode the version, which the documentation prints as ``{"1.0.1"}``.

    Args:
        body: That, which is not JSON, or the string alone, quoted or not.

    Returns:
        The version.

    Raises:
        InvalidBodyError: If it is nothing of the kind.
    """
    if not (match := _VERSION.fullmatch(body.decode().strip())):
        msg = "no version"
        raise InvalidBodyError(msg)
    version: str = match[match.lastindex or 0]
    return version


def shard(config: Mapping[str, Any]) -> tuple[int, int] | None:
    """Get the setting `shard`.

    Args:
        config: The settings.

    Returns:
        The number of the worker and how many there are, if it is set.

    Raises:
        TapError: If there is no such worker.
    """
    if not (value := config.get("shard")):
        return None
    worker, workers = map(int, value.split("/"))
    if worker > workers:
        msg = f"`shard` is {value}, but there is no worker {worker} of {workers}."
        raise TapError(msg)
    return worker, workers


def shard_of(device_id: str, workers: int) -> int:
    """Tell whose a device is among workers that share an account.

    Args:
        device_id: The device.
        workers: How many workers there are.

    Returns:
        A number from 1 to `workers`, the same on every machine and in every run.
    """
    digest = blake2b(device_id.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") % workers + 1


class ListStream(UnleashStream):
    """A stream whose records are the values of one answer."""

    schema: ClassVar[StreamSchema[str]] = StreamSchema(SCHEMAS)

    @override
    def get_records(self, context: Context | None) -> Iterable[Record]:
        (key,) = self.primary_keys
        values = self.values[: self.ABORT_AT_RECORD_COUNT]
        return ({key: without_nul(value)} for value in values)

    @cached_property
    def values(self) -> list[str]:
        """The values, asked for once a run."""
        return self.fetch(self.path, decode=self.decode)

    def decode(self, body: bytes) -> list[str]:
        """Decode the answer.

        Args:
            body: Its body.

        Returns:
            The values.
        """
        return decode_ids(body)


class ApiVersion(ListStream):
    """The version of the API."""

    name = "api_version"
    path = "version"
    primary_keys = ("version",)
    selected_by_default = False

    @override
    def decode(self, body: bytes) -> list[str]:
        return [decode_version(body)]


class Devices(ListStream):
    """The devices that are read."""

    name = "devices"
    path = "devices"
    primary_keys = ("device_id",)

    @override
    def decode(self, body: bytes) -> list[str]:
        device_ids = decode_ids(body)
        if wanted := self.config.get("device_ids"):
            if unknown := set(wanted).difference(device_ids):
                names = ", ".join(sorted(unknown))
                msg = f"`device_ids` names devices that the account does not have: {names}."
                raise TapError(msg)
            device_ids = [
                device_id for device_id in device_ids if device_id in set(wanted)
            ]
        if share := shard(self.config):
            worker, workers = share
            device_ids = [d for d in device_ids if shard_of(d, workers) == worker]
        return device_ids


class Sessions(ListStream):
    """The sessions of the account."""

    name = "sessions"
    path = "sessions"
    primary_keys = ("session_id",)


class Analytics(PagedStream, UnleashStream):
    """The rows of every device."""

    name = "analytics"
    path = "{device_id}/{from}/{to}/{page}"
    primary_keys = ("record_id",)
    replication_key = "timestamp"
    schema: ClassVar[StreamSchema[str]] = StreamSchema(SCHEMAS)

    STATE_MSG_FREQUENCY = sys.maxsize  # STATE goes out by the clock, after whole slices
    TYPE_CONFORMANCE_LEVEL = TypeConformanceLevel.NONE  # pages are typed by column

    @override
    @cached_property
    def partitions(self) -> list[dict[str, Any]]:
        devices = cast("Devices", self._tap.streams["devices"])
        device_ids = devices.values[: self.ABORT_AT_RECORD_COUNT]
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
    def get_slices(
        self, context: Context | None
    ) -> Iterator[Iterable[tuple[Page, list[str]]]]:
        if context is None:
            return
        if not (wanted := self._range(context)):
            self._progress.advance(0, 1)
            return
        if self.ABORT_AT_RECORD_COUNT is not None:
            # A test asks for a row, not for a history.
            page = self._fetch_page(wanted, 1)
            page = page.take(range(len(page))[: self.ABORT_AT_RECORD_COUNT])
            yield zip([page], record_ids([page]), strict=True)
            return
        try:
            for part, pages in self._results:
                yield zip(pages, record_ids(pages), strict=True)
                if latest := _latest(part, pages):
                    self._read_to.append((context, latest))
                if not self.config.get("batch_config"):
                    self._commit(self._read_to)
                share = (part.end - wanted.start) / (wanted.end - wanted.start)
                self._progress.advance(sum(map(len, pages)), share)
                if part.last:
                    break
        except BaseException:
            self._tap.state_writer.write_state(self.tap_state)
            raise

    @cached_property
    def _progress(self) -> Progress:
        return Progress(len(self.partitions), self.logger)

    @override
    def get_batches(
        self,
        batch_config: BatchConfig,
        context: Context | None = None,
    ) -> Iterable[tuple[BaseBatchFileEncoding, list[str]]]:
        for batch in super().get_batches(batch_config, context):
            in_this_batch, self._read_to = self._read_to, []
            yield batch
            self._commit(in_this_batch)
        self._commit(self._read_to)

    @cached_property
    def _read_to(self) -> list[tuple[Context, str]]:
        """How far partitions were read, where no bookmark says so yet."""
        return []

    def _commit(self, read_to: list[tuple[Context, str]]) -> None:
        """Move the bookmarks behind rows that are out, and write STATE if it is time."""
        while read_to:
            self.state_manager.advance(*read_to.pop())
        now = time.monotonic()
        pause = STATE_INTERVAL + STATE_INTERVAL_PER_DEVICE * len(self.partitions)
        if not self.state_manager.is_flushed and now > self._state_written_at + pause:
            self._tap.state_writer.write_state(self.tap_state)
            self.state_manager.is_flushed = True
            self._state_written_at = now

    @cached_property
    def _state_written_at(self) -> float:
        return time.monotonic()

    @cached_property
    def _results(self) -> Iterator[tuple[Slice, list[Page]]]:
        """The slices of all partitions, read ahead."""
        ranges = (part for p in self.partitions if (part := self._range(p)))
        return self.reader.read(ranges)

    @cached_property
    def reader(self) -> Reader:
        """What reads ahead, and stops when the command ends, whatever ends it."""
        reader = Reader(self._fetch_page, self.gate, self.config["concurrency"])
        if command := click.get_current_context(silent=True):
            command.call_on_close(reader.stop)
        return reader

    def _range(self, context: Context) -> Slice | None:
        """What is to be read of a device, if anything."""
        start = instant(self.config, "start_date") or EARLIEST
        if self.replication_method == REPLICATION_INCREMENTAL and (
            bookmark := self.state_manager.get(context)
        ):
            lookback = self.config["lookback_minutes"] * 60_000
            start = max(start, bookmark[1] - lookback)
        end = (instant(self.config, "end_date") or self._tap.initialized_at) + 1
        return (
            Slice(context["device_id"], max(start, EARLIEST), end)
            if start < end
            else None
        )

    def _fetch_page(self, part: Slice, page: int) -> Page:
        device_id = part.device_id
        tableau_form = self.config["response_format"] == "tableau"
        decode = partial(
            read_page,
            decode=tableau if tableau_form else size_optimized,
            device_id=device_id,
            page=page,
            on_new_column=self._report_column,
        )
        if device_id not in self._removed:
            try:
                return self.fetch(
                    *(["tableau"] if tableau_form else []),
                    *(device_id, *part.bounds, page),
                    decode=decode,
                    divisible=part.divisible,
                )
            except RefusedError:
                if device_id in self.fetch("devices", decode=decode_ids):
                    raise
                self._removed.add(device_id)
                self.logger.warning("Device %r was removed from the account", device_id)
        return decode(b'{"keys": [], "total_num_pages": 0, "data": []}')

    @cached_property
    def _removed(self) -> set[str]:
        """Devices that went missing during the run."""
        return set()

    @cached_property
    def _new_columns(self) -> set[str]:
        return set()

    def _report_column(self, name: str) -> None:
        if name not in self._new_columns:
            self._new_columns.add(name)
            self.logger.warning(
                "The API sent a column that the schema does not know, %r: its values are "
                "kept in `extra_fields`",
                name,
            )


def _latest(part: Slice, pages: list[Page]) -> str | None:
    """The latest timestamp of a slice, but none behind its end, however wrong a clock."""
    timestamps = set(chain.from_iterable(page.instants for page in pages))
    if not timestamps:
        return None
    end = datetime.fromtimestamp((part.end - 1) / 1000, timezone.utc)
    limit = f"{end.replace(tzinfo=None).isoformat(timespec='milliseconds')}Z"
    return min(max(timestamps, key=_sortable), limit, key=_sortable)


def _sortable(timestamp: str) -> str:
    return timestamp.rstrip("Z")
