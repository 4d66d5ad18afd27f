"""The client: one GET with authentication, retries, error classification and decoding."""

from __future__ import annotations

import logging
import random
import re
import time
from datetime import datetime, timedelta, timezone
from email.utils import parsedate_to_datetime
from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar
from urllib.parse import quote

import msgspec
import requests
from requests.adapters import HTTPAdapter
from urllib3.exceptions import HTTPError, NewConnectionError

from tap_unleash.api.errors import (
    FatalError,
    InvalidResponse,
    RequestRejected,
    Unavailable,
    UnleashError,
    WindowTooLarge,
)
from tap_unleash.api.page import decode_json, decode_page, escape
from tap_unleash.api.rate_limiter import AdaptiveRateLimiter
from tap_unleash.api.request_queue import RequestQueue

if TYPE_CHECKING:
    from collections.abc import Callable

    from tap_unleash.api.page import Page
    from tap_unleash.api.rate_limiter import Pause

T = TypeVar("T")

logger = logging.getLogger(__name__)

API_URL = "https://api.unleashlive.com/v1"

MAX_ATTEMPTS = 9
"""Attempts of one request. The waits between them add up to 91 seconds or more, longer than
a quota per minute, and to about three minutes at most."""

MAX_WAIT = 60.0
"""Longest wait in seconds between two attempts."""

MAX_RETRY_AFTER = 120.0
"""Longest ``Retry-After`` in seconds that is waited for; a longer one ends the sync."""

MIN_THROTTLED = 120.0
"""Least seconds without an accepted request before the rate limit ends the sync: twice the
minute of a quota."""

MAX_BODY = 64 * 1024 * 1024
"""Most bytes of a decoded body: six times the 10 MB that AWS API Gateway lets through."""

CHUNK = 1024 * 1024
"""Most bytes read from the socket at a time."""

HINTS = {
    400: "Check 'start_date' and 'end_date'.",
    401: "Check that 'api_key' is correct and has not expired.",
    403: "Check that 'api_key' is correct and has not expired, and that the API add-on is "
    "enabled for your account.",
    404: "Check 'api_url'.",
    422: "Check 'device_ids', 'start_date' and 'end_date'.",
}

RETRY_LATER = "Retry later; the next sync resumes from the last checkpoint."

_TRANSIENT = {204, 408, 413, 421, 425, 429}
"""Statuses below 500 that are retried."""

_OVERLOAD = {502, 504}
"""Statuses by which AWS API Gateway reports that the backend answered too late, or with too
large a body (documented by AWS)."""

_STATUSES = frozenset(HTTPStatus)

_VERSION = re.compile(
    r'{{"({0})"}}|{{"version": ?"({0})"}}|"({0})"|({0})'.format(
        r"[0-9A-Za-z]+(?:[.-][0-9A-Za-z]+)*"
    )
)

_ids = msgspec.json.Decoder(list[str | int])


class _Retry(Exception):
    """An attempt failed in a way that another one may not.

    Attributes:
        overload: Whether the API may answer if it has less to do.
        too_large: Whether it may answer for a shorter time range only.
        retry_after: Seconds that the API asked to wait.
    """

    def __init__(
        self,
        what: str,
        *,
        overload: bool = False,
        too_large: bool = False,
        retry_after: float | None = None,
        error: type[UnleashError] = Unavailable,
    ) -> None:
        super().__init__(what)
        self.overload = overload
        self.too_large = too_large
        self.retry_after = retry_after
        self.error = error


