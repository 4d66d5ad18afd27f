"""Each option, fault and account of the mock API behaves as its name says."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin

import pytest
import requests

from mock_api import Account, Fault, MockAPI, Options, Row
from mock_api.faults import MESSAGES, Kind

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo

FIRST = 1597630129000
EVER = "1000000000000/9999999999999"
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


def counts(response: requests.Response) -> list[int]:
    return [row["count"] for row in response.json()["data"]]


def page(api: MockAPI, number: int = 1, span: str = EVER) -> list[int]:
    return counts(ask(api, f"tableau/Wa/{span}/{number}"))


def pages(api: MockAPI, last: int, span: str = EVER) -> list[list[int]]:
    return [page(api, number, span) for number in range(1, last + 1)]


def total(api: MockAPI, number: int = 1, span: str = EVER) -> object:
    return ask(api, f"tableau/Wa/{span}/{number}").json().get("total_num_pages", "missing")


def test_documented_answers() -> None:
    with MockAPI(Account({"Wa": [Row({**ROW, "zone": 1}), Row(ROW)]})) as api:
        # The documented example of one row has from and to equal.
        got = ask(api, f"Wa/{FIRST}/{FIRST}/1")
        assert got.json() == {
            "keys": [*ROW, "zone"],
            "total_num_pages": 1,
            "data": [[*ROW.values(), 1], [*ROW.values(), None]],
        }
        assert got.headers["content-type"] == "application/json"
        (first, second) = ask(api, f"tableau/Wa/{EVER}/1").json()["data"]
        assert (first, second) == ({**ROW, "zone": 1}, ROW)
        assert [*second][:2] == ["timestamp", "class_name"]
        assert ask(api, "version").text == '{"1.0.1"}'
        assert ask(api, "devices").json() == ["Wa"]
        assert ask(api, "sessions").json() == ["1597622730877"]
        assert [exchange.status for exchange in api.requests] == [200] * 5


@pytest.mark.parametrize(
    ("key", "headers", "status"),
    [
        ("k", {"x-api-key": "k"}, 200),
        ("k", {"x-api-key": "kk"}, 403),
        ("k", {"Authorization": "Bearer k"}, 403),
        ("ul_pat_k", {"Authorization": "Bearer ul_pat_k"}, 200),
        ("ul_pat_k", {"Authorization": "Bearer ul_pat_l"}, 403),
        ("ul_pat_k", {"x-api-key": "ul_pat_k"}, 200),
    ],
)
def test_credential(key: str, headers: dict[str, str], status: int) -> None:
    with MockAPI(api_key=key) as api:
        assert ask(api, "devices", **headers).status_code == status


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("Wb/1597630129000/1597630129001/1", 404),
        ("W%2Fb/1597630129000/1597630129001/1", 404),
        ("versions", 404),
        ("Wa/1597630129/9999999999999/1", 422),
        ("Wa/1597630129001/1597630129000/1", 422),
        (f"Wa/{EVER}/0", 422),
        (f"W%09/{EVER}/1", 422),
    ],
)
def test_invalid_requests(path: str, status: int) -> None:
    with MockAPI(account()) as api:
        got = ask(api, path)
    assert (got.status_code, got.json()) == (status, {"message": MESSAGES[status]})


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, [500, 1000, 1500]),
        ({"bounds": "open"}, [1000]),
        ({"bounds": "left-open"}, [1000, 1500]),
        ({"bounds": "right-open"}, [500, 1000]),
        ({"round_bounds": "second"}, [0, 500, 1000, 1500, 2000]),
        ({"round_bounds": "floor-second"}, [0, 500, 1000]),
        ({"round_bounds": "day"}, [*range(0, 3000, 500)]),
        ({"round_bounds": "floor-day"}, []),
        ({"range_offset_hours": -1 / 3600}, [1500, 2000, 2500]),
        ({"order": "descending"}, [1500, 1000, 500]),
    ],
)
def test_ranges(options: dict[str, Any], expected: list[int]) -> None:
    with MockAPI(account(6, 500), **options) as api:
        got = page(api, span=f"{FIRST + 500}/{FIRST + 1500}")
    assert [number * 500 for number in got] == expected


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
        first, again = pages(api, 9), pages(api, 9)
    numbers = [number for rows in first for number in rows]
    assert len(numbers) == 60
    assert numbers not in ([*range(60)], [*range(60)][::-1])
    tens = [number // 10 for number in numbers]
    assert (tens == sorted(tens, reverse=order.startswith("desc"))) == by_time
    assert (first == again) == same_again
    assert (len({*numbers}) == 60) == consistent
    with MockAPI(account(60, per_instant=10), page_size=7, order=order, seed=1) as api:
        assert pages(api, 9) != first


def test_rows_added_later_change_no_order() -> None:
    with MockAPI(account(60, per_instant=10), order="shuffled") as api:
        before = page(api)
        api.add("Wa", [Row({**ROW, "count": 60})])
        assert [number for number in page(api) if number != 60] == before


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


@pytest.mark.parametrize(
    ("form", "body"),
    [
        ("documented", {"keys": [*ROW], "total_num_pages": 1, "data": []}),
        ("no-keys", {"total_num_pages": 1, "data": []}),
        ("null-data", {"keys": [*ROW], "total_num_pages": 1, "data": None}),
        ("204", None),
    ],
)
def test_pages_without_rows(form: str, body: object) -> None:
    with MockAPI(account(), empty_form=form, empty_total="1") as api:
        got = ask(api, f"Wa/{NOWHERE}/1")
    assert got.status_code == (200 if body else 204)
    assert json.loads(got.text or "null") == body


@pytest.mark.parametrize("form", ["empty", "404", "422", "repeat"])
def test_past_the_end(form: str) -> None:
    with MockAPI(account(10), page_size=4, past_end=form) as api:
        got = ask(api, f"tableau/Wa/{EVER}/4")
        expected = {"empty": [], "repeat": [8, 9]}
        if form in expected:
            assert counts(got) == expected[form]
        else:
            assert got.status_code == int(form)


@pytest.mark.parametrize(("kind", "number"), [("exact", 8), ("capped", 3)])
@pytest.mark.parametrize("beyond", ["empty", "502"])
def test_max_rows(kind: str, number: int, beyond: str) -> None:
    limit: dict[str, Any] = {"max_rows": 10, "max_rows_total": kind, "beyond_max_rows": beyond}
    with MockAPI(account(), page_size=4, order="descending", **limit) as api:
        assert page(api, 3) == [21, 20]
        assert total(api, 3) == number
        got = ask(api, f"tableau/Wa/{EVER}/4")
    assert got.status_code == (200 if beyond == "empty" else 502)


@pytest.mark.parametrize("options", [{"max_pages": 2}, {"max_range_seconds": 0.02}])
def test_long_ranges_are_refused(options: dict[str, Any]) -> None:
    with MockAPI(account(), page_size=10, **options) as api:
        assert ask(api, f"Wa/{FIRST}/{FIRST + 29}/1").status_code == 413
        assert ask(api, f"Wa/{FIRST}/{FIRST + 19}/1").status_code == 200


def test_forms() -> None:
    forms: dict[str, Any] = {
        "key_order": "shuffled",
        "session_form": "null",
        "tableau_form": "bare-array",
    }
    with MockAPI(account(), page_size=10, **forms) as api:
        keys = [ask(api, f"Wa/{EVER}/{n}").json()["keys"] for n in (1, 2, 1)]
        assert keys[0] == keys[2] != keys[1]
        assert {*keys[0]} == {*keys[1]} == {*ROW}
        assert ask(api, "sessions").text == "null"
        assert len(ask(api, f"tableau/Wa/{EVER}/1").json()) == 10


@pytest.mark.parametrize(
    ("option", "seen"), [("total_cache_seconds", (3, [9, 10, 11])), ("cache_seconds", (3, [9]))]
)
def test_caches(option: str, seen: tuple[int, list[int]]) -> None:
    options: dict[str, Any] = {option: 0.3}
    with MockAPI(account(10), page_size=3, **options) as api:
        old = total(api, 4), page(api, 4)
        api.add("Wa", [held.row for held in account(14).devices["Wa"][10:]])
        assert (total(api, 4), page(api, 4)) == (old[0], seen[1])
        time.sleep(0.3)
        assert (total(api, 4), page(api, 4)) == (5, [9, 10, 11])


def test_rows_appear_and_expire() -> None:
    rows = [Row({**ROW, "count": n}, after_requests=n) for n in range(3)]
    with MockAPI(Account({"Wa": rows})) as api:
        assert len(api.truth()) == 1
        assert pages(api, 3) == [[0], [], []]
        assert page(api) == [0, 1, 2]
    data = account(10)
    with MockAPI(data, expire_per_request=4) as api:
        assert page(api) == [*range(10)]
        assert [row["count"] for row in api.truth()] == [*range(4, 10)]
        api.add("Wa", [Row({**ROW, "count": 10})])
        assert page(api) == [*range(4, 10)]
        assert page(api) == [8, 9]
        assert api.truth("Wa") == []
    with MockAPI(data) as api:
        assert len(api.truth()) == 11


def test_generated_accounts() -> None:
    with MockAPI(Account.generate(rows=300, seed=1)) as api:
        devices = [*api.account.devices]
        made = [len(api.truth(device)) for device in devices]
        assert made == [300, 300, 300, 0]
        assert api.truth() == [*MockAPI(Account.generate(rows=300, seed=1)).truth()]
        assert {row["session_id"] for row in api.truth()} == {*api.account.session_ids()}
        newest = max(row["timestamp"] for row in api.truth(devices[0]))
        url = api.url.replace("/v1", "/mock/rows")
        for growth in ({"count": 5}, {"count": 5, "late_minutes": 30}):
            assert requests.post(url, json=growth, timeout=2).status_code == 204
        times = [row["timestamp"] for row in api.truth(devices[0])]
        assert len(times) == 310
        assert sum(moment > newest for moment in times) == 5
        assert len(api.requests) == 0
    dense = Account.generate(devices=1, rows=1000, rows_per_second=60)
    seconds = Counter(row["timestamp"] for row in MockAPI(dense).truth())
    assert Counter(seconds.values()) == {60: 16, 40: 1}
    assert max(Counter(map(json.dumps, MockAPI(dense).truth())).values()) > 1


def test_rate_limit() -> None:
    with MockAPI(rate_limit=2, rate_window=0.3) as api:
        assert [ask(api, "devices").status_code for _ in range(3)] == [200, 200, 429]
        time.sleep(0.3)
        assert ask(api, "devices").status_code == 200


def test_latency_and_a_serial_backend() -> None:
    def status(api: MockAPI) -> int:
        return ask(api, "devices").status_code

    with ThreadPoolExecutor(3) as pool:
        began = time.monotonic()
        with MockAPI(latency=0.3) as api:
            assert [*pool.map(status, [api] * 3)] == [200] * 3
        assert time.monotonic() - began >= 0.3
        with MockAPI(serial_seconds=0.8, gateway_timeout=1.2) as api:
            assert sorted(pool.map(status, [api] * 3)) == [200, 504, 504]


@pytest.mark.parametrize("kind", [*(k for k in get_args(Kind) if k.startswith("status_")), "quota"])
def test_error_responses(kind: Kind) -> None:
    with MockAPI(faults=[Fault(kind=kind, retry_after="7")]) as api:
        got = ask(api, "devices")
    status = 429 if kind == "quota" else int(kind[-3:])
    message = "Limit Exceeded" if kind == "quota" else MESSAGES.get(status)
    assert got.status_code == status
    if status != 204:
        assert got.json() == {"message": message}
        assert got.headers["Retry-After"] == "7"


DEFECTS: dict[Kind, str] = {
    "errors_in_200": r'\{"errors":.*\}',
    "html": "<!doctype html>.*",
    "empty": "",
    "malformed": r'\{"total_num_pages".*[^}]',
    "other_shape": r"\[\{.*\}\]",
    "no_data": r'\{"total_num_pages": 8\}',
    "no_total": r'\{"data": \[\{.*\}\]\}',
    "string_total": r'\{"total_num_pages": "8",.*\}',
    "short_row": r'\{"total_num_pages": 8, "data": \[\{(?!.*session_id.*\}, .*\}, .*\}, ).*\}\]\}',
    "null_data": r'\{"total_num_pages": 8, "data": null\}',
    "swallowed": r'\{"total_num_pages": 0, "data": \[\]\}',
    "errors_and_no_data": r'\{"total_num_pages": 0, "data": \[\], "errors": .*\}',
    "timed_out_half": r'\{"total_num_pages": 8, "data": \[\{[^}]*\}, [^}]*\}\], "timed_out": .*',
}


@pytest.mark.parametrize("kind", DEFECTS)
def test_wrong_bodies(kind: Kind) -> None:
    with MockAPI(account(), page_size=4, faults=[Fault(kind=kind)]) as api:
        got = ask(api, f"tableau/Wa/{EVER}/1")
    assert got.status_code == 200
    assert re.fullmatch(DEFECTS[kind], got.text)


def test_a_redirect() -> None:
    with MockAPI(account()) as other:
        fault = Fault(kind="redirect", location=f"{other.url}/analytics/devices")
        with MockAPI(faults=[fault]) as api:
            assert ask(api, "devices", **{"x-api-key": "mock"}).json() == ["Wa"]


@pytest.mark.parametrize("kind", ["drop", "reset_before", "reset_amid", "cut"])
def test_broken_connections(kind: Kind) -> None:
    # An error in the middle of the body is another one.
    expected = {
        "drop": "RemoteDisconnected|Connection aborted",
        "reset_before": "Connection reset|Connection aborted",
        "reset_amid": "Connection broken: ConnectionResetError",
        "cut": "Connection broken: IncompleteRead",
    }
    with (
        MockAPI(account(), faults=[Fault(kind=kind)]) as api,
        pytest.raises(requests.RequestException, match=expected[kind]),
    ):
        ask(api, f"Wa/{EVER}/1")


@pytest.mark.parametrize("kind", ["stall", "stall_amid", "slow", "drip", "hang"])
def test_slow_responses(kind: Kind) -> None:
    seconds = 0.05 if kind == "drip" else 0.4
    with MockAPI(account(1), faults=[Fault(kind=kind, seconds=seconds)]) as api:
        began = time.monotonic()
        if kind == "hang":
            with pytest.raises(requests.ReadTimeout):
                ask(api, f"Wa/{EVER}/1")
        else:
            assert ask(api, f"Wa/{EVER}/1").json()["total_num_pages"] == 1
        assert time.monotonic() - began >= 0.3


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


@pytest.mark.parametrize("wrong", ["kind=status_418", "kind=drop,rate=2", "drop", "kind=drop,x=1"])
def test_an_unknown_fault_is_refused(wrong: str) -> None:
    with pytest.raises(ValueError, match=r".*"):
        Fault.parse(wrong)


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
    for wrong in ("--order=wrong", "--page-size=0", "--fault=kind=wrong"):
        done = subprocess.run([*command, wrong], capture_output=True, check=False)
        assert done.returncode == 2


PAGE = Path(__file__).parents[2].joinpath("docs/guides/fault-injection.md").read_text()
FIELDS: dict[str, FieldInfo] = vars(Options)["__pydantic_fields__"]


@pytest.mark.parametrize("name", sorted(FIELDS.keys() - {"faults"}))
def test_page_has_every_option(name: str) -> None:
    field = FIELDS[name]
    literal = get_origin(field.annotation) is Literal
    choices = get_args(field.annotation) if literal else ()
    default = "" if field.default is None else f"**`{field.default}`**"
    values = filter(None, [default, *(f"`{c}`" for c in choices if c != field.default)])
    assert f"| `{name}` | {', '.join(values)} | {field.description} |" in PAGE.splitlines()


def test_page_has_every_fault_and_its_parameters() -> None:
    for name in (*get_args(Kind), *(name for name in vars(Fault)["__pydantic_fields__"])):
        assert f"`{name}`" in PAGE
