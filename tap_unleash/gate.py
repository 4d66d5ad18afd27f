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

MAX_PAUSE = 30.0
"""Longest pause in seconds that is chosen here: half a quota's minute, not to oversleep it."""

RECOVERY = 0.2
"""How much faster requests become, as a share, for as many as were let through between two
pauses: enough to leave a passing throttle behind, too little to run into a quota again and
again."""


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
        self._lock = threading.RLock()
        self._closed = threading.Condition(self._lock)
        self._most = limit
        self._limit = float(limit)
        self._in_flight = 0
        # First come, first served, or who reads ahead overtakes who is waited for.
        self._turns: deque[threading.Condition] = deque()
        self._pauses = 0
        self._paused_at = 0.0
        self._resume_at = 0.0
        self._interval = 0.0
        self._counted_from = self._idle_since = time.monotonic()
        self._accepted = 0
        self._last_accepted = 0
        self._stopped = False

    @contextmanager
    def request(self, *, again: bool = False) -> Iterator[float]:
        """Wait for a turn and hold it.

        Args:
            again: Whether the request was throttled: then it comes before the others.

        Yields:
            When the turn came, by the monotonic clock.

        Raises:
            StoppedError: If the gate was closed.
        """
        with self._lock:
            if not (self._turns or self._in_flight):
                # While nothing was asked for, nothing was learnt of the pace.
                idle_since = max(self._idle_since, self._counted_from)
                self._counted_from += time.monotonic() - idle_since
            turn = threading.Condition(self._lock)
            (self._turns.appendleft if again else self._turns.append)(turn)
            while not self._stopped:
                wait = self._resume_at - time.monotonic()
                if self._turns[0] is not turn:
                    turn.wait()
                elif wait > 0:
                    turn.wait(wait)
                elif self._in_flight >= (1 if self._pauses else int(self._limit)):
                    turn.wait()
                else:
                    break
            self._turns.remove(turn)
            self._call_next()
            if self._stopped:
                raise StoppedError
            self._in_flight += 1
            started = time.monotonic()
            self._resume_at = started + self._interval
        try:
            yield started
        finally:
            with self._lock:
                self._in_flight -= 1
                self._idle_since = time.monotonic()
                self._call_next()

    def _call_next(self) -> None:
        if self._turns:
            self._turns[0].notify()

    def accepted(self, started: float) -> None:
        """Count a request that was not throttled.

        Args:
            started: When its turn came.
        """
        with self._lock:
            if (
                started < self._paused_at
            ):  # in flight when a pause began: no sign of its end
                return
            if self._pauses:  # so many were let through from pause to pause
                now = time.monotonic()
                self._interval = (now - self._counted_from) / max(self._accepted, 1)
                self._counted_from = now
                self._last_accepted, self._accepted = self._accepted, 0
                self._pauses = 0
            elif self._interval:
                self._interval *= 1 - RECOVERY / (self._last_accepted + 1)
            self._accepted += 1
            self._limit = min(self._most, self._limit + 1 / self._limit)
            self._call_next()

    def throttled(self, started: float, retry_after: float | None) -> int:
        """Pause every request.

        Args:
            started: When the turn of the throttled request came.
            retry_after: Seconds that the API asked for, if it did.

        Returns:
            How many pauses there were since a request was let through.
        """
        with self._lock:
            if started >= self._paused_at:  # not in flight when the pause began
                self._paused_at = time.monotonic()
                self._limit = max(1.0, self._limit / 2)
                wait = min(2.0**self._pauses, MAX_PAUSE) * random.uniform(1, 1.2)  # noqa: S311
                if retry_after is not None:
                    wait = max(retry_after, wait if self._pauses else 0)
                self._pauses += 1
                self._resume_at = self._paused_at + wait
            elif retry_after is not None:
                self._resume_at = max(self._resume_at, time.monotonic() + retry_after)
            return self._pauses

    def wait(self, seconds: float) -> None:
        """Wait, unless the gate closes meanwhile.

        Args:
            seconds: How long.

        Raises:
            StoppedError: If the gate was closed.
        """
        with self._closed:
            if self._closed.wait_for(lambda: self._stopped, seconds):
                raise StoppedError

    def close(self) -> None:
        """Turn away every request that waits or comes."""
        with self._closed:
            self._stopped = True
            self._closed.notify_all()
            self._call_next()
