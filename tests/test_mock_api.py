"""Each option, fault and account of the mock API behaves as its name says.

`test_probe.py` shows the rest: the probe finds out by which options an API runs.
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

from demo.pipeline import ROOT
from mock_api import Account, Fault, MockAPI, Row
from mock_api.faults import MESSAGES, Kind

FIRST = 1597630129000
EVER = "1000000000000/9999999999999"
SPAN = f"{FIRST + 500}/{FIRST + 1500}"
NOWHERE = "1000000000000/1000000000001"
ROW = {
    "class_name": "person",
    "count": 1,
    "device_id": "Wa",
    "frame_number": 110251,
    "model_id": "starter-ai",
    "session_id": "1597622730877",
    "source_file_name": "Wa?token=sneaky-firefox-288",
    "timestamp": "2020-08-17T02:08:49.000Z",
}


def ask(api: MockAPI, path: str, **headers: str) -> requests.Response:
    headers = headers or {"x-api-key": api.state.options.api_key}
    return requests.get(f"{api.url}/analytics/{path}", headers=headers, timeout=2)


def account(count: int = 30, step: int = 1, per_instant: int = 1) -> Account:
    """Rows whose counts are their numbers, by default one per millisecond."""
    rows = []
    for number in range(count):
        moment = 49_000 + number // per_instant * step
        text = f"2020-08-17T02:08:{moment // 1000:02}.{moment % 1000:03}Z"
        rows.append(Row({**ROW, "count": number, "timestamp": text}))
    return Account({"Wa": rows})


def page(api: MockAPI, number: int = 1, span: str = EVER) -> Any:  # noqa: ANN401
    """The numbers of the rows of a page, or the status of an error."""
    got = ask(api, f"tableau/Wa/{span}/{number}")
    return [row["count"] for row in got.json()["data"]] if got.ok else got.status_code


def total(api: MockAPI, number: int = 1, span: str = EVER) -> object:
    return ask(api, f"tableau/Wa/{span}/{number}").json().get("total_num_pages", "missing")


def pages(api: MockAPI) -> list[Any]:
    return [page(api, number) for number in range(1, 10)]


def test_documented_answers() -> None:
    with MockAPI(Account({"Wa": [Row({**ROW, "zone": 1}), Row(ROW)]})) as api:
        # The documented example of one row has from and to equal.
        assert ask(api, f"Wa/{FIRST}/{FIRST}/1").json() == {
            "keys": [*ROW, "zone"],
            "total_num_pages": 1,
            "data": [[*ROW.values(), 1], [*ROW.values(), None]],
        }
        first, second = ask(api, f"tableau/Wa/{EVER}/1").json()["data"]
        assert (first, second) == ({**ROW, "zone": 1}, ROW)
        assert [*second][:2] == ["timestamp", "class_name"]
        assert ask(api, "version").text == '{"1.0.1"}'
        assert ask(api, "devices").json() == ["Wa"]
        assert ask(api, "sessions").json() == ["1597622730877"]
        assert [exchange.status for exchange in api.requests] == [200] * 5


@pytest.mark.parametrize(
    ("path", "status", "headers"),
    [
        ("devices", 200, {"Authorization": "Bearer ul_pat_k"}),
        ("devices", 403, {"Authorization": "Bearer ul_pat_l"}),
        ("devices", 403, {"x-api-key": "k"}),
        ("Wb/1597630129000/1597630129001/1", 404, {}),
        ("W%2Fb/1597630129000/1597630129001/1", 404, {}),
        ("versions", 404, {}),
        ("Wa/1597630129/9999999999999/1", 422, {}),
        ("Wa/1597630129001/1597630129000/1", 422, {}),
        (f"Wa/{EVER}/0", 422, {}),
        (f"W%09/{EVER}/1", 422, {}),
    ],
)
def test_requests_are_checked(path: str, status: int, headers: dict[str, str]) -> None:
    with MockAPI(account(), api_key="ul_pat_k") as api:
        got = ask(api, path, **headers)
    assert got.status_code == status
    assert got.ok or got.json() == {"message": MESSAGES[status]}


@pytest.mark.parametrize(
    ("options", "number", "expected"),
    [
        ({}, 1, [1, 2, 3]),
        ({"bounds": "open"}, 1, [2]),
        ({"bounds": "left-open"}, 1, [2, 3]),
        ({"bounds": "right-open"}, 1, [1, 2]),
        ({"round_bounds": "second"}, 1, [0, 1, 2, 3, 4]),
        ({"round_bounds": "floor-second"}, 1, [0, 1, 2]),
        ({"round_bounds": "day"}, 1, [*range(6)]),
        ({"round_bounds": "floor-day"}, 1, []),
        ({"range_offset_hours": -1 / 3600}, 1, [3, 4, 5]),
        ({"order": "descending"}, 1, [3, 2, 1]),
        ({"past_end": "empty"}, 2, []),
        ({"past_end": "404"}, 2, 404),
        ({"past_end": "repeat"}, 2, [1, 2, 3]),
        ({"max_rows": 2, "page_size": 2}, 1, [1, 2]),
        ({"max_rows": 2, "page_size": 2}, 2, []),
        ({"max_rows": 2, "page_size": 2, "beyond_max_rows": "502"}, 2, 502),
        ({"max_pages": 1, "page_size": 2}, 1, 413),
        ({"max_pages": 2, "page_size": 2}, 1, [1, 2]),
        ({"max_range_seconds": 0.9, "too_large": "422"}, 1, 422),
        ({"max_range_seconds": 1}, 1, [1, 2, 3]),
    ],
)
def test_pages(options: dict[str, Any], number: int, expected: object) -> None:
    with MockAPI(account(6, 500), **options) as api:
        assert page(api, number, SPAN) == expected


@pytest.mark.parametrize(
    ("option", "expected"),
    [
        ("present", [7, 7, 0]),
        ("null", [None] * 3),
        ("missing", ["missing"] * 3),
        ("floor", [6, 6, 0]),
        ("low", [6, 6, 0]),
        ("zero", [0, 0, 0]),
        ("device", [8, 8, 8]),
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
    with MockAPI(account(), page_size=4, max_rows=10, max_rows_total="capped") as api:
        assert total(api) == 3


@pytest.mark.parametrize(
    ("order", "by_time", "same_again", "consistent"),
    [
        ("stable-ties", True, True, True),
        ("descending-stable-ties", True, True, True),
        ("ties-per-page", True, True, False),
        ("descending-ties-per-page", True, True, False),
        ("ties-per-request", True, False, False),
        ("shuffled", False, True, True),
        ("reshuffled", False, False, False),
        ("per-page", False, True, False),
    ],
)
def test_random_orders(order: str, *, by_time: bool, same_again: bool, consistent: bool) -> None:
    with MockAPI(account(60, per_instant=10), page_size=7, order=order) as api:
        first, again = pages(api), pages(api)
    numbers = [*chain.from_iterable(first)]
    assert len(numbers) == 60
    assert numbers not in ([*range(60)], [*range(60)][::-1])
    tens = [number // 10 for number in numbers]
    assert (tens == sorted(tens, reverse=order.startswith("desc"))) == by_time
    assert (first == again) == same_again
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
        assert {*keys[0]} == {*keys[1]} == {*ROW}
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
    rows = [Row({**ROW, "count": n}, after_requests=n) for n in range(3)]
    with MockAPI(Account({"Wa": rows})) as api:
        assert len(api.truth()) == 1
        assert [page(api), page(api), page(api)] == [[0], [0, 1], [0, 1, 2]]
    with MockAPI(account(10), expire_per_request=4) as api:
        assert page(api) == [*range(10)]
        assert [row["count"] for row in api.truth()] == [*range(4, 10)]
        api.account.add("Wa", [Row({**ROW, "count": 10})])  # at the instant that has expired
        assert [page(api), page(api)] == [[*range(4, 10)], [8, 9]]
        assert api.truth("Wa") == []


def test_generated_accounts() -> None:
    with MockAPI(Account.generate(rows=300, seed=1)) as api:
        devices = [*api.account.devices]
        assert [len(api.truth(device)) for device in devices] == [300, 300, 300, 0]
        assert api.truth() == MockAPI(Account.generate(rows=300, seed=1)).truth()
        newest = max(row["timestamp"] for row in api.truth(devices[0]))
        url = api.url.replace("/v1", "/mock/rows")
        for growth in ({"count": 5}, {"count": 5, "late_minutes": 30}):
            assert requests.post(url, json=growth, timeout=2).status_code == 204
        times = [row["timestamp"] for row in api.truth(devices[0])]
        assert len(times) == 310
        assert sum(moment > newest for moment in times) == 5
        assert len(api.requests) == 0
    dense = MockAPI(Account.generate(devices=1, rows=1000, rows_per_second=60)).truth()
    seconds = Counter(row["timestamp"] for row in dense)
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


STATUSES: dict[str, tuple[int, str]] = {
    kind: (int(kind[-3:]), rf'\{{"message":"{MESSAGES.get(int(kind[-3:]))}"\}}|')
    for kind in get_args(Kind)
    if kind.startswith("status_")
}
BODIES = {
    "errors_in_200": r'\{"errors":.*\}',
    "html": "<!doctype html>.*",
    "empty": "",
    "malformed": r'\{"total_num_pages".*[^}]',
    "no_data": r'\{"total_num_pages": 8\}',
    "null_data": r'\{"total_num_pages": 8, "data": null\}',
    "swallowed": r'\{"total_num_pages": 0, "data": \[\]\}',
    "errors_and_no_data": r'\{"total_num_pages": 0, "data": \[\], "errors": .*\}',
    "timed_out_half": r'\{"total_num_pages": 8, "data": \[\{[^}]*\}, [^}]*\}\], "timed_out": .*',
}
BROKEN = {
    "drop": "RemoteDisconnected|Connection aborted",
    "reset_before": "Connection reset|Connection aborted",
    "reset_amid": "Connection broken: ConnectionResetError",
    "cut": "Connection broken: IncompleteRead",
    "hang": "Read timed out",
}
SLOW = ("stall", "stall_amid", "slow", "drip")


@pytest.mark.parametrize("kind", get_args(Kind))
def test_faults(kind: Kind) -> None:
    with MockAPI(account()) as other:
        seconds = 0.05 if kind == "drip" else 0.4
        url = f"{other.url}/analytics/devices"
        fault = Fault(kind=kind, seconds=seconds, location=url, retry_after="7")
        with MockAPI(account(), page_size=4, faults=[fault]) as api:
            began = time.monotonic()
            if kind in BROKEN:
                with pytest.raises(requests.RequestException, match=BROKEN[kind]):
                    ask(api, f"tableau/Wa/{EVER}/1")
            elif kind in SLOW:
                assert page(api) == [0, 1, 2, 3]
                assert time.monotonic() - began >= 0.3
            elif kind == "redirect":
                assert ask(api, "devices", **{"x-api-key": "mock"}).json() == ["Wa"]
            else:
                got = ask(api, f"tableau/Wa/{EVER}/1")
                status, body = STATUSES.get(kind) or (200, BODIES[kind])
                assert got.status_code == status
                assert re.fullmatch(body, got.text)
                assert status < 400 or got.headers["Retry-After"] == "7"


def test_which_requests_are_affected() -> None:
    def statuses(path: str, count: int, **fault: Any) -> list[int]:
        with MockAPI(account(), faults=[Fault(kind="status_500", **fault)]) as api:
            return [ask(api, path).status_code for _ in range(count)]

    assert statuses("devices", 4, times=2) == [500, 500, 200, 200]
    assert statuses("devices", 4, start=2, until=3) == [200, 500, 500, 200]
    assert statuses("devices", 1, where="analytics") == [200]
    assert statuses(f"tableau/Wa/{EVER}/1", 1, where="analytics") == [200]
    assert statuses(f"Wa/{EVER}/1", 1, where="analytics") == [500]
    assert statuses(f"tableau/Wa/{EVER}/1", 1, where="tableau") == [500]
    assert statuses(f"Wa/{EVER}/1", 1, where="/Wb/") == [200]
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
