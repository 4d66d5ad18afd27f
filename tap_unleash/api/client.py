"""The client: one GET with authentication, retries and decoding."""

from __future__ import annotations

import logging
import random
import re
import time
from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote, urlencode

import msgspec
import requests
from urllib3.exceptions import HTTPError

from tap_unleash.api import failures
from tap_unleash.api.errors import FatalError, InvalidResponse, WindowTooLarge
from tap_unleash.api.failures import Failure
from tap_unleash.api.flight_logs import decode_flight_logs
from tap_unleash.api.page import decode_json, decode_page
from tap_unleash.api.rate_limiter import AdaptiveRateLimiter
from tap_unleash.api.request_queue import RequestQueue
from tap_unleash.api.timestamps import format_timestamp
from tap_unleash.api.transport import (
    Adapter,
    environment_settings,
    read_body,
    timeouts,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from tap_unleash.api.page import Page
    from tap_unleash.api.rate_limiter import Pause

T = TypeVar("T")

logger = logging.getLogger(__name__)

API_URL = "https://api.unleashlive.com/v1"

MAX_WAIT = 60.0
"""Longest wait in seconds between two attempts."""

MIN_THROTTLED = 120.0
"""Least seconds without an accepted request before the rate limit ends the sync: twice the
minute of a quota."""

RATE_CHANGE = 0.1
"""Least relative change of the estimated rate limit that is logged."""

RETRY_LATER = "Retry later; the next sync resumes from the last checkpoint."

_VERSION = re.compile(
    r'{{"({0})"}}|{{"version": ?"({0})"}}|"({0})"|({0})'.format(
        r"[0-9A-Za-z]+(?:[.-][0-9A-Za-z]+)*"
    )
)

_ids = msgspec.json.Decoder(list[str | int])


class UnleashClient:
    """Client of the Analytics API and the flight logs, safe to use from several threads."""

    def __init__(  # noqa: PLR0913 - all but the first are optional
        self,
        auth: Callable[[requests.PreparedRequest], requests.PreparedRequest],
        api_url: str = API_URL,
        *,
        user_agent: str = "tap-unleash",
        request_timeout: float = 60,
        concurrency: int = 4,
        on_response: Callable[[str, int, float], None] = lambda *_: None,
        on_unknown_field: Callable[[str], None] = lambda _: None,
    ) -> None:
        """Prepare the connection; nothing is sent.

        Args:
            auth: Adds the credential to a request.
            api_url: Base URL of the API. Plain HTTP never goes through a proxy.
            user_agent: Value of the ``User-Agent`` header.
            request_timeout: Seconds to wait for a complete response.
            concurrency: Maximum number of concurrent requests.
            on_response: Called with the path, status and duration in seconds.
            on_unknown_field: Called with the name of each field outside of the schema.
        """
        self._url = api_url.rstrip("/")
        self._timeout = request_timeout
        self._on_response = on_response
        self._on_unknown_field = on_unknown_field
        self._queue = RequestQueue(AdaptiveRateLimiter(concurrency))
        self._adapter = Adapter(pool_maxsize=concurrency)
        # Read once: doing it for each request would cost more than the request.
        self._proxies, self._verify = environment_settings(self._url)
        self._reached = False
        self._logged_rate = 0.0
        headers = {**requests.utils.default_headers(), "User-Agent": user_agent}
        self._request = requests.Request("GET", self._url, headers, auth=auth).prepare()

    def version(self) -> str:
        """Request the version of the API.

        Returns:
            The version. The documentation prints it as ``{"1.0.1"}``, which is not JSON.
        """
        return self._get("analytics", "version", decode=_decode_version)

    def devices(self) -> list[str]:
        """Request the device IDs of the account.

        Returns:
            The distinct IDs.
        """
        return self._get("analytics", "devices", decode=_decode_ids)

    def sessions(self) -> list[str]:
        """Request the session IDs of the account.

        Returns:
            The distinct IDs.
        """
        return self._get("analytics", "sessions", decode=_decode_ids)

    def page(  # noqa: PLR0913 - the last two are optional
        self,
        device_id: str,
        start: int,
        end: int,
        number: int,
        response_format: str = "size_optimized",
        *,
        splittable: bool = False,
    ) -> Page:
        """Request a page of a device's rows.

        Args:
            device_id: The device.
            start: Lower bound in epoch milliseconds.
            end: Upper bound in epoch milliseconds.
            number: Page number, from 1.
            response_format: ``size_optimized`` or ``tableau``.
            splittable: Whether a shorter time range can be requested instead.

        Returns:
            The page.

        Raises:
            WindowTooLarge: If `splittable`, and this range alone overloads the API.
        """
        tableau = ("tableau",) if response_format == "tableau" else ()
        decode = partial(
            decode_page,
            response_format=response_format,
            device_id=device_id,
            number=number,
            on_unknown_field=self._on_unknown_field,
        )
        return self._get(
            "analytics",
            *tableau,
            device_id,
            start,
            end,
            number,
            decode=decode,
            splittable=splittable,
        )

    def flight_logs(
        self,
        start: int | None = None,
        end: int | None = None,
        *,
        splittable: bool = False,
    ) -> list[dict[str, Any]]:
        """Request the flight logs of the company.

        Args:
            start: Earliest start of a flight in epoch milliseconds.
            end: Latest start of a flight in epoch milliseconds.
            splittable: Whether a shorter time range can be requested instead.

        Returns:
            The records, in the order of the response.

        Raises:
            WindowTooLarge: If `splittable`, and this range alone overloads the API.
        """
        query: dict[str, Any] = {}
        place = "flight logs"
        if start is not None:
            query["dateFrom"] = start
            place += f" starting from {format_timestamp(start)}"
        if end is not None:
            query["dateTo"] = end
            place += f" up to {format_timestamp(end)}"
        if query:
            query["dateType"] = "flightStartDate"
        decode = partial(
            decode_flight_logs, place=place, on_unknown_field=self._on_unknown_field
        )
        return self._get(
            "flights",
            "company",
            query=urlencode(query),
            decode=decode,
            splittable=splittable,
        )

    def close(self) -> None:
        """Cancel all requests; those in flight end when they are answered."""
        self._queue.close()

    def _get(
        self,
        *path: str | int,
        query: str = "",
        decode: Callable[[bytes], T],
        splittable: bool = False,
    ) -> T:
        """Send a request until it is answered.

        Args:
            path: Segments of the path after the base URL.
            query: The query, encoded.
            decode: Decodes the body.
            splittable: Whether less can be requested instead.

        Returns:
            The decoded body.

        Raises:
            RequestRejected: If the API rejects the request.
            WindowTooLarge: If `splittable`, and the request alone overloads the API.
            UnleashError: If there is no valid response after `MAX_ATTEMPTS` attempts.
        """
        request = self._request.copy()
        # Set directly, because requests would decode the dots of an ID of `..`.
        request.url = "/".join([self._url, *(_quote(str(part)) for part in path)])
        request.url += query and f"?{query}"
        shown_url = f"{self._url}/{path[0]}"
        attempts = 0
        retry = alone = False
        while True:
            try:
                with self._queue.turn(retry=retry, alone=alone) as permit:
                    response, body = self._send(request, shown_url)
                    pause = None
                    if response.status_code == HTTPStatus.TOO_MANY_REQUESTS:
                        pause = self._queue.refused(
                            permit, failures.retry_after(response, body)
                        )
                    elif rate := self._queue.accepted(permit):
                        self._log_rate(rate)
                if pause is None:
                    failures.check(response, body)
                    return decode(body)
                _log_pause(pause, response, body)
                retry = True
                continue
            except InvalidResponse as error:
                failure = Failure(f"Unexpected API response ({error})")
            except Failure as error:
                failure = error
            attempts += 1
            if failure.overload:
                self._queue.overloaded()
            if splittable and (failure.too_large or (failure.overload and alone)):
                raise WindowTooLarge(_final(failure, attempts)) from failure
            if attempts >= failure.attempts:
                raise failure.error(_final(failure, attempts)) from failure
            back_off = min(2.0 ** (attempts - 1), MAX_WAIT) * random.uniform(0.5, 1)  # noqa: S311
            wait = max(back_off, failure.retry_after or 0)
            logger.warning(
                "Request failed: %s (attempt %d of %d). Retrying in %.1f s",
                failure,
                attempts,
                failure.attempts,
                wait,
            )
            self._queue.wait(wait)
            # Alone, to tell a time range that is too long from too many requests.
            retry = True
            alone = failure.overload and (splittable or attempts == 1)

    def _send(
        self, request: requests.PreparedRequest, shown_url: str
    ) -> tuple[requests.Response, bytes]:
        """Send a request once.

        Args:
            request: The request.
            shown_url: The URL that errors name.

        Returns:
            The response and its body.

        Raises:
            Failure: If there is no complete response.
            FatalError: If there cannot be one.
        """
        started = time.monotonic()
        try:
            # By the adapter, which follows no redirect: the credential would be sent along.
            with self._adapter.send(
                request,
                stream=True,
                timeout=timeouts(self._timeout),
                verify=self._verify,
                proxies=self._proxies,
            ) as response:
                body = read_body(response)
        except (OSError, HTTPError) as error:
            raise failures.no_response(
                error, shown_url, self._timeout, reached=self._reached
            ) from error
        self._reached = True
        seconds = time.monotonic() - started
        self._on_response(request.path_url, response.status_code, seconds)
        return response, body

    def _log_rate(self, rate: float) -> None:
        """Log the estimated rate limit if it changed."""
        if abs(rate - self._logged_rate) > RATE_CHANGE * self._logged_rate:
            self._logged_rate = rate
            logger.info("Estimated rate limit: %.0f requests/min", 60 * rate)


def _log_pause(pause: Pause, response: requests.Response, body: bytes) -> None:
    """Log a pause of all requests.

    Raises:
        FatalError: If there were too many.
    """
    if pause.number > failures.MAX_ATTEMPTS and pause.elapsed >= MIN_THROTTLED:
        msg = (
            f"Rate limit exceeded (HTTP {failures.describe(response, body)}) after "
            f"{pause.number - 1} pauses. Retry later or request a higher limit from "
            "Unleash live."
        )
        raise FatalError(msg)
    if pause.seconds >= 1:
        logger.warning(
            "Rate limited (HTTP 429): pausing all requests for %.0f s", pause.seconds
        )


def _final(failure: Failure, attempts: int) -> str:
    what = f"{str(failure)[0].upper()}{str(failure)[1:]}"
    tries = "after 1 attempt" if attempts == 1 else f"after {attempts} attempts"
    return f"{what} {tries}. {RETRY_LATER}"


def _quote(part: str) -> str:
    return {".": "%2E", "..": "%2E%2E"}.get(part) or quote(part, safe="")


def _decode_ids(body: bytes) -> list[str]:
    ids = decode_json(body, _ids, list[str | int])
    return list(dict.fromkeys(str(value) for value in ids))


def _decode_version(body: bytes) -> str:
    if not (match := _VERSION.fullmatch(body.decode(errors="replace").strip())):
        msg = "missing version"
        raise InvalidResponse(msg)
    version: str = match[match.lastindex or 0]
    return version
