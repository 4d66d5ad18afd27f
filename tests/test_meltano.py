"""meltano.yml: it is valid, says what the tap says of itself, and runs."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.resources import files
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from demo.pipeline import ROOT, Pipeline, compare, instant
from demo.postgres import postgres
from mock_api import Account, MockAPI

if TYPE_CHECKING:
    from collections.abc import Iterator

MELTANO: dict[str, Any] = yaml.safe_load((ROOT / "meltano.yml").read_text())
EXTRACTOR, _in_batches = MELTANO["plugins"]["extractors"]


@pytest.fixture(scope="module")
def about() -> dict[str, Any]:
    program = Path(sys.executable).with_name("tap-unleash")
    done = subprocess.run(
        [program, "--about", "--format=json"], capture_output=True, check=True
    )
    described: dict[str, Any] = json.loads(done.stdout)
    return described


def leaves(schema: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The settings as Meltano knows them: those inside of an object have names with dots."""
    for name, setting in schema["properties"].items():
        inner = setting.get("properties")
        if inner and not name.startswith("stream_map"):
            yield from leaves(setting, f"{prefix}{name}.")
        else:
            yield prefix + name, setting


def test_meltano_accepts_it() -> None:
    schema = json.loads((files("meltano") / "schemas/meltano.schema.json").read_text())
    validator = Draft202012Validator(schema)
    assert [error.message for error in validator.iter_errors(MELTANO)] == []
    assert not validator.is_valid({**MELTANO, "environments": [{"named": "prod"}]})


def test_nothing_is_deprecated_or_looked_up_on_the_hub() -> None:
    assert "version" not in MELTANO
    for plugin in (EXTRACTOR, *MELTANO["plugins"]["loaders"]):
        assert {"namespace", "pip_url", "executable", "settings"} <= plugin.keys()
        assert "variant" not in plugin
        for setting in plugin["settings"]:
            assert setting["kind"] not in {"password", "hidden"}


def test_settings_are_those_of_the_tap(about: dict[str, Any]) -> None:
    expected = []
    for name, schema in leaves(about["settings"]):
        types = [one for one in schema.get("type", ["string"]) if one != "null"]
        kind = "date_iso8601" if schema.get("format") == "date-time" else types[0]
        if "enum" in schema:
            kind = "options"
        if name == "faker_config.locale":
            kind = "array"  # or a string, which Meltano cannot say
        setting = {
            "name": name,
            "label": schema["title"],
            "description": schema["description"],
            "kind": kind,
        }
        if "default" in schema:
            setting["value"] = schema["default"]
        if schema.get("secret"):
            setting["sensitive"] = True
        expected.append(setting)
    settings = EXTRACTOR["settings"]
    assert [
        {key: setting[key] for key in setting if key != "options"}
        for setting in settings
    ] == expected
    assert {
        setting["name"]: [option["value"] for option in setting["options"]]
        for setting in settings
        if "options" in setting
    } == {
        name: schema["enum"]
        for name, schema in leaves(about["settings"])
        if "enum" in schema
    }
    assert EXTRACTOR["settings_group_validation"] == [about["settings"]["required"]]


def test_capabilities_are_those_of_the_tap(about: dict[str, Any]) -> None:
    assert sorted(about["capabilities"]) == EXTRACTOR["capabilities"]


def test_selects_what_the_tap_selects() -> None:
    selected = {
        stream["stream"]
        for stream in json.loads((ROOT / "tests" / "catalog.json").read_text())[
            "streams"
        ]
        for metadata in stream["metadata"]
        if metadata["breadcrumb"] == [] and metadata["metadata"].get("selected")
    }
    assert EXTRACTOR["select"] == [f"{name}.*" for name in sorted(selected)]


