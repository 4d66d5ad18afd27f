"""The order of requests, and what becomes of errors."""

from __future__ import annotations

from contextlib import closing
from threading import Barrier

import pytest

from tap_unleash.page import Page, decode_page
from tap_unleash.pagination import TotalPagesPaginator
from tap_unleash.reader import Reader
from tap_unleash.windows import EARLIEST, PageRequest, TimeWindow

RANGES = [TimeWindow(name, EARLIEST, EARLIEST + 60_000) for name in "AB"]


def answer(request: PageRequest, total: int) -> Page:
    """A page with two rows, but the last one with one."""
    second, rows = request.number + 40, 1 if request.number == total else 2
    stamps = ",".join(f'["2001-09-09T01:46:{second}.{n}Z"]' for n in range(rows))
    body = f'{{"keys": ["timestamp"], "data": [{stamps}], "total_num_pages": {total}}}'
    return decode_page(body.encode(), device_id=request.window.device_id)


def test_earlier_windows_send_first() -> None:
    sent: list[tuple[str, int]] = []

    def fetch(request: PageRequest) -> Page:
        sent.append((request.window.device_id, request.number))
        return answer(request, 3)

    with closing(Reader(fetch, TotalPagesPaginator, 1, RANGES)) as reader:
        for name in "AB":
            ((_, paginator),) = reader.read(name)
            assert len(paginator.rows) == 5
    assert sent == [(name, number) for name in "AB" for number in (1, 3, 2, 3, 1)]


def test_a_device_whose_pages_fail_together_fails_once(caplog: pytest.LogCaptureFixture) -> None:
    together = Barrier(4)

    def fetch(request: PageRequest) -> Page:
        if request.window.device_id == "A" and 1 < request.number < 6:
            together.wait(60)
            raise ZeroDivisionError  # even what nobody expects
        return answer(request, 6)

    with closing(Reader(fetch, TotalPagesPaginator, 4, RANGES)) as reader:
        with pytest.raises(ZeroDivisionError):
            next(reader.read("A"))
        ((_, paginator),) = reader.read("B")
        assert len(paginator.rows) == 11
    reader._pool.shutdown()  # when the others have failed, too
    assert not caplog.messages
