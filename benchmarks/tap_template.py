"""A tap made of the Singer SDK's template, as most taps are."""

from __future__ import annotations

import decimal
import time
from typing import TYPE_CHECKING, Any, ClassVar

from singer_sdk import Tap
from singer_sdk import typing as th
from singer_sdk.authenticators import APIKeyAuthenticator
from singer_sdk.helpers.jsonpath import extract_jsonpath
from singer_sdk.pagination import BasePageNumberPaginator
from singer_sdk.streams import RESTStream
from typing_extensions import override

if TYPE_CHECKING:
    from collections.abc import Iterable

    import requests
    from singer_sdk.helpers.types import Context, Record
    from singer_sdk.streams.rest import HTTPRequest, PageContext

END = round(time.time() * 1000)
"""The start of the run."""
TEXTS = ("class_name", "device_id", "model_id", "session_id", "source_file_name")


class UnleashStream(RESTStream[Any]):
    """Every stream of the API."""

    @override
    @property
    def url_base(self) -> str:
        return f"{self.config['api_url']}/analytics"

    @override
    @property
    def authenticator(self) -> APIKeyAuthenticator:
        return APIKeyAuthenticator(
            key="x-api-key", value=self.config["auth_token"], location="header"
        )


class DevicesStream(UnleashStream):
    """The devices of the account."""

    name = "devices"
    path = "/devices"
    primary_keys = ("device_id",)
    schema: ClassVar[dict[str, Any]] = th.PropertiesList(
        th.Property("device_id", th.StringType),
    ).to_dict()

    @override
    def parse_response(self, response: requests.Response) -> Iterable[Record]:
        yield from ({"device_id": device_id} for device_id in response.json())

    @override
    def get_child_context(self, record: Record, context: Context | None) -> Context:
        return {"device_id": record["device_id"]}


class PagePaginator(BasePageNumberPaginator):
    """Pages from 1 to the total that each response states."""

    @override
    def has_more(self, response: requests.Response) -> bool:
        return bool(self.current_value < response.json()["total_num_pages"])


class AnalyticsStream(UnleashStream):
    """The rows of a device."""

    name = "analytics"
    path = "/{device_id}"
    parent_stream_type = DevicesStream
    primary_keys = ()
    replication_key = "timestamp"
    schema: ClassVar[dict[str, Any]] = th.PropertiesList(
        *(th.Property(name, th.StringType) for name in TEXTS),
        th.Property("count", th.NumberType),
        th.Property("frame_number", th.IntegerType),
        th.Property("timestamp", th.DateTimeType),
    ).to_dict()

    @override
    def get_new_paginator(self) -> PagePaginator:
        return PagePaginator(1)

    @override
    def get_http_request(self, *, page: PageContext[int]) -> HTTPRequest:
        request = super().get_http_request(page=page)
        since = self.get_starting_timestamp(page.stream_context)
        start = round(since.timestamp() * 1000) if since else 0
        request.url += f"/{start}/{END}/{page.next_page_token}"
        return request

    @override
    def parse_response(self, response: requests.Response) -> Iterable[Record]:
        payload = response.json(parse_float=decimal.Decimal)
        for values in extract_jsonpath("$.data[*]", payload):
            yield dict(zip(payload["keys"], values, strict=True))


class TapTemplate(Tap):
    """A tap for Unleash live."""

    name = "tap-template"
    config_jsonschema: ClassVar[dict[str, object]] = th.PropertiesList(
        th.Property("auth_token", th.StringType, required=True, secret=True),
        th.Property("start_date", th.DateTimeType),
        th.Property("api_url", th.StringType, required=True),
    ).to_dict()

    @override
    def discover_streams(self) -> list[UnleashStream]:
        return [DevicesStream(self), AnalyticsStream(self)]


if __name__ == "__main__":
    TapTemplate.cli()
