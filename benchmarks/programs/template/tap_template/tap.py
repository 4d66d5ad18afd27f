"""The tap."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, ClassVar

from singer_sdk import Tap
from singer_sdk import typing as th

from .streams import AnalyticsStream, DevicesStream

if sys.version_info >= (3, 12):
    from typing import override
else:
    from typing_extensions import override

if TYPE_CHECKING:
    from .client import UnleashStream


class TapTemplate(Tap):
    """A tap for Unleash live."""

    name = "tap-template"

    config_jsonschema: ClassVar[dict[str, object]] = th.PropertiesList(
        th.Property(
            "auth_token",
            th.StringType(nullable=False),
            required=True,
            secret=True,
            title="Auth Token",
            description="The key to authenticate against the API",
        ),
        th.Property(
            "start_date",
            th.DateTimeType(nullable=True),
            description="The earliest record date to sync",
        ),
        th.Property(
            "api_url",
            th.StringType(nullable=False),
            title="API URL",
            default="https://api.unleashlive.com/v1",
            description="The URL of the API",
        ),
    ).to_dict()

    @override
    def discover_streams(self) -> list[UnleashStream]:
        return [DevicesStream(self), AnalyticsStream(self)]
