"""One HTTP conversation with the API: URL, credential, retries, errors, bodies."""

from __future__ import annotations

import random
import time
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from functools import cached_property
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote

import backoff
import msgspec
import requests
from requests.adapters import HTTPAdapter
from singer_sdk import RESTStream, metrics
from singer_sdk.authenticators import APIKeyAuthenticator, BearerTokenAuthenticator
from singer_sdk.exceptions import FatalAPIError, RetriableAPIError
from typing_extensions import override
from urllib3.exceptions import HTTPError

from tap_unleash.gate import Gate

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from typing import NoReturn

    from backoff.types import Details

T = TypeVar("T")

MAX_TRIES = 9
"""Tries of one request: their waits add up to 91 seconds at least, which outlasts a quota
that is counted by the minute, and to about three minutes at most."""

MAX_WAIT = 60.0
"""Longest wait in seconds between two tries: a minute's quota is renewed by then."""

MAX_RETRY_AFTER = 120.0
"""Longest ``Retry-After`` in seconds that is heeded: a longer one is a mistake, or an
outage that the scheduler's next run should meet instead."""

MAX_BODY = 64 * 1024 * 1024
"""Most bytes of a decoded body: six times the 10 MB that AWS API Gateway lets through."""

TOKEN_PREFIX = "ul_pat_"  # noqa: S105
"""What a personal access token begins with, says the vendor."""

ADVICE = {
    400: "The API did not understand the request: check `start_date` and `end_date`.",
    401: "The API did not accept the credential: check `api_key`.",
    403: "The API refused the credential: check `api_key`, whether it has expired, and "
    "that your account has the API add-on.",
    404: "The API does not know this address: check `api_url`.",
    422: "The API found a parameter invalid: check `device_ids` and the dates.",
    429: "The API's request limit is used up: run again later, or ask for a higher one.",
}


class TapError(SystemExit):
    """What ends a run and can be told in a line: exit code 1, and no traceback."""

    def __init__(self, message: str) -> None:
        """Name the program, for those who see its errors among those of others.

        Args:
            message: What is wrong and what to do.
        """
        super().__init__(f"tap-unleash: {message}")


class RefusedError(TapError):
    """A request that the API refuses, and would refuse again."""


class UnanswerableError(Exception):
    """The server cannot answer for so long a range of time; it may for a shorter one."""


class InvalidBodyError(ValueError):
    """A body that is not what the documentation promises."""


