"""How many requests are made, and how many at once."""

from __future__ import annotations

import sys
import threading
from collections import Counter
from itertools import islice, pairwise
from statistics import median
from typing import TYPE_CHECKING, cast

import pytest
from reliability.runs import Table, assert_truth, expected, run

from mock_api import Account, Fault, MockAPI
from tap_unleash.tap import TapUnleash

if TYPE_CHECKING:
    from reliability.runs import Run

    from tap_unleash.streams import Analytics


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


@pytest.mark.parametrize("order", ["ascending", "descending", "shuffled"])
def test_slicing_a_large_history_wastes_next_to_nothing(order: str) -> None:
    with MockAPI(
        Account.generate(devices=1, rows=30_000), page_size=20, order=order
    ) as api:
        assert_all(api, run(api))
        pages = -(-len(api.truth()) // 20)
        assert pages <= len(api.requests) <= 1.03 * pages


@pytest.mark.parametrize("concurrency", [1, 3, 16])
@pytest.mark.parametrize(
    ("devices", "rows"), [(2, 600), (60, 60)], ids=["long", "many"]
)
def test_so_many_requests_are_in_flight_and_no_more(
    concurrency: int, devices: int, rows: int
) -> None:
    account = Account.generate(devices=devices, rows=rows)
    with MockAPI(account, page_size=10, latency=0.02) as api:
        assert_all(api, run(api, concurrency=concurrency))
        assert api.max_in_flight == concurrency


@pytest.mark.parametrize("retry_after", ["none", "seconds", "date"])
def test_a_quota_is_learnt(retry_after: str) -> None:
    account = Account.generate(devices=300, rows=8)
    with MockAPI(
        account, rate_limit=100, rate_window=6, retry_after=retry_after, latency=0.02
    ) as api:
        assert_all(api, run(api))
        statuses = Counter(request.status for request in api.requests)
    assert statuses[200] == 302
    assert 1 <= statuses[429] <= 0.1 * statuses[200]


def test_a_throttle_slows_all_requests_and_they_recover() -> None:
    fault = Fault(kind="status_429", where="analytics", start=60, until=60)
    account = Account.generate(devices=1, rows=3000)
    with MockAPI(account, page_size=10, latency=0.02, faults=[fault]) as api:
        assert_all(api, run(api, concurrency=8))
        requests = api.requests
    starts = [request.started for request in requests]
    pause, resumed = max((b - a, i) for i, (a, b) in enumerate(pairwise(starts), 1))
    assert pause >= 1
    # One alone, until it was let through.
    assert starts[resumed + 1] - starts[resumed] >= 0.02
    assert api.max_in_flight == 8


def test_a_wait_for_a_server_that_is_down_is_not_taken_for_its_pace() -> None:
    down = Fault(kind="status_503", where="analytics", until=3)
    throttle = Fault(kind="status_429", where="analytics", start=14, until=14)
    account = Account.generate(devices=1, rows=400)
    with MockAPI(account, page_size=10, faults=[down, throttle]) as api:
        constants = {"gate.MAX_PAUSE": 0.02}
        assert_all(api, run(api, concurrency=1, constants=constants))
        starts = [r.started for r in api.requests if r.path.count("/") == 6]
    gaps = [after - before for before, after in pairwise(starts)]
    assert sum(gaps[:3]) > 3
    assert median(gaps[14:]) < sum(gaps[:3]) / 13 / 2


def test_nothing_is_left_running_when_the_reader_stops(
    capsysbinary: pytest.CaptureFixture[bytes],
) -> None:
    with MockAPI(Account.generate(devices=40, rows=100), page_size=10) as api:
        before = set(threading.enumerate())
        tap = TapUnleash(config={"api_key": "mock", "api_url": api.url})
        stream = tap.streams["analytics"]
        records = iter(stream.get_records(stream.partitions[0]))  # type: ignore[index]
        assert len(list(islice(records, 3))) == 3
        assert set(threading.enumerate()) > before
        del records
        cast("Analytics", stream).reader.stop()
        assert set(threading.enumerate()) == before
    assert "tqdm" not in sys.modules
    assert not capsysbinary.readouterr().out.count(b"RECORD")
