"""The REST client."""

from __future__ import annotations

import decimal
import sys
from typing import TYPE_CHECKING, Any

from singer_sdk.authenticators import APIKeyAuthenticator
from singer_sdk.streams import RESTStream

if sys.version_info >= (3, 12):
    from typing import override
else:
    from typing_extensions import override

if TYPE_CHECKING:
    import requests


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
            key="x-api-key",
            value=self.config["auth_token"],
            location="header",
        )

    def payload(self, response: requests.Response) -> Any:  # noqa: ANN401 - any JSON
        """Decode a response as the template does.

        Args:
            response: The response.

        Returns:
            What its body holds.
        """
        return response.json(parse_float=decimal.Decimal)
