"""Bodies of both formats become the same typed rows, and no value is lost."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tap_unleash.errors import UnleashError
from tap_unleash.page import COLUMNS, EMPTY, TEXTS, InvalidResponse, decode_page
from tap_unleash.timestamps import format_timestamp, parse_timestamp
from tap_unleash.windows import EARLIEST, LATEST

STAMP = "2024-05-01T00:00:00.000Z"

text = st.text(st.characters(exclude_categories=["Cs"]))
numbers = st.floats(allow_nan=False, allow_infinity=False)
documented = st.fixed_dictionaries(
    {
        **dict.fromkeys(TEXTS, st.none() | text),
        "device_id": text,
        "frame_number": st.none() | st.integers(-(2**63), 2**63 - 1),
        "count": st.none() | st.integers(-(2**63), 2**63 - 1) | numbers,
        "timestamp": st.datetimes().map(lambda t: f"{t.isoformat(timespec='milliseconds')}Z"),
    }
)
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | numbers | text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3),
    max_leaves=5,
)
odd = st.fixed_dictionaries({}, optional=dict.fromkeys((*COLUMNS, "new", "other"), anything)).map(
    lambda row: {**row, "timestamp": STAMP}
)

quick = settings(database=None, deadline=None, derandomize=True, max_examples=60)


def body(rows: list[dict[str, Any]], *, tableau: bool, **more: Any) -> bytes:
    if tableau:
        return json.dumps({"total_num_pages": 1, "data": rows, **more}).encode()
    keys = list(dict.fromkeys([*COLUMNS, *(name for row in rows for name in row)]))
    data = [[row.get(key) for key in keys] for row in rows]
    return json.dumps({"keys": keys, "total_num_pages": 1, "data": data, **more}).encode()


def decode(body: bytes) -> list[dict[str, Any]]:
    page = decode_page(body, device_id="Wasked")
    assert {row.timestamp for row in page.rows} == page.instants.keys()
    return [msgspec.structs.asdict(row) for row in page.rows]


@quick
@given(st.lists(documented, max_size=4))
def test_documented_rows_are_the_same_on_every_path(rows: list[dict[str, Any]]) -> None:
    expected = [{**row, "extra": b""} for row in rows]
    # Of years before 1000, the text has less digits than the form that is emitted.
    assert decode(body(rows, tableau=False)) == expected
    assert decode(body(rows, tableau=True)) == expected
    assert decode(body([*rows, {"timestamp": STAMP, "new": 1}], tableau=False))[:-1] == expected
    assert decode(json.dumps(rows).encode()) == expected


@quick
@given(st.lists(odd, min_size=1, max_size=3))
def test_no_value_is_lost_and_every_column_has_its_type(rows: list[dict[str, Any]]) -> None:
    found = decode(body(rows, tableau=False))
    assert found == decode(body(rows, tableau=True))
    for sent, row in zip(rows, found, strict=True):
        extra = json.loads(row["extra"] or b"{}")
        for name, value in sent.items():
            if value is None or name == "timestamp":
                assert name not in extra
            elif name in extra:
                assert extra[name] == value
            else:
                assert str(row[name]) == str(value) or row[name] == value
        for name in TEXTS:
            assert row[name] is None or type(row[name]) is str
        assert row["frame_number"] is None or type(row["frame_number"]) is int
        assert row["count"] is None or type(row["count"]) in {int, float}
        if sent.get("device_id") is None:
            assert row["device_id"] == "Wasked"


VALUES = [
    ("model_id", "7", "7", None),
    ("model_id", '"7"', "7", None),
    ("model_id", "7.0", None, 7.0),
    ("model_id", "true", None, True),
    ("session_id", "1714521600000", "1714521600000", None),
    ("frame_number", "3.0", 3, None),
    ("frame_number", '"-12"', -12, None),
    ("frame_number", '"1e3"', None, "1e3"),
    ("frame_number", '"05"', 5, None),
    ("frame_number", '"9007199254740993.0"', None, "9007199254740993.0"),
    ("frame_number", "1.5", None, 1.5),
    ("frame_number", "true", None, True),
    ("frame_number", str(2**63 - 1), 2**63 - 1, None),
    ("frame_number", str(2**63), None, 2**63),
    ("frame_number", f'"{2**63}"', None, str(2**63)),
    ("count", '"3"', None, "3"),
    ("count", "1e400", None, "1e400"),
    ("count", f"1{'0' * 400}", None, f"1{'0' * 400}"),
    ("new", "1e400", None, "1e400"),
    ("new", "null", None, None),
]


@pytest.mark.parametrize(("name", "sent", "value", "extra"), VALUES)
def test_value(name: str, sent: str, value: object, extra: object) -> None:
    for data in (
        f'{{"keys": ["timestamp", "{name}"], "data": [["{STAMP}", {sent}]]}}',
        f'{{"data": [{{"timestamp": "{STAMP}", "{name}": {sent}}}]}}',
    ):
        (row,) = decode(data.encode())
        assert row.get(name) == value
        assert type(row.get(name)) is type(value)
        assert json.loads(row["extra"] or b"{}") == ({} if extra is None else {name: extra})


def test_extra_fields_are_compact_and_sorted() -> None:
    sent = [{"timestamp": STAMP, "b": {"y": 1, "x": [1.5]}, "new": None, "a": "é"}]
    page = decode_page(body(sent, tableau=True), device_id="W")
    assert page.rows[0].extra == '{"a":"é","b":{"x":[1.5],"y":1}}'.encode()


TIMESTAMPS = {
    "2024-05-01t00:00:00z": "00.000Z",
    "2024-05-01T00:00:00": "00.000Z",
    "2024-05-01T00:00": "00.000Z",
    "2024-05-01T00:00:00.1": "00.100Z",
    "2024-05-01T00:00:00.123456789Z": "00.123456789Z",
    "2024-05-01T00:00:00.123000Z": "00.123Z",
    "2024-05-01T02:00:00.5+02:00": "00.500Z",
    "2024-05-01 02:00:00+02": "00.000Z",
    "2024-05-01 05:30:00+0530": "00.000Z",
    "2024-04-30 23:59:30-00:00:30": "00.000Z",
    "2024-05-01 00:00:00.25 +00": "00.250Z",
    "2024-04-30T23:59:60Z": "00.000Z",
}


@pytest.mark.parametrize("sent", TIMESTAMPS)
def test_every_form_of_a_timestamp_is_accepted(sent: str) -> None:
    for other in ([], [STAMP]):
        rows = [{**dict.fromkeys(COLUMNS), "timestamp": t} for t in [sent, *other]]
        page = decode_page(body(rows, tableau=False), device_id="W")
        stamp = page.rows[0].timestamp
        assert stamp == f"2024-05-01T00:00:{TIMESTAMPS[sent]}"
        assert page.instants[stamp] == parse_timestamp(stamp)[1]


@given(st.integers(EARLIEST, LATEST))
def test_a_timestamp_is_read_as_it_is_written(instant: int) -> None:
    written = format_timestamp(instant)
    assert parse_timestamp(written) == (written, instant)


@pytest.mark.parametrize(
    "sent", ["", "soon", "2024-05-01", "2024-02-30T00:00:00Z", "2024-05-01T24:00:01Z", 7, None]
)
def test_an_invalid_timestamp_names_the_row(sent: object) -> None:
    rows: list[dict[str, Any]] = [{"timestamp": STAMP}, {"timestamp": sent}]
    with pytest.raises(UnleashError, match=r"Invalid timestamp .* in row 2, page 3 of device 'W'"):
        decode_page(body(rows, tableau=True), device_id="W", number=3)


INVALID = [
    *(b"", b"{", b"null", b'"text"', b"{}"),
    *(b'{"data": %b}' % data for data in (b"{}", b"0", b"[1]", b"[[1]]", b"[" * 100_000)),
    *(b'{"keys": ["a", "%b"], "data": [[%b]]}' % pair for pair in ((b"b", b"1"), (b"a", b"1, 2"))),
    *(
        b'{"data": [], %b}' % rest
        for rest in (
            *(b'"errors": ["x"]', b'"error": "x"', b'"timed_out": true'),
            *(b'"total_num_pages": %b' % t for t in (b"-1", b"1.5", b'"x"', b"[1]", b"1e999")),
        )
    ),
    # A lone surrogate has no UTF-8.
    b'{"data": [{"x": "\\ud800", "timestamp": "2024-05-01T00:00:00Z"}]}',
    b'[{"x": 1, "class_name": "\\ud800", "timestamp": "2024-05-01T00:00:00Z"}]',
]


@pytest.mark.parametrize("sent", INVALID, ids=lambda sent: repr(sent[:40]))
def test_any_other_body_is_invalid(sent: bytes) -> None:
    with pytest.raises(InvalidResponse):
        decode_page(sent, device_id="W")


@pytest.mark.parametrize(
    ("total", "pages"), [("7", 7), ("7.0", 7), ('"7"', 7), ("0", 0), ("null", None)]
)
def test_every_form_of_a_total_is_accepted(total: str, pages: int | None) -> None:
    sent = f'{{"data": [], "errors": [], "timed_out": false, "total_num_pages": {total}}}'
    assert decode_page(sent.encode(), device_id="W").total == pages


def test_null_data_are_an_empty_page() -> None:
    assert decode_page(b'{"data": null}', device_id="W") == EMPTY
    assert decode_page(b"[]", device_id="W") == EMPTY
