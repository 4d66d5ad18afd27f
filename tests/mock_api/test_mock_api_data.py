"""The data: synthetic rows, their number, and rows that appear and disappear."""

from __future__ import annotations

import json
import re
import time
from collections import Counter
from datetime import datetime, timedelta, timezone
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest

from mock_api import Account, MockAPI, Row

ID = "Wabcdb35be35bb72"
EVER = "1000000000000/9999999999999"
KEY = {"x-api-key": "mock"}


def get(api: MockAPI, path: str, body: dict[str, int] | None = None) -> bytes:
    headers = KEY if body is None else {"content-type": "application/json"}
    root = api.url if path.startswith("/analytics") else api.url[: -len("/v1")]
    data = None if body is None else json.dumps(body).encode()
    request = Request(root + path, data, headers)  # noqa: S310
    with urlopen(request, timeout=30) as response:  # noqa: S310
        return bytes(response.read())


def counts(api: MockAPI, page: int = 1, device: str = ID) -> list[int]:
    got = json.loads(get(api, f"/analytics/tableau/{device}/{EVER}/{page}"))
    return [row["count"] for row in got["data"]]


def rows(*numbers: int, after_requests: int = 0, after_time: float = 0) -> list[Row]:
    return [
        Row(
            {"device_id": ID, "count": n, "session_id": str(n)},
            (1597630129000 + n) * 1000,
            after_requests,
            after_time,
        )
        for n in numbers
    ]


def test_generated_data_look_real() -> None:
    account = Account.generate(devices=8, rows=2000, seed=3)
    with MockAPI(account) as api:
        truth = api.truth()
        sessions = json.loads(get(api, "/analytics/sessions"))
        assert json.loads(get(api, "/analytics/devices")) == list(account.devices)
    assert all(re.fullmatch("W[0-9a-f]{15}", name) for name in account.devices)
    per_device = Counter(row["device_id"] for row in truth)
    assert sorted(per_device.values()) == [2000] * 6
    assert {row["session_id"] for row in truth} == set(sessions)
    assert all(re.fullmatch("[0-9]{13}", session) for session in sessions)
    assert len({row["model_id"] for row in truth}) > 2
    files = {row["source_file_name"] or "" for row in truth}
    assert "" in files
    for pattern in (
        r"W[0-9a-f]{15}-\d{10}-\d\d-Aug-20-\d\d-\d\d-\d\d\.mp4",
        r"W[0-9a-f]{15}\?token=sneaky-firefox-\d+",
    ):
        assert any(re.fullmatch(pattern, name) for name in files)
    assert json.dumps(truth, ensure_ascii=False).isascii()
    times = Counter((row["device_id"], row["timestamp"]) for row in truth)
    assert max(times.values()) >= 8
    letters = Counter(json.dumps(row) for row in truth)
    twice = [json.loads(row) for row, number in letters.items() if number > 1]
    assert {row["class_name"] for row in twice} == {"number_of_persons_in_group"}
    assert {"total_count", "group_pixel_size"} <= {row["class_name"] for row in truth}
    assert min(row["timestamp"] for row in truth) >= "2020-08-03"
    assert max(row["timestamp"] for row in truth) < "2020-08-17"


def test_generated_names_can_be_other_than_ascii() -> None:
    account = Account.generate(devices=8, rows=2000, non_ascii=True)
    plain = Account.generate(devices=8, rows=2000)
    account.grow(300)
    plain.grow(300)
    with MockAPI(account) as api, MockAPI(plain) as other:
        truth, english = api.truth(), other.truth()
    for column in ("class_name", "model_id", "source_file_name"):
        names = {row[column] or "" for row in truth}
        assert {name for name in names if not name.isascii()}
    rest = ("count", "device_id", "frame_number", "session_id", "timestamp")
    assert [[row[name] for name in rest] for row in truth] == [
        [row[name] for name in rest] for row in english
    ]


def test_generated_data_are_the_same_for_a_seed() -> None:
    accounts = [Account.generate(devices=2, rows=300, seed=seed) for seed in (1, 1, 2)]
    first, again, other = (
        [dict(row) for name in account.devices for row in account.view(name, request=1)]
        for account in accounts
    )
    assert first == again != other


