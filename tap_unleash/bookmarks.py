"""Bookmarks: one a device, moved slice by slice."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

# The SDK has no public place for this class, which Stream.state_manager returns.
from singer_sdk.streams._state import StreamStateManager
from typing_extensions import override

from tap_unleash.client import TapError
from tap_unleash.page import timestamp as parse

if TYPE_CHECKING:
    from singer_sdk.helpers.types import Context


class Bookmarks(StreamStateManager):
    """Finds a device's bookmark at once, and moves it only behind rows that are out.

    The SDK's own manager looks through all partitions for every record, and takes a
    bookmark for final only at the end of a run.
    """

    _partitions: dict[str, dict[str, Any]] | None = None

    @override
    def get_context_state(self, context: Context | None) -> dict[str, Any]:
        if not context:
            return self.stream_state
        if self._partitions is None:
            partitions = self.stream_state.setdefault("partitions", [])
            self._partitions = {p["context"]["device_id"]: p for p in partitions}
        device_id = context["device_id"]
        if device_id not in self._partitions:
            partition = {"context": {"device_id": device_id}}
            self.stream_state["partitions"].append(partition)
            self._partitions[device_id] = partition
        return self._partitions[device_id]

    def get(self, context: Context) -> tuple[str, int] | None:
        """Get a bookmark.

        Args:
            context: The partition of the device.

        Returns:
            The timestamp of the latest row that is out, if there is one: in the form that
            goes out, and in epoch milliseconds.

        Raises:
            TapError: If the state, which people may edit, holds no date there.
        """
        if not (value := self.get_context_state(context).get("replication_key_value")):
            return None
        try:
            return parse(value)
        except (TypeError, ValueError):
            msg = (
                f"The bookmark of device {context['device_id']!r} in the state is "
                f"{value!r}, which is not a date and time: mend it or remove it."
            )
            raise TapError(msg) from None

    def advance(self, context: Context, timestamp: str) -> None:
        """Move a bookmark, unless it is further on.

        Args:
            context: The partition of the device.
            timestamp: The timestamp of a row that is out, in the form that goes out.
        """
        bookmark = self.get(context)
        # Of two such forms the later is the greater text, but for the Z at its end.
        if bookmark is None or bookmark[0][:-1] < timestamp[:-1]:
            state = self.get_context_state(context)
            state["replication_key"] = "timestamp"
            state["replication_key_value"] = timestamp
            self.is_flushed = False

    @override
    def increment_state(self, *args: Any, **kwargs: Any) -> None:
        """Leave the bookmark where it is: a record alone proves nothing of those before."""

    @override
    def write_starting_replication_value(self, *args: Any, **kwargs: Any) -> None:
        """Write nothing: a run begins where the bookmark is."""

    @override
    def write_replication_key_signpost(self, *args: Any, **kwargs: Any) -> None:
        """Write nothing: a bookmark never passes the end of its slice."""

    @override
    def finalize_progress_markers(self, *args: Any, **kwargs: Any) -> None:
        """Do nothing: there are no progress markers to promote."""
