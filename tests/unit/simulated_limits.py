"""APIs with limits, and a client that obeys the rate limiter: no socket, no clock."""

from __future__ import annotations

import random
from collections import deque
from heapq import heappop, heappush
from itertools import count
from math import ceil, inf
from typing import TYPE_CHECKING, NamedTuple, Protocol

from tap_unleash.api.rate_limiter import AdaptiveRateLimiter

if TYPE_CHECKING:
    from tap_unleash.api.rate_limiter import Permit


class Limit(Protocol):
    """Which requests an API refuses."""

    def refuse(self, now: float, in_flight: int) -> float:
        """Return 0 if a request is accepted, or seconds until the next one would be."""

    def least_seconds(self, requests: int) -> float:
        """Return in how many seconds that many requests can be accepted."""


class FixedWindow:
    def __init__(self, size: int, seconds: float) -> None:
        self._size, self._seconds = size, seconds
        self._window, self._accepted = -1, 0

    def refuse(self, now: float, in_flight: int) -> float:
        del in_flight
        if (window := int(now // self._seconds)) != self._window:
            self._window, self._accepted = window, 0
        self._accepted += 1
        if self._accepted <= self._size:
            return 0
        return (window + 1) * self._seconds - now

    def least_seconds(self, requests: int) -> float:
        return (requests - 1) // self._size * self._seconds


class SlidingWindow(FixedWindow):
    def __init__(self, size: int, seconds: float) -> None:
        super().__init__(size, seconds)
        self._times: deque[float] = deque()

    def refuse(self, now: float, in_flight: int) -> float:
        del in_flight
        while self._times and self._times[0] <= now - self._seconds:
            self._times.popleft()
        if len(self._times) < self._size:
            self._times.append(now)
            return 0
        return self._times[0] + self._seconds - now


class TokenBucket:
    """A leaky bucket, too: with a burst of 1, requests must be evenly spaced."""

    def __init__(self, rate: float, burst: int) -> None:
        self._rate, self._burst = rate, burst
        self._tokens, self._filled = float(burst), 0.0

    def refuse(self, now: float, in_flight: int) -> float:
        del in_flight
        filled = self._tokens + (now - self._filled) * self._rate
        self._tokens, self._filled = min(self._burst, filled), now
        if self._tokens >= 1 - 1e-9:
            self._tokens -= 1
            return 0
        return (1 - self._tokens) / self._rate

    def least_seconds(self, requests: int) -> float:
        return max(requests - self._burst, 0) / self._rate


class Concurrency:
    def __init__(self, maximum: int) -> None:
        self.maximum = maximum

    def refuse(self, now: float, in_flight: int) -> float:
        del now
        return 0 if in_flight < self.maximum else 1

    def least_seconds(self, requests: int) -> float:
        del requests
        return 0


class Random(Concurrency):
    def __init__(self, share: float, seed: int) -> None:
        super().__init__(10**9)
        self._share, self._random = share, random.Random(seed)

    def refuse(self, now: float, in_flight: int) -> float:
        del now, in_flight
        return float(self._random.random() < self._share)


class Several:
    """Limits that apply together."""

    def __init__(self, *limits: Limit) -> None:
        self._limits = limits

    def refuse(self, now: float, in_flight: int) -> float:
        return max(limit.refuse(now, in_flight) for limit in self._limits)

    def least_seconds(self, requests: int) -> float:
        return max(limit.least_seconds(requests) for limit in self._limits)


class Cost(NamedTuple):
    seconds: float
    requests: int


def simulate(  # noqa: C901, PLR0913 - one loop over all kinds of events
    limit: Limit,
    requests: int,
    *,
    concurrency: int = 4,
    latency: float = 0.1,
    names_time: bool = False,
    seed: int = 0,
) -> Cost:
    """Send requests until all are accepted.

    Args:
        limit: The limit of the API.
        requests: How many requests must be accepted.
        concurrency: Maximum number of concurrent requests.
        latency: Seconds from a request to its response, or a tenth of half of it more.
        names_time: Whether a 429 has a ``Retry-After``, in whole seconds.
        seed: Seed of the random pauses and latencies.

    Returns:
        The time, and how many requests it took.
    """
    random.seed(seed)
    jitter = random.Random(seed)
    now, serial = 0.0, count()
    limiter = AdaptiveRateLimiter(concurrency, lambda: now)
    events: list[tuple[float, int, str, Permit | None, int, float]] = []
    waiting = deque([0] * min(concurrency, requests))  # the refusals of each so far
    unsent, accepted, sent, served = requests - len(waiting), 0, 0, 0
    wake_at = inf

    def at(
        when: float, what: str, permit: Permit | None, refusals: int, wait: float = 0
    ) -> None:
        heappush(events, (when, next(serial), what, permit, refusals, wait))

    at(0, "wake", None, 0)
    while accepted < requests:
        now, _, what, permit, refusals, wait = heappop(events)
        if what == "wake":
            wake_at = inf if now >= wake_at else wake_at
        elif what == "retry":
            waiting.appendleft(refusals)
        elif what == "arrival":
            wait = limit.refuse(now, served)
            served += not wait
            latest = now + latency * jitter.uniform(0.5, 0.6)
            at(latest, "response", permit, refusals, wait)
        elif permit and not wait:
            served -= 1
            accepted += 1
            limiter.accepted(permit)
            limiter.done(permit)
            if unsent:
                unsent -= 1
                waiting.append(0)
        elif permit:
            pause = limiter.refused(permit, ceil(wait) if names_time else None)
            limiter.done(permit)
            if pause is None:  # as the client does
                back_off = 2.0**refusals * random.uniform(0.5, 1)
                at(
                    now + max(back_off, ceil(wait) * names_time),
                    "retry",
                    None,
                    refusals + 1,
                )
            else:
                waiting.appendleft(0)
        while waiting and (ready_at := limiter.ready_at()) <= now:
            sent += 1
            at(now + latency / 2, "arrival", limiter.send(), waiting.popleft())
        if waiting and now < ready_at < wake_at:
            wake_at = ready_at
            at(ready_at, "wake", None, 0)
    return Cost(now, sent)
