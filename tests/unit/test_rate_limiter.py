"""The rate limiter against simulated limits, with a clock that only waiting advances."""

from __future__ import annotations

from collections import deque
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from heapq import heappop, heappush
from itertools import pairwise
from threading import Condition, Lock
from typing import TYPE_CHECKING

import pytest
import requests
from urllib3 import HTTPConnectionPool
from urllib3.exceptions import ProtocolError, ReadTimeoutError

from tap_unleash import session
from tap_unleash.errors import FatalError
from tap_unleash.session import RateLimiter, Unavailable
from tap_unleash.tap import TapUnleash

if TYPE_CHECKING:
    from collections.abc import Callable

THREADS = 4


class Clock:
    """Time passes only while all threads sleep, or wait for a lock of this clock."""

    def __init__(self, threads: int) -> None:
        self.now = 0.0
        self._changed = Condition()
        self._running = threads
        self._wakes: list[float] = []

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        with self._changed:
            until = self.now + seconds
            heappush(self._wakes, until)
            self.stop()
            self._changed.wait_for(lambda: self.now >= until)

    def stop(self) -> None:
        """Count one thread less as running."""
        with self._changed:
            self._running -= 1
            while self._wakes and (not self._running or self._wakes[0] <= self.now):
                self.now = max(self.now, heappop(self._wakes))
                self._running += 1
            self._changed.notify_all()


class VirtualLock:
    """A lock whose waiters let the time pass."""

    def __init__(self, clock: Clock) -> None:
        self._clock, self._lock = clock, Lock()

    def __enter__(self) -> None:
        while not self._lock.acquire(blocking=False):
            self._clock.sleep(0.05)

    def __exit__(self, *_: object) -> None:
        self._lock.release()


class Server:
    """Accepts or refuses requests, and takes 0.1 s for each."""

    def __init__(self, clock: Clock, accepts: Callable[[float], bool]) -> None:
        self.clock, self._accepts = clock, accepts
        self.in_flight = 0
        self.crowds: list[tuple[float, int]] = []
        self.sent: list[int] = []

    def answer(self) -> requests.Response:
        response = requests.Response()
        response.status_code = 200 if self._accepts(self.clock.now) else 429
        self.sent.append(response.status_code)
        self.in_flight += 1
        self.crowds.append((self.clock.now, self.in_flight))
        self.clock.sleep(0.1)
        self.in_flight -= 1
        return response


def simulate(
    monkeypatch: pytest.MonkeyPatch, accepts: Callable[[float], bool], count: int
) -> Server:
    """Send so many requests with several threads; the clock tells how long that takes."""
    clock = Clock(THREADS)
    monkeypatch.setattr(session, "time", clock)
    limiter, server = RateLimiter(), Server(clock, accepts)
    monkeypatch.setattr(limiter, "_alone", VirtualLock(clock))
    work = iter(range(count))

    def send() -> None:
        try:
            for _ in work:
                limiter.send(server.answer)
        finally:
            clock.stop()

    with ThreadPoolExecutor(THREADS) as pool:
        for done in [pool.submit(send) for _ in range(THREADS)]:
            done.result()
    return server


def quota(rate: int, window: float, *, sliding: bool) -> Callable[[float], bool]:
    accepted: deque[float] = deque()

    def accepts(now: float) -> bool:
        while accepted and (
            accepted[0] <= now - window if sliding else accepted[0] // window < now // window
        ):
            accepted.popleft()
        if fits := len(accepted) < rate:
            accepted.append(now)
        return fits

    return accepts


@pytest.mark.parametrize("rate", [60, 300, 1000])
@pytest.mark.parametrize("sliding", [False, True])
def test_a_quota_per_minute_takes_at_most_a_quarter_longer_than_it_must(
    monkeypatch: pytest.MonkeyPatch, rate: int, *, sliding: bool
) -> None:
    server = simulate(monkeypatch, quota(rate, 60, sliding=sliding), 5 * rate + 1)
    assert 5 * 60 <= server.clock.now <= 1.25 * 5 * 60
    assert server.sent.count(200) == 5 * rate + 1


def test_without_a_limit_there_is_no_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    server = simulate(monkeypatch, lambda _: True, 400)
    assert server.clock.now == pytest.approx(400 * 0.1 / THREADS)


def test_one_request_is_sent_at_a_time_while_they_are_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    server = simulate(monkeypatch, lambda now: now > 60, 20)
    refused = server.sent.count(429)
    # Those that were sent together at first, then one after each pause.
    assert refused < THREADS + 10
    assert server.sent[:refused] == [429] * refused
    assert {crowd for now, crowd in server.crowds if 1 < now < 60} == {1}


def test_without_an_accepted_request_the_run_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(FatalError, match="no request was accepted for 120 s"):
        simulate(monkeypatch, lambda _: False, 20)


def test_a_refusal_after_a_long_pause_of_the_target_does_not_end_the_run(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = Clock(1)
    monkeypatch.setattr(session, "time", clock)
    limiter, server = RateLimiter(), Server(clock, lambda now: not 3_600 <= now < 3_601)
    limiter.send(server.answer)
    clock.now = 3_600.0
    limiter.send(server.answer)
    assert server.sent[0] == server.sent[-1] == 200
    assert 429 in server.sent


def test_a_retry_after_is_kept_by_all_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    times: list[float] = []

    def accepts(now: float) -> bool:
        times.append(now)
        return len(times) > 1

    monkeypatch.setattr(session, "retry_after", lambda _: 30)
    simulate(monkeypatch, accepts, 20)
    assert not [t for t in times if 0.2 < t < 30]


TIME_OUT = requests.ReadTimeout(ReadTimeoutError(HTTPConnectionPool("localhost"), "/", ""))
CLOSED = requests.ConnectionError(ProtocolError("closed", ConnectionResetError()))


@pytest.mark.parametrize("failure", [429, 502, 503, 504, TIME_OUT, 404, 500, CLOSED], ids=str)
def test_an_overloaded_api_gets_fewer_requests(
    monkeypatch: pytest.MonkeyPatch, failure: int | Exception
) -> None:
    clock = Clock(1)
    monkeypatch.setattr(session, "time", clock)
    times: list[float] = []

    def send(*_: object, **__: object) -> requests.Response:
        times.append(clock.now)
        response = requests.Response()
        response.status_code = 200
        if len(times) <= 3:
            if isinstance(failure, Exception):
                raise failure
            response.status_code = failure
        return response

    monkeypatch.setattr(requests.Session, "send", send)
    connection = TapUnleash(config={"api_key": "mock"}).session
    while len(times) < 10:
        with suppress(Unavailable):
            connection.send(requests.PreparedRequest())
    intervals = [after - before for before, after in pairwise(times)]
    slower = failure not in {404, 500, CLOSED}
    # Between the requests after the last failure and its pause.
    assert all((interval > 0.05) == slower for interval in intervals[3:])
