"""The definition for Meltano Hub: it is the tap's, the Hub takes it, and Meltano runs it."""

from __future__ import annotations

import json
import sys
import sysconfig
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft7Validator
from programs import run
from referencing import Registry, Resource

from demo.pipeline import compare
from mock_api import Account, MockAPI

ROOT = Path(__file__).parents[1]
SCRIPTS = Path(sysconfig.get_path("scripts"))
DEFINITION = ROOT / "hub" / "tap-unleash.yml"
SCHEMAS = ROOT / "tests" / "hub_schemas"


def hub_schema(uri: str) -> Resource[Any]:
    text = SCHEMAS.joinpath(Path(uri).name).read_text()
    return Resource.from_contents(json.loads(text))


def test_definition_is_what_the_tap_says_of_itself() -> None:
    script = ROOT / "scripts" / "hub_definition.py"
    assert DEFINITION.read_text() == run(sys.executable, script), "run `make hub`"


def test_hub_accepts_it() -> None:
    schema = hub_schema("extractors.schema.json").contents
    registry: Registry[Any] = Registry(retrieve=hub_schema)  # type: ignore[call-arg]
    validator = Draft7Validator(schema, registry=registry)
    definition = yaml.safe_load(DEFINITION.read_text())
    assert [e.message for e in validator.iter_errors(definition)] == []
    assert not validator.is_valid({**definition, "settings": [{"kind": "date"}]})


def test_logo_is_a_picture_without_text() -> None:
    logo = ET.parse(ROOT / "hub" / "unleash-live.svg").getroot()  # noqa: S314
    tags = {element.tag.rpartition("}")[2] for element in logo.iter()}
    assert tags == {"svg", "title", "path", "circle"}  # and so transparent


@pytest.mark.timeout(600)
def test_meltano_adds_and_runs_it(tmp_path: Path) -> None:
    project = tmp_path / "project"
    run(SCRIPTS / "uv", "build", "-q", "--wheel", "-o", tmp_path, cwd=ROOT)
    (wheel,) = tmp_path.glob("*.whl")
    plugins = {
        "extractor": yaml.safe_load(DEFINITION.read_text()) | {"pip_url": str(wheel)},
        "loader": {
            "name": "target-jsonl",
            "namespace": "target_jsonl",
            "variant": "andyh1203",
            "pip_url": "target-jsonl==0.1.4",
            "settings": [{"name": "destination_path"}],
        },
    }
    with MockAPI(Account.generate(devices=3, rows=50)) as api:
        environment = {
            "MELTANO_CLI_DISABLE_VERSION_CHECK": "1",
            "MELTANO_SEND_ANONYMOUS_USAGE_STATS": "false",
            "NO_COLOR": "1",
            "TAP_UNLEASH_API_URL": api.url,
            "TAP_UNLEASH_API_KEY": "mock",
            "TARGET_JSONL_DESTINATION_PATH": str(tmp_path),
        }

        def meltano(*arguments: str | Path, cwd: Path = project) -> str:
            return run(SCRIPTS / "meltano", *arguments, cwd=cwd, **environment)

        meltano("init", project, cwd=tmp_path)
        for kind, plugin in plugins.items():
            (file := tmp_path / f"{kind}.yml").write_text(yaml.safe_dump(plugin))
            meltano("add", "--from-ref", file, "--plugin-type", kind, plugin["name"])
        listed = meltano("config", "list", "tap-unleash")
        assert "api_key [env: TAP_UNLEASH_API_KEY]" in listed
        meltano("run", "tap-unleash", "target-jsonl")
        (file,) = tmp_path.glob("analytics*.jsonl")
        loaded = map(json.loads, file.read_text().splitlines())
        assert compare(api.truth(), loaded) == (0, 0)