def test_readme_names_every_stream() -> None:
    catalog = json.loads((ROOT / "tests" / "catalog.json").read_text())
    readme = (ROOT / "README.md").read_text()
    for stream in catalog["streams"]:
        (key,) = stream["key_properties"]
        (line,) = (
            line
            for line in readme.splitlines()
            if line.startswith(f"| `{stream['stream']}` |")
        )
        assert f"`{key}`" in line
        assert stream["replication_method"].lower().replace("_", " ") in line
        (stream_itself,) = (m for m in stream["metadata"] if not m["breadcrumb"])
        selected = stream_itself["metadata"].get("selected", False)
        assert ("not selected" in line) == (not selected)


def test_prod_takes_the_key_from_the_environment(tmp_path: Path) -> None:
    settings = {"api_key": "ul_pat_mine", "start_date": "2024-01-31"}
    with MockAPI(Account.generate(rows=1), api_key="ul_pat_mine") as api:
        pipeline = Pipeline(tmp_path, api.url, "postgresql://mine", settings)
        prod = "--environment=prod"
        pipeline.meltano(prod, "invoke", "--no-install", "tap-unleash", "--test")
        assert {exchange.status for exchange in api.requests} == {200}
    config = json.loads(pipeline.meltano(prod, "config", "print", "tap-unleash"))
    assert config == {
        "api_key": "*****",
        "api_url": api.url,
        "start_date": "2024-01-31",
        "lookback_minutes": 60,
        "response_format": "size_optimized",
        "concurrency": 4,
        "request_timeout": 60,
        "emit_activate_version_messages": False,
    }


@pytest.mark.timeout(600)
def test_loads_postgres_whichever_endpoint_is_read(tmp_path: Path) -> None:
    account = Account.generate(rows=1500, non_ascii=True)
    (first, second) = (tmp_path / "first", tmp_path / "second")
    with postgres() as url, MockAPI(account, page_size=200) as api:
        for folder, form in (first, "size_optimized"), (second, "tableau"):
            folder.mkdir()
            # Without the state of the first, the second reads everything again.
            pipeline = Pipeline(folder, api.url, url, {"response_format": form})
            pipeline.run()
            rows = pipeline.rows()
            assert compare(api.truth(), rows) == (0, 0)
            assert len({row["record_id"] for row in rows}) == len(rows) == 4500
        assert pipeline.bookmarks().keys() == {row["device_id"] for row in rows}
        counts = {
            table: pipeline.query(f"SELECT count(*) FROM unleash.{table}")[0]["count"]  # noqa: S608
            for table in ("devices", "sessions")
        }
        columns = pipeline.query(
            "SELECT column_name, data_type FROM information_schema.columns "
            "WHERE table_schema = 'unleash' AND table_name = 'analytics' "
            "AND column_name NOT LIKE '\\_sdc\\_%'"
        )
    assert counts == {"devices": 4, "sessions": len(account.session_ids())}
    assert {column["column_name"]: column["data_type"] for column in columns} == {
        "record_id": "text",
        "device_id": "text",
        "session_id": "text",
        "model_id": "text",
        "source_file_name": "text",
        "class_name": "text",
        "count": "numeric",
        "frame_number": "bigint",
        "timestamp": "timestamp without time zone",
        "extra_fields": "jsonb",
    }


@pytest.mark.timeout(600)
def test_loads_flight_logs_if_they_are_selected(tmp_path: Path) -> None:
    account = Account.generate(rows=1500, non_ascii=True)
    with postgres() as url, MockAPI(account) as api:
        pipeline = Pipeline(tmp_path, api.url, url, {"_select": '["flight_logs.*"]'})
        # Without a bookmark, the second run emits the same records again.
        pipeline.run()
        pipeline.run()
        rows = pipeline.query("SELECT * FROM unleash.flight_logs")
    dates = ("flightStartDate", "flightEndDate")
    assert sorted(rows, key=itemgetter("id")) == [
        {
            **flight,
            **{name: instant(flight[name]) for name in dates},
            "extra_fields": None,
        }
        for flight in sorted(account.flights(), key=itemgetter("id"))
    ]
    assert len(rows) == 21
