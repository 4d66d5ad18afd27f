"""The base of the streams: requests, retries, and the classification of responses."""

from __future__ import annotations

import logging
import sys
from functools import cached_property, partial
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, cast

import backoff
from singer_sdk import RESTStream, SchemaDirectory, StreamSchema
from singer_sdk.authenticators import APIKeyAuthenticator, BearerTokenAuthenticator
from singer_sdk.streams.rest import PageContext
from typing_extensions import override

from tap_unleash import schemas
from tap_unleash.errors import FatalError, WindowTooLong
from tap_unleash.page import EMPTY, InvalidResponse, Page, decode_page
from tap_unleash.session import RequestFailed, Session, Unavailable, describe
from tap_unleash.windows import PageRequest

if TYPE_CHECKING:
    from collections.abc import Generator

    import requests
    from backoff.types import Details
    from singer_sdk.helpers.types import Auth, RequestFunc

    from tap_unleash.tap import TapUnleash

TOKEN_PREFIX = "ul_pat_"  # noqa: S105 - of personal access tokens, according to the vendor
CONNECT_TIMEOUT = 5

_DENIED = {401, 403}
_TOO_LONG = {400, 413, 422, 502, 504}
_NO_SUCH_PAGE = {400, 404, 410, 413, 422}
_HINTS = {
    400: "Check 'start_date' and 'end_date'.",
    401: "Check that 'api_key' is correct and has not expired.",
    403: "Check that 'api_key' is correct and has not expired, and that the API add-on is "
    "enabled for your account.",
    404: "Check 'api_url' and 'device_ids'.",
    422: "Check 'device_ids', 'start_date' and 'end_date'.",
}


class UnleashStream(RESTStream[PageRequest]):
    """Base of the streams."""

    schema = StreamSchema(SchemaDirectory(schemas))
    allow_redirects = False
    extra_retry_statuses = (408, 421, 425)  # time-out, misdirected request, too early

    @property
    def tap(self) -> TapUnleash:
        """The tap."""
        return cast("TapUnleash", self._tap)

    @override
    def log(self, *args: Any, **kwargs: Any) -> None:
        # The SDK logs a failed sync, and the end of a test, as unhandled errors.
        unhandled = sys.exc_info()[0] and kwargs.get("level") == logging.ERROR
        if not unhandled:
            super().log(*args, **kwargs)

    @override
    def log_sync_costs(self) -> None:
        # Called once for each stream, after the sync of all of them.
        self.tap.report_failures()

    @override
    @property
    def url_base(self) -> str:
        return f"{self.config['api_url'].rstrip('/')}/analytics"

    @override
    @property
    def requests_session(self) -> Session:
        return self.tap.session

    @override
    @property
    def user_agent(self) -> str:
        return f"{self.tap.name}/{self.tap.plugin_version}"

    @override
    @property
    def authenticator(self) -> Auth:
        key = self.config["api_key"]
        if key.startswith(TOKEN_PREFIX):
            return BearerTokenAuthenticator(token=key)
        return APIKeyAuthenticator(key="x-api-key", value=key, location="header")

    @override
    @property
    def timeout(self) -> tuple[int, int]:  # type: ignore[override]
        return CONNECT_TIMEOUT, self.config["request_timeout"]

    @override
    def validate_response(self, response: requests.Response) -> None:
        status = response.status_code
        if HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES:
            self.requests_session.answered += 1
            return
        message = self.response_error_message(response)
        if self._is_transient(status):
            raise Unavailable(message, status)
        if status < HTTPStatus.BAD_REQUEST or status in _DENIED:
            raise FatalError(message)
        self.requests_session.answered += 1
        raise RequestFailed(message, status)

    @override
    def response_error_message(self, response: requests.Response) -> str:
        status, what = response.status_code, f"(HTTP {describe(response)})"
        if self._is_transient(status):
            return f"API error {what}"
        if status < HTTPStatus.BAD_REQUEST:
            return f"Unexpected redirect {what}. Check 'api_url'."
        hint = _HINTS.get(status, "")
        if response.content.lstrip().startswith(b"<"):
            hint = "The response is not from the API: check 'api_url' and the proxy."
        event = "Authentication failed" if status in _DENIED else "Request rejected"
        return f"{event} {what}. {hint}".strip()

    def _is_transient(self, status: int) -> bool:
        return status >= HTTPStatus.INTERNAL_SERVER_ERROR or status in self.extra_retry_statuses

    @override
    def request_decorator(self, func: RequestFunc) -> RequestFunc:
        answered = self.requests_session.answered

        def give_up(details: Details) -> None:
            error = cast("Unavailable", details["exception"])
            reason = str(error)
            message = (
                f"{reason[0].upper()}{reason[1:]} after {details['tries']} attempts. Retry "
                "later; the next sync resumes from the last checkpoint."
            )
            error.args = (message,)
            error.alone = answered == self.requests_session.answered

        # The SDK's decorator would log each retry a second time.
        return backoff.on_exception(
            self.backoff_wait_generator,
            Unavailable,
            max_tries=self.backoff_max_tries,
            on_backoff=self.backoff_handler,
            on_giveup=give_up,
            jitter=self.backoff_jitter,
            logger=None,
        )(func)

    @override
    def backoff_max_tries(self) -> int:
        return Unavailable.tries

    @override
    def backoff_wait_generator(self) -> Generator[float, Any, None]:
        error = yield 0
        attempt = 1
        while attempt < error.tries:  # an error can allow fewer
            error = yield min(2.0 ** (attempt - 1), 60)
            attempt += 1

    @override
    def backoff_handler(self, details: Details) -> None:
        error = cast("Unavailable", details["exception"])
        attempt = f"attempt {details['tries']} of {error.tries}"
        wait = details["wait"]
        self.logger.warning("Request failed: %s (%s). Retrying in %.1f s", error, attempt, wait)

    @cached_property
    def _prepared(self) -> requests.PreparedRequest:
        return self.build_prepared_request(method="GET", url=self.url_base)

    def fetch(self, request: PageRequest) -> Page:
        """Request a page; called by several threads.

        Args:
            request: The page.

        Returns:
            The page; an empty one if the API refuses it, though not the first.

        Raises:
            WindowTooLong: If a shorter window may be answered.
            UnleashError: If there is no valid response.
        """
        send: Any = partial(self._send, request)  # gives a page, where the SDK has a response
        send = self.request_decorator(send)
        try:
            page: Page = send()
        except RequestFailed as error:
            too_long = request.window.splittable and error.status in _TOO_LONG
            if request.number > 1 and (too_long or error.status in _NO_SUCH_PAGE):
                return EMPTY
            if too_long:
                raise WindowTooLong(str(error)) from error
            raise
        return page

    def _send(self, request: PageRequest) -> Page:
        prepared = self._prepared.copy()  # much faster than a new one
        prepared.url = self.get_http_request(page=PageContext(None, request)).url
        try:
            response = self.requests_session.send(
                prepared, timeout=self.timeout, allow_redirects=self.allow_redirects
            )
            self.validate_response(response)
            if response.status_code == HTTPStatus.NO_CONTENT:
                return EMPTY
            device_id = request.window.device_id
            return decode_page(response.content, device_id=device_id, number=request.number)
        except InvalidResponse as error:
            msg = f"unexpected API response ({error})"
            raise Unavailable(msg) from None
        except Unavailable as error:
            if request.number > 1 and error.status:
                error.status = 504  # a shorter window has fewer pages
            if request.window.splittable and error.status in _TOO_LONG:
                error.tries = 2
            raise
