"""What surrounds the program: workflows, Dockerfiles, and the definitions for Meltano.

The schemas in `hub_schemas` are those of Meltano Hub.
"""

from __future__ import annotations

import json
import re
import sys
import xml.etree.ElementTree as ET
from datetime import date
from importlib.resources import files
from operator import itemgetter
from pathlib import Path
from typing import Any

import yaml
from jsonschema import Draft7Validator, Draft202012Validator
from programs import PROGRAMS, run
from referencing import Registry, Resource

from demo.pipeline import ROOT, Pipeline
from mock_api import Account, MockAPI
from tap_unleash.tap import TapUnleash

MELTANO: dict[str, Any] = yaml.safe_load((ROOT / "meltano.yml").read_text())
HUB: dict[str, Any] = yaml.safe_load((ROOT / "hub" / "tap-unleash.yml").read_text())


def test_workflows_and_dockerfiles_are_clean() -> None:
    run("make", "delivery")


def test_workflow_tests_every_python_that_is_promised() -> None:
    workflow = yaml.safe_load((ROOT / ".github/workflows/test.yml").read_text())
    about = json.loads(run(PROGRAMS / "tap-unleash", "--about", "--format=json"))
    versions = workflow["jobs"]["tests"]["strategy"]["matrix"]["python"]
    assert versions == about["supported_python_versions"]


def test_env_example_names_settings() -> None:
    names = re.findall(r"^#?TAP_UNLEASH_(\w+)=", (ROOT / ".env.example").read_text(), re.MULTILINE)
    assert {name.lower() for name in names} <= set(TapUnleash.config_jsonschema["properties"])


def test_hub_definition_is_generated_from_the_tap() -> None:
    definition = (ROOT / "hub" / "tap-unleash.yml").read_text()
    assert definition == run(sys.executable, "-m", "scripts.hub_definition"), "run `make hub`"


def hub_schema(uri: str) -> Resource[Any]:
    text = (ROOT / "tests" / "hub_schemas" / Path(uri).name).read_text()
    return Resource.from_contents(json.loads(text))


def test_hub_accepts_it() -> None:
    schema = hub_schema("extractors.schema.json").contents
    registry: Registry[Any] = Registry(retrieve=hub_schema)  # type: ignore[call-arg]
    validator = Draft7Validator(schema, registry=registry)
    assert [e.message for e in validator.iter_errors(HUB)] == []
    assert not validator.is_valid({**HUB, "settings": [{"kind": "date"}]})


def test_logo_is_a_picture_without_text() -> None:
    logo = ET.parse(ROOT / "hub" / "unleash-live.svg").getroot()  # noqa: S314
    tags = {element.tag.rpartition("}")[2] for element in logo.iter()}
    assert tags == {"svg", "title", "path", "circle"}  # and so transparent


def test_meltano_accepts_its_project() -> None:
    schema = json.loads((files("meltano") / "schemas/meltano.schema.json").read_text())
    validator = Draft202012Validator(schema)
    assert not validator.is_valid({**MELTANO, "environments": [{"named": "prod"}]})
    examples = [path.read_text() for path in ROOT.glob("examples/warehouses/*.yml")]
    for project in [MELTANO, *map(yaml.safe_load, examples)]:
        assert [error.message for error in validator.iter_errors(project)] == []


def test_the_extractor_is_that_of_the_hub_definition() -> None:
    extractor, _in_batches = MELTANO["plugins"]["extractors"]
    for name in ("capabilities", "executable", "namespace", "settings_group_validation"):
        assert extractor[name] == HUB[name]
    assert sorted(extractor["settings"], key=itemgetter("name")) == [
        setting | {"kind": setting["kind"].replace("password", "string")}
        for setting in HUB["settings"]
    ]


def test_prod_takes_the_key_from_the_environment(tmp_path: Path) -> None:
    with MockAPI(Account.generate(rows=1), api_key="ul_pat_mine") as api:
        pipeline = Pipeline(tmp_path, api.url, "postgresql://mine")
        variables = "TAP_UNLEASH_API_KEY=ul_pat_mine\nTAP_UNLEASH_START_DATE=2024-01-31\n"
        (tmp_path / ".env").write_text(variables)
        project = yaml.safe_load((tmp_path / "meltano.yml").read_text())
        # Without quotes, which makes it a date of YAML.
        project["plugins"]["extractors"][0]["config"] = {"end_date": date(2024, 1, 31)}
        (tmp_path / "meltano.yml").write_text(yaml.safe_dump(project))
        prod = "--environment=prod"
        pipeline.meltano(prod, "invoke", "--no-install", "tap-unleash", "--test")
        assert {exchange.status for exchange in api.requests} == {200}
    config = json.loads(pipeline.meltano(prod, "config", "print", "tap-unleash"))
    assert config == {
        "api_key": "*****",
        "api_url": api.url,
        "start_date": "2024-01-31",
        "end_date": "2024-01-31",
        "lookback_minutes": 60,
        "response_format": "size_optimized",
        "concurrency": 4,
        "request_timeout": 60,
    }
