"""Each option, fault and account of the mock API behaves as its name says.

The probe finds out by which options an API runs, so `test_probe.py` shows `bounds`,
`past_end`, `empty_form` and more. In `reliability/test_faults.py`, the messages and retries of
the tap show the errors and broken connections.
"""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from typing import Any, get_args

import pytest
import requests
from reliability.runs import choices, row

from demo.pipeline import ROOT
from mock_api import Account, Fault, MockAPI, Row
from mock_api.faults import MESSAGES, Kind

FIRST = 1714521600000
EVER = "1000000000000/9999999999999"
SPAN = f"{FIRST + 500}/{FIRST + 1500}"
NOWHERE = "1000000000000/1000000000001"


def ask(api: MockAPI, path: str, **headers: str) -> requests.Response:
    headers = headers or {"x-api-key": api.state.options.api_key}
    return requests.get(f"{api.url}/analytics/{path}", headers=headers, timeout=2)


def account(count: int = 30, step: float = 0.001, per_instant: int = 1) -> Account:
    """Rows whose counts are their numbers, by default one per millisecond."""
    rows = (row("Wa", number // per_instant * step, count=number) for number in range(count))
    return Account({"Wa": map(Row, rows)})


def page(api: MockAPI, number: int = 1, span: str = EVER) -> Any:  # noqa: ANN401
    """The numbers of the rows of a page, or the status of an error."""
    got = ask(api, f"tableau/Wa/{span}/{number}")
    return [values["count"] for values in got.json()["data"]] if got.ok else got.status_code


def total(api: MockAPI, number: int = 1, span: str = EVER) -> object:
    return ask(api, f"tableau/Wa/{span}/{number}").json().get("total_num_pages", "missing")


def pages(api: MockAPI) -> list[Any]:
    return [page(api, number) for number in range(1, 10)]


def test_documented_answers() -> None:
    plain, more = row("Wa", 0), row("Wa", 0, zone=1)
    with MockAPI(Account({"Wa": [Row(more), Row(plain)]})) as api:
        # The documented example of one row has from and to equal.
        assert ask(api, f"Wa/{FIRST}/{FIRST}/1").json() == {
            "keys": [*more],
            "total_num_pages": 1,
            "data": [[*more.values()], [*plain.values(), None]],
        }
        first, second = ask(api, f"tableau/Wa/{EVER}/1").json()["data"]
        assert (first, second) == (more, plain)
        assert [*second][:2] == ["timestamp", "class_name"]
        assert ask(api, "version").text == '{"1.0.1"}'
        assert ask(api, "devices").json() == ["Wa"]
        assert ask(api, "sessions").json() == ["1714521600000"]
        assert [exchange.status for exchange in api.requests] == [200] * 5


@pytest.mark.parametrize(
    ("path", "status", "headers"),
    [
        ("devices", 403, {"Authorization": "Bearer ul_pat_l"}),
        ("devices", 403, {"x-api-key": "k"}),
        (f"W%2Fb/{EVER}/1", 404, {}),
        ("versions", 404, {}),
        ("Wa/1714521600/9999999999999/1", 422, {}),
        ("Wa/1714521600001/1714521600000/1", 422, {}),
        (f"Wa/{EVER}/0", 422, {}),
        (f"W%09/{EVER}/1", 422, {}),
    ],
)
def test_requests_are_checked(path: str, status: int, headers: dict[str, str]) -> None:
    with MockAPI(account(), api_key="ul_pat_k") as api:
        got = ask(api, path, **headers)
    assert (got.status_code, got.json()) == (status, {"message": MESSAGES[status]})


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"round_bounds": "second"}, [0, 1, 2, 3, 4]),
        ({"round_bounds": "floor-second"}, [0, 1, 2]),
        ({"round_bounds": "day"}, [*range(6)]),
        ({"round_bounds": "floor-day"}, [0]),
        ({"range_offset_hours": -1 / 3600}, [3, 4, 5]),
        ({"max_pages": 1, "page_size": 2}, 413),
        ({"max_range_seconds": 0.9, "too_large": "422"}, 422),
    ],
)
def test_pages(options: dict[str, Any], expected: object) -> None:
    with MockAPI(account(6, 0.5), **options) as api:
        assert page(api, span=SPAN) == expected


