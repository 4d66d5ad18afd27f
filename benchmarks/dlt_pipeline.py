"""A dlt pipeline, or its extract step only, in an environment of its own.

Usage: dlt_pipeline.py URL FOLDER [--parallel] [--database URL [--arrow]]. The number of
workers is dlt's own setting, EXTRACT__WORKERS.
"""

# mypy: disable-error-code="import-not-found, misc, untyped-decorator"
# Its imports are in that environment only.

from __future__ import annotations

import argparse
import time
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

import dlt
from dlt.sources.helpers.rest_client import RESTClient
from dlt.sources.helpers.rest_client.auth import APIKeyAuth
from dlt.sources.helpers.rest_client.paginators import PageNumberPaginator

if TYPE_CHECKING:
    from collections.abc import Iterator

    from requests import Request

LOOKBACK = 3_600_000

IDENTITY = (
    *("device_id", "session_id", "model_id", "source_file_name"),
    *("frame_number", "class_name", "timestamp"),
)
"""The fields of a row that identify it, together with an occurrence index."""


class PathPaginator(PageNumberPaginator):
    """Pages whose number is the last segment of the path."""

    def __init__(self) -> None:
        """Count from 1 to the total that each response states."""
        super().__init__(base_page=1, total_path="total_num_pages")

    def init_request(self, request: Request) -> None:
        """Remember the path before the number."""
        self.path = request.url
        super().init_request(request)

    def update_request(self, request: Request) -> None:
        """Append the number."""
        request.url = f"{self.path}/{self.current_value}"


def _identify(rows: list[dict[str, Any]], seen: dict[str, int]) -> None:
    """Add a record ID to each row, as the API has none."""
    for row in rows:
        values = repr([row[name] for name in IDENTITY])
        index = seen[values] = seen.get(values, -1) + 1
        digest = blake2b(f"{values}{index}".encode(), digest_size=16)
        row["record_id"] = digest.hexdigest()


@dlt.source
def unleash(url: str, *, parallel: bool, merge: bool, arrow: bool) -> Any:  # noqa: ANN401 - dlt's
    """Declare the rows of each device of the account."""
    client = RESTClient(
        base_url=f"{url}/analytics",
        auth=APIKeyAuth(name="x-api-key", api_key="mock", location="header"),
        data_selector="$",
    )
    end = int(time.time() * 1000)

    @dlt.resource(selected=False)
    def devices() -> Iterator[str]:
        yield from client.get("devices").json()

    @dlt.transformer(
        write_disposition="merge" if merge else "append",
        primary_key="record_id" if merge else None,
        columns={"count": {"data_type": "double"}},
        parallelized=parallel,
    )
    def analytics(device_id: str) -> Iterator[Any]:
        latest = dlt.current.resource_state().setdefault("latest", {})
        start = max(10**12, latest.get(device_id, 0) - LOOKBACK)
        seen: dict[str, int] = {}
        for page in client.paginate(f"{device_id}/{start}/{end}", paginator=PathPaginator()):
            keys = page[0]["keys"]
            rows = [dict(zip(keys, row, strict=True)) for row in page[0]["data"]]
            if merge:
                _identify(rows, seen)
            yield _table(rows) if arrow else rows
        latest[device_id] = end

    return devices | analytics


def _table(rows: list[dict[str, Any]]) -> Any:  # noqa: ANN401 - pyarrow's
    import pyarrow as pa  # noqa: PLC0415 - not needed otherwise

    kinds = {"count": pa.float64(), "frame_number": pa.int64()}
    names = ("record_id", *IDENTITY, "count")
    read = pa.schema([(name, kinds.get(name, pa.string())) for name in names])
    kinds["timestamp"] = pa.timestamp("us", "UTC")
    made = pa.schema([(name, kinds.get(name, pa.string())) for name in names])
    return pa.Table.from_pylist(rows, schema=read).cast(made)


def _main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url")
    parser.add_argument("folder")
    parser.add_argument("--parallel", action="store_true")
    parser.add_argument("--database")
    parser.add_argument("--arrow", action="store_true")
    given = parser.parse_args()
    merge = bool(given.database)
    source = unleash(given.url, parallel=given.parallel, merge=merge, arrow=given.arrow)
    pipeline = dlt.pipeline(
        "unleash",
        given.folder,
        destination=dlt.destinations.postgres(given.database) if merge else None,
        dataset_name="unleash",
    )
    if merge:
        pipeline.run(source, loader_file_format="parquet" if given.arrow else None)
    else:
        pipeline.extract(source)


if __name__ == "__main__":
    _main()