@pytest.mark.parametrize("seconds", [1, 60, 3600, 10**8])
def test_generated_rows_ascend_within_their_time(seconds: int) -> None:
    start = datetime(2020, 1, 1, tzinfo=timezone.utc)
    end = start + timedelta(seconds=seconds)
    account = Account.generate(devices=1, rows=3000, start=start, end=end)
    (device,) = account.devices.values()
    times = [row["timestamp"] for row in account.view(*account.devices, request=1)]
    assert times == sorted(times)
    assert times[0] >= "2020-01-01T00:00:00.000Z"
    assert times[-1] < end.isoformat()
    exact = [device.history.instant(n) // 1000 for n in device.history.rows]
    written = [datetime.fromisoformat(text.replace("Z", "+00:00")) for text in times]
    assert [round(moment.timestamp() * 1000) for moment in written] == exact


def test_millions_of_rows() -> None:
    start = time.monotonic()
    with MockAPI(Account.generate(devices=1, rows=3_000_000)) as api:
        (device,) = api.account.devices
        for page in (1, 1500, 3000):
            assert len(counts(api, page, device)) == 1000
        assert not counts(api, 3001, device)
    assert time.monotonic() - start < 5


def test_thousands_of_devices() -> None:
    start = time.monotonic()
    with MockAPI(Account.generate(devices=10_000, rows=10)) as api:
        assert len(json.loads(get(api, "/analytics/devices"))) == 10_000
        assert len(api.truth()) == 75_000
    assert time.monotonic() - start < 10


def test_rows_that_appear_after_some_requests() -> None:
    account = Account({ID: rows(2, 4, 6) + rows(1, 5, after_requests=1)})
    with MockAPI(account, page_size=2) as api:
        assert len(api.truth()) == 3
        assert counts(api, 1) == [2, 4]
        assert len(api.truth()) == 5
        assert [counts(api, page) for page in (2, 3)] == [[4, 5], [6]]


def test_rows_that_appear_at_a_time() -> None:
    moment = time.time() + 0.3
    with MockAPI(Account({ID: rows(1) + rows(2, after_time=moment)})) as api:
        while (seen := counts(api)) == [1]:
            assert time.time() < moment + 5
        assert seen == [1, 2]
        assert time.time() >= moment


def test_shuffled_rows_keep_their_order_when_others_appear() -> None:
    account = Account({ID: rows(*range(0, 100, 2))})
    with MockAPI(account, order="shuffled") as api:
        before = counts(api)
        api.add(ID, rows(*range(1, 100, 2)))
        after = counts(api)
    assert [n for n in after if n % 2 == 0] == before
    assert sorted(after) == list(range(100))
    assert after[:2] != [0, 1]


def test_devices_that_come_and_go() -> None:
    account = Account({ID: rows(1), "W2": []}, removed={ID: 2}, sessions=["1"])
    with MockAPI(account, unknown_device="empty") as api:
        assert [counts(api) for _ in range(3)] == [[1], [1], []]
        assert json.loads(get(api, "/analytics/devices")) == ["W2"]
        assert json.loads(get(api, "/analytics/sessions")) == ["1"]
        assert not api.truth()
        api.add("W3", rows(3))
        assert json.loads(get(api, "/analytics/devices")) == ["W2", "W3"]
        assert counts(api, device="W3") == [3]


def test_lists_of_devices() -> None:
    with MockAPI(Account({ID: []}, listed=[ID, "gone", ID])) as api:
        assert json.loads(get(api, "/analytics/devices")) == [ID, "gone", ID]
    with MockAPI(Account()) as api:
        assert json.loads(get(api, "/analytics/devices")) == []
        assert json.loads(get(api, "/analytics/sessions")) == []


def test_truth_and_new_rows_over_http() -> None:
    with MockAPI(Account.generate(rows=50)) as api:
        first, *_, silent = api.account.devices
        newest = max(row["timestamp"] for row in api.truth(first))
        old = api.truth()
        assert json.loads(get(api, "/mock/rows", {"count": 5})) == {"added": 15}
        late = {"count": 5, "late_minutes": 30}
        assert json.loads(get(api, "/mock/rows", late)) == {"added": 15}
        lines = get(api, "/mock/truth").splitlines()
        assert [json.loads(line) for line in lines] == api.truth()
        assert len(lines) == len(old) + 30
        one = get(api, f"/mock/truth?device={first}").splitlines()
        times = [json.loads(line)["timestamp"] for line in one]
        assert times == sorted(times)
        assert len([moment for moment in times if moment > newest]) == 5
        assert not api.truth(silent)
        served: list[dict[str, object]] = []
        for name in api.account.devices:
            path = f"/analytics/tableau/{name}/{EVER}/1"
            served += json.loads(get(api, path))["data"]
        assert served == api.truth()
        sessions = json.loads(get(api, "/analytics/sessions"))
        assert {row["session_id"] for row in api.truth()} == set(sessions)
        assert json.loads(get(api, "/mock/requests")) == {
            "requests": 5,
            "max_in_flight": 1,
            "by_status": {"200": 5},
        }


@pytest.mark.parametrize("count", ["1e-20", "0.5", "-1", "10001", "true", '"5"'])
def test_number_of_new_rows_is_checked(count: str) -> None:
    with MockAPI(Account.generate(rows=3)) as api:
        url = api.url.removesuffix("/v1") + "/mock/rows"
        body = f'{{"count": {count}}}'.encode()
        request = Request(url, body, {"content-type": "application/json"})  # noqa: S310
        with pytest.raises(HTTPError, match="422"):
            urlopen(request, timeout=30)  # noqa: S310
