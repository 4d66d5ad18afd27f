"""The fast path writes what the SDK's own loop over records writes."""

from __future__ import annotations

import gzip
import hashlib
import inspect
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest
from singer_sdk import Stream
from singer_sdk.streams._state import StreamStateManager

from mock_api import Account, MockAPI, Row

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

KEY = "contract"
FAST = "from tap_unleash.tap import TapUnleash; TapUnleash.cli()"
SLOW = (
    "from tap_unleash.bulk_records import BulkStream; "
    f"BulkStream._emits_unmodified_records = False; {FAST}"
)
TIME_EXTRACTED = re.compile(rb',"time_extracted":"[^"]+"')


@pytest.fixture(scope="module")
def api() -> Iterator[MockAPI]:
    account = Account.generate(devices=4, rows=700, seed=4, non_ascii=True)
    with MockAPI(account, api_key=KEY, page_size=90) as server:
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
        server.add("Wodd", [Row(odd), Row({**odd, "new": {"x": [1.25, None]}})])
        yield server


def without(folder: Path, *fields: str) -> list[str]:
    """Write a catalog in which these fields are deselected; return the arguments for it."""
    listed = subprocess.check_output([sys.executable, "-c", FAST, "--discover"])
    catalog = json.loads(listed)
    for stream in catalog["streams"]:
        for metadata in stream["metadata"]:
            if metadata["breadcrumb"][1:] and metadata["breadcrumb"][1] in fields:
                metadata["metadata"]["selected"] = False
    file = folder / "catalog.json"
    file.write_text(json.dumps(catalog))
    return ["--catalog", str(file)]


def run(
    program: str, api: MockAPI, folder: Path, *args: str, **settings: Any
) -> tuple[bytes, list[str]]:
    config = folder / "config.json"
    config.write_text(
        json.dumps({"api_key": KEY, "api_url": api.url, **settings}),
        encoding="utf-8",
    )
    done = subprocess.run(
        [sys.executable, "-c", program, "--config", str(config), *args],
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    records = [line for line in done.stdout.splitlines() if b'"record_id"' in line]
    return TIME_EXTRACTED.sub(b"", done.stdout), [r.decode() for r in records]


@pytest.mark.parametrize("response_format", ["size_optimized", "tableau"])
def test_records_are_the_same_byte_for_byte(
    api: MockAPI, tmp_path: Path, response_format: str
) -> None:
    fast, records = run(FAST, api, tmp_path, response_format=response_format)
    slow, _ = run(SLOW, api, tmp_path, response_format=response_format)
    assert len(records) == 1 + len(api.truth())  # and the SCHEMA message
    assert fast == slow


@pytest.mark.parametrize(
    "fields",
    [("extra_fields",), ("count", "source_file_name"), ("device_id", "timestamp")],
    ids=str,
)
def test_records_without_some_fields_are_the_same(
    api: MockAPI, tmp_path: Path, fields: tuple[str, ...]
) -> None:
    args = without(tmp_path, *fields)
    fast, records = run(FAST, api, tmp_path, *args)
    slow, _ = run(SLOW, api, tmp_path, *args)
    plain, _ = run(FAST, api, tmp_path)
    assert len(records) == 1 + len(api.truth())
    assert fast == slow != plain


@pytest.mark.parametrize("compression", ["gzip", "none"])
def test_batches_hold_the_same_records(
    api: MockAPI, tmp_path: Path, compression: str
) -> None:
    contents: list[list[dict[str, Any]]] = []
    for program in (FAST, SLOW):
        root = tmp_path / str(len(contents))
        root.mkdir()
        batch_config = {
            "encoding": {"format": "jsonl", "compression": compression},
            "storage": {"root": root.as_uri()},
            "batch_size": 400,
        }
        output, _ = run(program, api, root, batch_config=batch_config)
        contents.append(list(batched(output)))
    fast, slow = contents
    assert len([record for record in fast if "record_id" in record]) == len(api.truth())
    assert [record for record in fast if record.keys() == {"device_id"}]
    assert [record for record in fast if record.keys() == {"session_id"}]
    assert fast == slow


def batched(output: bytes) -> Iterator[dict[str, Any]]:
    for line in output.splitlines():
        message = json.loads(line)
        if message["type"] == "BATCH":
            zipped = message["encoding"]["compression"] == "gzip"
            for url in message["manifest"]:
                assert url.endswith(".json.gz" if zipped else ".json")
                content = Path(urlsplit(url).path).read_bytes()
                text = gzip.decompress(content) if zipped else content
                yield from map(json.loads, text.splitlines())


@pytest.mark.parametrize(
    "settings",
    [
        {"stream_maps": {"analytics": {"count": "count + 1"}}},
        {"stream_maps": {"analytics": {"model_id": "__NULL__"}}},
        {"flattening_enabled": True, "flattening_max_depth": 2},
    ],
    ids=["mapped", "dropped", "flattened"],
)
def test_what_it_does_not_handle_takes_the_loop(
    api: MockAPI, tmp_path: Path, settings: dict[str, Any]
) -> None:
    fast, records = run(FAST, api, tmp_path, **settings)
    slow, _ = run(SLOW, api, tmp_path, **settings)
    plain, _ = run(FAST, api, tmp_path)
    assert len(records) == 1 + len(api.truth())
    assert fast == slow != plain


@pytest.mark.parametrize(
    ("member", "digest"),
    [
        (Stream._sync_records, "8928dc7f50e9bf57"),
        (Stream._generate_record_messages, "9b5f9fbcdedb7a1a"),
        (Stream._write_record_message, "292b7bed39883bd9"),
        (StreamStateManager, "d305f609d60ac6bc"),
    ],
    ids=[
        "_sync_records",
        "_generate_record_messages",
        "_write_record_message",
        "state",
    ],
)
def test_the_sdk_is_the_one_that_was_read(
    member: Callable[..., object], digest: str
) -> None:
    source = hashlib.sha256(inspect.getsource(member).encode()).hexdigest()
    assert source[:16] == digest, "read what the SDK changed before taking its version"
