"""The stream `flight_logs`: whole runs, compared record by record."""

from __future__ import annotations

import json
import re
import subprocess
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from mock_api import Account, Fault, MockAPI
from reliability.runs import (
    FEW_ATTEMPTS,
    IMPATIENT,
    Run,
    Table,
    assert_isolated,
    assert_one_line,
    assert_truth,
    at,
    catalog,
    choices,
    command,
    expected,
    run,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

STREAM = "flight_logs"
PATH = "/v1/flights/company"
DAY = 86_400

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "streams.md"
(SAMPLE,) = (
    sample
    for block in re.findall(r"```json\n(.+?)```", PAGE.read_text(), re.DOTALL)
    if "s3Path" in (sample := json.loads(block))
)


@cache
def fields() -> frozenset[str]:
    (entry,) = (s for s in catalog()["streams"] if s["tap_stream_id"] == STREAM)
    return frozenset(entry["schema"]["properties"]) - {"extra_fields"}


def flight(flight_id: str, seconds: float = 0, **values: Any) -> dict[str, Any]:
    """The sample of the page, with another ID and other dates."""
    return {
        **SAMPLE,
        "id": flight_id,
        "flightStartDate": at(seconds),
        "flightEndDate": at(seconds + 1054),
        **values,
    }


def daily(days: int = 64) -> list[dict[str, Any]]:
    """A flight at every midnight, where windows are split."""
    return [flight(f"flight-{day}", day * DAY) for day in range(days)]


def read(api: MockAPI, *others: str, **options: Any) -> Run:
    options = {"constants": IMPATIENT} | options
    return run(api, catalog=catalog(STREAM, *others), **options)


def asked(api: MockAPI) -> list[dict[str, str]]:
    """The query of each request for flight logs."""
    queries = [r.query for r in api.requests if r.path == PATH]
    return [dict(p.split("=") for p in q.split("&") if p) for q in queries]


def assert_equal(result: Run, flights: Iterable[Mapping[str, Any]]) -> None:
    """Check that the run emitted these flight logs and no other, each once."""
    assert (result.code, result.err) == (0, "")
    records = {record["id"]: record for record in result.records(STREAM)}
    assert records == {each["id"]: each for each in flights}
    assert len(records) == len(result.records(STREAM))


@pytest.mark.parametrize("form", choices("flights_form"))
def test_every_flight_log_is_extracted(form: str) -> None:
    account = Account.generate(rows=1000, non_ascii=True)
    with MockAPI(account, flights_form=form) as api:
        result = read(api)
    assert len(account.flights()) == 15
    assert_equal(result, account.flights())
    assert asked(api) == [{}]
    assert all(record.keys() == fields() for record in result.records(STREAM))


def test_unless_selected_no_flight_log_is_requested() -> None:
    with MockAPI(Account.generate(rows=10)) as api:
        assert run(api).code == 0
        assert run(api, catalog=catalog("devices", "sessions")).code == 0
        with command(api) as (arguments, env):
            subprocess.run(
                [*arguments, "--test"], env=env, check=True, capture_output=True
            )
    assert api.requests
    assert asked(api) == []


BOUNDS = {"start_date": at(0), "end_date": at(2 * DAY)}
"""Settings that include the first three daily flights, the outer two at the bounds."""


@pytest.mark.parametrize("settings", [{}, *({n: BOUNDS[n]} for n in BOUNDS), BOUNDS])
def test_only_dates_that_are_set_are_sent(settings: dict[str, str]) -> None:
    undated = flight("undated", flightStartDate=None)
    before, after = flight("before", -0.001), flight("after", 2 * DAY + 0.001)
    flights = [undated, before, *daily(3), after]
    wanted = [
        each
        for each in flights
        if (each is not undated or not settings)
        and (each is not before or "start_date" not in settings)
        and (each is not after or "end_date" not in settings)
    ]
    with MockAPI(Account(flight_logs=flights)) as api:
        assert_equal(read(api, **settings), wanted)
    sent = {"start_date": "dateFrom=1714521600000", "end_date": "dateTo=1714694400000"}
    query = [sent[name] for name in settings]
    (request,) = (r for r in api.requests if r.path == PATH)
    assert request.query == "&".join(
        [*query, *(["dateType=flightStartDate"] if query else [])]
    )


@pytest.mark.parametrize("bounds", choices("bounds"))
@pytest.mark.parametrize("status", choices("too_large"))
def test_a_range_that_is_too_long_is_split(status: str, bounds: str) -> None:
    flights = daily()
    settings = {"start_date": at(-1), "end_date": at(64 * DAY)}
    with MockAPI(
        Account(flight_logs=flights),
        max_range_seconds=5.5 * DAY,
        too_large=status,
        bounds=bounds,
    ) as api:
        assert_equal(read(api, **settings), flights)
    # 16 windows of four days, the longer ones before and between them, and as many that
    # tell a range that is too long from an invalid request or an outage.
    assert 16 < len(asked(api)) < 80


def test_a_range_without_bounds_is_split_as_well() -> None:
    flights = daily()
    with MockAPI(
        Account(flight_logs=flights), max_range_seconds=400 * DAY, bounds="open"
    ) as api:
        assert_equal(read(api), flights)
    first, *others = asked(api)
    assert first == {}
    assert all(query.keys() == {"dateFrom", "dateTo", "dateType"} for query in others)


def test_a_range_that_times_out_is_split() -> None:
    fault = Fault.parse("kind=hang,where=flights,until=2")
    with MockAPI(Account(flight_logs=daily()), faults=[fault]) as api:
        assert_equal(read(api, request_timeout=2), daily())
    assert len(asked(api)) > 3


def test_a_response_that_is_too_large_is_split() -> None:
    flights = daily()
    with MockAPI(Account(flight_logs=flights), max_body=5_000) as api:
        assert_equal(read(api), flights)


@pytest.mark.parametrize("status", [403, 401])
def test_a_credential_without_access_costs_no_other_stream(status: int) -> None:
    fault = Fault.parse(f"kind=status_{status},where=flights")
    with MockAPI(Account.generate(rows=200), faults=[fault]) as api:
        result = read(api, "analytics", "devices", "sessions")
        table = Table()
        table.load(result.messages)
        assert_truth(table, expected(api.truth()))
        assert len(table) == 600
    (error,) = assert_isolated(result, streams=[STREAM])
    assert error.startswith(
        "The API key may not be valid for flight logs. Authentication failed (HTTP "
    )
    assert result.records(STREAM) == []
    assert len(result.records("devices")) == 4
    assert len(result.records("sessions")) == 3
    assert len(asked(api)) == 1


def test_a_credential_that_is_wrong_everywhere_ends_the_sync() -> None:
    with MockAPI(Account.generate(rows=10), api_key="another") as api:
        line = assert_one_line(read(api, "devices"))
    assert "Authentication failed (HTTP 403 Forbidden)" in line
    assert asked(api) == []


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("status_404", "Request rejected (HTTP 404 Not Found). "),
        ("status_422", "Request rejected (HTTP 422 Unprocessable "),
        ("status_503", "API error (HTTP 503 Service Unavailable) after 3 attempts. "),
        ("status_504", "API error (HTTP 504 Gateway Timeout: "),
        ("errors_in_200", "API error (Internal Server Error) after 3 attempts. "),
        ("other_shape", "Unexpected API response ("),
        ("html", "Unexpected API response ("),
        ("cut", "Connection to {url}/flights closed before the response was complete "),
    ],
)
def test_an_error_that_persists_costs_no_other_stream(kind: str, reason: str) -> None:
    fault = Fault.parse(f"kind={kind},where=flights")
    with MockAPI(Account.generate(rows=10), faults=[fault]) as api:
        result = read(api, "devices", constants=FEW_ATTEMPTS)
    (error,) = assert_isolated(result, streams=[STREAM])
    assert error.startswith(reason.format(url=api.url))
    assert len(result.records("devices")) == 4
    assert len(asked(api)) < 10


