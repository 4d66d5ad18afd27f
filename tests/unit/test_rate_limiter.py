"""What the rate limiter costs against simulated limits.

The least possible cost is that of a client which knows the limit and sends each request as
soon as it will be accepted.
"""

from __future__ import annotations

from functools import cache
from itertools import product
from math import ceil
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tap_unleash.api.rate_limiter import MAX_PAUSE, AdaptiveRateLimiter
from unit.simulated_limits import (
    Concurrency,
    FixedWindow,
    Random,
    Several,
    SlidingWindow,
    TokenBucket,
    simulate,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from unit.simulated_limits import Limit

DOCS = Path(__file__).parents[2] / "docs"

RATES = (20, 60, 100, 300, 1000, 3000)
LATENCIES = (0.01, 0.1, 1, 5)

QUOTAS: dict[str, Callable[[int], Limit]] = {
    "fixed window of a minute": lambda rate: FixedWindow(rate, 60),
    "fixed window of a second": lambda rate: FixedWindow(rate // 60, 1),
    "sliding window of a minute": lambda rate: SlidingWindow(rate, 60),
    "leaky bucket without burst": lambda rate: TokenBucket(rate / 60, 1),
    "leaky bucket, burst of 12 seconds": lambda rate: TokenBucket(rate / 60, rate // 5),
    "token bucket, burst of a minute": lambda rate: TokenBucket(rate / 60, rate),
}


CASES = [
    (quota, rate)
    for quota, rate in product(QUOTAS, RATES)
    if rate >= 60 or "second" not in quota
]


@cache
def worst(quota: str, rate: int, concurrency: int = 4) -> tuple[float, float]:
    """Return the highest shares of the least possible time and requests."""
    requests = 10 * rate  # about ten minutes
    times, counts = [], []
    for latency, names_time, seed in product(LATENCIES, (False, True), (1, 2)):
        cost = simulate(
            QUOTAS[quota](rate),
            requests,
            concurrency=concurrency,
            latency=latency,
            names_time=names_time,
            seed=seed,
        )
        least = max(
            QUOTAS[quota](rate).least_seconds(requests),
            ceil(requests / concurrency) * latency,
        )
        times.append(cost.seconds / least)
        counts.append(cost.requests / requests)
    return max(times), max(counts)


@pytest.mark.parametrize(("quota", "rate"), CASES)
def test_a_quota_costs_little_more_than_it_must(quota: str, rate: int) -> None:
    seconds, requests = worst(quota, rate)
    # A quota is learned from refusals: one in ten is few if a minute has 20 requests, or if
    # most requests are accepted between two pauses.
    low = rate == 20 or (quota, rate) == ("fixed window of a second", 1000)
    assert seconds <= (1.25 if "without burst" in quota and not low else 1.3)
    assert requests <= (1.125 if low else 1.1)


@pytest.mark.parametrize("requests", [111, 252])
@pytest.mark.parametrize("names_time", [False, True])
def test_a_proxy_that_spaces_requests_evenly(
    requests: int, *, names_time: bool
) -> None:
    # nginx, limit_req rate=100r/m: each request at least 0.6 s after the last one.
    for seed in range(20):
        cost = simulate(
            TokenBucket(100 / 60, 1),
            requests,
            latency=0.02,
            names_time=names_time,
            seed=seed,
        )
        assert cost.seconds <= 1.25 * 0.6 * (requests - 1)
        assert cost.requests <= 1.1 * requests + 6


@pytest.mark.parametrize("share", [0.01, 0.03, 0.05, 0.1])
@pytest.mark.parametrize("latency", [0.1, 1])
def test_random_refusals_cost_what_an_error_503_costs(
    share: float, latency: float
) -> None:
    requests = 1000
    least = requests * (latency + share * (0.75 + latency)) / 4
    seconds = []
    for seed in range(5):
        cost = simulate(Random(share, seed), requests, latency=latency, seed=seed)
        assert cost.requests <= 1.05 * requests / (1 - share)
        seconds.append(cost.seconds / least)
    assert median(seconds) <= 1.3
    assert max(seconds) <= 2  # refusals that look like a quota for a while


def test_random_refusals_that_name_a_time_are_recognized() -> None:
    cost = simulate(Random(0.1, 1), 3000, names_time=True)
    patient = 3000 * (0.1 + 0.1 * 1.1) / 4
    assert cost.seconds <= 2.5 * patient


@pytest.mark.parametrize("maximum", [1, 2, 5])
@pytest.mark.parametrize("concurrency", [4, 16])
@pytest.mark.parametrize("latency", [0.1, 1])
def test_a_limit_of_concurrent_requests_does_not_slow_them_down(
    maximum: int, concurrency: int, latency: float
) -> None:
    requests = 2000
    cost = simulate(
        Concurrency(maximum), requests, concurrency=concurrency, latency=latency
    )
    least = requests * latency / min(maximum, concurrency)
    assert cost.seconds <= 1.3 * least
    assert cost.requests <= 1.1 * requests


@settings(max_examples=500, deadline=None, derandomize=True)
@given(
    quota=st.sampled_from([*QUOTAS]),
    rate=st.sampled_from([60, 100, 300, 1000]),
    share=st.sampled_from([0, 0.03, 0.1]),
    maximum=st.sampled_from([1, 2, 4, 99]),
    concurrency=st.sampled_from([1, 4, 16]),
    latency=st.sampled_from([0.01, 0.1, 1]),
    names_time=st.booleans(),
    seed=st.integers(0, 99),
)
def test_limits_that_apply_together_do_not_stop_the_sync(  # noqa: PLR0913
    *,
    quota: str,
    rate: int,
    share: float,
    maximum: int,
    concurrency: int,
    latency: float,
    names_time: bool,
    seed: int,
) -> None:
    limit = Several(QUOTAS[quota](rate), Concurrency(maximum), Random(share, seed))
    requests = 200
    cost = simulate(
        limit,
        requests,
        concurrency=concurrency,
        latency=latency,
        names_time=names_time,
        seed=seed,
    )
    # With a quota, random refusals are taken for its own, so the pace can fall to this.
    assert cost.seconds <= 1.5 * MAX_PAUSE * requests
    assert cost.requests <= 2.5 * requests


def test_the_pace_is_not_learned_from_slow_responses() -> None:
    now = 0.0
    limiter = AdaptiveRateLimiter(1, lambda: now)
    for seconds, answer in [*[(1.0, 200)] * 40, (1.0, 429), *[(0.01, 200)] * 98]:
        assert limiter.ready_at() <= now
        permit = limiter.send()
        now += seconds
        if answer == 200:
            limiter.accepted(permit)
        else:
            assert limiter.refused(permit) is None
        limiter.done(permit)


def test_time_without_requests_is_not_taken_for_the_pace() -> None:
    """A loader that blocks, or the wait for a server that is down."""
    now = 0.0
    limiter = AdaptiveRateLimiter(1, lambda: now)
    for answer, idle in [(200, 0), (429, 0), (200, 1000), (200, 0), (429, 0), (200, 0)]:
        now = max(now, limiter.ready_at()) + idle
        permit = limiter.send()
        now += 0.1
        if answer == 200:
            limiter.accepted(permit)
        else:
            limiter.refused(permit, retry_after=1)
        limiter.done(permit)
    assert limiter.ready_at() - now < 10


def test_the_page_states_what_a_quota_costs() -> None:
    page = (DOCS / "how" / "rate-limits.md").read_text()
    for quota in QUOTAS:
        costs = [worst(quota, rate) for name, rate in CASES if name == quota]
        seconds, requests = map(max, zip(*costs, strict=True))
        assert f"| {quota.capitalize()} | {seconds:.2f} | {requests:.2f} |" in page
