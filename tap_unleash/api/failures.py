"""What a failed request means: retry, request less, give up the device, or end the sync."""

from __future__ import annotations

import re
import ssl
from datetime import datetime, timedelta, timezone
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from http.client import HTTPException, IncompleteRead, RemoteDisconnected
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import msgspec
import requests
from urllib3.exceptions import (
    HTTPError,
    NameResolutionError,
    NewConnectionError,
    ProxyError,
)

from tap_unleash.api.errors import (
    FatalError,
    RequestRejected,
    Unavailable,
    UnleashError,
)
from tap_unleash.api.page import escape

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_ATTEMPTS = 9
"""Attempts of one request. The waits between them add up to 91 seconds or more, longer than
a quota per minute, and to about three minutes at most."""

FEW_ATTEMPTS = 3
"""Attempts if the server was never reached and the cause is likely a wrong setting."""

MAX_RETRY_AFTER = 120.0
"""Longest ``Retry-After`` in seconds that is waited for; a longer one ends the sync."""

HINTS = {
    400: "Check 'start_date' and 'end_date'.",
    401: "Check that 'api_key' is correct and has not expired.",
    403: "Check that 'api_key' is correct and has not expired, and that the API add-on is "
    "enabled for your account.",
    404: "Check 'api_url'.",
    422: "Check 'device_ids', 'start_date' and 'end_date'.",
}

NOT_THE_API = "The response is not from the API: check 'api_url' and the proxy."

_TRANSIENT = {204, 408, 413, 421, 425, 429}
"""Statuses below 500 that are retried."""

_OVERLOAD = {502, 504}
"""Statuses by which AWS API Gateway reports that the backend answered too late, or with too
large a body (documented by AWS)."""

_STATUSES = frozenset(HTTPStatus)

_TITLE = re.compile(rb"<title>\s*(.*?)\s*</title>", re.IGNORECASE | re.DOTALL)

_PERMANENT_TLS = re.compile(
    "CERTIFICATE|HANDSHAKE_FAILURE|HTTP_REQUEST|PROTOCOL|WRONG_VERSION_NUMBER"
)
"""Reasons of OpenSSL that do not change by waiting."""


class Failure(Exception):
    """An attempt failed in a way that another one may not.

    Attributes:
        overload: Whether the API may answer if it has less to do.
        too_large: Whether it may answer for a shorter time range only.
        retry_after: Seconds that the API asked to wait.
        error: Raised after the last attempt.
        attempts: Most attempts.
    """

    def __init__(  # noqa: PLR0913 - most have none of these
        self,
        what: str,
        *,
        overload: bool = False,
        too_large: bool = False,
        retry_after: float | None = None,
        error: type[UnleashError] = Unavailable,
        attempts: int | None = None,
    ) -> None:
        """Describe the failure.

        Args:
            what: The reason, as part of a sentence.
            overload: Whether the API may answer if it has less to do.
            too_large: Whether it may answer for a shorter time range only.
            retry_after: Seconds that the API asked to wait.
            error: Type of the error after the last attempt.
            attempts: Most attempts; `MAX_ATTEMPTS` by default.
        """
        super().__init__(what)
        self.overload = overload
        self.too_large = too_large
        self.retry_after = retry_after
        self.error = error
        self.attempts = attempts or MAX_ATTEMPTS