class UnleashStream(RESTStream[int]):
    """Base of all streams."""

    @override
    @property
    def url_base(self) -> str:
        return f"{self.config['api_url'].rstrip('/')}/analytics"

    @override
    @property
    def timeout(self) -> int:
        return int(self.config["request_timeout"])

    @override
    @cached_property
    def user_agent(self) -> str:
        return f"{self.tap_name}/{self._tap.plugin_version}"

    @override
    @cached_property
    def authenticator(self) -> APIKeyAuthenticator | BearerTokenAuthenticator:
        key: str = self.config["api_key"]
        if key.startswith(TOKEN_PREFIX):
            return BearerTokenAuthenticator(token=key)
        return APIKeyAuthenticator(key="x-api-key", value=key, location="header")

    @override
    @cached_property
    def requests_session(self) -> requests.Session:
        session = requests.Session()
        session.mount(
            self.url_base, HTTPAdapter(pool_maxsize=self.config["concurrency"])
        )
        # Read once: for each request it would cost more than the rest of the request.
        environment = session.merge_environment_settings(
            self.url_base, {}, None, None, None
        )
        session.proxies = environment["proxies"]
        session.verify = environment["verify"]
        session.trust_env = False
        return session

    @cached_property
    def gate(self) -> Gate:
        """The pace that all requests of this stream share."""
        return Gate(self.config["concurrency"])

    def fetch(
        self,
        *path: str | int,
        decode: Callable[[bytes], T],
        divisible: bool = False,
    ) -> T:
        """Ask until there is an answer.

        Args:
            path: The parts of the address behind ``/analytics``.
            decode: What makes a value of the body; it raises `InvalidBodyError`, or
                msgspec's errors, for a body that is not what it should be.
            divisible: Whether less can be asked for. Then an answer that is too large
                or too slow to come is tried twice only.

        Returns:
            What `decode` made of the body.

        Raises:
            UnanswerableError: If `divisible`, and the server cannot answer.
            RefusedError: If the API refuses the request.
            TapError: If there is no good answer after `MAX_TRIES` tries.
        """
        request = self._request_to_copy.copy()
        # Set behind the back of requests, which would unquote the dots of an id of `..`.
        request.url = "/".join([self.url_base, *(_quote(str(part)) for part in path)])
        try:
            answer: T = self._persistent_attempt(request, decode, divisible=divisible)
        except FatalAPIError as error:
            raise RefusedError(str(error)) from error
        except RetriableAPIError as error:
            status = error.response.status_code if error.response is not None else 0
            msg = f"{error} after {MAX_TRIES} tries. {ADVICE.get(status, _TRY_LATER)}"
            raise TapError(msg) from error
        return answer

    @cached_property
    def _request_to_copy(self) -> requests.PreparedRequest:
        return self.build_prepared_request(method="GET", url=self.url_base)

    @cached_property
    def _persistent_attempt(self) -> Callable[..., Any]:
        attempt = self.request_decorator(self._attempt)
        once_more = backoff.on_exception(
            backoff.expo, UnanswerableError, max_tries=2, logger=None
        )
        return once_more(attempt)

    def _attempt(
        self,
        request: requests.PreparedRequest,
        decode: Callable[[bytes], T],
        *,
        divisible: bool,
    ) -> T:
        response, body = self._send(request, divisible=divisible)
        self.validate_response(response, body=body, divisible=divisible)
        try:
            return decode(body)
        except (msgspec.MsgspecError, UnicodeDecodeError, InvalidBodyError) as error:
            msg = f"The API answered with something unexpected ({error})"
            raise RetriableAPIError(msg, response) from error

    def _send(
        self, request: requests.PreparedRequest, *, divisible: bool
    ) -> tuple[requests.Response, bytes]:
        """Ask once, or as often as it takes the API to let the request through."""
        session = self.requests_session
        again = False
        while True:
            with self.gate.request(again=again) as started:
                try:
                    # By the adapter, which follows no redirect: the credential would go along.
                    with session.get_adapter(self.url_base).send(
                        request,
                        stream=True,
                        timeout=self.timeout,
                        verify=True if session.verify is None else session.verify,
                        proxies=session.proxies,
                    ) as response:
                        body = response.raw.read(MAX_BODY + 1, decode_content=True)
                except (requests.RequestException, HTTPError) as error:
                    self._no_answer(error, divisible=divisible)
                self._measure(response, time.monotonic() - started)
            if response.status_code != HTTPStatus.TOO_MANY_REQUESTS:
                self.gate.accepted(started)
                return response, body
            if self.gate.throttled(started, _retry_after(response)) > MAX_TRIES:
                return response, body
            again = True

    def _no_answer(self, error: Exception, *, divisible: bool) -> NoReturn:
        if "CERTIFICATE_VERIFY_FAILED" in str(error):
            msg = f"The TLS certificate of {self.url_base} cannot be verified."
            raise TapError(msg) from error
        timed_out = isinstance(error, requests.Timeout) or "timed out" in str(error)
        if divisible and timed_out and not isinstance(error, requests.ConnectTimeout):
            raise UnanswerableError from error
        what = "did not answer in time" if timed_out else "cannot be reached"
        if isinstance(error, HTTPError):
            what = "broke off its answer"
        msg = f"{self.config['api_url']} {what}"
        raise RetriableAPIError(msg) from error

    @override
    def validate_response(
        self,
        response: requests.Response,
        *,
        body: bytes = b"",
        divisible: bool = False,
    ) -> None:
        status = response.status_code
        if status == HTTPStatus.OK:
            if len(body) > MAX_BODY:
                msg = f"The API sent a body of more than {MAX_BODY >> 20} MiB."
                raise TapError(msg)
            return
        if divisible and status in {413, 502, 504}:
            raise UnanswerableError
        msg = f"{status} {HTTPStatus(status).phrase if status in _STATUSES else ''}".strip()
        if text := _message(body):
            msg += f" ({text})"
        if status == HTTPStatus.TOO_MANY_REQUESTS:
            msg = f"{ADVICE[status]} It answered {msg} again and again."
            raise TapError(msg)
        if status == 413 or status >= HTTPStatus.INTERNAL_SERVER_ERROR:  # noqa: PLR2004
            msg = f"The API answered {msg}"
            raise RetriableAPIError(msg, response)
        if HTTPStatus.MULTIPLE_CHOICES <= status < HTTPStatus.BAD_REQUEST:
            msg = f"The API redirects to another address ({msg}): check `api_url`."
            raise TapError(msg)
        msg = f"{ADVICE.get(status, 'The API refused the request.')} It answered {msg}."
        raise FatalAPIError(msg)

    def _measure(self, response: requests.Response, seconds: float) -> None:
        status = response.status_code
        point = metrics.Point(
            "timer",
            metric=metrics.Metric.HTTP_REQUEST_DURATION,
            value=seconds,
            tags={
                metrics.Tag.STREAM: self.name,
                metrics.Tag.ENDPOINT: self.path,
                metrics.Tag.HTTP_STATUS_CODE: status,
                metrics.Tag.STATUS: metrics.Status.SUCCEEDED
                if status < HTTPStatus.BAD_REQUEST
                else metrics.Status.FAILED,
            },
        )
        metrics.log(self.metrics_logger, point)

    @override
    def request_decorator(self, func: Callable[..., T]) -> Callable[..., T]:
        # The SDK's would log, too, that it gives up: the error that ends the run says so.
        return backoff.on_exception(
            self.backoff_wait_generator,
            RetriableAPIError,
            max_tries=self.backoff_max_tries,
            on_backoff=self.backoff_handler,
            jitter=self.backoff_jitter,
            logger=None,
        )(func)

    @override
    def backoff_max_tries(self) -> int:
        return MAX_TRIES

    @override
    def backoff_wait_generator(self) -> Generator[float, None, None]:
        # The handler waits, at the gate, where a stop wakes it.
        return backoff.constant(interval=0)

    @override
    def backoff_jitter(self, value: float) -> float:
        return value

    @override
    def backoff_handler(self, details: Details) -> None:
        error = details.get("exception")
        response = getattr(error, "response", None)
        retry_after = None if response is None else _retry_after(response)
        self.logger.warning("%s; trying again", error)
        wait = min(2.0 ** (details["tries"] - 1), MAX_WAIT) * random.uniform(0.5, 1)  # noqa: S311
        self.gate.wait(max(wait, retry_after or 0))


_TRY_LATER = "Run again later: the next run goes on where this one stopped."
_STATUSES = frozenset(HTTPStatus)


def _quote(part: str) -> str:
    return {".": "%2E", "..": "%2E%2E"}.get(part) or quote(part, safe="")


def _message(body: bytes) -> str:
    """The text of the API's error, ``{"message": "…"}``, made fit for a line of a log."""
    try:
        text: Any = msgspec.json.decode(body)["message"]
    except (msgspec.MsgspecError, KeyError, TypeError, UnicodeDecodeError):
        return ""
    return "".join(filter(str.isprintable, str(text)))[:200]


def _retry_after(response: requests.Response) -> float | None:
    """The seconds that a ``Retry-After`` asks for, in either of its two forms."""
    value = response.headers.get("Retry-After", "").strip()
    try:
        seconds = float(value) if value.isdecimal() else _until(value)
    except (TypeError, ValueError):
        return None
    return min(max(seconds, 0.0), MAX_RETRY_AFTER)


def _until(date: str) -> float:
    when = parsedate_to_datetime(date)
    if when.tzinfo is None:
        when = when.replace(tzinfo=timezone.utc)
    return (when - datetime.now(timezone.utc)).total_seconds()
