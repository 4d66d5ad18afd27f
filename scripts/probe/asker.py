"""The only module that does input and output: one polite request at a time."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING
from urllib.parse import quote

import requests
from urllib3.exceptions import HTTPError

from scripts.probe.exchange import Exchange, Log, Range
from tap_unleash.api import failures
from tap_unleash.api.errors import FatalError
from tap_unleash.api.failures import MAX_RETRY_AFTER
from tap_unleash.api.transport import (
    MAX_BODY,
    Adapter,
    environment_settings,
    read_body,
    timeouts,
)
from tap_unleash.tap import TOKEN_PREFIX, authenticator

if TYPE_CHECKING:
    from collections.abc import Callable

MAX_REQUESTS = 60
"""Most requests of a probe."""

INTERVAL = 1.0
"""Least seconds between the starts of two requests, so that there are 60 per minute."""

TIMEOUT = 40.0
"""Most seconds for a complete response; AWS API Gateway itself gives up after 29."""

DEFAULT_WAIT = 30.0
"""Seconds to wait after HTTP 429 without a valid ``Retry-After``."""

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
        self._session.trust_env = False  # it is read here, as the tap reads it
        self._session.mount(api_url, Adapter())
        self._session.proxies, self._session.verify = environment_settings(self._url)

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
                auth=authenticator(key),
                stream=True,
                timeout=timeouts(self._timeout),
                allow_redirects=False,
            ) as response:
                first_byte = self._clock() - started
                body = read_body(response)
        except (OSError, HTTPError) as error:
            why = failures.no_response(
                error, self._url, self._timeout, reached=bool(self.log)
            )
            late = isinstance(why, failures.Failure) and why.overload
            failure = TIME_OUT if late else LOST
            text = f"{failure} after {self._timeout:g} s" if late else str(why)
            self.reason = text.rstrip(".")
            return Exchange(number, purpose, asked, None, failure=failure)
        except FatalError:
            self.reason = TOO_LARGE
            return Exchange(number, purpose, asked, None, failure=TOO_LARGE)
        headers = {name.lower(): value for name, value in response.headers.items()}
        return Exchange(
            number, purpose, asked, response.status_code, headers, body, first_byte
        )


def _wait(exchange: Exchange) -> float:
    """Return the seconds that the API asks to wait."""
    wait = failures.parse_retry_after(exchange.headers.get("retry-after", ""))
    seconds = DEFAULT_WAIT if wait is None else wait.total_seconds()
    if seconds > MAX_RETRY_AFTER:
        msg = f"HTTP 429 with a Retry-After of more than {MAX_RETRY_AFTER:.0f} seconds"
        raise Stopped(msg)
    return seconds
