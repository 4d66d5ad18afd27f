"""The order of requests, and what becomes of errors that nobody expects."""

from __future__ import annotations

from contextlib import closing

import pytest

from tap_unleash.page import Page, decode_page
from tap_unleash.pagination import TotalPagesPaginator
from tap_unleash.reader import Reader
from tap_unleash.windows import EARLIEST, PageRequest, TimeWindow

RANGES = [TimeWindow(name, EARLIEST, EARLIEST + 60_000) for name in "AB"]


def test_earlier_windows_send_first() -> None:
    sent: list[tuple[str, int]] = []

    def fetch(request: PageRequest) -> Page:
        sent.append((request.window.device_id, request.number))
        stamps = [
            f'"2001-09-09T01:47:0{request.number}.{i:03}Z"' for i in range(2 - request.number // 3)
        ]
        rows = ",".join(f"[{stamp}]" for stamp in stamps)
        body = f'{{"keys": ["timestamp"], "data": [{rows}], "total_num_pages": 3}}'
        return decode_page(body.encode(), device_id=request.window.device_id)

    with closing(Reader(fetch, TotalPagesPaginator, 1, RANGES)) as reader:
        for name in "AB":
            ((_, paginator),) = reader.read(name)
            assert len(paginator.rows) == 5
    pages = [1, 3, 2, 3, 1]
    assert sent == [(name, number) for name in "AB" for number in pages]


def test_an_unexpected_error_is_raised_by_the_reader_of_its_device() -> None:
    def fetch(request: PageRequest) -> Page:
        if request.window.device_id == "A":
            raise ZeroDivisionError
        return Page()

    with closing(Reader(fetch, TotalPagesPaginator, 4, RANGES)) as reader:
        with pytest.raises(ZeroDivisionError):
            next(reader.read("A"))
        assert [paginator.rows for _, paginator in reader.read("B")] == [[]]
