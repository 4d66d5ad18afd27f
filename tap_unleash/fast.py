"""The fast path: a page goes from its columns to the output as one piece.

Where nothing is deselected, mapped or flattened, the SDK's loop over records does nothing
but cost time. `_sync_records` is the one private member of the SDK that is overridden here;
a contract test compares what comes out of it with what the SDK's own loop writes.
"""

from __future__ import annotations

import gzip
from abc import abstractmethod
from datetime import datetime, timezone
from itertools import chain, repeat
from typing import TYPE_CHECKING, Any, cast
from uuid import uuid4

import msgspec
from singer_sdk import Stream
from singer_sdk.contrib.msgspec import encoder
from singer_sdk.mapper import SameRecordTransform
from typing_extensions import override

from tap_unleash.writer import BufferedWriter

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator, Mapping

    from singer_sdk.helpers._batch import BaseBatchFileEncoding, BatchConfig
    from singer_sdk.helpers.types import Context, Record

    from tap_unleash.page import Page

GZIP_LEVEL = 1
"""The fastest: a loader reads the file once, and from a disk nearby."""


class Row(msgspec.Struct, gc=False):
    """A record of the stream `analytics`, its fields in the order of the schema."""

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


class Message(msgspec.Struct, gc=False, tag_field="type", tag="RECORD"):
    """A RECORD message of such a record, its fields in the order of the SDK's."""

    stream: str
    record: Row
    time_extracted: str


def rows(page: Page, ids: list[str]) -> Iterable[Row]:
    """Make the rows of a page.

    Args:
        page: The page.
        ids: Its record ids.

    Returns:
        The rows.
    """
    if not any(page.extras):
        return map(Row, ids, *page.columns.values())
    extras = (extra or msgspec.UNSET for extra in page.extras)
    return map(Row, ids, *page.columns.values(), extras)


class PagedStream(Stream):
    """A stream whose records come by the page, from slices of its partitions."""

    @abstractmethod
    def get_slices(
        self, context: Context | None
    ) -> Iterator[Iterable[tuple[Page, list[str]]]]:
        """Get a partition's slices, each as pages with their record ids.

        Args:
            context: The partition.

        Yields:
            Slices; each is taken to be out when the next one is asked for.
        """

    @override
    def get_records(self, context: Context | None) -> Iterable[Record]:
        for page, ids in chain.from_iterable(self.get_slices(context)):
            yield from map(msgspec.to_builtins, rows(page, ids))

    @property
    def _plain(self) -> bool:
        """Whether records go out as they are."""
        return (
            self.selected
            and all(
                self.mask.get(("properties", name), True)
                for name in Row.__struct_fields__
            )
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
        if not (write_messages and self._plain):
            yield from super()._sync_records(context, write_messages=write_messages)
            return
        writer = cast("BufferedWriter", self._tap.message_writer)
        for page, ids in self._counted_pages(context):
            now = msgspec.to_builtins(datetime.now(timezone.utc))
            messages = map(Message, repeat(self.name), rows(page, ids), repeat(now))
            writer.write(encoder.encode_lines(list(messages)))
        self._tap.state_writer.write_state(self.tap_state)

    @override
    def get_batches(
        self,
        batch_config: BatchConfig,
        context: Context | None = None,
    ) -> Iterable[tuple[BaseBatchFileEncoding, list[str]]]:
        if not self._plain or batch_config.encoding.format != "jsonl":
            yield from super().get_batches(batch_config, context)
            return
        prefix = (
            f"{batch_config.storage.prefix or ''}{self.tap_name}--{self.name}-{uuid4()}"
        )
        lines, count, files = bytearray(), 0, 0
        for page, ids in chain(self._counted_pages(context), [(None, [])]):
            if count >= batch_config.batch_size or (page is None and count):
                files += 1
                name = f"{prefix}-{files}.json.gz"
                with batch_config.storage.open(name, "wb") as file:
                    file.write(gzip.compress(lines, GZIP_LEVEL))
                yield batch_config.encoding, [batch_config.storage.get_url(name)]
                lines, count = bytearray(), 0
            if page is not None:
                lines += encoder.encode_lines(list(rows(page, ids)))
                count += len(page)

    def _counted_pages(
        self, context: Context | None
    ) -> Iterator[tuple[Page, list[str]]]:
        contexts: Iterable[Mapping[str, Any]] = (
            [context] if context else self.partitions or []
        )
        with self.get_record_counter() as counter, self.get_sync_timer() as timer:
            for partition in contexts:
                counter.with_context(partition)
                timer.with_context(partition)
                for page, ids in chain.from_iterable(self.get_slices(partition)):
                    if ids:
                        yield page, ids
                        counter.increment(len(ids))
