"""Records emitted in bulk equal those of the SDK's own loop; what changes records takes it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest
from reliability.runs import Run, assert_one_line, batches, catalog, ended, run, started, table
from singer_sdk import Stream

from mock_api import Account, MockAPI, Row

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SLOW: dict[str, Any] = {
    "streams.Analytics._emits_unmodified_records": 0,
    "bulk.BulkStream._increment_stream_state": Stream._increment_stream_state,
}
"""Constants of the tap: each record takes the SDK's loop, and its way to the state."""

MAPS: dict[str, dict[str, Any]] = {
    "changed": {"stream_maps": {"analytics": {"count": "count + 1"}}},
    "removed": {"stream_maps": {"analytics": {"model_id": "__NULL__"}}},
    "all": {"stream_maps": {"*": {"source": "'tap-unleash'"}}},
    "flattened": {"flattening_enabled": True, "flattening_max_depth": 2},
}


def without(*fields: str) -> dict[str, Any]:
    chosen = catalog()
    for entry in chosen["streams"][0]["metadata"]:
        if entry["breadcrumb"][1:] and entry["breadcrumb"][1] in fields:
            entry["metadata"]["selected"] = False
    return {"catalog": chosen}


CHANGES = {
    **MAPS,
    **{name: without(name) for name in ("extra_fields", "device_id")},
    "two fields": without("count", "source_file_name"),
}


@pytest.fixture(scope="module")
def api() -> Iterator[MockAPI]:
    account = Account.generate(devices=3, rows=300, seed=4, non_ascii=True)
    odd: dict[str, Any] = {
        "class_name": 'a "quoted" \u2028 🚁',
        "count": 1.5,
        "device_id": "Wodd",
        "frame_number": 2**53,
        "model_id": 7,
        "session_id": "1",
        "source_file_name": None,
        "timestamp": "2020-08-05T00:00:00.123456+02:00",
    }
    account.add("Wodd", [Row(odd), Row({**odd, "new": {"x": [1.25, None]}})])
    with MockAPI(account, page_size=90) as server:
        yield server


def lines(result: Run) -> list[bytes]:
    """The messages but STATE, which each way writes at its own time."""
    assert (result.code, result.err) == (0, "")
    text = re.sub(rb',"time_extracted":"[^"]+"', b"", result.out)
    return [line for line in text.splitlines() if b'"type":"STATE"' not in line]


@pytest.mark.parametrize("response_format", ["size_optimized", "tableau"])
def test_bulk_emission_equals_the_loop(
    api: MockAPI, response_format: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = run(api, constants=SLOW, response_format=response_format)
    monkeypatch.setenv("PYTHONUNBUFFERED", "1")
    with started(api, response_format=response_format) as process:
        fast = ended(process)
    assert lines(fast) == lines(slow)
    assert fast.state == slow.state
    assert len(fast.records()) == len(api.truth())


@pytest.mark.parametrize("name", CHANGES)
def test_what_changes_records_takes_the_loop(api: MockAPI, name: str) -> None:
    changed = lines(run(api, **CHANGES[name]))
    assert changed == lines(run(api, constants=SLOW, **CHANGES[name]))
    assert len(changed) == len(lines(run(api)))
    assert changed != lines(run(api))


def test_an_account_without_devices_has_no_record() -> None:
    with MockAPI(Account({})) as api:
        result = run(api, **MAPS["changed"])
        assert (result.code, result.records()) == (0, [])


def test_batches_hold_the_same_records(api: MockAPI, tmp_path: Path) -> None:
    result = run(api, batch_config=batches(tmp_path, 100))
    assert (result.code, result.err) == (0, "")
    assert table(result) == table(run(api))
    assert len(table(result)) == len(api.truth())


@pytest.mark.parametrize("name", MAPS)
def test_batches_exclude_stream_maps_and_flattening(
    api: MockAPI, name: str, tmp_path: Path
) -> None:
    asked = len(api.requests)
    result = run(api, batch_config=batches(tmp_path, 100), **MAPS[name])
    assert "batch_config" in assert_one_line(result)
    assert len(api.requests) == asked
