"""Lets requests of several threads through, in order, as the rate limiter permits."""

from __future__ import annotations

import threading
import time
from collections import deque
from contextlib import contextmanager
from math import inf
from typing import TYPE_CHECKING

from tap_unleash.api.errors import Cancelled

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tap_unleash.api.rate_limiter import AdaptiveRateLimiter, Pause, Permit


class RequestQueue:
    """The threads that wait to send a request."""

    def __init__(self, limiter: AdaptiveRateLimiter) -> None:
        """Start without any.

        Args:
            limiter: Tells when the next request may be sent, by the monotonic clock.
        """
        self._limiter = limiter
        self._lock = threading.RLock()
        self._closing = threading.Condition(self._lock)
        self._closed = False
        # In order of arrival, or requests read ahead would overtake the one waited for.
        self._queue: deque[threading.Condition] = deque()

    @contextmanager
    def turn(self, *, retry: bool = False, alone: bool = False) -> Iterator[Permit]:
        """Wait for permission to send a request.

        Args:
            retry: Whether it failed before; then it is sent before the others.
            alone: Whether to send it while no other request is in flight.

        Yields:
            The permit, valid until the block ends.

        Raises:
            Cancelled: If the queue was closed.
        """
        with self._lock:
            turn = threading.Condition(self._lock)
            (self._queue.appendleft if retry else self._queue.append)(turn)
            while not self._closed:
                if self._queue[0] is not turn:
                    turn.wait()
                    continue
                ready_at = self._limiter.ready_at(alone=alone)
                wait = ready_at - time.monotonic()
                if wait <= 0:
                    break
                turn.wait(None if ready_at == inf else wait)
            self._queue.remove(turn)
            self._notify_next()
            if self._closed:
                raise Cancelled
            permit = self._limiter.send(alone=alone)
        try:
            yield permit
        finally:
            with self._lock:
                self._limiter.done(permit)
                self._notify_next()

    def _notify_next(self) -> None:
        if self._queue:
            self._queue[0].notify()

    def accepted(self, permit: Permit) -> float | None:
        """Count a response other than 429.

        Args:
            permit: That of the request.

        Returns:
            The rate limit in requests per second, if it is estimated again.
        """
        with self._lock:
            return self._limiter.accepted(permit)

    def refused(self, permit: Permit, retry_after: float | None) -> Pause | None:
        """Count a 429.

        Args:
            permit: That of the request.
            retry_after: Seconds that the API asked to wait, if it did.

        Returns:
            The pause of all requests; `None` if only this one is to be retried later.
        """
        with self._lock:
            return self._limiter.refused(permit, retry_after)

    def overloaded(self) -> None:
        """Send fewer concurrent requests after a time-out, 502 or 504."""
        with self._lock:
            self._limiter.overloaded()

    def wait(self, seconds: float) -> None:
        """Wait before a retry.

        Args:
            seconds: How long.

        Raises:
            Cancelled: If the queue is closed meanwhile.
        """
        with self._closing:
            if self._closing.wait_for(lambda: self._closed, seconds):
                raise Cancelled

    def close(self) -> None:
        """Cancel all requests that wait."""
        with self._lock:
            self._closed = True
            self._closing.notify_all()
            self._notify_next()
