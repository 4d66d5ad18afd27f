"""The only module that does input and output: one polite request at a time."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING
from urllib.parse import quote

import requests
from urllib3.exceptions import HTTPError

from scripts.probe.exchange import Exchange, Log, Range
from tap_unleash.api import failures
from tap_unleash.tap import TOKEN_PREFIX

if TYPE_CHECKING:
    from collections.abc import Callable

MAX_REQUESTS = 60
"""Most requests of a probe."""

INTERVAL = 1.0
"""Least seconds between the starts of two requests, so that there are 60 per minute."""

TIMEOUT = 40.0
"""Most seconds for a complete response; AWS API Gateway itself gives up after 29."""

CONNECT_TIMEOUT = 5.0
"""Most seconds to wait for a connection."""

MAX_BODY = 64 * 1024 * 1024
"""Most bytes of a decoded body."""

DEFAULT_WAIT = 30.0
"""Seconds to wait after HTTP 429 without a valid ``Retry-After``."""

MAX_WAIT = 120.0
"""Longest ``Retry-After`` in seconds that is waited for."""

ATTEMPTS = 3
"""Attempts of a request that gets HTTP 429, and lost responses in a row that end the probe."""

TRANSIENT = {500, 503}
"""Statuses after which a request is sent once more; 502 and 504 can mean a long range."""

LOST = "connection lost"
TIME_OUT = "time-out"
TOO_LARGE = f"a body of more than {MAX_BODY >> 20} MiB"

WRONG_KEY = "wrong-key-of-make-probe"


class Stopped(Exception):
    """No more requests can be sent."""


class Asker:
    """Sends requests and records the exchanges.

    Attributes:
        log: The exchanges.
        reason: The reason why the last response that was lost was lost.
    """

    def __init__(  # noqa: PLR0913 - tests inject the last three
        self,
        api_url: str,
        api_key: str,
        *,
        budget: int = MAX_REQUESTS,
        interval: float = INTERVAL,
        timeout: float = TIMEOUT,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """Prepare the connection; nothing is sent.

        Args:
            api_url: Base URL without a trailing slash.
            api_key: The credential.
            budget: Most requests.
            interval: Least seconds between the starts of two requests.
            timeout: Most seconds for a complete response.
            clock: A monotonic clock.
            sleep: Waits for some seconds.
        """
        self.log = Log()
        self.reason = ""
        self._url = f"{api_url}/analytics"
        self._key = api_key
        self._budget = min(budget, MAX_REQUESTS)
        self._interval = interval
        self._timeout = timeout
        self._clock = clock
        self._sleep = sleep
        self._next = clock()
        self._lost = 0
        self._session = requests.Session()
        # Plain HTTP is for loopback addresses only, which no proxy can reach.
        self._session.trust_env = not api_url.startswith("http:")
        self._session.verify = os.environ.get("SSL_CERT_FILE") or True

    def get(self, purpose: str, *path: str, right_key: bool = True) -> Exchange:
        """Request a list or the version."""
        token = self._key.startswith(TOKEN_PREFIX)
        wrong = f"{TOKEN_PREFIX}{WRONG_KEY}" if token else WRONG_KEY
        return self._ask(purpose, path, None, self._key if right_key else wrong)

    def rows(self, purpose: str, asked: Range) -> Exchange:
        """Request a page of a device's rows."""
        return self._ask(purpose, asked.path, asked, self._key)

    def _ask(
        self, purpose: str, path: tuple[str, ...], asked: Range | None, key: str
    ) -> Exchange:
        for attempt in range(ATTEMPTS):
            exchange = self._send(purpose, path, asked, key)
            self.log.append(exchange)
            self._lost = self._lost + 1 if exchange.status is None else 0
            if self._lost == ATTEMPTS:
                msg = f"{ATTEMPTS} requests in a row had no complete response"
                raise Stopped(msg)
            if exchange.status == requests.codes.too_many:
                self._next = self._clock() + _wait(exchange)
            elif attempt or not (
                exchange.status in TRANSIENT or exchange.failure == LOST
            ):
                return exchange
        if exchange.status == requests.codes.too_many:
            msg = f"HTTP 429 for {ATTEMPTS} attempts of one request"
            raise Stopped(msg)
        return exchange

    def _send(
        self, purpose: str, path: tuple[str, ...], asked: Range | None, key: str
    ) -> Exchange:
        if len(self.log) >= self._budget:
            msg = f"the budget of {self._budget} requests was spent"
            raise Stopped(msg)
        if (early := self._next - self._clock()) > 0:
            self._sleep(early)
        started = self._clock()
        self._next = started + self._interval
        number = len(self.log) + 1
        try:
            # A redirect is recorded, not followed: the credential would be sent along.
            with self._session.get(
                "/".join([self._url, *(quote(part, safe="") for part in path)]),
                auth=_Credential(key),
                stream=True,
                timeout=(min(CONNECT_TIMEOUT, self._timeout), self._timeout),
                allow_redirects=False,
            ) as response:
                first_byte = self._clock() - started
                body = self._read(response, started + self._timeout)
        except (OSError, HTTPError) as error:
            why = failures.no_response(
                error, self._url, self._timeout, reached=bool(self.log)
            )
            late = isinstance(why, failures.Failure) and why.overload
            failure = TIME_OUT if late else LOST
            text = f"{failure} after {self._timeout:g} s" if late else str(why)
            self.reason = text.rstrip(".")
            return Exchange(number, purpose, asked, None, failure=failure)
        headers = {name.lower(): value for name, value in response.headers.items()}
        if body is None:
            self.reason = TOO_LARGE
            return Exchange(number, purpose, asked, None, headers, failure=TOO_LARGE)
        return Exchange(
            number, purpose, asked, response.status_code, headers, body, first_byte
        )

    def _read(self, response: requests.Response, deadline: float) -> bytes | None:
        """Read a body in pieces, so that a slow one cannot exceed the time-out."""
        pieces, length = [], 0
        while piece := response.raw.read1(MAX_BODY >> 6, decode_content=True):
            pieces.append(piece)
            length += len(piece)
            if length > MAX_BODY:
                return None
            left = deadline - self._clock()
            if left <= 0:
                raise requests.ReadTimeout
            connection = response.raw.connection
            if connection is not None and connection.sock is not None:
                connection.sock.settimeout(left)
        return b"".join(pieces)


class _Credential(requests.auth.AuthBase):
    """Adds the credential; given as `auth`, it is preferred to the one in ~/.netrc."""

    def __init__(self, key: str) -> None:
        self._key = key

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        if self._key.startswith(TOKEN_PREFIX):
            request.headers["Authorization"] = f"Bearer {self._key}"
        else:
            request.headers["x-api-key"] = self._key
        return request


def _wait(exchange: Exchange) -> float:
    """Return the seconds that the API asks to wait."""
    value = exchange.headers.get("retry-after", "").strip()
    seconds = DEFAULT_WAIT
    if value.isdecimal() and len(value) < 10:  # noqa: PLR2004 - centuries
        seconds = float(value)
    else:
        with suppress(TypeError, ValueError, OverflowError):
            until = parsedate_to_datetime(value)
            until = until.replace(tzinfo=until.tzinfo or timezone.utc)
            seconds = (until - datetime.now(timezone.utc)).total_seconds()
    if seconds > MAX_WAIT:
        msg = f"HTTP 429 with a Retry-After of more than {MAX_WAIT:.0f} seconds"
        raise Stopped(msg)
    return max(seconds, 0.0)
