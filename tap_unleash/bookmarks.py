"""Bookmarks: one per device, advanced window by window."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

# The SDK has no public place for this class, which Stream.state_manager returns.
from singer_sdk.streams._state import StreamStateManager
from typing_extensions import override

from tap_unleash.api.errors import FatalError
from tap_unleash.api.timestamps import parse_timestamp, sort_key

if TYPE_CHECKING:
    from singer_sdk.helpers.types import Context


class Bookmarks(StreamStateManager):
    """Finds a device's bookmark without a search, and advances it after its records.

    The SDK's own manager searches all partitions for every record, and keeps a bookmark
    only once the sync of its partition is complete.
    """

    _partitions: dict[str, dict[str, Any]] | None = None

    @override
    def get_context_state(self, context: Context | None) -> dict[str, Any]:
        if not context:
            return self.stream_state
        if self._partitions is None:
            self._partitions = self._index()
        device_id = context["device_id"]
        if device_id not in self._partitions:
            partition = {"context": {"device_id": device_id}}
            self.stream_state.setdefault("partitions", []).append(partition)
            self._partitions[device_id] = partition
        return self._partitions[device_id]

    def _index(self) -> dict[str, dict[str, Any]]:
        """Index the partitions; of several for one device, the earliest bookmark wins."""
        partitions: dict[str, dict[str, Any]] = {}
        for partition in self.stream_state.get("partitions", []):
            device_id = partition["context"]["device_id"]
            other = partitions.setdefault(device_id, partition)
            if (_parse(partition) or ("", -1))[1] < (_parse(other) or ("", -1))[1]:
                partitions[device_id] = partition
        if partitions:
            self.stream_state["partitions"] = list(partitions.values())
        return partitions

    def get(self, context: Context) -> tuple[str, int] | None:
        """Return the bookmark of a device.

        Args:
            context: The partition of the device.

        Returns:
            The timestamp of the latest emitted record, and its epoch milliseconds; `None`
            if there is none.

        Raises:
            FatalError: If the bookmark is not a timestamp.
        """
        return _parse(self.get_context_state(context))

    def advance(self, context: Context, timestamp: str) -> None:
        """Advance a bookmark; an earlier timestamp does not move it.

        Args:
            context: The partition of the device.
            timestamp: The timestamp of an emitted record.
        """
        bookmark = self.get(context)
        if bookmark is None or sort_key(bookmark[0]) < sort_key(timestamp):
            state = self.get_context_state(context)
            state["replication_key"] = "timestamp"
            state["replication_key_value"] = timestamp
            self.is_flushed = False

    @override
    def increment_state(self, *args: Any, **kwargs: Any) -> None:
        """Do nothing: one record says nothing about those before it."""

    @override
    def write_starting_replication_value(self, *args: Any, **kwargs: Any) -> None:
        """Do nothing: a sync starts at the bookmark."""

    @override
    def write_replication_key_signpost(self, *args: Any, **kwargs: Any) -> None:
        """Do nothing: a bookmark never passes the end of its window."""

    @override
    def finalize_progress_markers(self, *args: Any, **kwargs: Any) -> None:
        """Do nothing: there are no progress markers."""


def _parse(partition: dict[str, Any]) -> tuple[str, int] | None:
    if not (value := partition.get("replication_key_value")):
        return None
    try:
        return parse_timestamp(value)
    except (TypeError, ValueError, OverflowError):
        device_id = partition["context"]["device_id"]
        msg = (
            f"Invalid bookmark {value!r} for device {device_id!r} in the state. Correct "
            "it, or remove the partition to sync the device from 'start_date'."
        )
        raise FatalError(msg) from None