def no_response(  # noqa: PLR0911 - one for each kind of failure
    error: Exception, url: str, timeout: float, *, reached: bool
) -> Failure | FatalError:
    """Classify an attempt without a complete response.

    Args:
        error: What `requests` raised.
        url: The URL that the message names.
        timeout: Seconds that were waited for the response.
        reached: Whether the server responded before.

    Returns:
        The failure; the error if no attempt can succeed.
    """
    causes = [*_causes(error)]
    cause, text = causes[-1], str(causes[-1])
    # A wrong setting shows at the first request; later, the network is at fault.
    attempts = None if reached else FEW_ATTEMPTS
    if not isinstance(error, requests.RequestException | HTTPError | TimeoutError):
        return FatalError(f"Request failed: {error}.")
    if any(isinstance(e, ProxyError) for e in causes) or isinstance(
        error, requests.exceptions.InvalidSchema | requests.exceptions.InvalidURL
    ):
        return _no_proxy(cause, attempts)
    if isinstance(cause, ssl.SSLError):
        return _no_tls(cause, url)
    if isinstance(cause, NameResolutionError):
        host = urlsplit(url).hostname
        what = f"host name {host!r} not found"
        return Failure(what, error=FatalError, attempts=attempts)
    if isinstance(error, requests.ConnectTimeout) or isinstance(
        cause, NewConnectionError
    ):
        what = f"cannot connect to {url} ({_system(cause)})"
        return Failure(what, error=FatalError)
    if isinstance(error, requests.Timeout) or "timed out" in text:
        what = f"no complete response from {url} within {timeout} s ('request_timeout')"
        return Failure(what, overload=True)
    if isinstance(cause, HTTPException) and not isinstance(
        cause, IncompleteRead | RemoteDisconnected
    ):
        what = f"response of {url} is not valid HTTP ({_one_line(text)})"
        return Failure(what, error=FatalError, attempts=attempts)
    return Failure(f"connection to {url} closed before the response was complete")


def _no_proxy(cause: Exception, attempts: int | None) -> Failure | FatalError:
    text = str(cause)
    if "Tunnel connection failed: " in text:
        status = text.rpartition(": ")[2]
        if "407" in status:
            return FatalError(
                f"The proxy requires authentication ({status}). Add the user name and "
                "password to the URL in HTTPS_PROXY."
            )
        what = f"proxy does not connect to the API ({status})"
        if not status.startswith("5"):
            return FatalError(f"The {what}. Check its configuration.")
        return Failure(f"the {what}", error=FatalError)
    if isinstance(cause, NameResolutionError):
        what = "host name of the proxy not found"
        return Failure(what, error=FatalError, attempts=attempts)
    if isinstance(cause, NewConnectionError | TimeoutError):
        what = f"cannot connect to the proxy ({_system(cause)})"
        return Failure(what, error=FatalError)
    return FatalError(f"The proxy in HTTPS_PROXY cannot be used: {_one_line(text)}")


def _no_tls(cause: ssl.SSLError, url: str) -> Failure | FatalError:
    host = urlsplit(url).hostname
    if isinstance(cause, ssl.SSLCertVerificationError):
        why = cause.verify_message.rstrip(".")
        msg = f"The TLS certificate of {host} is not accepted: {why}."
        if "issuer" in why or "self-signed" in why or "self signed" in why:
            msg += " If your network inspects TLS, set SSL_CERT_FILE to its CA bundle."
        return FatalError(msg)
    reason = (cause.reason or str(cause)).replace("_", " ").lower()
    if "NO_CERTIFICATE_OR_CRL" in str(cause):
        msg = "The CA bundle has no certificate. Check SSL_CERT_FILE."
        return FatalError(msg)
    if _PERMANENT_TLS.search(cause.reason or ""):
        return FatalError(f"No TLS connection to {host}: {reason}. Check 'api_url'.")
    return Failure(f"no TLS connection to {host}: {reason}", error=FatalError)


def _causes(error: BaseException) -> Iterator[Any]:
    """Yield an error of `requests` and what caused it; its last one says why."""
    seen: Any = error
    while isinstance(seen, BaseException):
        yield seen
        seen = getattr(seen, "reason", None) or next(
            (arg for arg in reversed(seen.args) if isinstance(arg, BaseException)), None
        )


def _system(cause: Exception) -> str:
    """Return why a connection was not made."""
    text = str(cause)
    return "timed out" if "timed out" in text else _one_line(text.rpartition("] ")[2])


