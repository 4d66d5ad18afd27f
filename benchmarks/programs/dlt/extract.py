"""The extract step of a dlt pipeline; usage: extract.py URL KEY DIRECTORY [--parallel].

How many workers there are is dlt's own setting, EXTRACT__WORKERS.
"""

# ruff: noqa: INP001 - a program in an environment of its own
# mypy: disable-error-code="import-not-found, misc, untyped-decorator"
# What it imports is in that environment only.

from __future__ import annotations

import argparse
import time
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


class PathPaginator(PageNumberPaginator):
    """Pages whose number is the last segment of the path."""

    def __init__(self) -> None:
        """Count from 1 to the total that each response tells."""
        super().__init__(base_page=1, total_path="total_num_pages")

    def init_request(self, request: Request) -> None:
        """Remember the path before the number."""
        self.path = request.url
        super().init_request(request)

    def update_request(self, request: Request) -> None:
        """Append the number."""
        request.url = f"{self.path}/{self.current_value}"


@dlt.source
def unleash(url: str, key: str, *, parallel: bool) -> Any:  # noqa: ANN401 - dlt's
    """Declare the devices of the account and the rows of each.

    Args:
        url: The base URL.
        key: The API key.
        parallel: Whether devices are read side by side.

    Returns:
        The rows as a resource.
    """
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

    @dlt.transformer(write_disposition="append", parallelized=parallel)
    def analytics(device_id: str) -> Iterator[list[dict[str, Any]]]:
        latest = dlt.current.resource_state().setdefault("latest", {})
        start = max(0, latest.get(device_id, 0) - LOOKBACK)
        path = f"{device_id}/{start}/{end}"
        for page in client.paginate(path, paginator=PathPaginator()):
            keys = page[0]["keys"]
            yield [dict(zip(keys, row, strict=True)) for row in page[0]["data"]]
        latest[device_id] = end

    return devices | analytics


def main() -> None:
    """Extract, and neither normalize nor load."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url")
    parser.add_argument("key")
    parser.add_argument("directory")
    parser.add_argument("--parallel", action="store_true")
    arguments = parser.parse_args()
    pipeline = dlt.pipeline("unleash", pipelines_dir=arguments.directory)
    pipeline.extract(unleash(arguments.url, arguments.key, parallel=arguments.parallel))


if __name__ == "__main__":
    main()
