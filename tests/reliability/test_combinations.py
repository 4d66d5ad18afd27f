"""Every behavior that the documentation leaves open yields exactly the truth."""

from __future__ import annotations

from functools import cache
from itertools import product
from typing import TYPE_CHECKING, Any

import pytest

from mock_api import Account, MockAPI, Row
from reliability.runs import (
    EVERY_WINDOW,
    Run,
    Table,
    assert_truth,
    choices,
    expected,
    failures,
    row,
    run,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

DEVICES = ("Wbusy", "Wties", "Wsparse", "Wsilent")
FEW_PAGES = {"api.pagination.MAX_PAGES": 4}
"""Time windows of four pages at most, so that there are many seams."""

BOUNDS = choices("bounds")
ORDERS = choices("order")
COMBINATIONS = [*product(BOUNDS, ORDERS)]
FORMATS = ("size_optimized", "tableau")


INSTANTS = (0, 0.001, 0.999, 1, 1.001, 2, 60, 60.001)
"""Seconds, some of them a millisecond apart, as the shortest time windows are."""


@cache
def account(seconds: int = 30, instants: Sequence[float] = INSTANTS) -> Account:
    """Rows on both sides of every possible seam, many of them identical.

    There are eight rows per instant at most, and 24 in three adjacent milliseconds.
    """
    busy = [
        row("Wbusy", number / 8, class_name=name, frame_number=number)
        for number in range(seconds * 8)
        for name in ("person", "person", "total_count")
    ]
    ties = [
        row("Wties", second, count=count, class_name=name)
        for second in instants
        for name in ("a", "b")
        for count in (1, 2, 1, 0.5)
    ]
    sparse = [row("Wsparse", 86_400 * 30 * month) for month in range(-8, 8)]
    devices = {"Wbusy": busy, "Wties": ties, "Wsparse": sparse, "Wsilent": []}
    return Account({name: map(Row, rows) for name, rows in devices.items()})


def table_of(
    *, page_size: int, settings: dict[str, Any], **options: Any
) -> tuple[Table, int]:
    with MockAPI(account(), page_size=page_size, **options) as api:
        result = run(api, constants=FEW_PAGES, **settings)
        assert (result.code, result.err) == (0, "")
        table = Table()
        table.load(result.messages)
        assert_truth(table, expected(api.truth()))
    # No seam emits a record twice, which an upserting target would hide.
    assert len(result.records()) == len(table)
    return table, len(api.requests)


@cache
def reference() -> Table:
    """The table of a run without seams: one page holds all rows of a device."""
    table, requests = table_of(page_size=1000, settings={})
    assert requests == 2 + len(DEVICES)
    return table


def assert_never_wrong(result: Run, complete: Table) -> dict[str, str]:
    """Check that no record is wrong, and missing only if its device failed.

    Return the errors.
    """
    table = Table()
    table.load(result.messages)
    assert table.items() <= complete.items()
    failed = failures(result)
    bookmarks = result.bookmarks()
    for record_id, record in complete.items():
        device_id, timestamp = record["device_id"], record["timestamp"]
        assert record_id in table or (
            f"device {device_id!r}" in failed
            and timestamp > bookmarks.get(device_id, "")
        )
    return failed


@pytest.mark.parametrize(("bounds", "order"), COMBINATIONS)
def test_every_interpretation_yields_exactly_the_truth(bounds: str, order: str) -> None:
    number = COMBINATIONS.index((bounds, order))
    for response_format, page_size in zip(FORMATS, (24, 41), strict=True):
        table, requests = table_of(
            page_size=page_size,
            bounds=bounds,
            order=order,
            empty_total=choices("empty_total")[number % 3],
            empty_form=choices("empty_form")[number % 2],
            key_order=choices("key_order")[number // 2 % 2],
            settings={"response_format": response_format},
        )
        assert requests > len(account().view("Wbusy", request=1)) / page_size + 20
        assert table == reference()


WITHOUT_TOTAL: list[tuple[str, dict[str, str]]] = [
    ("tableau", {"tableau_form": "bare-array"}),
    ("size_optimized", {"total": "missing"}),
    ("tableau", {"total": "null"}),
]


@pytest.mark.parametrize(("past_end", "order"), [*product(choices("past_end"), ORDERS)])
def test_pages_without_a_total_yield_exactly_the_truth(
    past_end: str, order: str
) -> None:
    number = choices("past_end").index(past_end) + ORDERS.index(order)
    response_format, form = WITHOUT_TOTAL[number % 3]
    table, _ = table_of(
        # A full last page that is repeated is indistinguishable from another page.
        page_size=25 if past_end == "repeat" else 24,
        order=order,
        past_end=past_end,
        bounds=BOUNDS[number % 4],
        settings={"response_format": response_format},
        **form,
    )
    assert table == reference()


@pytest.mark.parametrize("page_size", [24, 25, 64, 200])
@pytest.mark.parametrize("concurrency", [1, 16])
def test_page_size_and_concurrency_change_nothing(
    page_size: int, concurrency: int
) -> None:
    table, _ = table_of(page_size=page_size, settings={"concurrency": concurrency})
    assert table == reference()


@pytest.mark.parametrize("rounding", choices("round_bounds")[1:])
@pytest.mark.parametrize("order", ["ascending", "ties-per-page", "per-page"])
def test_rounded_bounds_yield_the_truth_or_an_error(order: str, rounding: str) -> None:
    """Bounds that are rounded to days cannot divide a day of several pages."""
    for bounds in BOUNDS:
        for page_size in (72, 200):
            with MockAPI(
                account(),
                page_size=page_size,
                bounds=bounds,
                round_bounds=rounding,
                order=order,
            ) as api:
                result = run(api, constants=FEW_PAGES | EVERY_WINDOW)
            failed = assert_never_wrong(result, reference())
            if rounding.endswith("day"):
                assert failed.keys() <= {"device 'Wbusy'"}
            else:
                assert not failed


TINY = (1, 2, 3, 7)


@pytest.mark.parametrize("page_size", TINY)
@pytest.mark.parametrize("order", ORDERS)
def test_tiny_pages_yield_the_truth_or_an_error(order: str, page_size: int) -> None:
    """Identical records that exceed a page cannot be counted; no table is wrong silently."""
    few = account(seconds=2, instants=(0, 0.001, 60))
    with MockAPI(few) as api:
        complete = Table()
        complete.load(run(api).messages)
    number = TINY.index(page_size) + ORDERS.index(order)
    form = ("object", "bare-array")[number % 2]
    with MockAPI(few, page_size=page_size, order=order, tableau_form=form) as api:
        result = run(api, constants=FEW_PAGES | EVERY_WINDOW, response_format="tableau")
    assert len({r["record_id"] for r in result.records()}) == len(result.records())
    failed = assert_never_wrong(result, complete)
    # Three rows share an instant of Wbusy, and eight one of Wties.
    assert "device 'Wsparse'" not in failed
    assert page_size < 3 or "device 'Wbusy'" not in failed


@pytest.mark.parametrize("bounds", BOUNDS)
@pytest.mark.parametrize("order", ["ascending", "ties-per-page", "per-page"])
def test_start_and_end_are_inclusive(bounds: str, order: str) -> None:
    start, end = "2024-05-01T00:00:00.999Z", "2024-05-01T00:00:02.000Z"
    with MockAPI(account(), page_size=24, bounds=bounds, order=order) as api:
        result = run(api, constants=FEW_PAGES, start_date=start, end_date=end)
        assert (result.code, result.err) == (0, "")
        table = Table()
        table.load(result.messages)
        rows = [row for row in api.truth() if start <= row["timestamp"] <= end]
        assert len(rows) > 50
        assert_truth(table, expected(rows))