@pytest.mark.parametrize("kind", ["status_429", "status_500", "cut", "malformed"])
def test_a_transient_error_is_retried(kind: str) -> None:
    fault = Fault.parse(f"kind={kind},where=flights,times=2")
    with MockAPI(Account(flight_logs=daily()), faults=[fault]) as api:
        assert_equal(read(api), daily())
    assert asked(api) == [{}] * 3


def test_unknown_and_mismatching_values_are_stored_in_extra_fields() -> None:
    documented = flight("number", flightDuration="1054", hasComments=None)
    sent = documented | {
        "flightDuration": 1054,
        "flightStartDate": "soon",
        "flightEndDate": "2025-04-15T16:10:22+01:00",
        "hasComments": "yes",
        "jobIds": ["job-1", None],
        "pilotName": "Ada\0",
        "takeOffLocation": {"lat": -33, "long": "151.2", "alt": 12.5},
        "weather": {"wind": None},
        "nothing": None,
    }
    with MockAPI(Account(flight_logs=[sent, {"id": 7}])) as api:
        assert_equal(
            read(api),
            [
                documented
                | {
                    "flightDuration": None,
                    "flightStartDate": None,
                    "flightEndDate": "2025-04-15T15:10:22.000Z",
                    "hasComments": None,
                    "jobIds": None,
                    "pilotName": "Ada\\u0000",
                    "takeOffLocation": {"lat": -33, "long": None},
                    "extra_fields": {
                        "flightDuration": 1054,
                        "flightStartDate": "soon",
                        "hasComments": "yes",
                        "jobIds": ["job-1", None],
                        "takeOffLocation": {"long": "151.2", "alt": 12.5},
                        "weather": {"wind": None},
                    },
                },
                dict.fromkeys(fields()) | {"id": "7"},
            ],
        )


