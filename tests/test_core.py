"""The SDK's own tests of a tap, and the commands that need neither key nor network."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from reliability.runs import command
from singer_sdk.testing import SuiteConfig, get_tap_test_class

from mock_api import Account, MockAPI, Row
from tap_unleash.tap import TapUnleash

if TYPE_CHECKING:
    from collections.abc import Iterator

CATALOG = Path(__file__).with_name("catalog.json")
CONFIG: dict[str, Any] = {"api_key": "mock"}


@pytest.fixture(autouse=True, scope="module")
def _live_api() -> Iterator[None]:
    handlers = {n: signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)}
    account = Account.generate(rows=100)
    device_id = next(iter(account.devices))
    (row,) = [*account.view(device_id, request=1)][-1:]
    account.add(device_id, [Row({**row, "weather": "rain"})])
    first, *others = account.flights()
    account.flight_logs = [{**first, "weather": "rain"}, *others]
    with MockAPI(account) as api:
        CONFIG["api_url"] = api.url
        yield
    for number, handler in handlers.items():
        signal.signal(number, handler)


def everything() -> dict[str, Any]:
    catalog: dict[str, Any] = json.loads(CATALOG.read_text())
    for stream in catalog["streams"]:
        for metadata in stream["metadata"]:
            metadata["metadata"]["selected"] = True
    return catalog


TestTap = get_tap_test_class(
    TapUnleash,
    config=CONFIG,
    catalog=everything(),
    suite_config=SuiteConfig(max_records_limit=None),
)


def tap(*args: str) -> str:
    program = Path(sys.executable).with_name("tap-unleash")
    done = subprocess.run(
        # Nothing listens there, in case a request is sent.
        [program, *args],
        env={"TAP_UNLEASH_API_URL": "http://127.0.0.1:9/v1", "PATH": ""},
        capture_output=True,
        check=True,
        text=True,
    )
    assert "Traceback" not in done.stderr
    return done.stdout


def test_the_connection_test_sends_one_request_per_stream() -> None:
    with (
        MockAPI(Account.generate(devices=3, rows=2_000)) as api,
        command(api) as (arguments, env),
    ):
        done = subprocess.run(
            [*arguments, "--test"],
            env=env | {"PYTHONWARNINGS": "ignore:Python 3.10 reached its end of life"},
            capture_output=True,
            check=False,
            text=True,
        )
        asked = len(api.requests)
    assert (done.returncode, done.stderr) == (0, "")
    records = done.stdout.count('"RECORD"')
    assert (asked, records) == (4, 4)


def test_version_needs_no_key() -> None:
    assert version("tap-unleash") in tap("--version")


def test_about_needs_no_key() -> None:
    settings = TapUnleash.config_jsonschema["properties"]
    about = json.loads(tap("--about", "--format=json"))
    assert about["name"] == "tap-unleash"
    assert "unleashlive.com" in about["description"]
    assert settings.keys() <= about["settings"]["properties"].keys()
    for page in tap("--about"), tap("--about", "--format=markdown"):
        assert all(name in page for name in settings)


def test_every_setting_and_property_is_described() -> None:
    for schema in (
        TapUnleash.config_jsonschema,
        *(stream["schema"] for stream in json.loads(CATALOG.read_text())["streams"]),
    ):
        for name, described in schema["properties"].items():
            assert described["description"].endswith("."), name


def test_catalog_is_the_one_that_was_reviewed() -> None:
    """A change of the catalog changes the tables of users. To accept one, explain it in
    CHANGELOG.md, and run `tap-unleash --discover > tests/catalog.json`.
    """
    assert json.loads(tap("--discover")) == json.loads(CATALOG.read_text())
