"""What the manifest cannot say: records made of names and values apart."""

# ruff: noqa: INP001 - a program in an environment of its own
# mypy: disable-error-code="import-not-found, misc, untyped-decorator"
# What it imports is in that environment only.

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airbyte_cdk.sources.declarative.extractors.record_extractor import RecordExtractor
from airbyte_cdk.sources.declarative.requesters.paginators.strategies import (
    PageIncrement,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    import requests


@dataclass
class DeviceExtractor(RecordExtractor):
    """An array of ids as records."""

    def extract_records(self, response: requests.Response) -> Iterator[dict[str, Any]]:
        """Make the records of a response.

        Args:
            response: The response.

        Yields:
            A record for each device.
        """
        for device_id in response.json():
            yield {"device_id": device_id}


@dataclass
class RowExtractor(RecordExtractor):
    """A size-optimised page as records."""

    def extract_records(self, response: requests.Response) -> Iterator[dict[str, Any]]:
        """Make the records of a response.

        Args:
            response: The response.

        Yields:
            A record for each row.
        """
        payload = response.json()
        keys = payload["keys"]
        for row in payload["data"]:
            yield dict(zip(keys, row, strict=True))


@dataclass
class PagesByTotal(PageIncrement):
    """Pages from 1 to the total that each response tells."""

    def next_page_token(
        self,
        response: requests.Response,
        last_page_size: int,  # noqa: ARG002 - the base's signature
        last_record: object,  # noqa: ARG002 - the base's signature
        last_page_token_value: int | None,
        **_: object,
    ) -> int | None:
        """Say which page is next.

        Args:
            response: The response.
            last_page_size: How many records it has.
            last_record: The last of them.
            last_page_token_value: The page it answers, unless that was the first.

        Returns:
            The number, or None after the last page.
        """
        page = last_page_token_value or 1
        return page + 1 if page < response.json()["total_num_pages"] else None
