"""The order of requests, and what becomes of errors."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from threading import Barrier, Event
from typing import TYPE_CHECKING

import pytest

from tap_unleash.pagination import TotalPagesPaginator
from tap_unleash.reader import Reader
from tap_unleash.windows import EARLIEST, PageRequest, TimeWindow
from unit.simulated_source import Source

if TYPE_CHECKING:
    from tap_unleash.page import Page

RANGES = [TimeWindow(name, EARLIEST, EARLIEST + 60_000) for name in "AB"]


def source(rows: int) -> Source:
    """The rows of each device, on pages of two."""
    made = Source(page_size=2)
    for second in range(rows):
        made.insert((EARLIEST + 1000 * second) * 1000, 0)
    return made


def count(reader: Reader, wanted: TimeWindow) -> int:
    """Read a device, and count its rows."""
    return sum(len(paginator.rows) for _, paginator in reader.read(wanted))


def test_earlier_windows_send_first() -> None:
    sent: list[tuple[str, int]] = []
    api = source(5)

    def fetch(request: PageRequest) -> Page:
        sent.append((request.window.device_id, request.number))
        return api.answer(request)

    with closing(Reader(fetch, TotalPagesPaginator, 1, RANGES)) as reader:
        assert [count(reader, wanted) for wanted in RANGES] == [5, 5]
    assert sent == [(name, number) for name in "AB" for number in (1, 3, 2, 3, 1)]


def test_devices_can_be_read_in_another_order() -> None:
    with closing(Reader(source(5).answer, TotalPagesPaginator, 2, RANGES)) as reader:
        assert [count(reader, wanted) for wanted in RANGES[::-1]] == [5, 5]


def test_what_waits_to_be_emitted_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tap_unleash.reader.MAX_ROWS", 10)
    api, too_far = source(5), Event()
    ranges = [replace(RANGES[0], device_id=name) for name in "ABCDEF"]

    def fetch(request: PageRequest) -> Page:
        if request.window.device_id > "C":
            too_far.set()
        return api.answer(request)

    with closing(Reader(fetch, TotalPagesPaginator, 1, ranges)) as reader:
        reader._ahead = len(ranges)
        first = reader.read(ranges[0])
        next(first)
        assert not too_far.wait(1)
        assert [*first] == []
        assert [count(reader, wanted) for wanted in ranges[1:]] == [5] * 5


def test_reading_goes_on_while_a_large_window_is_emitted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tap_unleash.reader.MAX_ROWS", 1)
    api, ahead = source(5), Event()

    def fetch(request: PageRequest) -> Page:
        if request.window.device_id == "B":
            ahead.set()
        return api.answer(request)

    with closing(Reader(fetch, TotalPagesPaginator, 1, RANGES)) as reader:
        next(reader.read(RANGES[0]))
        assert ahead.wait(60)


def test_a_device_whose_pages_fail_together_fails_once(caplog: pytest.LogCaptureFixture) -> None:
    together = Barrier(4)
    api = source(11)

    def fetch(request: PageRequest) -> Page:
        if request.window.device_id == "A" and 1 < request.number < 6:
            together.wait(60)
            raise ZeroDivisionError  # even what nobody expects
        return api.answer(request)

    with closing(Reader(fetch, TotalPagesPaginator, 4, RANGES)) as reader:
        with pytest.raises(ZeroDivisionError):
            count(reader, RANGES[0])
        assert count(reader, RANGES[1]) == 11
    reader._pool.shutdown()  # when the others have failed, too
    assert not caplog.messages
