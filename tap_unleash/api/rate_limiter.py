"""Pace of the requests: how many are in flight, and how fast they follow each other.

The limits of the API are undocumented, and a 429 does not say which one was exceeded. What
follows it does:

- Most requests are accepted: refusals are random. Only the refused request waits.
- Requests are refused only while many others are in flight: fewer are sent concurrently.
- Most requests are refused, or the API says how long to wait: there is a quota. All
  requests pause, and then follow each other no faster than they were accepted.
- Refusals go on although requests have become much slower than they were accepted before:
  it was no quota.
"""

from __future__ import annotations

import random
import time
from collections import deque
from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

RECENT = 40
"""Number of responses by which a quota is told from random refusals."""

QUOTA_SHARE = 6
"""Refusals among these responses that mean a quota."""

QUOTA_STREAK = 3
"""Refusals in a row that mean a quota."""

FIRST_PAUSE = 0.5
"""First pause in seconds while no pace is known."""

MAX_PAUSE = 30.0
"""Longest pause in seconds without a ``Retry-After``: half the minute of a quota, so that
its renewal is not missed by much."""

MINUTE = 61.0
"""Most quotas are renewed after a minute, so a pause does not extend beyond it."""

BACKOFF = 0.85
"""Share of the rate at which requests were refused that is resumed with."""

MAX_STEP = 0.65
"""Least share of the rate at which a request was refused that is taken for the quota, if it
was refused soon after a pause again and again."""

MAX_SHORT_CYCLES = 2
"""How often a request may be refused soon after a pause before that."""

SLOW_START = 1.25
"""Factor of the rate for each accepted request until one is refused."""

PLATEAU = 20
"""Least number of requests until the rate is again that at which one was refused."""

MAX_PLATEAU = 200
"""Most of these requests, or those of a minute if these are more."""

MAX_OVERSHOOT = 1.25
"""Share of the accepted rate beyond which a rate cannot be trusted: the API accepts it for a
short time only."""

BURST = 10
"""Accepted requests that are a burst, if a pause follows that takes longer."""

MAX_PATIENCE = 16
"""Accepted requests for each one in flight until one more is sent concurrently, at most."""


@dataclass(eq=False)
class Permit:
    """Permission to send one request.

    Attributes:
        started: When it was given, by the limiter's clock.
        in_flight: Number of requests in flight, including this one.
        alone: Whether no other request may be sent meanwhile.
        paced: Whether it was sent about as early as the pace permitted.
    """

    started: float
    in_flight: int
    alone: bool = False
    paced: bool = False


class Pause(NamedTuple):
    """A pause of all requests.

    Attributes:
        seconds: Seconds until its end; 0 if another refusal began it.
        number: Number of pauses since a request was accepted.
        elapsed: Seconds since the first of them began.
    """

    seconds: float
    number: int
    elapsed: float


class _ConcurrencyLimit:
    """Number of requests in flight that are not refused.

    One refusal proves nothing. Two, with no request accepted meanwhile that had as many in
    flight, lower the limit.
    """

    def __init__(self, maximum: int) -> None:
        self.maximum = self.value = maximum
        self._refused_from = self._exceeded_at = inf
        self._patience = 2
        self._streak = 0

    def accepted(self, in_flight: int) -> None:
        if in_flight >= self._refused_from:
            self._refused_from = inf
        if in_flight >= self._exceeded_at:
            self._patience = 2
        self._streak += 1
        if self.value < self.maximum and self._streak >= self._patience * self.value:
            self.value += 1
            self._streak = 0

    def refused(self, in_flight: int) -> None:
        if in_flight < self._refused_from:
            self._refused_from = in_flight
        else:
            self.lower(int(self._refused_from) - 1)

    def lower(self, value: int) -> None:
        if value < self.value:
            self.value = max(value, 1)
            self._exceeded_at = value + 1
            self._patience = min(2 * self._patience, MAX_PATIENCE)
        self._streak = 0


