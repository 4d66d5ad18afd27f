"""The SDK's own tests of a tap, and the commands that need neither key nor network."""

from __future__ import annotations

import json
import signal
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import programs
import pytest
from reliability.runs import CATALOG, Run, run
from singer_sdk.testing import SuiteConfig, get_tap_test_class

from mock_api import Account, Fault, MockAPI, Row
from tap_unleash.tap import TapUnleash

if TYPE_CHECKING:
    from collections.abc import Iterator

CONFIG: dict[str, Any] = {"api_key": "mock"}
REVIEWED: dict[str, Any] = json.loads(CATALOG.read_text(encoding="utf-8"))


@pytest.fixture(autouse=True, scope="module")
def _live_api() -> Iterator[None]:
    handlers = {n: signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)}
    account = Account.generate(rows=100)
    device_id = next(iter(account.devices))
    row = account.devices[device_id][-1].row
    account.add(device_id, [Row({**row.values, "weather": "rain"})])
    with MockAPI(account) as api:
        CONFIG["api_url"] = api.url
        yield
    for number, handler in handlers.items():
        signal.signal(number, handler)


TestTap = get_tap_test_class(
    TapUnleash, config=CONFIG, catalog=REVIEWED, suite_config=SuiteConfig(max_records_limit=None)
)


def tap(*args: str) -> str:
    # Nothing listens there, in case a request is sent.
    return programs.run(
        programs.PROGRAMS / "tap-unleash", *args, TAP_UNLEASH_API_URL="http://127.0.0.1:9/v1"
    )


def connection_test(**options: Any) -> tuple[Run, int]:
    with MockAPI(Account.generate(devices=3, rows=2_000), **options) as api:
        dates: dict[str, Any] = {"start_date": "2020-07-01", "end_date": "2020-08-31"}
        return run(api, arguments=["--test"], loglevel="INFO", **dates), len(api.requests)


@pytest.mark.parametrize("too_large", ["400", "413", "422", "504"])
def test_the_connection_test_takes_one_record_per_stream(too_large: str) -> None:
    result, requests = connection_test(max_range_seconds=86_400, too_large=too_large)
    assert (result.code, result.out.count(b'"RECORD"')) == (0, 4)
    assert requests <= 300
    assert "ERROR" not in result.err


def test_the_connection_test_fails_if_the_device_does() -> None:
    result, _ = connection_test(faults=(Fault(kind="status_404", where="analytics"),))
    assert result.code == 1
    assert result.err.splitlines()[-1].startswith("tap-unleash: Request rejected (HTTP 404")


def test_version_and_about_need_no_key() -> None:
    assert version("tap-unleash") in tap("--version")
    settings = TapUnleash.config_jsonschema["properties"]
    about = json.loads(tap("--about", "--format=json"))
    assert about["name"] == "tap-unleash"
    assert "unleashlive.com" in about["description"]
    assert settings.keys() <= about["settings"]["properties"].keys()
    assert "activate-version" not in about["capabilities"]


def test_every_setting_and_property_is_described() -> None:
    schemas = [stream["schema"] for stream in REVIEWED["streams"]]
    for schema in (TapUnleash.config_jsonschema, *schemas):
        for name, described in schema["properties"].items():
            assert described["description"].endswith("."), name


def test_catalog_is_the_one_that_was_reviewed() -> None:
    """A change of the catalog changes the tables of users. To accept one, explain it in
    CHANGELOG.md, and write the output of
    `tap-unleash --discover | python -m json.tool --compact` into the file.
    """
    assert json.loads(tap("--discover")) == REVIEWED
    names = [stream["tap_stream_id"] for stream in REVIEWED["streams"]]
    assert sorted(names) == ["analytics", "api_version", "devices", "sessions"]
    for stream in REVIEWED["streams"]:
        (whole,) = (m["metadata"] for m in stream["metadata"] if not m["breadcrumb"])
        assert whole.get("selected-by-default", True)
        assert whole.get("selected", True)