class UnleashClient:
    """Client of the Analytics API, safe to use from several threads."""

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
        self._url = f"{api_url.rstrip('/')}/analytics"
        self._timeout = request_timeout
        self._on_response = on_response
        self._on_unknown_field = on_unknown_field
        self._queue = RequestQueue(AdaptiveRateLimiter(concurrency))
        session = requests.Session()
        self._adapter = HTTPAdapter(pool_maxsize=concurrency)
        # Read once: doing it for each request would cost more than the request.
        environment = session.merge_environment_settings(
            self._url, {}, None, None, None
        )
        plain = self._url.startswith("http:")
        self._proxies = {} if plain else environment["proxies"]
        self._verify = True if environment["verify"] is None else environment["verify"]
        headers = {**session.headers, "User-Agent": user_agent}
        self._request = requests.Request("GET", self._url, headers, auth=auth).prepare()

    def version(self) -> str:
        """Request the version of the API.

        Returns:
            The version. The documentation prints it as ``{"1.0.1"}``, which is not JSON.
        """
        return self._get("version", decode=_decode_version)

    def devices(self) -> list[str]:
        """Request the device IDs of the account.

        Returns:
            The distinct IDs.
        """
        return self._get("devices", decode=_decode_ids)

    def sessions(self) -> list[str]:
        """Request the session IDs of the account.

        Returns:
            The distinct IDs.
        """
        return self._get("sessions", decode=_decode_ids)

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
        prefix = ("tableau",) if response_format == "tableau" else ()
        decode = partial(
            decode_page,
            response_format=response_format,
            device_id=device_id,
            number=number,
            on_unknown_field=self._on_unknown_field,
        )
        return self._get(
            *prefix, device_id, start, end, number, decode=decode, splittable=splittable
        )

    def close(self) -> None:
        """Cancel all requests; those in flight end when they are answered."""
        self._queue.close()

    def _get(
        self,
        *path: str | int,
        decode: Callable[[bytes], T],
        splittable: bool = False,
    ) -> T:
        """Send a request until it is answered.

        Args:
            path: Segments of the path after ``/analytics``.
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
        attempts = 0
        retry = alone = False
        while True:
            try:
                with self._queue.turn(retry=retry, alone=alone) as permit:
                    response, body = self._send(request)
                    pause = None
                    if response.status_code == HTTPStatus.TOO_MANY_REQUESTS:
                        pause = self._queue.refused(
                            permit, _retry_after(response, body)
                        )
                    else:
                        self._queue.accepted(permit)
                if pause is None:
                    _check(response, body)
                    return decode(body)
                _log_pause(pause, response, body)
                retry = True
                continue
            except InvalidResponse as error:
                failure = _Retry(f"Unexpected API response ({error})")
            except _Retry as error:
                failure = error
            attempts += 1
            if failure.overload:
                self._queue.overloaded()
            if splittable and (failure.too_large or (failure.overload and alone)):
                raise WindowTooLarge(_final(failure, attempts)) from failure
            if attempts >= MAX_ATTEMPTS:
                raise failure.error(_final(failure, attempts)) from failure
            wait = min(2.0 ** (attempts - 1), MAX_WAIT) * random.uniform(0.5, 1)  # noqa: S311
            wait = max(wait, failure.retry_after or 0)
            logger.warning(
                "Request failed: %s (attempt %d of %d). Retrying in %.1f s",
                failure,
                attempts,
                MAX_ATTEMPTS,
                wait,
            )
            self._queue.wait(wait)
            # Alone, to tell a time range that is too long from too many requests.
            retry = True
            alone = failure.overload and (splittable or attempts == 1)

    def _send(
        self, request: requests.PreparedRequest
    ) -> tuple[requests.Response, bytes]:
        """Send a request once.

        Raises:
            _Retry: If there is no complete response.
            FatalError: If there cannot be one.
        """
        started = time.monotonic()
        try:
            # By the adapter, which follows no redirect: the credential would be sent along.
            with self._adapter.send(
                request,
                stream=True,
                timeout=self._timeout,
                verify=self._verify,
                proxies=self._proxies,
            ) as response:
                body = self._read(response, started + self._timeout)
        except (OSError, HTTPError) as error:
            self._fail(error)
        seconds = time.monotonic() - started
        self._on_response(request.path_url, response.status_code, seconds)
        return response, body

    def _read(self, response: requests.Response, deadline: float) -> bytes:
        """Read the body, in pieces, so that a slow one cannot exceed the time-out."""
        pieces, length = [], 0
        while piece := response.raw.read1(CHUNK, decode_content=True):
            pieces.append(piece)
            length += len(piece)
            if length > MAX_BODY:
                msg = (
                    f"Response larger than {MAX_BODY >> 20} MiB. Check 'api_url' and the "
                    "proxy."
                )
                raise FatalError(msg)
            left = deadline - time.monotonic()
            if left <= 0:
                raise requests.ReadTimeout
            connection = response.raw.connection
            if connection is not None and connection.sock is not None:
                connection.sock.settimeout(left)
        return b"".join(pieces)

    def _fail(self, error: Exception) -> NoReturn:
        text = str(error)
        if isinstance(error, requests.exceptions.SSLError) and "CERTIFICATE" in text:
            msg = f"The TLS certificate of {self._url} cannot be verified."
            raise FatalError(msg) from error
        if not isinstance(error, requests.RequestException | HTTPError | TimeoutError):
            msg = f"Request failed: {error}."
            raise FatalError(msg) from error
        reason = getattr(error.args[0] if error.args else None, "reason", None)
        if isinstance(error, requests.ConnectTimeout) or isinstance(
            reason, NewConnectionError
        ):
            msg = f"cannot connect to {self._url}"
            raise _Retry(msg, error=FatalError) from error
        if isinstance(error, requests.Timeout) or "timed out" in text:
            msg = f"no complete response from {self._url} within {self._timeout} s"
            raise _Retry(msg, overload=True) from error
        msg = f"connection to {self._url} closed before the response was complete"
        raise _Retry(msg) from error


def _log_pause(pause: Pause, response: requests.Response, body: bytes) -> None:
    """Log a pause of all requests.

    Raises:
        FatalError: If there were too many.
    """
    if pause.number > MAX_ATTEMPTS and pause.elapsed >= MIN_THROTTLED:
        msg = (
            f"Rate limit exceeded (HTTP {_describe(response, body)}) after "
            f"{pause.number - 1} pauses. Retry later or request a higher limit from "
            "Unleash live."
        )
        raise FatalError(msg)
    if pause.seconds:
        logger.warning(
            "Rate limited (HTTP 429): pausing all requests for %.0f s", pause.seconds
        )


def _check(response: requests.Response, body: bytes) -> None:
    """Classify a response.

    Raises:
        _Retry: If another attempt may succeed.
        RequestRejected: If the API rejects the request.
        FatalError: If it redirects.
    """
    status = response.status_code
    if status == HTTPStatus.OK:
        if body.startswith(b'{"errors"') and (text := _message(body)):
            # Seen in the vendor's sample code for other endpoints.
            msg = f"API error ({text})"
            raise _Retry(msg)
        return
    what = _describe(response, body)
    if status in _TRANSIENT or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        msg = f"API error (HTTP {what})"
        raise _Retry(
            msg,
            overload=status in _OVERLOAD,
            too_large=status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
            retry_after=_retry_after(response, body),
        )
    if HTTPStatus.MULTIPLE_CHOICES <= status < HTTPStatus.BAD_REQUEST:
        msg = f"Unexpected redirect (HTTP {what}). Check 'api_url'."
        raise FatalError(msg)
    denied = status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}
    msg = f"{'Authentication failed' if denied else 'Request rejected'} (HTTP {what})."
    if hint := HINTS.get(status):
        msg += f" {hint}"
    raise RequestRejected(msg, status)


def _final(failure: _Retry, attempts: int) -> str:
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


def _describe(response: requests.Response, body: bytes) -> str:
    """Return status code and phrase, and the API's message if it says more."""
    status = response.status_code
    phrase = HTTPStatus(status).phrase if status in _STATUSES else ""
    text = _message(body)
    said = f": {text}" if text and text.lower() != phrase.lower() else ""
    return f"{status} {phrase}".strip() + said


