"""Ways in which an API could report wrong totals, hide rows or repeat old pages."""

from __future__ import annotations

import json
import time
from collections import Counter
from itertools import groupby
from typing import Any

import pytest
from plain_client import EVER, ID, PERSON, Reply, ask, at

from mock_api import Account, Fault, MockAPI, Row

FIRST = 1597630129000
RANGE = f"{ID}/{FIRST}/{FIRST + 24}"
NOWHERE = f"{ID}/1000000000000/1000000000001"


def account(rows: int = 30) -> Account:
    return Account({ID: [at(FIRST + n, count=n) for n in range(rows)]})


def numbers(reply: Reply) -> list[int]:
    return [row["count"] for row in reply.json()["data"]]


@pytest.mark.parametrize(
    ("total", "first", "second", "nowhere"),
    [
        ("present", "7", "7", "0"),
        ("floor", "6", "6", "0"),
        ("low", "6", "6", "0"),
        ("zero", "0", "0", "0"),
        ("device", "8", "8", "8"),
        ("first-page", "7", None, "0"),
        ("string", '"7"', '"7"', '"0"'),
        ("float", "7.0", "7.0", "0.0"),
    ],
)
@pytest.mark.parametrize("form", ["", "tableau/"])
def test_totals(total: str, first: str, second: str | None, nowhere: str, form: str) -> None:
    with MockAPI(account(), page_size=4, total=total) as api:
        paths = (f"{RANGE}/1", f"{RANGE}/2", f"{NOWHERE}/1")
        replies = [ask(api, form + path) for path in paths]
        assert sum(len(numbers(ask(api, f"tableau/{RANGE}/{n}"))) for n in range(1, 8))
    assert [
        json.dumps(reply.json()["total_num_pages"]) if b"total_num_pages" in reply.body else None
        for reply in replies
    ] == [first, second, nowhere]


def test_a_low_total_of_a_few_rows_is_one() -> None:
    with MockAPI(account(1), total="low") as api:
        assert ask(api, f"{RANGE}/1").json()["total_num_pages"] == 1


@pytest.mark.parametrize(
    ("option", "total"),
    [
        ({}, 4),
        ({"total_cache_seconds": 60}, 3),
        ({"total_cache_seconds": 0.1}, 4),
        ({"cache_seconds": 60}, 3),
        ({"cache_seconds": 0.1}, 4),
    ],
)
def test_caches(option: dict[str, Any], total: int) -> None:
    with MockAPI(account(14), page_size=5, past_end="404", **option) as api:
        path = f"tableau/{RANGE}"
        assert ask(api, f"{path}/1").json()["total_num_pages"] == 3
        assert ask(api, f"{path}/4").status == 404
        api.add(ID, [at(FIRST + n, count=n) for n in (14, 15)])
        time.sleep(0.11)
        assert ask(api, f"{path}/1").json()["total_num_pages"] == total
        # Neither errors nor the pages of other URLs come from the cache.
        assert numbers(ask(api, f"{path}/4")) == [15]
        assert ask(api, f"{RANGE}/1").json()["total_num_pages"] == (
            3 if option == {"total_cache_seconds": 60} else 4
        )


@pytest.mark.parametrize(("kind", "pages"), [("exact", 8), ("capped", 3)])
@pytest.mark.parametrize("beyond", ["empty", "400", "404", "500", "502"])
@pytest.mark.parametrize(("order", "last"), [("ascending", [8, 9]), ("descending", [21, 20])])
def test_rows_beyond_a_limit(
    kind: str, pages: int, beyond: str, order: str, last: list[int]
) -> None:
    with MockAPI(
        account(),
        page_size=4,
        max_rows=10,
        max_rows_total=kind,
        beyond_max_rows=beyond,
        order=order,
    ) as api:
        replies = [ask(api, f"tableau/{ID}/{EVER}/{n}") for n in (3, 4, 9)]
    assert replies[0].json()["total_num_pages"] == pages
    assert numbers(replies[0]) == last
    for reply in replies[1:]:
        if beyond == "empty":
            assert reply.json() == {"total_num_pages": pages, "data": []}
        else:
            assert reply.status == int(beyond)


