"""A dlt pipeline, or its extract step only.

Usage: extract.py URL KEY DIRECTORY [--parallel] [--database URL [--format FORMAT]].
The number of workers is dlt's own setting, EXTRACT__WORKERS.
"""

# ruff: noqa: INP001 - a program in an environment of its own
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
from dlt.sources.helpers.rest_client.paginators import (
    PageNumberPaginator,
    SinglePagePaginator,
)

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
def unleash(url: str, key: str, *, parallel: bool, merge: bool, arrow: bool) -> Any:  # noqa: ANN401 - dlt's
    """Declare the devices of the account and the rows of each."""
    client = RESTClient(
        base_url=f"{url}/analytics",
        auth=APIKeyAuth(name="x-api-key", api_key=key, location="header"),
        data_selector="$",
    )
    end = int(time.time() * 1000)

    @dlt.resource(selected=False)
    def devices() -> Iterator[str]:
        for page in client.paginate("devices", paginator=SinglePagePaginator()):
            yield from page

    @dlt.transformer(
        write_disposition="merge" if merge else "append",
        primary_key="record_id" if merge else None,
        parallelized=parallel,
    )
    def analytics(device_id: str) -> Iterator[Any]:
        latest = dlt.current.resource_state().setdefault("latest", {})
        start = max(0, latest.get(device_id, 0) - LOOKBACK)
        path = f"{device_id}/{start}/{end}"
        seen: dict[str, int] = {}
        for page in client.paginate(path, paginator=PathPaginator()):
            keys = page[0]["keys"]
            rows = [dict(zip(keys, row, strict=True)) for row in page[0]["data"]]
            if merge:
                _identify(rows, seen)
            yield _table(rows) if arrow else rows
        latest[device_id] = end

    return devices | analytics


def _table(rows: list[dict[str, Any]]) -> Any:  # noqa: ANN401 - pyarrow's
    import pyarrow as pa  # noqa: PLC0415 - not needed otherwise
    import pyarrow.compute as pc  # noqa: PLC0415

    made = pa.Table.from_pylist(rows)
    place = made.column_names.index("timestamp")
    instants = pc.strptime(
        pc.replace_substring(made["timestamp"], ".000Z", ""),
        format="%Y-%m-%dT%H:%M:%S",
        unit="us",
    )
    return made.set_column(place, "timestamp", pc.assume_timezone(instants, "UTC"))


def _main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url")
    parser.add_argument("key")
    parser.add_argument("directory")
    parser.add_argument("--parallel", action="store_true")
    parser.add_argument("--database")
    parser.add_argument("--format", choices=("csv", "parquet"))
    arguments = parser.parse_args()
    source = unleash(
        arguments.url,
        arguments.key,
        parallel=arguments.parallel,
        merge=bool(arguments.database),
        arrow=arguments.format == "parquet",
    )
    if arguments.database:
        pipeline = dlt.pipeline(
            "unleash",
            pipelines_dir=arguments.directory,
            destination=dlt.destinations.postgres(arguments.database),
            dataset_name="unleash",
        )
        pipeline.run(source, loader_file_format=arguments.format)
    else:
        dlt.pipeline("unleash", pipelines_dir=arguments.directory).extract(source)


if __name__ == "__main__":
    _main()
