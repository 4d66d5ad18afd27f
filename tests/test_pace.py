"""How many requests are sent, and how many of them concurrently."""

from __future__ import annotations

import sys
import threading
from collections import Counter
from itertools import islice, pairwise
from statistics import median
from typing import TYPE_CHECKING

import pytest
from reliability.runs import Table, assert_truth, choices, expected, row, run

from mock_api import Account, Fault, MockAPI, Row
from tap_unleash.tap import TapUnleash

if TYPE_CHECKING:
    from reliability.runs import Run


def pages(api: MockAPI) -> list[str]:
    """The paths of the requests for rows."""
    return [r.path for r in api.requests if r.path.count("/") > 3]


def assert_all(api: MockAPI, result: Run) -> None:
    assert result.code == 0, result.err
    table = Table()
    table.load(result.messages)
    assert_truth(table, expected(api.truth()))


def test_a_quiet_device_costs_one_request_and_the_list_of_devices_one() -> None:
    with MockAPI(Account.generate(devices=12, rows=80)) as api:
        first = run(api)
        assert_all(api, first)
        before = len(api.requests)
        run(api, state=first.state)
        paths = [request.path for request in api.requests[before:]]
    assert Counter(path.count("/") for path in paths) == {3: 2, 6: 12}
    assert len(set(paths)) == len(paths)


@pytest.mark.parametrize("order", ["ascending", "descending"])
def test_a_long_history_costs_few_more_requests_than_pages(order: str) -> None:
    account = Account.generate(devices=1, rows=300_000)
    with MockAPI(account, page_size=1000, order=order) as api:
        result = run(api)
        assert (result.code, result.err) == (0, "")
        assert len({r["record_id"] for r in result.records()}) == 300_000
        assert 300 < len(pages(api)) <= 1.03 * 300


@pytest.mark.parametrize("count", [0, 1, 2, 3, 12])
@pytest.mark.parametrize("order", ["ascending", "descending", "ties-per-page"])
def test_a_window_costs_two_requests_more_than_pages(order: str, count: int) -> None:
    rows = [row("Wa", second) for second in range(10 * count)]
    with MockAPI(Account({"Wa": map(Row, rows)}), page_size=10, order=order) as api:
        assert_all(api, run(api))
        assert len(pages(api)) == {0: 1, 1: 1, 2: 3}.get(count, count + 2)


@pytest.mark.parametrize("identical", [0, 1, 2, 5])
def test_each_instant_with_identical_rows_on_two_pages_costs_one_request(
    identical: int,
) -> None:
    rows = [row("Wa", second) for second in range(100)]
    for page in range(1, 10):
        # On both sides of a seam; in other pages, identical rows cost nothing.
        same = rows[10 * page] if page <= identical else rows[10 * page - 2]
        rows[10 * page - 1] = same
        # Rows of one instant that differ cost nothing, wherever they are.
        rows[10 * page + 1] = {**rows[10 * page], "class_name": "truck"}
    with MockAPI(Account({"Wa": map(Row, rows)}), page_size=10) as api:
        assert_all(api, run(api))
        assert len(pages(api)) == 10 + 2 + identical


@pytest.mark.parametrize("past_end", choices("past_end"))
def test_pages_without_a_total_cost_twice_as_much(past_end: str) -> None:
    for count in (0, 1, 2, 3, 12):
        if (count, past_end) == (1, "repeat"):
            continue  # only a page that is shorter than another is known to be the last
        rows = [row("Wa", second) for second in range(10 * count - count // 2)]
        with MockAPI(
            Account({"Wa": map(Row, rows)}),
            page_size=10,
            total="missing",
            past_end=past_end,
        ) as api:
            assert_all(api, run(api))
            assert len(pages(api)) <= 2 * count + (2 if count else 1)


@pytest.mark.parametrize(
    ("order", "factor"), [("shuffled", 2), ("reshuffled", 5), ("per-page", 5)]
)
def test_pages_without_an_order_cost_a_few_times_as_much(
    order: str, factor: int
) -> None:
    account = Account.generate(devices=1, rows=6_000)
    with MockAPI(account, page_size=30, order=order) as api:
        assert_all(api, run(api))
        assert len(pages(api)) <= factor * 200


@pytest.mark.parametrize("concurrency", [1, 3, 16])
@pytest.mark.parametrize(
    ("devices", "rows"), [(2, 600), (60, 60)], ids=["long", "many"]
)
def test_the_setting_is_the_number_of_concurrent_requests(
    concurrency: int, devices: int, rows: int
) -> None:
    account = Account.generate(devices=devices, rows=rows)
    with MockAPI(account, page_size=10, latency=0.02) as api:
        assert_all(api, run(api, concurrency=concurrency))
        assert api.max_in_flight == concurrency


@pytest.mark.parametrize("retry_after", ["none", "seconds", "date"])
def test_a_rate_limit_is_learned(retry_after: str) -> None:
    account = Account.generate(devices=300, rows=8)
    with MockAPI(
        account, rate_limit=100, rate_window=6, retry_after=retry_after, latency=0.02
    ) as api:
        assert_all(api, run(api))
        statuses = Counter(request.status for request in api.requests)
    assert statuses[200] == 302
    assert 1 <= statuses[429] <= 0.1 * statuses[200]


def test_a_random_throttle_delays_only_its_own_request() -> None:
    fault = Fault(kind="status_429", where="analytics", start=60, until=60)
    account = Account.generate(devices=1, rows=3000)
    with MockAPI(account, page_size=10, latency=0.02, faults=[fault]) as api:
        assert_all(api, run(api, concurrency=8))
        requests = api.requests
    (throttled,) = [i for i, request in enumerate(requests) if request.status == 429]
    paths = [request.path for request in requests]
    again = paths.index(paths[throttled], throttled + 1)
    # A pause of all requests would let only those through that were in flight.
    assert again - throttled > 8
    assert api.max_in_flight == 8


def test_an_outage_is_not_mistaken_for_a_rate_limit() -> None:
    # A rate is estimated from the time between two pauses.
    faults = [
        Fault(kind="status_429", where="analytics", start=4, until=4, retry_after="0"),
        Fault(kind="status_503", where="analytics", start=6, until=8),
        Fault(
            kind="status_429", where="analytics", start=20, until=20, retry_after="0"
        ),
    ]
    account = Account.generate(devices=1, rows=400)
    with MockAPI(account, page_size=10, faults=faults) as api:
        constants = {"api.rate_limiter.MAX_PAUSE": 0.02}
        assert_all(api, run(api, concurrency=1, constants=constants))
        starts = [r.started for r in api.requests if r.path.count("/") == 6]
    gaps = [after - before for before, after in pairwise(starts)]
    outage = sum(gaps[5:8])
    assert outage > 3
    assert median(gaps[20:]) < outage / 15 / 2


def test_nothing_is_left_running_when_the_reader_stops(
    capsysbinary: pytest.CaptureFixture[bytes],
) -> None:
    with MockAPI(Account.generate(devices=40, rows=100), page_size=10) as api:
        before = set(threading.enumerate())
        tap = TapUnleash(config={"api_key": "mock", "api_url": api.url})
        stream = tap.streams["analytics"]
        records = iter(stream.get_records(stream.partitions[0]))  # type: ignore[index]
        assert len(list(islice(records, 3))) == 3
        threads = set(threading.enumerate()) - before
        assert threads
        # Otherwise a request in flight would delay the end of the program.
        assert all(thread.daemon for thread in threads)
        del records
        for thread in threads:
            thread.join(60)
        assert set(threading.enumerate()) == before
    assert "tqdm" not in sys.modules
    assert not capsysbinary.readouterr().out
