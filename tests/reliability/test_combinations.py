"""Every reading of what the documentation leaves open gives exactly the truth."""

from __future__ import annotations

from functools import cache
from itertools import product
from typing import Any

import pytest

from mock_api import Account, MockAPI, Row
from reliability.runs import Table, assert_one_line, assert_truth, expected, row, run

DEVICES = ("Wbusy", "Wties", "Wsparse", "Wsilent")
FEW_PAGES = {"reader.MAX_PAGES": 4}
"""Slices of four pages at most, so that there are many seams."""


@cache
def account() -> Account:
    """Rows everywhere that a seam may lie, in groups that are equal to the letter."""
    busy = [
        row("Wbusy", second / 8, class_name=name, frame_number=second)
        for second in range(60)
        for name in ("person", "person", "total_count")
    ]
    ties = [
        row("Wties", second, count=count, class_name=name)
        for second in (0, 0.001, 0.999, 1, 1.001, 2, 60, 60.001)
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
    # Nothing twice, at no seam: an upserting target would hide it.
    assert len(result.records()) == len(table)
    return table, len(api.requests)


@cache
def reference() -> Table:
    """The table of a run without seams: one page holds all rows of a device."""
    table, requests = table_of(page_size=1000, settings={})
    assert requests == 2 + len(DEVICES)
    return table


@pytest.mark.parametrize("order", ["ascending", "descending", "shuffled"])
@pytest.mark.parametrize("bounds", ["closed", "open", "left-open", "right-open"])
def test_every_reading_gives_exactly_the_truth(bounds: str, order: str) -> None:
    for number, (empty_total, response_format) in enumerate(
        product((0, 1), ("size_optimized", "tableau"))
    ):
        table, requests = table_of(
            page_size=(3, 7)[number // 2],
            bounds=bounds,
            order=order,
            empty_total=empty_total,
            key_order=("fixed", "shuffled")[number % 2],
            settings={"response_format": response_format},
        )
        assert requests > 60
        assert table == reference()


@pytest.mark.parametrize("order", ["ascending", "descending", "shuffled"])
def test_tableau_rows_alone_give_exactly_the_truth(order: str) -> None:
    table, _ = table_of(
        page_size=5,
        order=order,
        tableau_form="bare-array",
        settings={"response_format": "tableau"},
    )
    assert table == reference()


@pytest.mark.parametrize("page_size", [1, 2, 3, 11, 64])
@pytest.mark.parametrize("concurrency", [1, 16])
def test_page_size_and_concurrency_change_nothing(
    page_size: int, concurrency: int
) -> None:
    table, _ = table_of(page_size=page_size, settings={"concurrency": concurrency})
    assert table == reference()


def test_rows_in_another_order_in_every_answer_are_not_lost() -> None:
    # A second with more rows than a page holds cannot be read then, and that is said.
    table, _ = table_of(page_size=24, order="reshuffled", settings={})
    assert table == reference()
    with MockAPI(account(), page_size=8, order="reshuffled") as api:
        result = run(api, constants=FEW_PAGES)
    assert "change whenever they are read" in assert_one_line(result)
    seen = Table()
    seen.load(result.messages)
    assert seen.items() <= reference().items()


@pytest.mark.parametrize("bounds", ["closed", "open", "left-open", "right-open"])
def test_start_and_end_are_part_of_what_is_read(bounds: str) -> None:
    start, end = "2024-05-01T00:00:00.999Z", "2024-05-01T00:00:02.000Z"
    with MockAPI(account(), page_size=3, bounds=bounds) as api:
        result = run(api, constants=FEW_PAGES, start_date=start, end_date=end)
        assert (result.code, result.err) == (0, "")
        table = Table()
        table.load(result.messages)
        rows = [row for row in api.truth() if start <= row["timestamp"] <= end]
        assert len(rows) > 10
        assert_truth(table, expected(rows))
