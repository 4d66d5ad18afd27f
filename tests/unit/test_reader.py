"""The order in which windows send their requests."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

from tap_unleash.reader import _Slots


def test_earlier_windows_send_first() -> None:
    slots, sent = _Slots(1), []

    def send(place: tuple[int, int]) -> None:
        with slots.take(place):
            sent.append(place)

    places = [(2, 0), (0, 5), (1, 0), (0, 5), (0, 3)]
    with ThreadPoolExecutor(len(places)) as pool, slots.take((9, 9)):
        pool.map(send, places)
        while len(slots._waiting) < len(places):
            time.sleep(0.001)
        assert not sent
    assert sent == sorted(places)
