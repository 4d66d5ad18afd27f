"""The stream `analytics` used from Python: one device at a time."""

from __future__ import annotations

import signal
from collections import Counter
from itertools import islice
from typing import TYPE_CHECKING, Any, cast

import pytest
from reliability.runs import (
    at,
    bookmarks,
    cells,
    expected,
    last_state,
    messages,
    row,
)

from mock_api import Account, MockAPI, Row
from tap_unleash.api import pagination
from tap_unleash.tap import TapUnleash

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tap_unleash.streams import Analytics

NAMES = ("Wa", "Wb", "Wc")


@pytest.fixture(autouse=True)
def _signal_handlers() -> Iterator[None]:
    """The tap sets its own."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    handlers = {number: signal.getsignal(number) for number in numbers}
    yield
    for number, handler in handlers.items():
        signal.signal(number, handler)


@pytest.fixture
def api() -> Iterator[MockAPI]:
    rows = {name: [Row(row(name, second)) for second in range(100)] for name in NAMES}
    with MockAPI(Account(rows), page_size=9) as server:
        yield server


def analytics(api: MockAPI, **state: Any) -> Analytics:
    config = {"api_key": "mock", "api_url": api.url, "concurrency": 2}
    tap = TapUnleash(config=config, state=state or None)
    return cast("Analytics", tap.streams["analytics"])


@pytest.mark.parametrize("device_id", NAMES)
def test_records_are_those_of_the_context(device_id: str, api: MockAPI) -> None:
    stream = analytics(api)
    for _ in range(2):
        found = Counter(map(cells, stream.get_records({"device_id": device_id})))
        assert found == expected(api.truth(device_id))
    requested = {r.path.split("/")[-4] for r in api.requests}
    assert requested - {""} == {device_id}


def test_contexts_may_be_read_in_any_order(api: MockAPI) -> None:
    stream = analytics(api)
    readers = {
        name: iter(stream.get_records({"device_id": name})) for name in reversed(NAMES)
    }
    found = {name: Counter(map(cells, islice(readers[name], 50))) for name in NAMES}
    for name in NAMES:
        found[name] += Counter(map(cells, readers[name]))
        assert found[name] == expected(api.truth(name))


@pytest.mark.parametrize("device_id", NAMES)
def test_a_sync_of_one_device_advances_its_bookmark_alone(
    device_id: str, api: MockAPI, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    partitions = [
        {
            "context": {"device_id": name},
            "replication_key": "timestamp",
            "replication_key_value": at(20),
        }
        for name in NAMES
    ]
    stream = analytics(api, bookmarks={"analytics": {"partitions": partitions}})
    stream.sync({"device_id": device_id})
    found = messages(capsysbinary.readouterr().out)
    records = [m["record"] for m in found if m["type"] == "RECORD"]
    # All of them: the lookback window is an hour.
    assert Counter(map(cells, records)) == expected(api.truth(device_id))
    assert found[-1]["type"] == "STATE"
    assert bookmarks(last_state(found)) == dict.fromkeys(NAMES, at(20)) | {
        device_id: at(99)
    }


def test_an_abandoned_reader_emits_nothing(
    api: MockAPI, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    stream = analytics(api)
    records = stream._sync_records({"device_id": "Wb"}, write_messages=False)
    assert len(list(islice(records, 50))) == 50
    records.close()
    unread = iter(stream.get_records({"device_id": "Wc"}))
    assert next(unread)["device_id"] == "Wc"
    del unread
    assert not capsysbinary.readouterr().out


def test_an_abandoned_reader_leaves_its_bookmark_after_a_complete_window(
    api: MockAPI, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pagination, "MAX_PAGES", 3)
    stream = analytics(api)
    records = iter(stream.get_records({"device_id": "Wb"}))
    read = [next(records)["timestamp"] for _ in range(50)]
    del records
    (bookmark,) = bookmarks(dict(stream.tap_state)).values()
    assert read == [at(second) for second in range(50)]
    assert at(0) < bookmark < at(49)
