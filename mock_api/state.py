"""The state of a running mock API: its data, its options, the requests so far."""

from __future__ import annotations

import asyncio
import time
from collections import Counter, deque
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import inf
from typing import TYPE_CHECKING, Any, TypeVar

from mock_api.faults import Schedule

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterator

    from mock_api.account import Account, Expired, View
    from mock_api.options import Options

_Value = TypeVar("_Value")


@dataclass
class Exchange:
    """One request and the status of its response, if one was started."""

    method: str
    path: str
    headers: dict[str, str]
    started: float = field(default_factory=time.monotonic)
    status: int | None = None


@dataclass
class State:
    """The state of the app, which outlives a restart of the server."""

    account: Account
    options: Options
    requests: list[Exchange] = field(default_factory=list)
    in_flight: int = 0
    max_in_flight: int = 0
    visits: Counter[str] = field(default_factory=Counter)
    expired: dict[str, Expired | None] = field(default_factory=dict)
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    _admitted: deque[float] = field(default_factory=deque)
    _cache: dict[Hashable, tuple[float, Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Create the schedule of the faults."""
        self.schedule = Schedule(self.options.faults, self.options.seed)

    @contextmanager
    def noted(self, exchange: Exchange) -> Iterator[None]:
        """Record a request, and count it as in flight meanwhile."""
        self.requests.append(exchange)
        self.in_flight += 1
        self.max_in_flight = max(self.max_in_flight, self.in_flight)
        try:
            yield
        finally:
            self.in_flight -= 1

    def visit(self, device_id: str) -> int:
        """Count a request for the rows of a device, and return its number."""
        self.visits[device_id] += 1
        return self.visits[device_id]

    def view(self, device_id: str, request: int, **bounds: int) -> View:
        """Select the rows that the device's request of this number sees."""
        expired = self.expired.get(device_id)
        return self.account.view(device_id, request=request, expired=expired, **bounds)

    def expire(self, device_id: str, count: int) -> None:
        """Let the oldest rows of a device expire."""
        expired = self.expired.get(device_id)
        self.expired[device_id] = self.account.expire(device_id, count, expired)

    def truth(self, device_id: str | None = None) -> Iterator[dict[str, Any]]:
        """Yield every row that is visible now, as raw values."""
        for name in list(self.account.devices) if device_id is None else [device_id]:
            request = self.visits[name] + 1
            if self.account.has(name, request):
                yield from map(dict, self.view(name, request))

    def cached(self, key: Hashable, seconds: float | None, make: Callable[[], _Value]) -> _Value:
        """Return a value, which is made again only after so many seconds, if any."""
        now = time.monotonic()
        made, value = self._cache.get(key, (-inf, None))
        if seconds is None or made + seconds <= now:
            value = make()
            if seconds is not None:
                self._cache[key] = now, value
        return value  # type: ignore[no-any-return]

    def wait(self) -> float:
        """Admit a request and return 0, or return the seconds until one is admitted."""
        limit, now = self.options.rate_limit, time.monotonic()
        if limit is None:
            return 0
        while self._admitted and self._admitted[0] <= now - self.options.rate_window:
            self._admitted.popleft()
        if len(self._admitted) < limit:
            self._admitted.append(now)
            return 0
        oldest = self._admitted[0] if self._admitted else now
        return oldest + self.options.rate_window - now
