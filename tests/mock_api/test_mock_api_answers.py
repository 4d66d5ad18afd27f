"""What the mock API answers, as a client without a library reads it."""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor
from email.utils import parsedate_to_datetime
from itertools import product
from urllib.parse import quote

import msgspec
import pytest
from plain_client import EVER, ID, PERSON, ask, at, read
from pydantic import ValidationError

from mock_api import Account, MockAPI, Options, Row

SIZE_OPTIMIZED = """\
{"keys": ["class_name","count","device_id","frame_number","model_id","session_id",\
"source_file_name","timestamp"],
"total_num_pages":1,
"data":[["person",1,"Wabcdb35be35bb72",110251,"starter-ai","1597622730877",\
"Wabcdb35be35bb72?token=sneaky-firefox-288","2020-08-17T02:08:49.000Z"],
["person",3,"Wabcdb35be35bb72",110252,"starter-ai","1597622730878",\
"Wabcdb35be35bb72?token=sneaky-firefox-288","2020-08-17T02:08:49.000Z"]]}"""
TABLEAU = """\
{"total_num_pages":1,
"data":[{"timestamp":"2020-08-17T02:08:49.000Z","class_name":"person","count":1,\
"device_id":"Wabcdb35be35bb72",\
"source_file_name":"Wabcdb35be35bb72?token=sneaky-firefox-288",\
"frame_number":110251,"model_id":"starter-ai","session_id":"1597622730877"},
{"timestamp":"2020-08-17T02:08:49.000Z","class_name":"truck","count":1,\
"device_id":"Wabcdb35be35bb72",\
"source_file_name":"Wabcdb35be35bb72?token=sneaky-firefox-288",\
"frame_number":110252,"model_id":"starter-ai","session_id":"1597622730877"}]}"""


def compact(documented: str) -> bytes:
    return json.dumps(json.loads(documented), separators=(",", ":")).encode()


def test_answers_as_the_documentation_does() -> None:
    size_optimized = Account(
        {
            ID: [
                Row(PERSON),
                Row(
                    PERSON
                    | {
                        "count": 3,
                        "frame_number": 110252,
                        "session_id": "1597622730878",
                    }
                ),
            ]
        }
    )
    with MockAPI(size_optimized) as api:
        # The documented example of one row has from and to equal.
        reply = ask(api, f"{ID}/1597630129000/1597630129000/1")
        assert reply.body == compact(SIZE_OPTIMIZED)
        assert reply.headers["content-type"] == "application/json"
        assert ask(api, "version").body == b'{"1.0.1"}'
        assert ask(api, "devices").body == b'["Wabcdb35be35bb72"]'
        assert ask(api, "sessions").body == b'["1597622730877","1597622730878"]'
        reply = ask(api, "version", headers={"x-api-key": "none"})
        assert reply[::2] == (403, b'{"message":"Forbidden"}')
    tableau = Account(
        {
            ID: [
                Row(PERSON),
                Row(PERSON | {"class_name": "truck", "frame_number": 110252}),
            ]
        }
    )
    with MockAPI(tableau) as api:
        assert ask(api, f"tableau/{ID}/{EVER}/1").body == compact(TABLEAU)


@pytest.mark.parametrize(
    ("key", "headers", "status"),
    [
        ("k", {}, 403),
        ("k", {"x-api-key": ""}, 403),
        ("k", {"x-api-key": "kk"}, 403),
        ("k", {"X-Api-Key": "k"}, 200),
        ("k", {"Authorization": "Bearer k"}, 403),
        ("ul_pat_k", {"Authorization": "Bearer ul_pat_k"}, 200),
        ("ul_pat_k", {"Authorization": "Bearer ul_pat_l"}, 403),
        ("ul_pat_k", {"Authorization": "Basic ul_pat_k"}, 403),
        ("ul_pat_k", {"x-api-key": "ul_pat_k"}, 200),
    ],
)
def test_credential(key: str, headers: dict[str, str], status: int) -> None:
    with MockAPI(api_key=key) as api:
        for path in ("version", "devices", "sessions", "x/1/2/3", "tableau/x/1/2/3"):
            expected = status if status == 403 or "/" not in path else 422
            assert ask(api, path, headers=headers).status == expected
        assert api.requests[0].headers.items() >= {
            (name.lower(), value) for name, value in headers.items()
        }


