"""Records emitted in bulk equal those of the SDK's own loop; what changes records takes it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest
from reliability.runs import Run, assert_one_line, catalog, run, started, table

from mock_api import Account, MockAPI, Row

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SLOW = {"bulk.BulkStream._emits_unmodified_records": 0}
"""Constants of the tap: each record takes the SDK's loop."""

DESELECTED = [("extra_fields",), ("count", "source_file_name"), ("device_id",)]
MAPS: dict[str, dict[str, Any]] = {
    "changed": {"stream_maps": {"analytics": {"count": "count + 1"}}},
    "removed": {"stream_maps": {"analytics": {"model_id": "__NULL__"}}},
    "all": {"stream_maps": {"*": {"source": "'tap-unleash'"}}},
    "flattened": {"flattening_enabled": True, "flattening_max_depth": 2},
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
        out, err = process.communicate()
    fast = Run(process.returncode, out, err.decode())
    assert lines(fast) == lines(slow)
    assert fast.state == slow.state
    assert len(fast.records()) == len(api.truth())


@pytest.mark.parametrize("fields", DESELECTED, ids=str)
def test_deselected_fields_are_left_out(api: MockAPI, fields: tuple[str, ...]) -> None:
    chosen = catalog()
    for stream in chosen["streams"]:
        for entry in stream["metadata"]:
            if entry["breadcrumb"][1:] and entry["breadcrumb"][1] in fields:
                entry["metadata"]["selected"] = False
    found = run(api, catalog=chosen).records()
    every = run(api).records()
    assert found == [
        {name: value for name, value in record.items() if name not in fields} for record in every
    ]


@pytest.mark.parametrize("name", MAPS)
def test_stream_maps_and_flattening_are_applied(api: MockAPI, name: str) -> None:
    result = run(api, **MAPS[name])
    assert (result.code, result.err) == (0, "")
    every = run(api).records()
    for record in every:
        if name == "changed":
            record["count"] += 1
        elif name == "removed":
            record["model_id"] = None
            del record["model_id"]
        elif name == "all":
            record["source"] = "tap-unleash"
    if name == "flattened":
        assert [r["record_id"] for r in result.records()] == [r["record_id"] for r in every]
        assert not any(isinstance(r.get("extra_fields"), dict) for r in result.records())
    else:
        assert result.records() == every


def batches(folder: Path) -> dict[str, Any]:
    encoding = {"format": "jsonl", "compression": "gzip"}
    return {"encoding": encoding, "storage": {"root": folder.as_uri()}, "batch_size": 100}


def test_batches_hold_the_same_records(api: MockAPI, tmp_path: Path) -> None:
    result = run(api, batch_config=batches(tmp_path))
    assert (result.code, result.err) == (0, "")
    assert table(result) == table(run(api))
    assert len(table(result)) == len(api.truth())


@pytest.mark.parametrize("name", MAPS)
def test_batches_exclude_stream_maps_and_flattening(
    api: MockAPI, name: str, tmp_path: Path
) -> None:
    asked = len(api.requests)
    result = run(api, batch_config=batches(tmp_path), **MAPS[name])
    assert "batch_config" in assert_one_line(result)
    assert len(api.requests) == asked
