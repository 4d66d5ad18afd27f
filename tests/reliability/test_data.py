"""Unexpected data: typed or stored in `extra_fields`, in one form, and never dropped."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from mock_api import Account, MockAPI, Row
from reliability.runs import (
    EVERY_WINDOW,
    START,
    Run,
    Table,
    assert_isolated,
    assert_truth,
    at,
    canonical,
    expected,
    row,
    run,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

FORMATS = ("size_optimized", "tableau")
MICROSECONDS = int(START.timestamp()) * 10**6
FEW_PAGES = {"api.pagination.MAX_PAGES": 3}


def read(account: Account, **options: Any) -> list[Run]:
    """Read an account in both formats, which must yield the same records."""
    results = []
    for response_format in FORMATS:
        with MockAPI(account, page_size=3) as api:
            result = run(
                api,
                constants=FEW_PAGES,
                response_format=response_format,
                **options,
            )
        assert result.code == 0, result.err
        results.append(result)
    one, other = results
    tables = [{r["record_id"]: r for r in result.records()} for result in results]
    assert tables[0] == tables[1]
    assert len(one.records()) == len(other.records()) == len(tables[0])
    return results


def values(account: Account, column: str) -> list[Any]:
    """The values of a column, in time order, with those that `extra_fields` has instead."""
    records = sorted(read(account)[0].records(), key=lambda r: str(r["timestamp"]))
    return [
        (r[column], r["extra_fields"][column]) if "extra_fields" in r else r[column]
        for r in records
    ]


def column_of(column: str, sent: Sequence[Any]) -> Account:
    """A device whose rows, a second apart, have these values, sent byte for byte."""
    raw = [
        msgspec.Raw(value.encode()) if isinstance(value, str) else value
        for value in sent
    ]
    return Account(
        {"Wa": [Row(row("Wa", n, **{column: v})) for n, v in enumerate(raw)]}
    )


def test_an_unknown_field_is_stored_and_reported_once() -> None:
    rows = [row("Wa", second) for second in range(40)]
    for number, late in enumerate(rows[13:]):
        late["zone"] = {"name": "Nørd", "corners": [[0, 1.5], [number, None]]}
        late["speed"] = None if number % 2 else number
    account = Account({"Wa": map(Row, rows)})
    for result in read(account, loglevel="WARNING"):
        table = Table()
        table.load(result.messages)
        assert_truth(table, expected(rows))
        assert result.err.count("'zone'") == result.err.count("'speed'") == 1


def test_a_count_is_a_number_or_stored_as_an_extra_field() -> None:
    sent = ["1.5", "3", "3.0", "0", "-2", "null", "1e300", '"3"', "true", "[1]"]
    got = values(column_of("count", sent), "count")
    kept = [(None, "3"), (None, True), (None, [1])]
    assert got == [1.5, 3, 3.0, 0, -2, None, 1e300, *kept]


def test_a_frame_number_is_an_integer_or_stored_as_an_extra_field() -> None:
    sent = ["3.0", "null", str(2**53), str(2**53 + 1), str(2**63 - 1), str(-(2**63))]
    sent += ["1.5", str(2**63), '"7"', "1e400"[:4]]
    got = values(column_of("frame_number", sent), "frame_number")
    assert got[:5] == [3, None, 2**53, 2**53 + 1, 2**63 - 1]
    assert got[6:9] == [(None, 1.5), (None, 2**63), (None, "7")]
    assert all(type(value) in {int, type(None), tuple} for value in got)


def test_texts_are_texts_or_stored_as_extra_fields() -> None:
    sent = ['"a"', "null", '""', "7", "false", '{"b": 1}']
    got = values(column_of("class_name", sent), "class_name")
    assert got == ["a", None, "", (None, 7), (None, False), (None, {"b": 1})]


FORMS = {
    "2024-05-01T00:00:00.000Z": [
        "2024-05-01T00:00:00Z",
        "2024-05-01T00:00:00+00:00",
        "2024-05-01T00:00:00.000+00:00",
        "2024-05-01T00:00:00.000000Z",
        "2024-05-01T02:00:00+02:00",
        "2024-04-30T18:30:00.000-05:30",
        "2024-05-01 00:00:00",
    ],
    "2024-05-01T00:00:00.120Z": ["2024-05-01T00:00:00.12Z"],
    "2024-05-01T00:00:00.123456Z": ["2024-05-01T01:00:00.123456+01:00"],
    "2024-05-01T00:00:00.123456789Z": ["2024-05-01T00:00:00.123456789+00:00"],
}


def test_every_form_of_a_timestamp_yields_the_same_record() -> None:
    def read_form(form: str) -> dict[str, Any]:
        sent = Row(row("Wa", 0, timestamp=form), MICROSECONDS)
        with MockAPI(Account({"Wa": [sent]})) as api:
            (record,) = run(api).records()
        return record

    ids = set()
    for canonical_form, forms in FORMS.items():
        with ThreadPoolExecutor(4) as pool:
            records = list(pool.map(read_form, [canonical_form, *forms]))
        assert {record["timestamp"] for record in records} == {canonical_form}
        (record_id,) = {record["record_id"] for record in records}
        ids.add(record_id)
    assert len(ids) == len(FORMS)


@pytest.mark.parametrize("bounds", ["closed", "open", "left-open", "right-open"])
def test_microseconds_survive_seams_and_bookmarks(bounds: str) -> None:
    # Rows between the seams of time windows, which are whole milliseconds.
    rows = [
        row("Wa", 0, timestamp=f"2024-05-01T00:00:{n // 20:02}.{n % 20 * 50250:06}Z")
        for n in range(400)
    ]
    account = Account({"Wa": [Row(r) for r in rows for _ in range(2)]})
    with MockAPI(account, page_size=7, bounds=bounds, order="ties-per-page") as api:
        table = Table()
        first = run(
            api,
            constants=FEW_PAGES | EVERY_WINDOW,
            end_date="2024-05-01T00:00:09.502Z",
        )
        again = run(api, constants=FEW_PAGES, state=first.state, lookback_minutes=0)
        for result in (first, again):
            assert (result.code, result.err) == (0, "")
            table.load(result.messages)
        assert_truth(table, expected(api.truth()))
    assert again.bookmarks() == {"Wa": canonical(rows[-1]["timestamp"])}


def test_wrong_timestamps_are_extracted_and_advance_no_bookmark_too_far() -> None:
    late = at(86_400)  # a day is the coarsest rounding of bounds that is recognized
    times = [
        "1970-01-01T00:00:00.000Z",
        "2999-01-01T00:00:00.000Z",
        at(2),
        at(3 * 86_400),
        late,
    ]
    rows = [
        Row(row("Wa", 0, timestamp=text), MICROSECONDS + number * 10**6)
        for number, text in enumerate(times)
    ]
    account = Account({"Wa": rows})
    for result in read(account, end_date=at(10)):
        assert {r["timestamp"] for r in result.records()} == {*times} - {late}
        assert result.bookmarks() == {"Wa": at(10)}
        for second in read(account, end_date=at(86_410), state=result.state):
            assert {r["timestamp"] for r in second.records()} == {*times}


@pytest.mark.parametrize(
    ("sent", "shown"),
    [
        ('"yesterday"', "'yesterday'"),
        ("null", "'None'"),
        ("1714521600000", "'1714521600000'"),
        ('""', "''"),
        ("[]", "'[]'"),
        ('"2024-05-01"', "'2024-05-01'"),
        ('"2024-13-01T00:00:00Z"', "'2024-13-01T00:00:00Z'"),
        ('"0001-01-01T00:00:00+14:00"', "'0001-01-01T00:00:00+14:00'"),
        ('"9999-12-31T23:59:59-14:00"', "'9999-12-31T23:59:59-14:00'"),
        (f'"{"x" * 99}"', f"'{'x' * 80}'"),
    ],
)
def test_an_invalid_timestamp_fails_its_device_and_names_the_row(
    sent: str, shown: str
) -> None:
    rows = [Row(row("Wa", second)) for second in range(6)]
    bad = row("Wa", 4, timestamp=msgspec.Raw(sent.encode()))
    rows[4] = Row(bad, MICROSECONDS + 4 * 10**6)
    others = [Row(row("Wb", second)) for second in range(6)]
    with MockAPI(Account({"Wa": rows, "Wb": others}), page_size=3) as api:
        result = run(api)
    (line,) = assert_isolated(result, "Wa")
    assert f"Invalid timestamp {shown} in row 2, page 2 of device 'Wa'. " in line
    assert {r["device_id"] for r in result.records()} == {"Wb"}
    assert result.bookmarks() == {"Wb": at(5)}


def test_texts_of_any_kind_and_length_are_extracted() -> None:
    texts = [
        "🚁\U0001d54f\U0010ffff",
        "\u2028\u0085\x7f\x1b[31m",
        "\ufeff\uffff",
        "x" * 2**20,
    ]
    texts += ['"}\n{"type": "STATE", "value": {}}\n', "é" * 2**19, "e\u0301", " ", ""]
    rows = [
        row("Wa", n, source_file_name=text, class_name=text[:50], note=text)
        for n, text in enumerate(texts)
    ]
    for result in read(Account({"Wa": map(Row, rows)})):
        table = Table()
        table.load(result.messages)
        assert_truth(table, expected(rows))


def test_nul_which_postgresql_rejects_is_escaped() -> None:
    sent = row("Wa", 0, source_file_name="a\0b", class_name="\0", tags={"\0": ["\0c"]})
    for result in read(Account({"Wa": [Row(sent)]})):
        (record,) = result.records()
        assert record["source_file_name"] == r"a\u0000b"
        assert record["class_name"] == r"\u0000"
        assert record["extra_fields"] == {"tags": {r"\u0000": [r"\u0000c"]}}


ODD = ["a b", "a/b", "a?b=c", "a#b", "100%", "%2e", ".", "..", "a+b&c;d", "a\\b", '"']
ODD += ["Gerät-港口-🚁", "version", "devices", "sessions", "tableau", "analytics", "~"]


def test_device_ids_may_have_any_characters() -> None:
    account = Account({name: [Row(row(name, n)) for n in range(4)] for name in ODD})
    for result in read(account):
        assert Counter(r["device_id"] for r in result.records()) == dict.fromkeys(
            ODD, 4
        )
        assert set(result.bookmarks()) == set(ODD)


@pytest.mark.parametrize("unknown_device", ["404", "403", "empty"])
def test_a_device_that_is_removed_during_the_sync_affects_no_other(
    unknown_device: str,
) -> None:
    rows = {
        name: [row(name, second) for second in range(30)] for name in ("Wa", "Wb", "Wc")
    }
    account = Account(
        {name: map(Row, of_device) for name, of_device in rows.items()},
        removed={"Wb": 5},
    )
    with MockAPI(account, page_size=3, unknown_device=unknown_device) as api:
        result = run(api, constants=FEW_PAGES, loglevel="WARNING")
    assert result.code == 0, result.err
    assert ("Wb" in result.err) == (unknown_device != "empty")
    table = Table()
    table.load(result.messages)
    there = table.rows()
    assert not expected(rows["Wa"] + rows["Wc"]) - there
    assert not there - expected(rows["Wa"] + rows["Wb"] + rows["Wc"])


def test_a_device_listed_twice_is_read_once() -> None:
    account = Account(
        {"Wa": [Row(row("Wa", n)) for n in range(9)], "Wb": []},
        listed=["Wa", "Wb", "Wa", "Wa"],
        sessions=["1", "2", "1"],
    )
    for result in read(account):
        assert len(result.records()) == 9
        assert [r["device_id"] for r in result.records("devices")] == ["Wa", "Wb"]
        assert [r["session_id"] for r in result.records("sessions")] == ["1", "2"]


def test_an_account_without_devices_has_no_rows() -> None:
    for result in read(Account({})):
        assert {m["stream"] for m in result.messages if m["type"] == "SCHEMA"} == {
            "analytics",
            "devices",
            "sessions",
        }
        assert not [m for m in result.messages if m["type"] == "RECORD"]


@pytest.mark.parametrize("response_format", FORMATS)
def test_late_arriving_records_within_the_lookback_are_extracted(
    response_format: str,
) -> None:
    rows = [Row(row("Wa", 60 * minute)) for minute in range(200)]
    with MockAPI(Account({"Wa": rows}), page_size=10) as api:
        options: dict[str, Any] = {
            "constants": FEW_PAGES,
            "response_format": response_format,
        }
        first = run(api, **options)
        before = len(api.requests)
        # One at a new instant, one identical to an old one, and one at its instant.
        late = [
            row("Wa", 60 * 150.5),
            row("Wa", 60 * 160),
            row("Wa", 60 * 160, count=9),
        ]
        api.add("Wa", map(Row, late))
        second = run(api, state=first.state, **options)
        table = Table()
        for result in (first, second):
            assert (result.code, result.err) == (0, "")
            table.load(result.messages)
        assert_truth(table, expected(api.truth()))
        since = {
            int(r.path.split("/")[-3])
            for r in api.requests[before:]
            if "/Wa/" in r.path
        }
    assert min(since) == (MICROSECONDS // 1000) + 60_000 * (199 - 60) - 1


@pytest.mark.parametrize("order", ["ascending", "descending"])
@pytest.mark.parametrize("tableau_form", ["object", "bare-array"])
def test_records_inserted_while_a_window_is_read_lose_and_invent_nothing(
    order: str, tableau_form: str
) -> None:
    def read_growing(after: int) -> None:
        old = [Row(row("Wa", n // 3)) for n in range(60)]
        new = [
            Row(row("Wa", second), after_requests=after + n)
            for n, second in enumerate((0, 0.5, 7, 7, 19, 30))
        ]
        with MockAPI(
            Account({"Wa": old + new}),
            page_size=5,
            order=order,
            tableau_form=tableau_form,
        ) as api:
            table = Table()
            options: dict[str, Any] = {
                "constants": {"api.pagination.MAX_PAGES": 20},
                "concurrency": 2,
            }
            first = run(api, response_format="tableau", **options)
            assert (first.code, first.err) == (0, "")
            table.load(first.messages)
            there = table.rows()
            assert not expected(r.values for r in old) - there
            assert not there - expected(r.values for r in old + new)
            api.state.visits["Wa"] += 100
            second = run(
                api, response_format="size_optimized", state=first.state, **options
            )
            assert (second.code, second.err) == (0, "")
            table.load(second.messages)
            assert_truth(table, expected(r.values for r in old + new))

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(read_growing, (1, 2, 5, 9, 13, 14)))
