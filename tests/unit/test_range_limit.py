"""How few windows a range is read in if the API does not answer it as a whole."""

from __future__ import annotations

from itertools import pairwise
from math import log2
from random import Random
from typing import TYPE_CHECKING

import pytest

from tap_unleash.api.range_limit import RangeLimit
from tap_unleash.api.time_window import DAY, EARLIEST, SECOND, TimeWindow

if TYPE_CHECKING:
    from collections.abc import Callable

WHOLE = TimeWindow("W1", EARLIEST, EARLIEST + 9_000 * DAY)


def requests(
    refuses: Callable[[TimeWindow], bool],
    at_a_time: int,
    pending: list[TimeWindow] | None = None,
) -> int:
    """Read windows, and return how many requests it took.

    Args:
        refuses: Whether the API refuses a window.
        at_a_time: Number of concurrent requests, which are answered in any order.
        pending: The windows to read.
    """
    random = Random(0)
    limit, pending = RangeLimit(), [*(pending or [WHOLE])]
    sent: list[TimeWindow] = []
    done: list[TimeWindow] = []
    count = 0
    while pending or sent:
        while pending and len(sent) < at_a_time:
            window, *rest = limit.take(pending.pop(0))
            sent.append(window)
            pending = rest + pending
        window = sent.pop(random.randrange(len(sent)))
        count += 1
        assert count < 30_000
        if refuses(window):
            limit.reject(window.duration)
            pending = window.bisect() + pending
        else:
            limit.accept(window.duration)
            done.append(window)
    done.sort(key=lambda window: window.start)
    assert (done[0].start, done[-1].end) == (WHOLE.start, WHOLE.end)
    assert all(a.end == b.start for a, b in pairwise(done))
    return count


@pytest.mark.parametrize("days", [1, 7, 30, 365])
@pytest.mark.parametrize("at_a_time", [1, 16])
def test_a_limit_is_found_once_and_tried_again_now_and_then(
    days: int, at_a_time: int
) -> None:
    # Halving finds half of the limit or more.
    windows = 2 * WHOLE.duration / (days * DAY)
    few = requests(lambda window: window.duration > days * DAY, at_a_time)
    assert few < 1.05 * windows + 2 * at_a_time * log2(windows)


@pytest.mark.parametrize("share", [0.02, 0.1, 0.2])
@pytest.mark.parametrize("at_a_time", [1, 16])
def test_windows_stay_long_if_some_are_refused_at_random(
    share: float, at_a_time: int
) -> None:
    for seed in range(300):
        random = Random(seed)
        assert requests(lambda _: random.random() < share, at_a_time) < 100  # noqa: B023


@pytest.mark.parametrize("share", [0.02, 0.1, 0.2])
@pytest.mark.parametrize("at_a_time", [1, 16])
def test_windows_stay_as_long_as_a_limit_if_some_are_refused_at_random(
    share: float, at_a_time: int
) -> None:
    windows = 2 * WHOLE.duration / (30 * DAY)

    def refuses(window: TimeWindow) -> bool:
        return window.duration > 30 * DAY or random.random() < share

    for seed in range(100):
        random = Random(seed)
        assert requests(refuses, at_a_time) < (1 + 8 * share) * windows + 200


@pytest.mark.parametrize("at_a_time", [1, 16])
def test_short_windows_that_are_refused_do_not_shorten_the_others(
    at_a_time: int,
) -> None:
    crowded = WHOLE.start + 8_000 * DAY
    short = [
        TimeWindow("W1", start, start + SECOND)
        for start in range(crowded, crowded + 60 * SECOND, SECOND)
    ]
    pending = [
        TimeWindow("W1", WHOLE.start, crowded),
        *short,
        TimeWindow("W1", short[-1].end, WHOLE.end),
    ]
    for number in range(15):
        refused = short[number::15]
        few = requests(lambda window: window in refused, at_a_time, pending)  # noqa: B023
        assert few == len(pending) + 2 * len(refused)


@pytest.mark.parametrize("at_a_time", [1, 16])
def test_windows_get_longer_after_a_time_of_refusals(at_a_time: int) -> None:
    trouble = iter(range(60))
    few = requests(lambda _: next(trouble, None) is not None, at_a_time)
    assert few < 2 * 60 + 100 * at_a_time


@pytest.mark.parametrize("at_a_time", [1, 16])
def test_a_crowded_time_shortens_the_windows_of_that_time_only(at_a_time: int) -> None:
    low, high = WHOLE.start + 4_000 * DAY, WHOLE.start + 4_100 * DAY

    def refuses(window: TimeWindow) -> bool:
        return window.duration > DAY and window.end > low and window.start < high

    assert requests(refuses, at_a_time) < 2 * 100 * 1.2 + 10 * at_a_time + 100


@pytest.mark.parametrize("at_a_time", [1, 16])
def test_windows_get_long_again_after_a_long_time_of_short_ones(at_a_time: int) -> None:
    until = WHOLE.start + 4_000 * DAY

    def refuses(window: TimeWindow) -> bool:
        return window.duration > DAY and window.start < until

    assert requests(refuses, at_a_time) < 2 * 4_000 * 1.05 + 20 * at_a_time
