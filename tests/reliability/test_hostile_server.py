"""Servers that behave in ways the documentation leaves open, or that misbehave: the table is
exact, or the devices concerned end with an error. It is never wrong.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from mock_api import Account, Fault, MockAPI, Row
from reliability.runs import (
    IMPATIENT,
    START,
    Run,
    Table,
    assert_truth,
    expected,
    row,
    run,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

DAY = 86_400
MICROSECONDS = int(START.timestamp()) * 10**6

ORDERS = [
    "ascending",
    "descending",
    "ties-per-page",
    "descending-ties-per-page",
    "ties-per-request",
    "shuffled",
    "reshuffled",
    "per-page",
]


def generated() -> Account:
    """Three devices with identical rows, some of which are on two pages of 73 rows."""
    return Account.generate(devices=3, rows=1_003, non_ascii=True)


def small() -> Account:
    names = ("W0", "W1", "W2", "W3")
    return Account(
        {name: [Row(row(name, second)) for second in range(40)] for name in names}
    )


def table_of(result: Run) -> Table:
    table = Table()
    table.load(result.messages)
    return table


def assert_exact(api: MockAPI, **options: Any) -> Run:
    options = {"timeout": 250, **options}
    result = run(api, **options)
    assert result.code == 0, result.err
    assert_truth(table_of(result), expected(api.truth()))
    return result


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize(
    "form",
    [
        {},
        {"response_format": "tableau"},
        {"response_format": "tableau", "tableau_form": "bare-array"},
        {"total": "null"},
    ],
    ids=["size-optimized", "tableau", "bare-array", "no-total"],
)
def test_no_order_of_rows_costs_or_invents_one(
    order: str, form: dict[str, Any]
) -> None:
    options = dict(form)
    settings = {key: options.pop(key) for key in ("response_format",) if key in options}
    with MockAPI(generated(), page_size=73, order=order, **options) as api:
        assert_exact(api, **settings)


@pytest.mark.parametrize("order", ["ascending", "descending", "ties-per-page"])
def test_rows_that_expire_cost_no_other(order: str) -> None:
    account = Account.generate(devices=2, rows=1_503)
    with MockAPI(account, page_size=73, order=order, expire_per_request=3) as api:
        before = expected(api.truth())
        result = run(api)
        after = expected(api.truth())
    assert result.code == 0, result.err
    assert 0 < after.total() < before.total()
    rows = table_of(result).rows()
    assert not after - rows, "lost"
    assert not rows - before, "invented"


@pytest.mark.parametrize("order", ["ascending", "ties-per-page", "ties-per-request"])
def test_rows_that_are_inserted_cost_no_other(order: str) -> None:
    def rows() -> Iterator[Row]:
        for number in range(3_000):
            yield Row(row("Wa", number // 7, frame_number=number % 3))
        for number in range(60):
            late = row("Wa", number * 37 % 400, count=100 + number)
            yield Row(late, after_requests=2 + number // 3)

    with MockAPI(Account({"Wa": rows()}), page_size=73, order=order) as api:
        before = expected(api.truth())
        result = run(api)
        after = expected(api.truth())
    assert result.code == 0, result.err
    assert before.total() < after.total()
    found = table_of(result).rows()
    assert not before - found, "lost"
    assert not found - after, "invented"


@pytest.mark.parametrize("status", ["400", "413", "422", "502", "504"])
@pytest.mark.parametrize(
    "limit",
    [{"max_range_seconds": 300 * DAY}, {"max_pages": 2, "page_size": 9}],
    ids=str,
)
def test_a_range_limit_splits_windows(status: str, limit: dict[str, Any]) -> None:
    with MockAPI(small(), too_large=status, **limit) as api:
        assert_exact(api, start_date="2022-01-01", constants=IMPATIENT)
        statuses = Counter(exchange.status for exchange in api.requests)
    assert statuses[int(status)] > 0
    # The limit is found once, and then tried again now and then.
    assert statuses[int(status)] < statuses[200]


@pytest.mark.parametrize("past_end", ["empty", "404", "422", "repeat"])
@pytest.mark.parametrize("page_size", [73, 40, 1_000])
def test_bare_arrays_end_in_any_way(past_end: str, page_size: int) -> None:
    options: dict[str, Any] = {"tableau_form": "bare-array", "past_end": past_end}
    with MockAPI(generated(), page_size=page_size, **options) as api:
        assert_exact(api, response_format="tableau")


@pytest.mark.parametrize("kind", ["status_400", "status_404", "status_422"])
@pytest.mark.parametrize(("total", "visit"), [("present", 1), ("null", 1), ("null", 2)])
def test_a_page_that_is_refused_by_chance_is_not_the_end(
    kind: Any,  # noqa: ANN401
    total: str,
    visit: int,
) -> None:
    account = Account.generate(devices=1, rows=1_003)
    fault = Fault(kind=kind, where="/2$", start=visit, until=visit)
    with MockAPI(account, page_size=73, total=total, faults=(fault,)) as api:
        assert_exact(api)
        assert int(kind[-3:]) in {exchange.status for exchange in api.requests}


@pytest.mark.parametrize(
    ("round_bounds", "order"),
    [
        ("second", "ascending"),
        ("second", "ties-per-page"),
        ("floor-second", "ascending"),
        ("floor-second", "ties-per-page"),
        ("day", "ascending"),
        ("floor-day", "ascending"),
    ],
)
def test_rounded_bounds_lose_nothing(round_bounds: str, order: str) -> None:
    account = Account.generate(devices=2, rows=1_003)
    with MockAPI(account, page_size=73, round_bounds=round_bounds, order=order) as api:
        # Windows of few pages, so that there are seams.
        assert_exact(api, constants={"api.pagination.MAX_PAGES": 8})


def test_bounds_that_are_too_coarse_to_split_end_the_device_with_an_error() -> None:
    rows = [Row(row("Wa", second, frame_number=second)) for second in range(400)]
    account = Account({"Wa": rows, "Wb": [Row(row("Wb", 0))]})
    with MockAPI(account, page_size=10, round_bounds="day", order="per-page") as api:
        result = run(api)
        requests = len(api.requests)
    assert result.code == 1
    assert "Failed to sync device 'Wa'" in result.err
    assert not table_of(result).rows() - expected(api.truth())
    assert {r["device_id"] for r in result.records()} >= {"Wb"}
    assert requests < 1_500


@pytest.mark.parametrize(
    "options",
    [
        {"empty_form": "no-keys"},
        {"empty_total": "null"},
        {"empty_total": 1},
        {"version_form": "object"},
        {"session_form": "number"},
    ],
    ids=str,
)
def test_forms_that_the_documentation_leaves_open_are_read(
    options: dict[str, Any],
) -> None:
    with MockAPI(Account.generate(devices=4, rows=50), **options) as api:
        result = assert_exact(api)
        sessions = {str(value) for value in api.state.account.session_ids()}
    assert {r["session_id"] for r in result.records("sessions")} == sessions


TRANSIENT = ["status_204", "status_408", "status_421", "status_425", "errors_in_200"]


@pytest.mark.parametrize("kind", TRANSIENT)
def test_a_status_that_passes_is_retried(kind: Any) -> None:  # noqa: ANN401
    with MockAPI(small(), faults=(Fault(kind=kind, times=1),)) as api:
        assert_exact(api, constants=IMPATIENT)


GOOD = [
    "status_400",
    "status_404",
    "status_422",
    "status_500",
    "status_503",
    "status_504",
    "errors_in_200",
    "html",
    "drop",
]


@pytest.mark.parametrize("kind", [*GOOD, "hang", "drip", "drip_headers"])
def test_a_device_that_fails_for_good_costs_the_others_nothing(
    kind: Any,  # noqa: ANN401
) -> None:
    account = small()
    account.add("W1", [Row(row("W1", -DAY * n)) for n in range(3_000)])
    fault = Fault(kind=kind, where="/W1/", seconds=0.4)
    settings = {} if kind in GOOD else {"request_timeout": 1}
    with MockAPI(account, faults=(fault,)) as api:
        result = run(api, constants=IMPATIENT, timeout=250, **settings)
        asked = sum("/W1/" in exchange.path for exchange in api.requests)
        truth = [r for r in api.truth() if r["device_id"] != "W1"]
    assert result.code == 1
    logged, *_, last = result.err.splitlines()
    assert "Failed to sync device 'W1'" in logged
    assert last.startswith("tap-unleash: Sync incomplete: 1 failed (device 'W1')")
    assert "Traceback" not in result.err
    assert_truth(table_of(result), expected(truth))
    assert len(result.records("devices")) == 4
    assert result.records("sessions")
    assert set(result.bookmarks()) == {"W0", "W2", "W3"}
    assert asked <= 60


@pytest.mark.parametrize("kind", ["hang", "status_503", "status_504"])
def test_an_outage_costs_tens_of_requests(kind: Any) -> None:  # noqa: ANN401
    names = [f"W{number}" for number in range(20)]
    account = Account({name: [Row(row(name, 0))] for name in names})
    with MockAPI(account, faults=(Fault(kind=kind, where="analytics"),)) as api:
        result = run(api, constants=IMPATIENT, request_timeout=1, timeout=250)
        requests = len(api.requests)
    assert result.code == 1
    assert "3 devices in a row failed" in result.err.splitlines()[-1]
    assert not result.records()
    assert requests <= 60


def test_an_overloaded_server_is_asked_for_less_at_a_time() -> None:
    with MockAPI(small(), page_size=9, serial_seconds=0.1, gateway_timeout=0.25) as api:
        assert_exact(api, concurrency=16, constants=IMPATIENT)
        assert 504 in {exchange.status for exchange in api.requests}
        ranges = {
            tuple(r.path.split("/")[4:6]) for r in api.requests if "/W0/" in r.path
        }
    # No window was split because of it, though the API's minimum was tried.
    assert len(ranges) <= 2


def raw(text: str) -> Any:  # noqa: ANN401
    return msgspec.Raw(text.encode())


@pytest.mark.parametrize("response_format", ["size_optimized", "tableau"])
def test_values_that_no_column_stores_stay_readable(response_format: str) -> None:
    sent = {
        "count": (raw("1e400"), "1e400"),
        "frame_number": (raw("NaN"), "NaN"),
        "speed": (raw("-Infinity"), "-Infinity"),
    }
    rows = [
        Row(row("Wa", number, **{name: value}))
        for number, (name, (value, _)) in enumerate(sent.items())
    ]
    rows.append(Row(row("Wa", 9, class_name=raw(r'"\ud800 \u0000 é"'))))
    rows.append(Row(row("Wa", 10, **{"a\0b": "\0"})))
    with MockAPI(Account({"Wa": rows})) as api:
        result = run(api, response_format=response_format)
        assert len(api.requests) == 3
    assert result.code == 0, result.err
    found = sorted(result.records(), key=lambda record: str(record["timestamp"]))
    for record, (name, (_, kept)) in zip(found, sent.items(), strict=False):
        assert record["extra_fields"] == {name: kept}
        assert record.get(name) is None
    assert found[3]["class_name"] == r"\ud800 \u0000 é"
    assert found[4]["extra_fields"] == {r"a\u0000b": r"\u0000"}


@pytest.mark.parametrize("response_format", ["size_optimized", "tableau"])
def test_a_value_nested_too_deeply_is_reported_with_its_place(
    response_format: str,
) -> None:
    deep = raw("[" * 5_000 + "]" * 5_000)
    rows = [Row(row("Wa", second)) for second in range(5)]
    rows.append(Row(row("Wa", 5, note=deep), MICROSECONDS + 5 * 10**6))
    account = Account({"Wa": rows, "Wb": [Row(row("Wb", 0))]})
    with MockAPI(account, page_size=4) as api:
        result = run(api, response_format=response_format)
        asked = Counter(r.path for r in api.requests if "/Wa/" in r.path)
    assert result.code == 1
    assert "nested too deeply in row 2, page 2 of device 'Wa'" in result.err
    assert {r["device_id"] for r in result.records()} == {"Wb"}
    assert max(asked.values()) == 1
