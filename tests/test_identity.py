"""The definition of `record_id`, which existing tables depend on."""

from __future__ import annotations

import json
from collections import defaultdict
from hashlib import blake2b
from itertools import product
from typing import Any

import pytest
from reliability.runs import Table, at, row, run

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


def record_id(record: dict[str, Any], occurrence: int) -> str:
    """Compute an ID from the definition, with another library."""
    values = [*(record[name] for name in IDENTIFYING), occurrence]
    text = json.dumps(values, ensure_ascii=False, separators=(",", ":"))
    return blake2b(text.encode(), digest_size=16).hexdigest()


def test_an_id_is_a_hash_of_the_identifying_values_and_the_occurrence_index() -> None:
    account = Account.generate(devices=3, rows=900, non_ascii=True)
    with MockAPI(account, page_size=70) as api:
        records = run(api).records()
    groups = defaultdict(list)
    for record in records:
        groups[tuple(record[name] for name in IDENTIFYING)].append(record)
    for group in groups.values():
        group.sort(key=lambda record: record["count"])
        expected = [record_id(record, n) for n, record in enumerate(group)]
        assert [record["record_id"] for record in group] == expected
    assert any(len(group) > 1 for group in groups.values())


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


def by_id(account: Account, **options: Any) -> dict[str, dict[str, Any]]:
    """Read an account in both formats, which must yield the same records."""
    tables = []
    for response_format in ("size_optimized", "tableau"):
        with MockAPI(account, **options) as api:
            records = run(api, response_format=response_format).records()
        tables.append({record["record_id"]: record for record in records})
        assert len(tables[-1]) == len(records) > 0
    one, other = tables
    assert one == other
    return one


def test_ids_do_not_depend_on_the_hash_seed_of_python(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    unknown = [
        {"zone": zone, "speed": speed, "weather": weather}
        for zone, speed, weather in product(("a", "b"), (1, None), ({}, ["rain"]))
    ]
    rows = [Row(row("Wa", 0, **fields)) for fields in unknown]
    found = []
    for seed in range(5):
        monkeypatch.setenv("PYTHONHASHSEED", str(seed))
        found.append(by_id(Account({"Wa": rows})))
    assert len(found[0]) == len(rows)
    assert all(table == found[0] for table in found)


def test_ids_do_not_depend_on_the_order_of_fields_and_rows() -> None:
    zones = [
        {"name": name, "corners": [{"x": x, "y": y}]}
        for name, x, y in product("ab", (1, 2), (1, 2))
    ]

    def reverse(value: Any) -> Any:  # noqa: ANN401 - any JSON
        if isinstance(value, dict):
            return {key: reverse(value[key]) for key in reversed(value)}
        return [*map(reverse, value)] if isinstance(value, list) else value

    def account(zones: list[dict[str, Any]]) -> Account:
        return Account({"Wa": [Row(row("Wa", 0, zone=zone, rank=1)) for zone in zones]})

    expected = by_id(account(zones))
    assert len(expected) == len(zones)
    backwards = account(reverse(zones[::-1]))
    for key_order, order in product(("fixed", "shuffled"), ("ascending", "reshuffled")):
        assert by_id(backwards, key_order=key_order, order=order) == expected


@pytest.mark.parametrize("concurrency", [1, 8])
def test_ids_do_not_depend_on_the_pages_and_windows(concurrency: int) -> None:
    rows = [
        Row(row("Wa", second, count=count, class_name=name))
        for second in (0, 0.001, 1, 1.5, 60)
        for name in ("a", "b")
        for count in (3, 1, 3, 2)
    ]
    expected = by_id(Account({"Wa": rows}))
    assert len(expected) == len(rows)
    for page_size, order in product((17, 24), ("ascending", "ties-per-page")):
        with MockAPI(
            Account({"Wa": rows[::-1]}), page_size=page_size, order=order
        ) as api:
            result = run(
                api,
                constants={"api.pagination.MAX_PAGES": 2},
                concurrency=concurrency,
            )
        assert (result.code, result.err) == (0, "")
        assert {r["record_id"]: r for r in result.records()} == expected


def test_an_empty_device_id_is_kept_and_a_missing_one_is_that_of_the_request() -> None:
    sent = {0: "", 1: None, 2: "Wa", 3: "Wother", 4: "", 5: None}
    rows = [Row({**row("Wa", n), "device_id": name}) for n, name in sent.items()]
    # A value must not depend on the other rows of its page.
    tables = [by_id(Account({"Wa": rows}), page_size=size) for size in (1, 2, 3, 6)]
    assert all(table == tables[0] for table in tables)
    found = {record["timestamp"]: record["device_id"] for record in tables[0].values()}
    assert found == {
        at(second): "Wa" if name is None else name for second, name in sent.items()
    }
