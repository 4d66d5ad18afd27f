"""The definition of `record_id`, which tables in the field depend on."""

from __future__ import annotations

import json
from collections import defaultdict
from hashlib import blake2b
from typing import Any

from reliability.runs import Table, row, run

from mock_api import Account, MockAPI, Row

IDENTIFYING = (
    "device_id",
    "session_id",
    "model_id",
    "source_file_name",
    "frame_number",
    "class_name",
    "timestamp",
)


def record_id(record: dict[str, Any], ordinal: int) -> str:
    """Written anew from the definition, with another library."""
    values = [*(record[name] for name in IDENTIFYING), ordinal]
    text = json.dumps(values, ensure_ascii=False, separators=(",", ":"))
    return blake2b(text.encode(), digest_size=16).hexdigest()


def test_an_id_is_made_of_what_identifies_a_row_and_its_ordinal() -> None:
    with MockAPI(Account.generate(devices=3, rows=900), page_size=70) as api:
        records = run(api).records()
    twins = defaultdict(list)
    for record in records:
        twins[tuple(record[name] for name in IDENTIFYING)].append(record)
    for group in twins.values():
        group.sort(key=lambda record: record["count"])
        expected = [record_id(record, n) for n, record in enumerate(group)]
        assert [record["record_id"] for record in group] == expected
    assert any(len(group) > 1 for group in twins.values())


def test_the_documented_row_keeps_its_id() -> None:
    values: dict[str, Any] = {
        "class_name": "total_count",
        "count": 3,
        "device_id": "W9d3f1bcad8e8abd",
        "frame_number": 1,
        "model_id": "sparse-crowd-density-alphapose",
        "session_id": "1597644726430",
        "source_file_name": "W9d3f1bcad8e8abd-1597644023-17-Aug-20-06-00-23.mp4",
        "timestamp": "2020-08-17T06:16:45.000Z",
    }
    with MockAPI(Account({values["device_id"]: [Row(values)]})) as api:
        (record,) = run(api).records()
    assert record == {"record_id": "93ce1c9dcd6148b00662b6d64ca490ec", **values}


def test_a_corrected_count_updates_its_row() -> None:
    table = Table()
    for count in (3, 4):
        with MockAPI(Account({"W": [Row(row("W", 0, count=count))]})) as api:
            table.load(run(api).messages)
    (held,) = table.values()
    assert held["count"] == 4