def _message(body: bytes) -> str:
    """Return the text of an error body, made fit for one line of a log."""
    try:
        content: Any = msgspec.json.decode(body)
        content = content["errors"][0] if "errors" in content else content
        text = escape(str(content["message"]))
    except (msgspec.MsgspecError, LookupError, TypeError, ValueError, RecursionError):
        return ""
    return "".join(filter(str.isprintable, text))[:200]


def _retry_after(response: requests.Response, body: bytes) -> float | None:
    """Return the seconds of a ``Retry-After`` header, in either of its two forms.

    Raises:
        FatalError: If this is too long to wait.
    """
    value = response.headers.get("Retry-After", "").strip()
    now = datetime.now(timezone.utc)
    try:
        if value.isdecimal():
            until = now + timedelta(seconds=int(value))
        else:
            until = parsedate_to_datetime(value)
            until = until.replace(tzinfo=until.tzinfo or timezone.utc)
    except (TypeError, ValueError, OverflowError):
        return None
    seconds = (until - now).total_seconds()
    if seconds > MAX_RETRY_AFTER:
        msg = (
            f"The API accepts no requests until {until:%Y-%m-%d %H:%M:%S} UTC (HTTP "
            f"{_describe(response, body)}, 'Retry-After'). Retry then; the next sync "
            "resumes from the last checkpoint."
        )
        raise FatalError(msg)
    return max(seconds, 0.0)
