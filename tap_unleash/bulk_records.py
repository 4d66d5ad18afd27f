"""Pages to RECORD lines and BATCH files, without the SDK's loop over records.

Where no record is changed on its way, that loop only costs time. `_sync_records` is the
only private member of the SDK that is overridden here; a test compares the output with that
of the SDK's own loop, byte for byte.
"""

from __future__ import annotations

import gzip
from abc import abstractmethod
from datetime import datetime, timezone
from functools import cached_property
from itertools import chain, repeat
from typing import TYPE_CHECKING, Any, cast
from uuid import uuid4

import msgspec
from singer_sdk import Stream
from singer_sdk.contrib.msgspec import encoder
from singer_sdk.mapper import SameRecordTransform
from typing_extensions import override

from tap_unleash.api.errors import FatalError
from tap_unleash.api.record_ids import record_ids
from tap_unleash.writer import BufferedWriter

if TYPE_CHECKING:
    from collections.abc import (
        Collection,
        Generator,
        Iterable,
        Iterator,
        Mapping,
        Sequence,
    )
    from contextlib import AbstractContextManager

    from singer_sdk.helpers._batch import BaseBatchFileEncoding, BatchConfig
    from singer_sdk.helpers.types import Context, Record

    from tap_unleash.api.page import Page

GZIP_LEVEL = 1
"""The fastest level: a target reads the file once, usually from a local disk."""


class AnalyticsRecord(msgspec.Struct, gc=False):
    """A record of the stream `analytics`, with its fields in the order of the schema."""

    record_id: str
    device_id: str
    session_id: str | None
    model_id: str | None
    source_file_name: str | None
    class_name: str | None
    count: float | None
    frame_number: int | None
    timestamp: str
    extra_fields: dict[str, Any] | msgspec.UnsetType = msgspec.UNSET


class AnalyticsRecordMessage(msgspec.Struct, gc=False, tag_field="type", tag="RECORD"):
    """A RECORD message, with its fields in the order of the SDK's."""

    stream: str
    record: msgspec.Struct
    time_extracted: str


def record_type(fields: Collection[str]) -> type[msgspec.Struct]:
    """Define a record with some of the fields, in the order of the schema.

    Args:
        fields: The names of the fields.

    Returns:
        The type, which is `AnalyticsRecord` if `fields` has all of its fields.
    """
    info = msgspec.structs.fields(AnalyticsRecord)
    selected = [
        (f.name, f.type) if f.required else (f.name, f.type, f.default)
        for f in info
        if f.name in fields
    ]
    if len(selected) == len(info):
        return AnalyticsRecord
    return msgspec.defstruct("SelectedFields", selected, gc=False)


def records(
    page: Page, ids: list[str], of_type: type[msgspec.Struct] = AnalyticsRecord
) -> Iterable[msgspec.Struct]:
    """Convert a page to records.

    Args:
        page: The page.
        ids: Its record IDs.
        of_type: The type of the records.

    Returns:
        The records.
    """
    columns: dict[str, Iterable[Any]] = {"record_id": ids, **page.columns}
    if any(page.extras):
        columns["extra_fields"] = (extra or msgspec.UNSET for extra in page.extras)
    fields = (name for name in of_type.__struct_fields__ if name in columns)
    return map(of_type, *(columns[name] for name in fields))


class BatchStream(Stream):
    """A stream with BATCH files of JSON lines.

    Those of the SDK are compressed, even if the BATCH message says that they are not.
    """

    @override
    def get_batches(
        self,
        batch_config: BatchConfig,
        context: Context | None = None,
    ) -> Iterable[tuple[BaseBatchFileEncoding, list[str]]]:
        if batch_config.encoding.format != "jsonl":
            yield from super().get_batches(batch_config, context)
            return
        prefix = (
            f"{batch_config.storage.prefix or ''}{self.tap_name}--{self.name}-{uuid4()}"
        )
        lines, count, files = bytearray(), 0, 0
        for block, length in chain(self.encoded_records(context), [(b"", 0)]):
            if count >= batch_config.batch_size or (count and not length):
                files += 1
                yield (
                    batch_config.encoding,
                    [_write_batch(lines, batch_config, f"{prefix}-{files}.json")],
                )
                lines, count = bytearray(), 0
            lines += block
            count += length

    def encoded_records(self, context: Context | None) -> Iterator[tuple[bytes, int]]:
        """Encode the records of a partition.

        Args:
            context: The partition.

        Yields:
            JSON lines, and the number of records that they hold.
        """
        for record in self._sync_records(context, write_messages=False):
            yield encoder.encode(record) + b"\n", 1


