"""Pace of the requests: how many are in flight, and how fast they follow each other."""

from __future__ import annotations

import random
import threading
import time
from collections import deque
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tap_unleash.api.errors import Cancelled

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

MAX_PAUSE = 30.0
"""Longest pause in seconds without a ``Retry-After``: half the minute of a quota, so that
its renewal is not missed by much."""

RECOVERY = 0.2
"""Share by which the interval between requests shrinks while as many are accepted as were
between the last two pauses."""


@dataclass(eq=False)
class Permit:
    """Permission to send one request.

    Attributes:
        started: When it was given, by the limiter's clock.
        alone: Whether no other request may be sent meanwhile.
    """

    started: float
    alone: bool


class AdaptiveRateLimiter:
    """Caps concurrent requests, and pauses all of them after a 429.

    The rate limit is undocumented, so the limiter estimates it from 429 responses. Each
    pauses every request; after the second one, requests follow each other no faster than
    the API accepted them from pause to pause. A time-out, 502 or 504 lowers the number of
    concurrent requests to one.
    """

    def __init__(
        self, concurrency: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Start without a pause.

        Args:
            concurrency: Maximum number of concurrent requests.
            clock: Returns seconds.
        """
        self._clock = clock
        self._lock = threading.RLock()
        self._closing = threading.Condition(self._lock)
        self._closed = False
        self._concurrency = concurrency
        self._limit = float(concurrency)
        self._permits: set[Permit] = set()
        # In order of arrival, or requests read ahead would overtake the one waited for.
        self._queue: deque[threading.Condition] = deque()
        self._pauses = 0
        self._paused_at = self._reduced_at = 0.0
        self._resume_at = 0.0
        self._interval = 0.0
        self._throttled_before = False
        self._counted_from = self._idle_since = clock()
        self._accepted = 0
        self._last_accepted = 0

    @contextmanager
    def request(self, *, retry: bool = False, alone: bool = False) -> Iterator[Permit]:
        """Wait for permission to send a request.

        Args:
            retry: Whether it failed before; then it is sent before the others.
            alone: Whether to send it while no other request is in flight.

        Yields:
            The permit, valid until the block ends.

        Raises:
            Cancelled: If the limiter was closed.
        """
        with self._lock:
            if not (self._queue or self._permits):
                # Time without requests says nothing about the rate limit.
                idle_since = max(self._idle_since, self._counted_from)
                self._counted_from += self._clock() - idle_since
            turn = threading.Condition(self._lock)
            (self._queue.appendleft if retry else self._queue.append)(turn)
            while not self._closed:
                wait = self._resume_at - self._clock()
                if self._queue[0] is not turn:
                    turn.wait()
                elif wait > 0:
                    turn.wait(wait)
                elif len(self._permits) >= self._allowed(alone=alone):
                    turn.wait()
                else:
                    break
            self._queue.remove(turn)
            self._notify_next()
            if self._closed:
                raise Cancelled
            permit = Permit(self._clock(), alone=alone)
            self._permits.add(permit)
            self._resume_at = permit.started + self._interval
        try:
            yield permit
        finally:
            with self._lock:
                self._permits.remove(permit)
                self._idle_since = self._clock()
                self._notify_next()

    def _allowed(self, *, alone: bool) -> int:
        """Return below how many requests in flight the next one may be sent."""
        if any(permit.alone for permit in self._permits):
            return 0
        return 1 if alone or self._pauses else int(self._limit)

    def _notify_next(self) -> None:
        if self._queue:
            self._queue[0].notify()

    def accepted(self, permit: Permit) -> None:
        """Count a response other than 429.

        Args:
            permit: That of the request.
        """
        with self._lock:
            if permit.started < self._paused_at:
                return  # it was in flight when the pause began
            if self._pauses:
                now = self._clock()
                if self._throttled_before:
                    elapsed = now - self._counted_from
                    self._interval = elapsed / max(self._accepted, 1)
                self._throttled_before = True
                self._counted_from = now
                self._last_accepted, self._accepted = self._accepted, 0
                self._pauses = 0
            elif self._interval:
                self._interval *= 1 - RECOVERY / (self._last_accepted + 1)
            self._accepted += 1
            if permit.started >= self._reduced_at:
                self._limit = min(self._concurrency, self._limit + 1 / self._limit)
            self._notify_next()

    def throttled(self, permit: Permit, retry_after: float | None) -> tuple[int, float]:
        """Pause all requests after a 429.

        Args:
            permit: That of the request.
            retry_after: Seconds that the API asked to wait, if it did.

        Returns:
            The number of pauses since a request was accepted, and seconds until the end
            of this one; 0 if another request began it.
        """
        with self._lock:
            now = self._clock()
            if permit.started < self._paused_at:
                if retry_after is not None:
                    self._resume_at = max(self._resume_at, now + retry_after)
                return self._pauses, 0.0
            self._paused_at = now
            self._limit = max(1.0, self._limit / 2)
            wait = min(2.0**self._pauses, MAX_PAUSE) * random.uniform(1, 1.2)  # noqa: S311
            if retry_after is not None:
                wait = max(retry_after, wait if self._pauses else 0)
            self._pauses += 1
            self._resume_at = now + wait
            return self._pauses, wait

    def overloaded(self) -> None:
        """Send one request at a time after a time-out, 502 or 504, until one succeeds."""
        with self._lock:
            self._limit = 1.0
            self._reduced_at = self._clock()

    def wait(self, seconds: float) -> None:
        """Wait before a retry.

        Args:
            seconds: How long.

        Raises:
            Cancelled: If the limiter is closed meanwhile.
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