@pytest.mark.parametrize(
    ("option", "expected"),
    [
        ("present", [7, 7, 0]),
        ("missing", ["missing"] * 3),
        ("floor", [6, 6, 0]),
        ("zero", [0, 0, 0]),
        ("first-page", [7, "missing", 0]),
        ("string", ["7", "7", "0"]),
        ("float", [7.0, 7.0, 0.0]),
    ],
)
def test_totals(option: str, expected: list[object]) -> None:
    span = f"{FIRST}/{FIRST + 24}"
    with MockAPI(account(), page_size=4, total=option) as api:
        got = [total(api, 1, span), total(api, 2, span), total(api, 1, NOWHERE)]
    assert [*map(repr, got)] == [*map(repr, expected)]


def test_a_cap_of_rows() -> None:
    cap: dict[str, Any] = {"max_rows": 10, "max_rows_total": "capped", "beyond_max_rows": "502"}
    with MockAPI(account(), page_size=4, **cap) as api:
        assert total(api) == 3
        assert [page(api, 3), page(api, 4)] == [[8, 9], 502]


@pytest.mark.parametrize("order", choices("order")[2:])
def test_random_orders(order: str) -> None:
    changes = order in {"ties-per-request", "reshuffled"}
    consistent = order in {"stable-ties", "descending-stable-ties", "shuffled"}
    with MockAPI(account(60, per_instant=10), page_size=7, order=order) as api:
        first, again = pages(api), pages(api)
    numbers = [*chain.from_iterable(first)]
    assert len(numbers) == 60
    assert numbers not in ([*range(60)], [*range(60)][::-1])
    tens = [number // 10 for number in numbers]
    assert (tens == sorted(tens, reverse=order.startswith("desc"))) == ("ties" in order)
    assert (first != again) == changes
    assert (len({*numbers}) == 60) == consistent
    with MockAPI(account(60, per_instant=10), page_size=7, order=order, seed=1) as api:
        assert pages(api) != first
    if consistent:
        with MockAPI(account(61, per_instant=10), page_size=7, order=order) as api:
            assert [number for number in chain.from_iterable(pages(api)) if number < 60] == numbers


def test_forms() -> None:
    with MockAPI(account(), page_size=10, key_order="shuffled", session_form="null") as api:
        keys = [ask(api, f"Wa/{EVER}/{n}").json()["keys"] for n in (1, 2, 1)]
        assert keys[0] == keys[2] != keys[1]
        assert {*keys[0]} == {*keys[1]} == {*row("Wa", 0)}
        assert ask(api, "sessions").text == "null"


@pytest.mark.parametrize(
    ("option", "rows"), [("total_cache_seconds", [9, 10, 11]), ("cache_seconds", [9])]
)
def test_caches(option: str, rows: list[int]) -> None:
    with MockAPI(account(10), page_size=3, **{option: 60}) as api:
        assert (total(api, 4), page(api, 4)) == (4, [9])
        api.account.add("Wa", [held.row for held in account(14).devices["Wa"][10:]])
        assert (total(api, 4), page(api, 4)) == (4, rows)
        api.state._cache.clear()
        assert (total(api, 4), page(api, 4)) == (5, [9, 10, 11])


def test_rows_appear_and_expire() -> None:
    rows = [Row(row("Wa", 0, count=n), after_requests=n) for n in range(3)]
    with MockAPI(Account({"Wa": rows})) as api:
        assert len(api.truth()) == 1
        assert [page(api), page(api), page(api)] == [[0], [0, 1], [0, 1, 2]]
    with MockAPI(account(10), expire_per_request=4) as api:
        assert page(api) == [*range(10)]
        assert [values["count"] for values in api.truth()] == [*range(4, 10)]
        api.account.add("Wa", [Row(row("Wa", 0, count=10))])  # at the instant that has expired
        assert [page(api), page(api)] == [[*range(4, 10)], [8, 9]]
        assert api.truth("Wa") == []


def test_generated_accounts() -> None:
    with MockAPI(Account.generate(rows=300)) as api:
        devices = [*api.account.devices]
        assert [len(api.truth(device)) for device in devices] == [300, 300, 300, 0]
        newest = max(values["timestamp"] for values in api.truth(devices[0]))
        url = api.url.replace("/v1", "/mock/rows")
        for growth in ({"count": 5}, {"count": 5, "late_minutes": 30}):
            assert requests.post(url, json=growth, timeout=2).status_code == 204
        times = [values["timestamp"] for values in api.truth(devices[0])]
        assert len(times) == 310
        assert sum(moment > newest for moment in times) == 5
        assert len(api.requests) == 0
    dense = MockAPI(Account.generate(devices=1, rows=1000, rows_per_second=60)).truth()
    seconds = Counter(values["timestamp"] for values in dense)
    assert Counter(seconds.values()) == {60: 16, 40: 1}
    assert max(Counter(map(str, dense)).values()) > 1


def test_latency_and_a_serial_backend() -> None:
    began = time.monotonic()
    with MockAPI(latency=0.3) as api:
        assert ask(api, "devices").status_code == 200
    assert time.monotonic() - began >= 0.3
    with MockAPI(serial_seconds=0.8, gateway_timeout=1.2) as api, ThreadPoolExecutor(3) as pool:
        got = pool.map(lambda _: ask(api, "devices").status_code, range(3))
        assert sorted(got) == [200, 504, 504]


FAULTS: dict[Kind, str] = {
    "status_204": "204 ",
    "errors_in_200": r'200 \{"errors":.*\}',
    "redirect": r'200 \{"1.0.1"\}',
    "html": "200 <!doctype html>.*",
    "empty": "200 ",
    "malformed": r'200 \{"total_num_pages".*[^}]',
    "no_data": r'200 \{"total_num_pages": 8\}',
    "null_data": r'200 \{"total_num_pages": 8, "data": null\}',
    "swallowed": r'200 \{"total_num_pages": 0, "data": \[\]\}',
    "errors_and_no_data": r'200 \{"total_num_pages": 0, "data": \[\], "errors": .*\}',
    "timed_out_half": r'200 \{"total_num_pages": 8, "data": \[.*\}, \{.*\}\], "timed_out": .*',
}


@pytest.mark.parametrize("kind", FAULTS)
def test_wrong_responses(kind: Kind) -> None:
    fault = Fault(kind=kind, where="tableau", location="/v1/analytics/version")
    with MockAPI(account(), page_size=4, faults=[fault]) as api:
        got = ask(api, f"tableau/Wa/{EVER}/1")
        assert re.fullmatch(FAULTS[kind], f"{got.status_code} {got.text}")


@pytest.mark.parametrize("kind", ["stall", "stall_amid", "slow", "drip"])
def test_slow_responses(kind: Kind) -> None:
    fault = Fault(kind=kind, seconds=0.05 if kind == "drip" else 0.4)
    with MockAPI(account(), page_size=4, faults=[fault]) as api:
        began = time.monotonic()
        assert page(api) == [0, 1, 2, 3]
        assert time.monotonic() - began >= 0.3


def test_which_requests_are_affected() -> None:
    def statuses(path: str, count: int, **fault: Any) -> list[int]:
        with MockAPI(account(), faults=[Fault(kind="status_500", **fault)]) as api:
            return [ask(api, path).status_code for _ in range(count)]

    assert statuses("devices", 4, start=2, until=3) == [200, 500, 500, 200]
    assert statuses("devices", 1, where="analytics") == [200]
    assert statuses(f"tableau/Wa/{EVER}/1", 1, where="analytics") == [200]
    assert statuses(f"Wa/{EVER}/1", 1, where="analytics") == [500]
    some = statuses("devices", 40, rate=0.5)
    assert 5 < some.count(500) < 35
    assert statuses("devices", 40, rate=0.5) == some
    faults = [Fault.parse("kind=status_503,times=1"), Fault.parse("kind=status_500,rate=1.0")]
    with MockAPI(faults=faults) as api:
        assert [ask(api, "devices").status_code for _ in range(2)] == [503, 500]


def test_command() -> None:
    command = [sys.executable, "-m", "mock_api"]
    options = ["--devices=2", "--rows=9", "--page-size=5", "--fault=kind=status_503,where=version"]
    with subprocess.Popen([*command, *options], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        url = process.stdout.readline().strip() + "/analytics"
        key = {"x-api-key": "mock"}
        assert len(requests.get(f"{url}/devices", headers=key, timeout=5).json()) == 2
        assert requests.get(f"{url}/version", headers=key, timeout=5).status_code == 503
        process.send_signal(signal.SIGTERM)
        assert process.wait() == 0
    for wrong in ("--order=wrong", "--page-size=0", "--fault=drop", "--fault=kind=drop,rate=2"):
        done = subprocess.run([*command, wrong], capture_output=True, check=False)
        assert done.returncode == 2


def test_page_has_every_fault_and_its_parameters() -> None:
    page = (ROOT / "docs/guides/fault-injection.md").read_text()
    for name in (*get_args(Kind), *vars(Fault)["__pydantic_fields__"]):
        assert f"`{name}`" in page