@pytest.mark.parametrize(
    ("path", "named"),
    [
        (f"/{EVER}/1", "deviceId"),
        (f"{'W' * 129}/{EVER}/1", "deviceId"),
        (f"W%00/{EVER}/1", "deviceId"),
        (f"W%FF/{EVER}/1", "deviceId"),
        (f"{ID}/1597630129/9999999999999/1", "unixUTCTimeStampFrom"),
        (f"{ID}/0/9999999999999/1", "unixUTCTimeStampFrom"),
        (f"{ID}/-1597630129000/9999999999999/1", "unixUTCTimeStampFrom"),
        (f"{ID}/1597630129000.0/9999999999999/1", "unixUTCTimeStampFrom"),
        (f"{ID}/1000000000000/1597630129000000000/1", "unixUTCTimeStampTo"),
        (f"{ID}/1000000000000/now/1", "unixUTCTimeStampTo"),
        (f"{ID}/1597630129001/1597630129000/1", "unixUTCTimeStampFrom"),
        (f"{ID}/{EVER}/0", "pageNumber"),
        (f"{ID}/{EVER}/-1", "pageNumber"),
        (f"{ID}/{EVER}/one", "pageNumber"),
        (f"{ID}/{EVER}/%201", "pageNumber"),
        (f"{ID}/{EVER}/", "pageNumber"),
        (f"{ID}/{EVER}/{'9' * 5000}", "pageNumber"),
    ],
)
@pytest.mark.parametrize("form", ["", "tableau/"])
def test_validation(path: str, named: str, form: str) -> None:
    with MockAPI() as api:
        reply = ask(api, form + path)
    assert reply.status == 422
    assert list(reply.json()) == ["message"]
    assert named in reply.json()["message"]


@pytest.mark.parametrize("path", ["/v1", "/v1/", "/v1/analytics", "versions", "a/b", "version/"])
def test_elsewhere(path: str) -> None:
    with MockAPI() as api:
        assert ask(api, path)[::2] == (404, b'{"message":"Not Found"}')


def test_only_get() -> None:
    with MockAPI() as api:
        reply = ask(api, "devices", method="POST")
    assert reply[::2] == (405, b'{"message":"Method Not Allowed"}')
    assert reply.headers["allow"] == "GET"