def test_rows_are_found_by_another_time_than_their_own() -> None:
    hour = 3_600_000
    with MockAPI(account(), range_offset_hours=1.5) as api:
        assert ask(api, f"{RANGE}/1").json()["data"] == []
        start = FIRST + hour * 3 // 2
        path = f"tableau/{ID}/{start + 3}/{start + 5}/1"
        assert numbers(ask(api, path)) == [3, 4, 5]
    with MockAPI(account(), range_offset_hours=-2) as api:
        path = f"tableau/{ID}/{FIRST - 2 * hour}/{FIRST - 2 * hour}/1"
        assert ask(api, path).json()["data"] == [PERSON | {"count": 0}]


@pytest.mark.parametrize("order", ["stable-ties", "descending-stable-ties"])
def test_ties_are_in_a_random_order_that_is_stable(order: str) -> None:
    rows = [Row(PERSON | {"count": n}, (FIRST + n // 10) * 1000) for n in range(60)]
    with MockAPI(Account({ID: rows}), page_size=7, order=order) as api:

        def read(path: str) -> list[int]:
            replies = [ask(api, f"tableau/{path}/{n}") for n in range(1, 11)]
            return [number for reply in replies for number in numbers(reply)]

        every, again = read(f"{ID}/{EVER}"), read(f"{ID}/{EVER}")
        part = read(f"{ID}/{FIRST + 2}/{FIRST + 3}")
        api.add(ID, [Row(PERSON | {"count": 60}, FIRST * 1000)])
        more = read(f"{ID}/{EVER}")
    assert every == again == [number for number in more if number != 60]
    assert sorted(every) == list(range(60))
    assert part == [number for number in every if 20 <= number < 40]
    tens = [number // 10 for number in every]
    assert tens == sorted(tens, reverse=order.startswith("descending"))
    assert every not in (sorted(every), sorted(every, reverse=True))


@pytest.mark.parametrize(
    ("form", "size_optimized", "tableau", "bare"),
    [
        ("documented", True, b'{"total_num_pages":0,"data":[]}', b"[]"),
        ("no-keys", False, b'{"total_num_pages":0,"data":[]}', b"[]"),
        ("null-data", True, b'{"total_num_pages":0,"data":null}', b"null"),
        ("204", False, b"", b""),
    ],
)
def test_forms_of_a_page_without_rows(
    form: str, *, size_optimized: bool, tableau: bytes, bare: bytes
) -> None:
    fault = Fault(kind="short_row")  # it changes only pages with rows
    with MockAPI(account(), empty_form=form, faults=[fault]) as api:
        replies = [ask(api, f"{way}{NOWHERE}/1") for way in ("", "tableau/")]
        assert ask(api, f"{RANGE}/1").status == 200
    assert (b'"keys"' in replies[0].body) == size_optimized
    assert {reply.status for reply in replies} == {204 if form == "204" else 200}
    assert json.loads(replies[1].body or "0") == json.loads(tableau or "0")
    with MockAPI(account(), empty_form=form, tableau_form="bare-array") as api:
        assert ask(api, f"tableau/{NOWHERE}/1").body == bare


def test_generated_seconds_of_many_rows() -> None:
    account = Account.generate(devices=1, rows=1000, rows_per_second=60)
    (device,) = account.devices
    rows = [dict(row) for row in account.view(device, request=1)]
    seconds = [
        (moment, len([*group])) for moment, group in groupby(rows, lambda row: row["timestamp"])
    ]
    assert seconds[0] == ("2020-08-03T00:00:00.000Z", 60)
    assert seconds[-1] == ("2020-08-03T00:00:16.000Z", 40)
    assert {number for _, number in seconds[:-1]} == {60}
    assert max(Counter(map(json.dumps, rows)).values()) > 1
    assert {row["session_id"] for row in rows} == set(account.session_ids())
    assert account.grow(90) == 90
    with MockAPI(account) as api:
        later = [row["timestamp"] for row in api.truth()][1000:]
    assert Counter(later) == {
        "2020-08-03T00:00:17.000Z": 60,
        "2020-08-03T00:00:18.000Z": 30,
    }