class _Pace:
    """Estimate of the rate of a quota, in requests per second.

    After a pause it follows CUBIC (RFC 9438), counted in accepted requests: it grows to the
    rate at which one was refused, stays near it, and then tries more.

    Attributes:
        rate: Current rate.
        sustained: Highest rate that was accepted from pause to pause.
        started: When the first request after the last pause was accepted.
    """

    def __init__(self, now: float) -> None:
        self.rate = self._refused_rate = inf
        self.sustained = 0.0
        self.started = now
        self._accepted = self._grown = self._short_cycles = 0
        self._plateau = PLATEAU
        self._paused_at: float | None = None
        self._idle = 0.0
        self._sustained_for: tuple[int, float] = (0, 0.0)

    @property
    def estimate(self) -> float:
        """The estimated rate limit; infinite if there was no refusal."""
        return self.rate if self._refused_rate == inf else self._refused_rate

    def idle(self, seconds: float) -> None:
        """Leave out time in which nothing was to be sent: it says nothing about a quota."""
        self.started += seconds
        self._idle += seconds

    def accepted(self, *, paced: bool) -> None:
        self._accepted += 1
        if not paced:
            return
        self._grown += 1
        if self._refused_rate == inf:
            self.rate *= SLOW_START
        else:
            phase = self._grown / self._plateau - 1
            self.rate = self._refused_rate * (1 + (1 - BACKOFF) * phase**3)

    def resume(self, paused_at: float, pauses: int, now: float) -> None:
        """Set the rate after a pause."""
        rate = max(self._accepted, 1) / max(now - self.started, 1e-6)
        self._measure(paused_at)
        # A quota that the first pause renewed is counted in seconds: no burst used it up.
        burst = (
            self._accepted >= BURST
            and now - paused_at > paused_at - self.started
            and pauses != QUOTA_STREAK
        )
        if self.rate == inf and not burst:
            self.rate = rate
        else:
            short = self._accepted < PLATEAU
            self._short_cycles = self._short_cycles + 1 if short else 0
            most = max(MAX_PLATEAU, 60 * rate)
            self._plateau = int(min(max(self._accepted, PLATEAU), most))
            if pauses > 1 or self.rate == inf:
                refused = rate
            elif 0 < self._short_cycles <= MAX_SHORT_CYCLES:
                refused = self.rate
            else:
                refused = MAX_OVERSHOOT * rate
                if short or self._refused_rate == inf:
                    refused = max(refused, MAX_STEP * self.rate)
            self._refused_rate = max(min(self.rate, refused), 1 / MAX_PAUSE)
            self.rate = BACKOFF * self._refused_rate
            self._grown = 0
        self.started = now
        self._accepted = 0

    def _measure(self, paused_at: float) -> None:
        """Measure from pause to pause, as a quota is exhausted at the start of each."""
        if self._paused_at is not None:
            count, seconds = self._sustained_for
            count += self._accepted
            seconds += paused_at - self._paused_at - self._idle
            if count >= PLATEAU:
                self.sustained = max(self.sustained, count / max(seconds, 1e-6))
                count, seconds = 0, 0.0
            self._sustained_for = count, seconds
        self._paused_at, self._idle = paused_at, 0.0


