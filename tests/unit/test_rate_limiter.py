"""The rate limiter against simulated limits, with a clock that only waiting advances."""

from __future__ import annotations

from collections import deque
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from heapq import heappop, heappush
from itertools import pairwise
from threading import Condition, Lock
from typing import TYPE_CHECKING, NamedTuple

import pytest
import requests
from urllib3 import HTTPConnectionPool
from urllib3.exceptions import ProtocolError, ReadTimeoutError

from tap_unleash import session
from tap_unleash.errors import FatalError
from tap_unleash.session import Unavailable
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


class Sent(NamedTuple):
    """A request: when it was sent, what followed, and how many were in flight."""

    at: float
    outcome: int | Exception
    crowd: int


class Server:
    """Answers the requests of a session by the time, and takes 0.1 s for each."""

    def __init__(
        self,
        monkeypatch: pytest.MonkeyPatch,
        outcome: Callable[[float], int | Exception],
        threads: int = THREADS,
    ) -> None:
        self.clock, self._outcome, self._threads = Clock(threads), outcome, threads
        self._in_flight = 0
        self.sent: list[Sent] = []
        self.session = TapUnleash(config={"api_key": "mock"}).session
        monkeypatch.setattr(session, "time", self.clock)
        monkeypatch.setattr(self.session.limiter, "_alone", VirtualLock(self.clock))
        monkeypatch.setattr(requests.Session, "send", self._answer)

    def _answer(self, *_: object, **__: object) -> requests.Response:
        outcome = self._outcome(self.clock.now)
        self._in_flight += 1
        self.sent.append(Sent(self.clock.now, outcome, self._in_flight))
        self.clock.sleep(0.1)
        self._in_flight -= 1
        if isinstance(outcome, Exception):
            raise outcome
        response = requests.Response()
        response.status_code = outcome
        return response

    def get(self, count: int) -> list[int | Exception]:
        """Send so many requests, with all threads, and return all outcomes."""
        work = iter(range(count))

        def send() -> None:
            try:
                for _ in work:
                    with suppress(Unavailable):
                        self.session.send(requests.PreparedRequest())
            finally:
                self.clock.stop()

        with ThreadPoolExecutor(self._threads) as pool:
            for done in [pool.submit(send) for _ in range(self._threads)]:
                done.result()
        return [sent.outcome for sent in self.sent]


def quota(rate: int, window: float, *, sliding: bool) -> Callable[[float], int]:
    accepted: deque[float] = deque()

    def outcome(now: float) -> int:
        while accepted and (
            accepted[0] <= now - window if sliding else accepted[0] // window < now // window
        ):
            accepted.popleft()
        if len(accepted) == rate:
            return 429
        accepted.append(now)
        return 200

    return outcome


@pytest.mark.parametrize("rate", [60, 300, 1000])
@pytest.mark.parametrize("sliding", [False, True])
def test_a_quota_per_minute_takes_at_most_a_quarter_longer_than_it_must(
    monkeypatch: pytest.MonkeyPatch, rate: int, *, sliding: bool
) -> None:
    server = Server(monkeypatch, quota(rate, 60, sliding=sliding))
    assert server.get(5 * rate + 1).count(200) == 5 * rate + 1
    assert 5 * 60 <= server.clock.now <= 1.25 * 5 * 60


def test_without_a_limit_there_is_no_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    server = Server(monkeypatch, lambda _: 200)
    server.get(400)
    assert server.clock.now == pytest.approx(400 * 0.1 / THREADS)


def test_one_request_is_sent_at_a_time_while_they_are_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    server = Server(monkeypatch, lambda now: 200 if now > 60 else 429)
    outcomes = server.get(20)
    refused = outcomes.count(429)
    # Those that were sent together at first, then one after each pause.
    assert refused < THREADS + 10
    assert outcomes[:refused] == [429] * refused
    assert {sent.crowd for sent in server.sent if 1 < sent.at < 60} == {1}


def test_without_an_accepted_request_the_run_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(FatalError, match="no request was accepted for 120 s"):
        Server(monkeypatch, lambda _: 429).get(20)


def test_a_refusal_after_a_long_pause_of_the_target_does_not_end_the_run(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    outcomes = iter([200, 429, 200])
    server = Server(monkeypatch, lambda _: next(outcomes), threads=1)
    server.session.send(requests.PreparedRequest())
    server.clock.now = 3_600.0
    server.session.send(requests.PreparedRequest())
    assert len(server.sent) == 3


def test_a_retry_after_is_kept_by_all_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    outcomes = iter([429])
    monkeypatch.setattr(session, "_retry_after", lambda _: 30)
    server = Server(monkeypatch, lambda _: next(outcomes, 200))
    server.get(20)
    assert not [sent for sent in server.sent if 0.2 < sent.at < 30]


TIME_OUT = requests.ReadTimeout(ReadTimeoutError(HTTPConnectionPool("localhost"), "/", ""))
CLOSED = requests.ConnectionError(ProtocolError("closed", ConnectionResetError()))


@pytest.mark.parametrize("failure", [429, 502, 503, 504, TIME_OUT, 404, 500, CLOSED], ids=str)
def test_an_overloaded_api_gets_fewer_requests(
    monkeypatch: pytest.MonkeyPatch, failure: int | Exception
) -> None:
    failures = iter([failure] * 8)
    server = Server(monkeypatch, lambda _: next(failures, 200), threads=1)
    server.get(20)
    # After the last failure and its pause; a request itself takes 0.1 s.
    times = [sent.at for sent in server.sent][9:]
    slower = failure not in {404, 500, CLOSED}
    assert all((after - before > 0.11) == slower for before, after in pairwise(times))