class BulkStream(BatchStream):
    """A stream whose partitions are read in time windows of several pages."""

    @abstractmethod
    def get_windows(self, context: Context | None) -> Iterator[list[Page]]:
        """Read a partition.

        Args:
            context: The partition.

        Yields:
            The pages of each window. A window is emitted when the next one is requested.
        """

    @abstractmethod
    def reading_ahead(
        self, contexts: Sequence[Mapping[str, Any]]
    ) -> AbstractContextManager[None]:
        """Read several partitions ahead while the context manager is entered.

        Args:
            contexts: The partitions that `get_windows` will be called with, in order.

        Returns:
            The context manager.
        """

    @override
    def get_records(self, context: Context | None) -> Iterable[Record]:
        for pages in self.get_windows(context):
            for page, ids in zip(pages, record_ids(pages), strict=True):
                yield from map(
                    msgspec.to_builtins, records(page, ids, self._record_type)
                )

    @cached_property
    def _record_type(self) -> type[msgspec.Struct]:
        """The selected fields, of those in the catalog's schema."""
        known = self.effective_schema.get("properties", {})
        return record_type(
            {name for name in known if self.mask.get(("properties", name), True)}
        )

    @property
    def _emits_unmodified_records(self) -> bool:
        return (
            self.selected
            and self.ABORT_AT_RECORD_COUNT is None
            and self.post_process.__func__ is Stream.post_process  # type: ignore[attr-defined]
            and len(self.stream_maps) == 1
            and type(self.stream_maps[0]) is SameRecordTransform
            and not self.stream_maps[0].flattening_enabled
            and isinstance(self._tap.message_writer, BufferedWriter)
        )

    @override
    def _sync_records(
        self,
        context: Context | None = None,
        *,
        write_messages: bool = True,
    ) -> Generator[dict[str, Any], Any, Any]:
        contexts = self._contexts(context)
        try:
            with self.reading_ahead(contexts):
                if not (write_messages and self._emits_unmodified_records):
                    yield from super()._sync_records(
                        context, write_messages=write_messages
                    )
                    return
                writer = cast("BufferedWriter", self._tap.message_writer)
                for page, ids in self._counted_pages(contexts):
                    now = msgspec.to_builtins(datetime.now(timezone.utc))
                    messages = map(
                        AnalyticsRecordMessage,
                        repeat(self.name),
                        records(page, ids, self._record_type),
                        repeat(now),
                    )
                    writer.write(encoder.encode_lines(list(messages)))
        finally:
            if write_messages:
                self._tap.state_writer.write_state(self.tap_state)

    @override
    def encoded_records(self, context: Context | None) -> Iterator[tuple[bytes, int]]:
        if not self._emits_unmodified_records:
            yield from super().encoded_records(context)
            return
        contexts = self._contexts(context)
        with self.reading_ahead(contexts):
            for page, ids in self._counted_pages(contexts):
                yield (
                    encoder.encode_lines(list(records(page, ids, self._record_type))),
                    len(ids),
                )

    def _contexts(self, context: Context | None) -> Sequence[Mapping[str, Any]]:
        return [context] if context else self.partitions or []

    def _counted_pages(
        self, contexts: Sequence[Mapping[str, Any]]
    ) -> Iterator[tuple[Page, list[str]]]:
        with self.get_record_counter() as counter, self.get_sync_timer() as timer:
            for context in contexts:
                counter.with_context(context)
                timer.with_context(context)
                for pages in self.get_windows(context):
                    for page, ids in zip(pages, record_ids(pages), strict=True):
                        if ids:
                            yield page, ids
                            counter.increment(len(ids))


def _write_batch(lines: bytes | bytearray, config: BatchConfig, name: str) -> str:
    """Write a batch file, and return its URL."""
    if config.encoding.compression == "gzip":
        name, lines = f"{name}.gz", gzip.compress(lines, GZIP_LEVEL)
    try:
        with config.storage.open(name, "wb") as file:
            file.write(lines)
    except OSError as error:
        msg = f"Cannot write a batch file to {config.storage.root}: {error.strerror}."
        raise FatalError(msg) from error
    url: str = config.storage.get_url(name)
    return url