class AdaptiveRateLimiter:
    """Decides when the next request may be sent; does no I/O and does not wait."""

    def __init__(
        self, concurrency: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Start without a limit other than `concurrency`.

        Args:
            concurrency: Maximum number of concurrent requests.
            clock: Returns seconds.
        """
        self._clock = clock
        self._in_flight: set[Permit] = set()
        self._concurrency = _ConcurrencyLimit(concurrency)
        self._pace = _Pace(clock())
        self._has_quota = False
        self._doubt = 1
        self._recent: deque[bool] = deque(maxlen=RECENT)
        self._refusals = 0
        self._refused_at = self._paused_at = -inf
        self._sent_at = self._idle_since = self._resume_at = -inf

    def ready_at(self, *, alone: bool = False) -> float:
        """Tell when the next request may be sent.

        Args:
            alone: Whether it must be sent while no other request is in flight.

        Returns:
            The time by the limiter's clock; infinity if a response must come first.
        """
        probing = self._has_quota and self._refusals
        allowed = 1 if alone or probing else self._concurrency.value
        if len(self._in_flight) >= allowed or any(p.alone for p in self._in_flight):
            return inf
        return max(self._resume_at, self._sent_at + 1 / self._pace.rate)

    def send(self, *, alone: bool = False) -> Permit:
        """Count a request that is sent now.

        Args:
            alone: Whether no other request may be sent meanwhile.

        Returns:
            Its permit.
        """
        now = self._clock()
        possible = max(self._resume_at, self._sent_at + 1 / self._pace.rate)
        if not self._in_flight:
            idle_since = max(possible, self._idle_since, self._pace.started)
            self._pace.idle(max(now - idle_since, 0.0))
        permit = Permit(
            started=now,
            in_flight=len(self._in_flight) + 1,
            alone=alone,
            paced=(now - self._sent_at) * self._pace.rate < MAX_OVERSHOOT,
        )
        self._in_flight.add(permit)
        self._sent_at = now
        return permit

    def done(self, permit: Permit) -> None:
        """Count a request that is no longer in flight, whatever its outcome.

        Args:
            permit: That of the request.
        """
        self._in_flight.remove(permit)
        self._idle_since = self._clock()

    def accepted(self, permit: Permit) -> float | None:
        """Count a response other than 429.

        Args:
            permit: That of the request.

        Returns:
            The rate limit in requests per second, if this response ends a pause, after which
            it is estimated again.
        """
        self._concurrency.accepted(permit.in_flight)
        self._recent.append(False)
        after = permit.started >= self._refused_at
        resumed = after and self._has_quota and self._refusals > 0
        if resumed:
            self._pace.resume(self._paused_at, self._refusals, self._clock())
        # Requests that were in flight when one was refused say nothing about what follows.
        self._pace.accepted(paced=after and permit.paced)
        if after:
            self._refusals = 0
        return self._pace.estimate if resumed else None

    def refused(self, permit: Permit, retry_after: float | None = None) -> Pause | None:
        """Count a 429.

        Args:
            permit: That of the request.
            retry_after: Seconds that the API asked to wait, if it did.

        Returns:
            The pause of all requests; `None` if only this one is to be retried later.
        """
        now = self._clock()
        if not self._has_quota:
            self._concurrency.refused(permit.in_flight)
        if permit.started < self._refused_at:
            # It was in flight when another one was refused.
            if self._has_quota and retry_after is not None:
                self._resume_at = max(self._resume_at, now + retry_after)
            return self._pause(0.0) if self._has_quota else None
        self._refused_at = now
        self._recent.append(True)
        self._refusals += 1
        if self._refusals == 1:
            self._paused_at = now
        self._classify(named=retry_after is not None)
        if not self._has_quota:
            return None
        first = FIRST_PAUSE if self._pace.rate == inf else 1 / self._pace.rate
        wait = min(first * 2.0 ** (self._refusals - 1), MAX_PAUSE)
        wait *= random.uniform(1, 1.2)  # noqa: S311
        if retry_after is not None:
            wait = max(retry_after, wait if self._refusals > 1 else 0)
        elif 0 < (renewed := self._pace.started + MINUTE - now) < wait:
            wait = renewed
        self._resume_at = now + wait
        return self._pause(wait)

    def overloaded(self) -> None:
        """Send one request at a time after a time-out, 502 or 504, and then more again."""
        self._concurrency.lower(1)

    def _classify(self, *, named: bool) -> None:
        """Tell whether there is a quota."""
        if self._has_quota:
            if self._refusals == 1 and self._pace.rate <= self._pace.sustained / 2:
                self._has_quota = False
                self._doubt = min(2 * self._doubt, 4)
                self._recent.clear()
                self._resume_at = -inf
                self._pace = _Pace(self._clock())
        elif (
            sum(self._recent) >= QUOTA_SHARE * self._doubt
            or self._refusals >= QUOTA_STREAK * self._doubt
            or (named and self._doubt == 1)
        ):
            self._has_quota = True
            self._concurrency = _ConcurrencyLimit(self._concurrency.maximum)

    def _pause(self, seconds: float) -> Pause:
        return Pause(seconds, self._refusals, self._clock() - self._paused_at)
