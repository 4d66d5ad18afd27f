"""The connection that all streams share: its rate limit, and why a request failed."""

from __future__ import annotations

import threading
import time
from contextlib import nullcontext
from functools import partial
from http import HTTPStatus
from http.client import HTTPException
from math import inf
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import msgspec
import requests
from requests.adapters import HTTPAdapter
from requests.exceptions import ProxyError, SSLError
from typing_extensions import override
from urllib3.exceptions import InvalidHeader, ReadTimeoutError
from urllib3.util import Retry

from tap_unleash.errors import FatalError, UnleashError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

MAX_RETRY_AFTER = 120
"""Longest wait in seconds that the API may ask for, and longest time without an accepted
request, before the run ends."""

# Of 10 KB, each piece of a body would hand over the interpreter to another thread.
requests.models.CONTENT_CHUNK_SIZE = 1 << 20
_REFUSED = {429, 502, 503, 504}


class RequestFailed(UnleashError):
    """A request failed: it is rejected, unless the API is `Unavailable`.

    Attributes:
        status: The HTTP status; 504 after a time-out, and 0 without a response.
    """

    def __init__(self, message: str, status: int = 0) -> None:
        """Store the status.

        Args:
            message: The error line.
            status: The HTTP status.
        """
        super().__init__(message)
        self.status = status


class Unavailable(RequestFailed):
    """An attempt failed; another one may not.

    Attributes:
        alone: Whether the API answered no other request during all attempts.
        tries: Number of attempts before giving up.
    """

    alone = False
    tries = 9


class Unreachable(FatalError, Unavailable):
    """There is no connection to the API: after all attempts, no other request can succeed."""


class RateLimiter:
    """Spaces the requests of all threads, as far as the API refuses them.

    A refusal pauses all requests, and one at a time is sent until the API accepts one. It also
    widens the interval between requests, which each accepted request narrows.
    """

    def __init__(self) -> None:
        """Start without any spacing."""
        self._lock = threading.Lock()
        self._alone = threading.Lock()
        self._interval = self._pause = self._next = self._refused = 0.0
        self._refused_since = inf

    def send(self, attempt: Callable[[], requests.Response]) -> requests.Response:
        """Send a request as soon as the rate limit allows, until it is not refused.

        Args:
            attempt: Sends the request.

        Returns:
            The response; its status is not 429.

        Raises:
            FatalError: If the rate limit is exhausted.
        """
        while True:
            with self._alone if self._pause else nullcontext():
                with self._lock:
                    sent = max(time.monotonic(), self._next)
                    self._next = sent + self._interval
                if (wait := sent - time.monotonic()) > 0:
                    time.sleep(wait)
                try:
                    response = attempt()
                except Unavailable as error:
                    if error.status in _REFUSED:
                        self._refuse(sent, throttled=False)
                    raise
                throttled = response.status_code == HTTPStatus.TOO_MANY_REQUESTS
                if response.status_code in _REFUSED:
                    self._refuse(sent, _retry_after(response), throttled=throttled)
                else:
                    self._accept(sent)
            if not throttled:
                return response
            if time.monotonic() - self._refused_since > MAX_RETRY_AFTER:
                msg = (
                    f"Rate limit exceeded (HTTP {describe(response)}): no request was "
                    f"accepted for {MAX_RETRY_AFTER} s. Retry later or request a higher "
                    "limit from Unleash live."
                )
                raise FatalError(msg)

    def _accept(self, sent: float) -> None:
        with self._lock:
            self._refused_since = inf
            self._interval *= 0.95
            if sent > self._refused:
                self._pause = 0.0

    def _refuse(self, sent: float, wait: float = 0, *, throttled: bool) -> None:
        with self._lock:
            now = time.monotonic()
            self._refused_since = min(self._refused_since, now)
            if sent >= self._refused:  # not together with the one before
                self._interval = min(max(self._interval, 0.05) * (1.3 if throttled else 2), 1)
                self._pause = min(max(2 * self._pause, 0.5), 30) if throttled else 0.5
                self._refused = now
            self._next = max(self._next, now + (wait or self._pause))


