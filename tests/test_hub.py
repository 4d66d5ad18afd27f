"""The definition for Meltano Hub: it is the tap's, and the Hub accepts it."""

from __future__ import annotations

import json
import sys
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import yaml
from jsonschema import Draft7Validator
from programs import run
from referencing import Registry, Resource

ROOT = Path(__file__).parents[1]
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
