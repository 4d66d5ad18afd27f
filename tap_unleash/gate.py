"""The pace of requests: how many are in flight, and how fast they may follow."""

from __future__ import annotations

import random
import threading
import time
from collections import deque
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

QUOTA_WINDOW = 60.0
"""Seconds over which the rate that the API allows is measured: its quota is a minute's."""

MAX_PAUSE = 30.0
"""Longest pause in seconds that is chosen here: half a quota's minute, not to oversleep it."""

SLOW_DOWN, SPEED_UP = 1.1, 0.995
"""Factors on the time between requests, for each pause and for each success."""


class StoppedError(Exception):
    """The reader has stopped: no further request is wanted."""


class Gate:
    """Lets requests through, at most so many at once, all paused when one is throttled.

    Nobody documents the API's rate limit, so it is learnt: the first 429 stops every
    request; afterwards requests follow each other no faster than the API was seen to
    accept them, one alone until it succeeds, then more and faster step by step.
    """

    def __init__(self, limit: int) -> None:
        """Open the gate.

        Args:
            limit: The most requests in flight at once.
        """
        self._changed = threading.Condition()
        self._most = limit
        self._limit = float(limit)
        self._in_flight = 0
        self._interval = 0.0
        self._resume_at = 0.0
        self._pauses = 0
        self._accepted: deque[float] = deque()
        self._stopped = False

    @contextmanager
    def request(self) -> Iterator[None]:
        """Wait for a turn and hold it.

        Raises:
            StoppedError: If the gate was closed.
        """
        with self._changed:
            while not self._stopped:
                wait = self._resume_at - time.monotonic()
                if wait > 0:
                    self._changed.wait(wait)
                elif self._in_flight >= (1 if self._pauses else int(self._limit)):
                    self._changed.wait()
                else:
                    break
            if self._stopped:
                raise StoppedError
            self._in_flight += 1
            self._resume_at = time.monotonic() + self._interval
        try:
            yield
        finally:
            with self._changed:
                self._in_flight -= 1
                self._changed.notify_all()

    def accepted(self) -> None:
        """Count a request that was not throttled."""
        with self._changed:
            now = time.monotonic()
            self._accepted.append(now)
            while self._accepted[0] < now - QUOTA_WINDOW:
                self._accepted.popleft()
            self._pauses = 0
            self._limit = min(self._most, self._limit + 1 / self._limit)
            self._interval *= SPEED_UP

    def throttled(self, retry_after: float | None) -> None:
        """Pause every request.

        Args:
            retry_after: Seconds that the API asked for, if it did.
        """
        with self._changed:
            now = time.monotonic()
            if not self._pauses and self._accepted:
                seen = now - self._accepted[0]
                self._interval = max(
                    self._interval * SLOW_DOWN, seen / len(self._accepted)
                )
                self._limit = max(1.0, self._limit / 2)
            if retry_after is None:
                if self._pauses and now < self._resume_at:
                    return  # one of several that were in flight together
                retry_after = min(2.0**self._pauses, MAX_PAUSE) * random.uniform(1, 1.2)  # noqa: S311
            self._pauses += 1
            self._resume_at = max(self._resume_at, now + retry_after)

    def wait(self, seconds: float) -> None:
        """Wait, unless the gate closes meanwhile.

        Args:
            seconds: How long.

        Raises:
            StoppedError: If the gate was closed.
        """
        with self._changed:
            if self._changed.wait_for(lambda: self._stopped, seconds):
                raise StoppedError

    def close(self) -> None:
        """Turn away every request that waits or comes."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()