class Session(requests.Session):
    """The connection that all streams and threads share.

    Attributes:
        limiter: The rate limit.
        answered: Number of requests that the API answered.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        """Prepare the connection; nothing is sent.

        Args:
            config: The settings.
        """
        super().__init__()
        self.limiter = RateLimiter()
        self.answered = 0
        self._tries = 3  # until the server responds
        server = config["api_url"].rstrip("/")
        self.mount(server, HTTPAdapter(pool_maxsize=config["concurrency"]))
        # `send` ignores REQUESTS_CA_BUNDLE, and would read the proxies for each request.
        found = self.merge_environment_settings(config["api_url"], {}, None, None, None)
        self.verify = found["verify"]
        # Plain HTTP is for loopback only, and a proxy is elsewhere.
        self.proxies = found["proxies"] if config["api_url"].startswith("https") else {}
        self.trust_env = False

    @override
    def send(self, request: requests.PreparedRequest, **kwargs: Any) -> requests.Response:
        return self.limiter.send(partial(self._attempt, request, **kwargs))

    def _attempt(self, request: requests.PreparedRequest, **kwargs: Any) -> requests.Response:
        try:
            response = super().send(request, **kwargs)
        except OSError as error:  # such as any exception of `requests`
            raise _no_response(error, str(request.url), self._tries) from error
        self._tries = Unavailable.tries
        return response


def describe(response: requests.Response) -> str:
    """Describe a response other than 200.

    Args:
        response: The response.

    Returns:
        Status code and phrase, and the server's message if it says more.
    """
    try:
        said = str(msgspec.json.decode(response.content)["message"])
    except (msgspec.MsgspecError, LookupError, TypeError, ValueError, RecursionError):
        said = ""
    said = "".join(filter(str.isprintable, said))[:200]
    phrase = response.reason or ""
    more = f": {said}" if said and said.lower() != phrase.lower() else ""
    return f"{response.status_code} {phrase}".strip() + more


def _retry_after(response: requests.Response) -> float:
    """Return the seconds of a ``Retry-After`` header, in either of its two forms."""
    try:
        seconds = Retry().parse_retry_after(response.headers["Retry-After"])
    except (KeyError, InvalidHeader, ValueError, OverflowError):
        return 0
    if seconds > MAX_RETRY_AFTER:
        msg = (
            f"The API accepts no requests for {seconds:.0f} s (HTTP {describe(response)}, "
            "'Retry-After'). Retry then; the next sync resumes from the last checkpoint."
        )
        raise FatalError(msg)
    return seconds


def _no_response(error: OSError, url: str, tries: int) -> Unavailable:
    """Classify an attempt without a complete response."""
    cause: Any = error
    while isinstance(inner := getattr(cause, "reason", None) or (cause.args or [0])[-1], Exception):
        cause = inner
    server = "{0.scheme}://{0.netloc}".format(urlsplit(url))
    why = " ".join(str(cause).rpartition("] ")[2].rstrip(")").split())[:200]
    if not isinstance(error, requests.RequestException) or isinstance(error, SSLError):
        # The former if there is no such REQUESTS_CA_BUNDLE.
        msg = f"No TLS connection to {server}: {why}. Check 'api_url' and REQUESTS_CA_BUNDLE."
        raise FatalError(msg) from error
    failure = Unavailable(f"connection to {server} closed before the response was complete")
    if isinstance(error, ProxyError):
        failure = Unreachable(f"no connection to {server} through the proxy ({why})")
    elif isinstance(cause, ReadTimeoutError):
        failure = Unavailable(f"no data from {server} within 'request_timeout'", 504)
    elif isinstance(error, requests.ConnectionError) and not isinstance(
        cause, OSError | HTTPException
    ):
        failure = Unreachable(f"cannot connect to {server} ({why})")
    failure.tries = tries
    return failure
