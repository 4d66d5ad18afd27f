"""Orders of rows that make numbered pages inconsistent, and rows that expire."""

from __future__ import annotations

from collections import Counter
from itertools import count, takewhile
from typing import TYPE_CHECKING, Any

import pytest
from plain_client import EVER, ID, PERSON, ask

from mock_api import Account, MockAPI, Row

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

FIRST = 1597630129000
# 60 rows, 5 per instant: rows of one instant share pages of 7 rows with others.
NUMBERS = range(60)


def instant(number: int) -> int:
    return FIRST + number // 5


def row(number: int, **when: Any) -> Row:
    return Row(PERSON | {"count": number}, instant(number) * 1000, **when)


def account(numbers: Iterable[int] = NUMBERS) -> Account:
    return Account({ID: map(row, numbers)})


def page(api: MockAPI, number: int, bounds: str = EVER, form: str = "") -> list[int]:
    got = ask(api, f"{form}{ID}/{bounds}/{number}").json()
    if form:
        return [row["count"] for row in got["data"]]
    return [row[got["keys"].index("count")] for row in got["data"]] if got["data"] else []


def pages(api: MockAPI, bounds: str = EVER, form: str = "") -> list[list[int]]:
    return list(takewhile(bool, (page(api, n, bounds, form) for n in count(1))))


def flat(lists: list[list[int]]) -> list[int]:
    return [number for numbers in lists for number in numbers]


@pytest.mark.parametrize("form", ["", "tableau/"])
@pytest.mark.parametrize("order", ["ties-per-page", "descending-ties-per-page"])
def test_ties_have_another_order_on_each_page(order: str, form: str) -> None:
    with MockAPI(account(), page_size=7, order=order) as api:
        first, second = pages(api, form=form), pages(api, form=form)
        other = flat(pages(api, f"{FIRST - 1}/{FIRST + 99}", form))
        # Added rows change neither an earlier page nor the order of the others.
        api.add(ID, [row(60), row(61)])
        later = pages(api, form=form)
    assert first == second
    times = list(map(instant, flat(first)))
    assert times == sorted(map(instant, NUMBERS), reverse=order.startswith("desc"))
    # Rows are on two pages and others on none, though every URL has one answer.
    assert len(set(flat(first))) < len(NUMBERS)
    assert max(Counter(flat(first)).values()) > 1
    assert other != flat(first)
    if order == "ties-per-page":
        assert later[:8] == first[:8]


def test_a_page_with_all_rows_of_a_time_is_right() -> None:
    with MockAPI(account(), page_size=60, order="ties-per-page") as api:
        assert sorted(page(api, 1)) == list(NUMBERS) != page(api, 1)
        alone = page(api, 1, f"{FIRST + 3}/{FIRST + 3}")
        assert sorted(alone) == [15, 16, 17, 18, 19]


def test_ties_have_another_order_in_each_answer() -> None:
    with MockAPI(account(), page_size=7, order="ties-per-request") as api:
        answers = [page(api, 2) for _ in range(9)]
    assert {tuple(map(instant, answer)) for answer in answers} == {
        tuple(map(instant, range(7, 14)))
    }
    assert len(set(map(tuple, answers))) > 2


def test_each_page_has_an_order_of_its_own() -> None:
    with MockAPI(account(), page_size=7, order="per-page") as api:
        first, second = pages(api), pages(api)
        other = pages(api, f"{FIRST - 1}/{FIRST + 99}")
        (whole,) = pages(api, f"{FIRST}/{FIRST}")
    assert first == second != other
    assert list(map(len, first)) == [7] * 8 + [4]
    assert len(set(flat(first))) < 50
    assert not all(times == sorted(times) for times in first)
    assert sorted(whole) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("order", ["shuffled", "per-page", "ties-per-page", "ties-per-request"])
def test_orders_follow_the_seed(order: str) -> None:
    answers = []
    for seed in (1, 1, 2):
        with MockAPI(account(), page_size=20, order=order, seed=seed) as api:
            answers.append(pages(api))
    assert answers[0] == answers[1] != answers[2]


@pytest.mark.parametrize("order", ["ties-per-page", "per-page"])
def test_orders_of_generated_histories(order: str) -> None:
    with MockAPI(Account.generate(devices=1, rows=50_000), page_size=4999, order=order) as api:
        (device,) = api.account.devices
        everything = Counter(tuple(sorted(row.items(), key=str)) for row in api.truth())
        got = [ask(api, f"tableau/{device}/{EVER}/{n}").json() for n in range(1, 12)]
        rows = [row for answer in got for row in answer["data"]]
        times = [row["timestamp"] for row in rows]
        assert (times == sorted(times)) == (order == "ties-per-page")
        found = Counter(tuple(sorted(row.items(), key=str)) for row in rows)
        assert len(rows) == 50_000
        assert (everything - found).total() > 0
        assert set(found) <= set(everything)


def test_rows_that_disappear_after_some_requests() -> None:
    rows = [row(n, until_requests=2 if n < 3 else None) for n in range(10)]
    rows.append(row(11, after_requests=1, until_requests=2))
    with MockAPI(Account({ID: rows}), page_size=5) as api:
        assert len(api.truth()) == 10
        assert page(api, 1) == [0, 1, 2, 3, 4]
        assert len(api.truth()) == 11
        assert page(api, 3) == [11]
        assert [values["count"] for values in api.truth()] == list(range(3, 10))
        assert page(api, 1) == [3, 4, 5, 6, 7]


def expiring(api: MockAPI, device: str, read: Callable[[], object]) -> list[int]:
    sizes = []
    for _ in range(5):
        sizes.append(len(api.truth(device)))
        read()
    return sizes


def test_the_oldest_rows_expire_with_each_request() -> None:
    with MockAPI(account(), page_size=10, expire_per_request=4) as api:
        assert [page(api, n)[0] for n in (1, 2, 3)] == [0, 14, 28]
        assert [values["count"] for values in api.truth()] == list(range(12, 60))
        # Late rows that are older than the retained ones are not kept, either.
        api.add(ID, [row(1), row(30), row(70)])
        assert len(api.truth()) == 50
        sizes = expiring(api, ID, lambda: page(api, 1))
        assert sizes == [50, 46, 42, 38, 34]
        while pages(api):
            pass
        assert not api.truth()
        api.add(ID, [row(60), row(80)])
        assert [values["count"] for values in api.truth()] == [80]
    with MockAPI(Account.generate(rows=30), expire_per_request=7) as api:
        first, *_, silent = api.account.devices
        api.account.grow(2, late_minutes=5)
        path = f"tableau/{first}/{EVER}/1"
        assert expiring(api, first, lambda: ask(api, path)) == [32, 25, 18, 11, 4]
        assert not api.truth(first)
        assert expiring(api, silent, lambda: ask(api, path)) == [0] * 5
    # The data themselves stay as they are for another mock API.
    with MockAPI(api.account) as other:
        assert len(other.truth(first)) == 32