def test_of_two_versions_of_an_id_one_is_kept_in_any_order() -> None:
    flights = [flight("same", name="first"), flight("same", name="second")]
    kept = []
    for order in flights, flights[::-1]:
        with MockAPI(Account(flight_logs=order)) as api:
            result = read(api)
        assert result.code == 0
        kept += result.records(STREAM)
    assert kept == [flights[0]] * 2


def test_of_two_versions_in_two_responses_the_earlier_is_kept() -> None:
    flights = [flight("same", 0, name="b"), flight("same", 40 * DAY, name="a")]
    settings = {"start_date": at(0), "end_date": at(64 * DAY)}
    with MockAPI(Account(flight_logs=flights), max_range_seconds=40 * DAY) as api:
        assert_equal(read(api, **settings), flights[:1])


@pytest.mark.parametrize("value", [None, "", [1], {}])
def test_a_flight_log_without_an_id_is_named(value: object) -> None:
    flights = [flight("good"), flight("bad", id=value)]
    with MockAPI(Account(flight_logs=flights)) as api:
        result = read(api, start_date=at(0), end_date=at(60))
    (error,) = assert_isolated(result, streams=[STREAM])
    assert error == (
        "Missing or invalid 'id' in row 2 of flight logs starting from "
        "2024-05-01T00:00:00.000Z up to 2024-05-01T00:01:00.000Z. Report the record to "
        "Unleash live."
    )


def test_a_value_nested_too_deeply_is_named() -> None:
    deep = msgspec.Raw(b"[" * 2000 + b"]" * 2000)
    flights = [flight("good"), flight("deep", depth=deep)]
    with MockAPI(Account(flight_logs=flights)) as api:
        result = read(api)
    (error,) = assert_isolated(result, streams=[STREAM])
    assert error == (
        "Value nested too deeply in row 2 of flight logs. Report the record to Unleash "
        "live."
    )