def check(response: requests.Response, body: bytes) -> None:
    """Classify a response.

    Args:
        response: The response.
        body: Its body.

    Raises:
        Failure: If another attempt may succeed.
        RequestRejected: If the API rejects the request.
        FatalError: If it redirects, or asks to wait for too long.
    """
    status = response.status_code
    if status == HTTPStatus.OK:
        if body.startswith(b'{"errors"') and (text := _message(body)):
            # Seen in the vendor's sample code for other endpoints.
            msg = f"API error ({text})"
            raise Failure(msg)
        return
    what = describe(response, body)
    if status in _TRANSIENT or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        msg = f"API error (HTTP {what})"
        raise Failure(
            msg,
            overload=status in _OVERLOAD,
            too_large=status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
            retry_after=retry_after(response, body),
        )
    if HTTPStatus.MULTIPLE_CHOICES <= status < HTTPStatus.BAD_REQUEST:
        msg = f"Unexpected redirect (HTTP {what}). Check 'api_url'."
        raise FatalError(msg)
    denied = status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}
    msg = f"{'Authentication failed' if denied else 'Request rejected'} (HTTP {what})."
    hint = NOT_THE_API if body.lstrip().startswith(b"<") else HINTS.get(status)
    if hint:
        msg += f" {hint}"
    raise RequestRejected(msg, status)


def describe(response: requests.Response, body: bytes) -> str:
    """Describe a response other than 200.

    Args:
        response: The response.
        body: Its body.

    Returns:
        Status code and phrase, and the server's message if it says more.
    """
    status = response.status_code
    phrase = HTTPStatus(status).phrase if status in _STATUSES else ""
    text = _message(body)
    said = f": {text}" if text and text.lower() != phrase.lower() else ""
    return f"{status} {phrase}".strip() + said


def _message(body: bytes) -> str:
    """Return the text of an error body, made fit for one line of a log."""
    if title := _TITLE.search(body[:4096]):
        return _one_line(re.sub(r"^\d{3} ", "", title[1].decode(errors="replace")))
    try:
        content: Any = msgspec.json.decode(body)
        content = content["errors"][0] if "errors" in content else content
        text: str = escape(str(content["message"]))
    except (msgspec.MsgspecError, LookupError, TypeError, ValueError, RecursionError):
        return ""
    return _one_line(text)


def _one_line(text: str) -> str:
    return "".join(filter(str.isprintable, text))[:200]


def retry_after(response: requests.Response, body: bytes) -> float | None:
    """Return the seconds of a ``Retry-After`` header, in either of its two forms.

    Args:
        response: The response.
        body: Its body.

    Returns:
        The seconds, or `None` without a valid header.

    Raises:
        FatalError: If this is too long to wait.
    """
    wait = parse_retry_after(response.headers.get("Retry-After", ""))
    if wait is None:
        return None
    if wait.total_seconds() > MAX_RETRY_AFTER:
        until = datetime.now(timezone.utc) + wait
        msg = (
            f"The API accepts no requests until {until:%Y-%m-%d %H:%M:%S} UTC (HTTP "
            f"{describe(response, body)}, 'Retry-After'). Retry then; the next sync "
            "resumes from the last checkpoint."
        )
        raise FatalError(msg)
    return wait.total_seconds()


def parse_retry_after(value: str) -> timedelta | None:
    """Parse a ``Retry-After`` header in either of its two forms.

    Args:
        value: A number of seconds, or a date.

    Returns:
        The time to wait, zero if it is in the past; `None` if the header is invalid.
    """
    value = value.strip()
    now = datetime.now(timezone.utc)
    try:
        if value.isdecimal():
            until = now + timedelta(seconds=int(value))
        else:
            until = parsedate_to_datetime(value)
            until = until.replace(tzinfo=until.tzinfo or timezone.utc)
    except (TypeError, ValueError, OverflowError):
        return None
    return max(until - now, timedelta())