@pytest.mark.parametrize("form", ["", "tableau/"])
@pytest.mark.parametrize("bounds", ["closed", "open", "left-open", "right-open"])
@pytest.mark.parametrize("order", ["ascending", "descending", "shuffled"])
def test_ranges(form: str, bounds: str, order: str) -> None:
    first = 1597630129000
    times = [first + n // 3 for n in range(60)]
    account = Account({ID: map(at, times), "W2": [at(first + 5)]})
    with MockAPI(account, page_size=7, bounds=bounds, order=order) as api:
        for since, until in [
            (first, first + 20),
            (first + 3, first + 9),
            (first, first),
        ]:
            expected = [
                time
                for time in times
                if (time > since or (time == since and bounds in {"closed", "right-open"}))
                and (time < until or (time == until and bounds in {"closed", "left-open"}))
            ]
            got = [row["count"] for row in read(api, f"{ID}/{since}/{until}", form)]
            assert sorted(got) == expected
            if order != "shuffled":
                assert got == (expected if order == "ascending" else expected[::-1])
            elif len(expected) > 10:
                assert got not in (expected, expected[::-1])
            assert read(api, f"{ID}/{since}/{until}", form) == read(
                api, f"{ID}/{since}/{until}", form
            )


@pytest.mark.parametrize(
    ("round_bounds", "since", "until", "expected"),
    [
        ("none", 500, 1500, [500, 1000, 1500]),
        ("second", 500, 1500, [0, 500, 1000, 1500, 2000]),
        ("second", 1000, 1000, [1000]),
        ("floor-second", 500, 1500, [0, 500, 1000]),
        ("floor-second", 2500, 2999, [2000]),
        ("day", 500, 1500, [-500, 0, 500, 1000, 1500, 2000, 2500]),
        ("floor-day", 500, 1500, []),
        ("floor-day", 500, 86_400_000, [-500, 0, 500, 1000, 1500, 2000, 2500]),
    ],
)
@pytest.mark.parametrize("form", ["", "tableau/"])
def test_rounded_bounds(
    round_bounds: str, since: int, until: int, expected: list[int], form: str
) -> None:
    noon = 1597665600000
    rows = [at(noon + n, count=n) for n in range(-500, 3000, 500)]
    with MockAPI(Account({ID: rows}), round_bounds=round_bounds) as api:
        path = f"{ID}/{noon + since}/{noon + until}"
        assert [row["count"] for row in read(api, path, form)] == expected


def test_session_forms() -> None:
    sessions = ["1597622730877", "x", "007"]
    with MockAPI(Account(sessions=sessions), session_form="number") as api:
        assert ask(api, "sessions").body == b'[1597622730877,"x","007"]'
    with MockAPI(Account(sessions=sessions)) as api:
        assert ask(api, "sessions").json() == sessions
    with MockAPI(Account(sessions=sessions), session_form="null") as api:
        assert ask(api, "sessions").body == b"null"


def test_reshuffled_is_another_order_each_time() -> None:
    with MockAPI(Account.generate(), order="reshuffled") as api:
        path = f"{next(iter(api.account.devices))}/{EVER}/1"
        first, second = ask(api, path).json(), ask(api, path).json()
    assert first != second
    assert sorted(map(str, first["data"])) == sorted(map(str, second["data"]))


@pytest.mark.parametrize("total", [0, 1, None])
def test_nothing_there(total: int | None) -> None:
    account = Account({ID: [at(1597630129000)]})
    with MockAPI(account, empty_total="null" if total is None else total) as api:
        got = ask(api, f"{ID}/1000000000000/1000000000001/1").json()
        assert (got["total_num_pages"], got["data"], len(got["keys"])) == (total, [], 8)
        got = ask(api, f"tableau/{ID}/1000000000000/1000000000001/1").json()
        assert got == {"total_num_pages": total, "data": []}
        past_the_end = ask(api, f"tableau/{ID}/{EVER}/2").json()
        assert past_the_end == {"total_num_pages": 1, "data": []}


def test_nothing_there_and_no_keys() -> None:
    with MockAPI(Account({ID: [at(1597630129000)]}), empty_form="no-keys") as api:
        for path in ("1000000000000/1000000000001/1", f"{EVER}/2"):
            assert set(ask(api, f"{ID}/{path}").json()) == {"total_num_pages", "data"}
        assert len(ask(api, f"{ID}/{EVER}/1").json()["keys"]) == 8


@pytest.mark.parametrize("form", ["", "tableau/"])
@pytest.mark.parametrize(
    ("total", "expected"),
    [
        ("present", {"total_num_pages": 2}),
        ("null", {"total_num_pages": None}),
        ("missing", {}),
    ],
)
def test_total_forms(total: str, expected: dict[str, object], form: str) -> None:
    rows = [at(1597630129000 + n) for n in range(3)]
    with MockAPI(Account({ID: rows}), page_size=2, total=total) as api:
        got = ask(api, f"{form}{ID}/{EVER}/1").json()
        empty = ask(api, f"{form}{ID}/1000000000000/1000000000001/1").json()
    assert len(got.pop("data")) == 2
    assert len(got.pop("keys", "")) == (0 if form else 8)
    assert got == expected
    assert ("total_num_pages" in empty) == (total != "missing")


@pytest.mark.parametrize("past_end", ["empty", "404", "422", "repeat"])
@pytest.mark.parametrize("tableau_form", ["object", "bare-array"])
@pytest.mark.parametrize(("span", "last"), [(EVER, 3), ("1000000000000/1000000000000", 1)])
@pytest.mark.parametrize("form", ["", "tableau/"])
def test_past_the_end(past_end: str, tableau_form: str, span: str, last: int, form: str) -> None:
    account = Account({ID: [at(1597630129000 + n) for n in range(10)]})
    with MockAPI(
        account,
        page_size=4,
        key_order="shuffled",
        past_end=past_end,
        tableau_form=tableau_form,
        order="per-page",
    ) as api:
        end, *beyond = (
            ask(api, f"{form}{ID}/{span}/{page}") for page in (last, last + 1, last + 9)
        )
    assert end.status == 200
    for reply in beyond:
        assert reply.status == (int(past_end) if past_end.isdigit() else 200)
        got = reply.json()
        if past_end == "repeat":
            assert reply.body == end.body
        elif past_end == "empty":
            assert (got if isinstance(got, list) else got["data"]) == []
        else:
            assert list(got) == ["message"]


def test_key_order() -> None:
    with (
        MockAPI(Account.generate(), page_size=10, key_order="shuffled") as api,
        MockAPI(Account.generate(), page_size=10) as other,
    ):
        device = next(iter(api.account.devices))
        pages = [ask(api, f"{device}/{EVER}/{n}").json()["keys"] for n in (1, 2, 1)]
        assert pages[0] == pages[2] != pages[1]
        for form in ("", "tableau/"):
            path = f"{device}/{EVER}"
            assert read(api, path, form) == read(other, path, form)


@pytest.mark.parametrize(
    ("form", "body"),
    [
        ("braces", b'{"1.0.1"}'),
        ("string", b'"1.0.1"'),
        ("bare", b"1.0.1"),
        ("object", b'{"version":"1.0.1"}'),
    ],
)
def test_version_forms(form: str, body: bytes) -> None:
    with MockAPI(version_form=form) as api:
        assert ask(api, "version").body == body


def test_tableau_as_a_bare_array() -> None:
    with MockAPI(Account({ID: [Row(PERSON)]}), tableau_form="bare-array") as api:
        assert ask(api, f"tableau/{ID}/{EVER}/1").json() == [PERSON]
        assert ask(api, f"tableau/{ID}/{EVER}/2").body == b"[]"


def test_values_are_sent_as_they_are() -> None:
    values = {
        "count": 1.5,
        "frame_number": 3.0,
        "model_id": None,
        "session_id": 2**53,
        "class_name": "\0\U0001f6b2" + "x" * 2**20,
        "source_file_name": msgspec.Raw(b"1e400"),
        "timestamp": "2020-08-17T02:08:49.123456+00:00",
        "device_id": ID,
    }
    with MockAPI(Account({ID: [Row(values)]})) as api:
        for form in ("", "tableau/"):
            # The instant has microseconds that the bounds have not.
            assert not read(api, f"{ID}/1597630129000/1597630129123", form)
            assert len(read(api, f"{ID}/1597630129123/1597630129124", form)) == 1
            body = ask(api, f"{form}{ID}/{EVER}/1").body.decode()
            for text in (
                "1.5",
                "3.0",
                "null",
                "9007199254740992",
                "1e400",
                "\\u0000\U0001f6b2",
            ):
                assert text in body


RAW = [
    b"NaN",
    b"-Infinity",
    b"1e400",
    rb'"\ud800"',
    b'"\xff"',
    b"9" * 400,
    b"[" * 5000 + b"]" * 5000,
    b'{"a":' * 5000 + b"1" + b"}" * 5000,
]


@pytest.mark.parametrize("raw", RAW, ids=range(len(RAW)))
def test_raw_values_are_sent_byte_for_byte(raw: bytes) -> None:
    values = PERSON | {"count": msgspec.Raw(raw), "seen": msgspec.Raw(raw)}
    account = Account({ID: [Row(values)]}, sessions=[msgspec.Raw(raw)])  # type: ignore[list-item]
    for form in ("object", "bare-array"):
        with MockAPI(account, tableau_form=form, key_order="shuffled") as api:
            assert ask(api, f"{ID}/{EVER}/1").body.count(raw) >= 2
            assert ask(api, f"tableau/{ID}/{EVER}/1").body.count(raw) >= 2
            assert ask(api, "sessions").body == b"[" + raw + b"]"
            truth = ask(api, "/mock/truth")
            assert truth.body.count(raw) >= 2


def test_columns_of_some_rows() -> None:
    rows = [at(1597630129000 + n) for n in range(4)]
    rows[2] = at(1597630129002, colour="red")
    rows[3] = Row({"device_id": ID}, 1597630129003000)
    with MockAPI(Account({ID: rows}), page_size=2) as api:
        first, second = (ask(api, f"{ID}/{EVER}/{n}").json() for n in (1, 2))
        assert first["keys"] == list(PERSON)
        assert second["keys"] == [*PERSON, "colour"]
        assert second["data"][1] == [None, None, ID, *[None] * 6]
        assert read(api, f"{ID}/{EVER}", "tableau/")[2:] == [
            PERSON | {"count": 1597630129002, "colour": "red"},
            {"device_id": ID},
        ]


@pytest.mark.parametrize(
    "name",
    [
        "a b",
        "a/b",
        "a?b",
        "a#b",
        "a%b",
        "%2F",
        "..",
        ".",
        "ü",
        "\U0001f6b2",
        "tableau",
        "a+b",
    ],
)
def test_odd_device_ids(name: str) -> None:
    with MockAPI(Account({name: [at(1597630129000)]})) as api:
        assert ask(api, "devices").json() == [name]
        for form in ("", "tableau/"):
            assert len(read(api, f"{quote(name, safe='')}/{EVER}", form)) == 1


@pytest.mark.parametrize(("answer", "status"), [("404", 404), ("403", 403), ("empty", 200)])
def test_unknown_device(answer: str, status: int) -> None:
    with MockAPI(unknown_device=answer) as api:
        assert ask(api, f"W0/{EVER}/1").status == status


def test_unknown_device_past_the_end() -> None:
    with MockAPI(unknown_device="empty", past_end="404") as api:
        assert [ask(api, f"W0/{EVER}/{n}").status for n in (1, 2)] == [200, 404]


@pytest.mark.parametrize("status", [400, 413, 422, 502, 504])
def test_largest_range(status: int) -> None:
    account = Account({ID: [at(1597630129000 + n) for n in range(10)]})
    with MockAPI(account, too_large=str(status), max_range_seconds=1) as api:
        assert ask(api, f"{ID}/1597630129000/1597630130000/1").status == 200
        reply = ask(api, f"{ID}/1597630129000/1597630130001/1")
        assert (reply.status, list(reply.json())) == (status, ["message"])
    with MockAPI(account, too_large=str(status), max_pages=2, page_size=4) as api:
        assert ask(api, f"{ID}/1597630129000/1597630129007/1").status == 200
        assert ask(api, f"{ID}/1597630129000/1597630129008/1").status == status


def test_largest_body() -> None:
    with MockAPI(Account({ID: [at(1597630129000)]}), max_body=200) as api:
        reply = ask(api, f"{ID}/{EVER}/1")
        assert reply[::2] == (502, b'{"message":"Internal server error"}')
        assert ask(api, f"{ID}/1000000000000/1000000000000/1").status == 200


@pytest.mark.parametrize("form", ["none", "seconds", "date"])
def test_rate_limit(form: str) -> None:
    with MockAPI(rate_limit=2, rate_window=30, retry_after=form) as api:
        replies = [ask(api, "version") for _ in range(3)]
        refused = ask(api, "version", headers={})
    assert [reply.status for reply in replies] == [200, 200, 429]
    assert replies[2].body == b'{"message":"Too Many Requests"}'
    assert refused.status == 403
    header = replies[2].headers.get("retry-after", "")
    if form == "date":
        moment, now = map(parsedate_to_datetime, (header, replies[2].headers["date"]))
        header = str(int((moment - now).total_seconds()))
    assert header in {"none": [""], "seconds": ["30"], "date": ["30", "31"]}[form]


def test_rate_limit_passes() -> None:
    with MockAPI(rate_limit=1, rate_window=0.2) as api:
        start = time.monotonic()
        assert ask(api, "version").status == 200
        while ask(api, "version").status == 429:
            assert time.monotonic() < start + 5
        assert time.monotonic() >= start + 0.2


def test_latency_and_requests_in_flight() -> None:
    with MockAPI(latency=0.2) as api, ThreadPoolExecutor(4) as pool:
        start = time.monotonic()
        list(pool.map(lambda _: ask(api, "version"), range(4)))
        assert 0.2 <= time.monotonic() - start < 0.7
        assert api.max_in_flight > 1
        assert [request.status for request in api.requests] == [200] * 4
        assert {request.path for request in api.requests} == {"/v1/analytics/version"}


def test_requests_are_answered_one_at_a_time() -> None:
    with MockAPI(serial_seconds=0.1) as api, ThreadPoolExecutor(4) as pool:
        start = time.monotonic()
        replies = list(pool.map(lambda _: ask(api, "version"), range(4)))
        assert time.monotonic() - start >= 0.4
        assert api.max_in_flight > 1
    assert {reply.status for reply in replies} == {200}


def test_requests_that_wait_too_long_get_504() -> None:
    with (
        MockAPI(serial_seconds=0.5, gateway_timeout=0.8) as api,
        ThreadPoolExecutor(4) as pool,
    ):
        replies = list(pool.map(lambda _: ask(api, "version"), range(4)))
        assert {reply.status for reply in replies} == {200, 504}
        (body,) = {reply.body for reply in replies if reply.status == 504}
        assert body == b'{"message":"Endpoint request timed out"}'
        # They left the queue: a single request is answered in time.
        assert ask(api, "version").status == 200
        api.stop()
        api.start()
        assert ask(api, "version").status == 200
    with MockAPI(latency=5, gateway_timeout=0.1) as api:
        assert ask(api, "version").status == 504


def test_stopping_amid_an_answer(caplog: pytest.LogCaptureFixture) -> None:
    with MockAPI(latency=60) as api, ThreadPoolExecutor(1) as pool:
        pending = pool.submit(ask, api, "version")
        while not api.requests:
            pass
        api.stop()
        with pytest.raises(ConnectionError):
            pending.result()
    assert api.requests[0].status is None
    assert not caplog.records


def test_restarting() -> None:
    with MockAPI() as api:
        ask(api, "version")
        url = api.url
        api.stop()
        with pytest.raises(ConnectionRefusedError):
            ask(api, "version")
        api.start()
        ask(api, "version")
        assert api.url == url
        assert len(api.requests) == 2


def test_options_are_checked() -> None:
    for wrong in ({"page_size": 0}, {"bounds": "ajar"}, {"no_such": 1}):
        with pytest.raises(ValidationError):
            Options(**wrong)


def test_all_combinations_start_quickly() -> None:
    start = time.monotonic()
    runs = list(product(["closed", "open"], [0, 1], range(25)))
    for bounds, total, _ in runs:
        with MockAPI(Account({ID: []}), bounds=bounds, empty_total=total) as api:
            assert ask(api, "devices").status == 200
    assert time.monotonic() - start < len(runs) * 0.1
