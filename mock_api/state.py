"""The state of a running mock API: its data, its options, the requests so far."""

from __future__ import annotations

import asyncio
import time
from bisect import bisect_left
from collections import Counter, deque
from dataclasses import dataclass, field
from math import inf
from typing import TYPE_CHECKING, Any, TypeVar

from mock_api.faults import Schedule

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from mock_api.account import Account, Held
    from mock_api.options import Options

_Value = TypeVar("_Value")


@dataclass
class Exchange:
    """One request and the status of its response, if one was started."""

    path: str
    headers: dict[str, str]
    status: int | None = None


@dataclass
class State:
    """The state of the mock API."""

    account: Account
    options: Options
    requests: list[Exchange] = field(default_factory=list)
    visits: Counter[str] = field(default_factory=Counter)
    expired: dict[str, tuple[int, int]] = field(default_factory=dict)
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    _admitted: deque[float] = field(default_factory=deque)
    _cache: dict[Hashable, tuple[float, Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Create the schedule of the faults."""
        self.schedule = Schedule(self.options.faults, self.options.seed)

    def view(self, device_id: str, since: int = 0, until: int = 2**63) -> list[Held]:
        """Select the rows from `since` to before `until` that a device's next request sees."""
        rows, request = self.account.devices[device_id], self.visits[device_id] + 1
        first = max((since, 0), self.expired.get(device_id, (0, 0)))
        part = rows[bisect_left(rows, first) : bisect_left(rows, (until, 0))]
        if request > self.account.settled[device_id]:
            return part
        return [held for held in part if held.row.after_requests < request]

    def expire(self, device_id: str, count: int) -> None:
        """Let the oldest rows of a device expire."""
        for instant, number, _ in self.view(device_id)[:count]:
            self.expired[device_id] = instant, number + 1

    def cached(self, key: Hashable, seconds: float | None, make: Callable[[], _Value]) -> _Value:
        """Return a value, which is made again only after so many seconds, if any."""
        if seconds is None:
            return make()
        now = time.monotonic()
        made, value = self._cache.get(key, (-inf, None))
        if made + seconds <= now:
            value = make()
            self._cache[key] = now, value
        return value  # type: ignore[no-any-return]

    def admit(self) -> bool:
        """Return whether the rate limit allows another request, and count it if so."""
        limit, now = self.options.rate_limit, time.monotonic()
        while self._admitted and self._admitted[0] <= now - self.options.rate_window:
            self._admitted.popleft()
        if limit is not None and len(self._admitted) >= limit:
            return False
        self._admitted.append(now)
        return True
