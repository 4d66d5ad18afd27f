from __future__ import annotations

from itertools import pairwise

import pytest

from tap_unleash.api.errors import WindowTooLarge
from tap_unleash.api.pagination import PageRequest, TotalPagesPaginator
from tap_unleash.api.time_window import DAY, EARLIEST, MAX_PARTS, TimeWindow
from unit.simulated_source import MIDNIGHT, Row, as_page


def test_a_claim_of_a_billion_pages_makes_few_windows() -> None:
    window = TimeWindow("W1", EARLIEST, MIDNIGHT + 9_000 * DAY)
    paginator = TotalPagesPaginator(window)
    for number, day in (1, 0), (10**9, 8_000):
        page = as_page([Row((MIDNIGHT + day * DAY) * 1000, 0, 0)], 10**9)
        assert paginator.wanted == [PageRequest(window, number)]
        if number == 1:
            paginator.receive({PageRequest(window, number): page})
    with pytest.raises(WindowTooLarge) as split:
        paginator.receive({PageRequest(window, number): page})
    windows = split.value.windows
    assert 2 <= len(windows) <= MAX_PARTS + 1
    assert (windows[0].start, windows[-1].end) == (window.start, window.end)
    assert all(a.end == b.start for a, b in pairwise(windows))
    assert all(w.start % DAY == 0 for w in windows[1:])


def test_only_the_part_with_a_known_row_must_return_it() -> None:
    window = TimeWindow("W1", MIDNIGHT, MIDNIGHT + 8, known=MIDNIGHT + 5)
    low, high = window.bisect()
    assert (low.known, high.known) == (None, MIDNIGHT + 5)
