"""The progress of workers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tap_unleash.config import shard_of

if TYPE_CHECKING:
    from mock_api import MockAPI


def requests_of_worker(worker: int, api: MockAPI) -> int:
    """Count the pages that one of four workers has requested."""
    devices = [path.split("/")[3] for request in api.requests if (path := request.path)]
    return sum(shard_of(name, 4) == worker for name in devices if name.startswith("W"))
