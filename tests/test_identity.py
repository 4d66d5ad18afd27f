"""Record IDs, fields, bookmarks and state, which existing tables and syncs depend on.

`golden.json` was made by the tap at commit a43f149 from the same accounts.
"""

from __future__ import annotations

import json
from hashlib import blake2b
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from reliability.runs import Run, row, run, table

from mock_api import Account, MockAPI, Row
from tap_unleash.page import Row as ParsedRow
from tap_unleash.records import CHUNK, records

GOLDEN: dict[str, Any] = json.loads(Path(__file__).with_name("golden.json").read_text())
UNTIL: dict[str, Any] = {"end_date": "2024-06-01T00:00:00.000Z"}


def account() -> Account:
    """Realistic rows, ties that only their counts tell apart, and values of odd types."""
    made = Account.generate(devices=4, rows=250, seed=3, non_ascii=True)
    odd: list[dict[str, Any]] = [
        *({"count": count, "class_name": "tie"} for count in (3, 1, 3, 2.5, None)),
        *({"zone": zone, "speed": speed} for zone in "ba" for speed in (1, None, {"x": [1.5]})),
        {"timestamp": "2024-05-01T01:30:00.123456+02:00", "frame_number": 3.0},
        {"timestamp": "2024-05-01 00:00:07+00:00"},
        {"source_file_name": "dröhne/é.mp4"},
        {"device_id": None, "frame_number": None, "count": 12345678901234567},
        {"frame_number": 1.5, "class_name": ["x"], "count": "3", "model_id": {"v": 1}},
    ]
    rows = [{**row("Wodd", n // 6), **values} for n, values in enumerate(odd)]
    made.add("Wodd", [Row(r) for r in rows])
    return made


def summary(result: Run) -> dict[str, Any]:
    """A run in the form of the golden file."""
    streams = {}
    for stream in ("analytics", "devices", "sessions"):
        lines = [json.dumps(r, sort_keys=True) for r in result.records(stream)]
        digest = blake2b("\n".join(sorted(lines)).encode(), digest_size=16)
        streams[stream] = {"records": len(lines), "digest": digest.hexdigest()}
    found = [r for r in result.records() if r["device_id"] == "Wodd"]
    found.sort(key=lambda r: str(r["record_id"]))
    state = result.state or {}
    state["bookmarks"].pop("api_version", None)  # that stream was not selected by default
    return {"streams": streams, "odd": found, "state": state}


@pytest.mark.parametrize("response_format", ["size_optimized", "tableau"])
@pytest.mark.parametrize("page_size", [40, 1000])
def test_records_and_state_are_those_of_the_first_release(
    response_format: str, page_size: int
) -> None:
    with MockAPI(account(), page_size=page_size) as api:
        result = run(api, response_format=response_format, **UNTIL)
    assert (result.code, result.err) == (0, "")
    assert summary(result) == {name: GOLDEN[name] for name in ("odd", "streams", "state")}


def test_a_state_of_the_first_release_resumes() -> None:
    with MockAPI(account(), page_size=40) as api:
        first = run(api, **UNTIL)
        for device_id in GOLDEN["later"]:
            seconds = GOLDEN["later"][device_id]
            api.account.add(device_id, [Row(row(device_id, s)) for s in seconds])
        again = run(api, state=GOLDEN["state"], lookback_minutes=0)
        assert table(first, again) == table(run(api))
    marks = {
        p["context"]["device_id"]: p["replication_key_value"]
        for p in GOLDEN["state"]["bookmarks"]["analytics"]["partitions"]
        if "replication_key_value" in p
    }
    assert len(marks) == 4
    for record in again.records():
        assert record["timestamp"] >= marks.get(record["device_id"], "")


def test_a_corrected_count_updates_its_record() -> None:
    runs = []
    for count in (3, 4):
        with MockAPI(Account({"W": [Row(row("W", 0, count=count))]})) as api:
            runs.append(run(api))
    (held,) = table(*runs).values()
    assert held["count"] == 4


def test_ids_do_not_depend_on_the_order_of_fields_and_rows() -> None:
    zones = [{"name": n, "corners": [{"x": x, "y": 1}]} for n, x in product("ab", (1, 2))]
    tables = []
    for sign, order, key_order in ((1, "ascending", "fixed"), (-1, "reshuffled", "shuffled")):
        rows = [
            Row(row("Wa", 0, zone=dict([*zone.items()][::sign]), rank=1)) for zone in zones[::sign]
        ]
        with MockAPI(Account({"Wa": rows}), order=order, key_order=key_order) as api:
            tables.append({r["record_id"]: r for r in run(api).records()})
    assert tables[0] == tables[1]
    assert len(tables[0]) == len(zones)


def test_every_one_of_many_identical_records_has_its_own_id() -> None:
    one = ParsedRow("W", "1", "ai", "file", 1, "person", "2024-05-01T00:00:00.000Z", 1.0, b"")
    ids = {record.record_id for chunk in records([one] * 3 * CHUNK) for record in chunk}  # type: ignore[attr-defined]
    assert len(ids) == 3 * CHUNK
