"""`make probe` finds out how an API behaves, and prints nothing about the account."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from mock_api import Account, Fault, MockAPI, Row
from scripts import probe

if TYPE_CHECKING:
    from collections.abc import Callable

    Run = Callable[..., dict[str, str]]

LONG, EMPTY = "Responses for long ranges", "Range without rows"
SIZE, ORDER, BOUNDS = "Rows on a page", "Order of rows", "Bounds of a range"
AGAIN, SHORTER = "Page 1, requested again", "Page 1 of a range that is 1 ms shorter"
PAST, TOTAL = "Page after the last one", "`total_num_pages`"


def empty(total: str = "integer 0", keys: str = "array", data: str = "array") -> str:
    return f"HTTP 200, `total_num_pages` {total}, `keys` {keys}, `data` {data}"


def past(total: str) -> str:
    return f"HTTP 200, `total_num_pages` {total}, `data` array"


CALM = {
    SIZE: "250",
    ORDER: "ascending",
    AGAIN: "the same order",
    SHORTER: "the same order",
    BOUNDS: "start inclusive, end inclusive",
    EMPTY: empty(),
    PAST: past("integer 1"),
    TOTAL: "right",
}
FEW = "not found out: too few rows"
FAULT = Fault(kind="status_503", where="/1$", start=3, until=3)
ROUNDED = "rounded or shifted, not exact to the millisecond"


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    def answers(api: MockAPI, *arguments: str, **settings: str) -> dict[str, str]:
        for name, value in {"api_url": api.url, "api_key": "mock", **settings}.items():
            monkeypatch.setenv(f"TAP_UNLEASH_{name.upper()}", value)
        probe.main(arguments)
        text = capsys.readouterr().out
        assert len(api.requests) < 40
        assert text.startswith("Probe of another server\n\n| question | answer |\n")
        lines = [line.strip("| ").split(" | ") for line in text.splitlines()[4:]]
        assert lines[-1] == ["Requests", str(len(api.requests))]
        return {line[0]: line[1] for line in lines}

    return answers


@pytest.mark.parametrize(
    ("options", "differs"),
    [
        ({}, {}),
        (
            {"order": "descending", "bounds": "open", "past_end": "404"} | {"empty_form": "204"},
            {ORDER: "descending", BOUNDS: "start exclusive, end exclusive"}
            | {PAST: "HTTP 404", EMPTY: "HTTP 204"},
        ),
        (
            {"order": "ties-per-page", "bounds": "left-open", "past_end": "repeat"}
            | {"empty_total": "1", "empty_form": "null-data"},
            {SHORTER: "another order", BOUNDS: "start exclusive, end inclusive"}
            | {PAST: "the last page again"}
            | {EMPTY: empty("integer 1", data="null")},
        ),
        (
            {"order": "ties-per-request", "bounds": "right-open", "past_end": "422"}
            | {"total": "low", "empty_form": "no-keys"},
            {AGAIN: "another order", SHORTER: "another order", PAST: "HTTP 422"}
            | {BOUNDS: "start inclusive, end exclusive", EMPTY: empty(keys="absent")}
            | {TOTAL: "too low: another page follows"},
        ),
        (
            {"order": "reshuffled", "total": "null", "page_size": 100},
            {ORDER: "not sorted by time", AGAIN: "other rows", SHORTER: "other rows"}
            | {TOTAL: "not reported", SIZE: "100"}
            | {EMPTY: empty("null"), PAST: past("null")},
        ),
        (
            {"total": "device", "round_bounds": "second", "order": "shuffled"},
            {TOTAL: "wrong for a range of one page", BOUNDS: ROUNDED, ORDER: "not sorted by time"}
            | {EMPTY: empty("integer 4"), PAST: past("integer 4")},
        ),
        ({"page_size": 7}, {SIZE: "7", AGAIN: FEW, SHORTER: FEW}),
        ({"page_size": 5000, "round_bounds": "day"}, {SIZE: "1000 or more", BOUNDS: ROUNDED}),
        ({"max_rows": 500}, {TOTAL: "too high: HTTP 200 and no rows on the last page"}),
        ({"rate_limit": 9, "rate_window": 0.5, "faults": (FAULT,)}, {}),
    ],
    ids=str,
)
def test_each_answer_is_right(run: Run, options: dict[str, Any], differs: dict[str, str]) -> None:
    with MockAPI(**{"page_size": 250, **options}) as api:
        found = run(api)
    assert {question: found[question] for question in CALM} == {**CALM, **differs}


def test_a_shorter_range_is_examined_if_all_history_is_rejected(run: Run) -> None:
    with MockAPI(page_size=250, max_range_seconds=40 * 86_400) as api:
        found = run(api, start_date="2018-08-18", end_date="2020-08-17")
    days = ("730 days: HTTP 413", "366 days: HTTP 413", "31 days: HTTP 200")
    assert found.items() >= {**CALM, LONG: "; ".join(days)}.items()


@pytest.mark.parametrize("response_format", ["size_optimized", "tableau"])
def test_no_data_of_the_account_are_printed(run: Run, response_format: str) -> None:
    columns = ("class_name", "model_id", "session_id", "source_file_name", "canary")
    rows = [
        Row(
            dict.fromkeys(columns, f"canary-{n}")
            | {"device_id": "canary", "count": 424242 + n / 2, "frame_number": None}
            | {"timestamp": f"2019-03-04T05:06:{n:02}.000Z"}
        )
        for n in range(60)
    ]
    settings = {"api_key": "ul_pat_canary", "response_format": response_format}
    api = MockAPI(Account({"canary": rows}), page_size=25, api_key="ul_pat_canary")
    with api:
        found = run(api, "--device=canary", **settings)
    assert found["Undocumented columns"] == "1"
    assert found["Type of `count`"] == "number"
    assert found["Type of `frame_number`"] == "null"
    assert found[ORDER] == "ascending"
    assert not [x for x in ("canary", "4242", "2019", "05:06") if x in str(found)]


def test_an_error_ends_the_probe(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    with MockAPI() as api:
        with pytest.raises(SystemExit, match=r"^probe: Authentication failed"):
            run(api, api_key="wrong")
        monkeypatch.setattr(probe, "MAX_REQUESTS", 5)
        with pytest.raises(SystemExit, match=r"^probe: The probe ends after 5 req"):
            run(api)
        assert len(api.requests) == 1 + 5
