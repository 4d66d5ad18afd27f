"""The pages show the examples that are tested."""

from __future__ import annotations

import json
from importlib.metadata import files
from pathlib import Path

import jsonschema
import pytest
import yaml

ROOT = Path(__file__).parents[1]
WAREHOUSES = sorted((ROOT / "examples" / "warehouses").glob("*.yml"))

by_name = pytest.mark.parametrize("example", WAREHOUSES, ids=lambda path: path.stem)


@by_name
def test_page_shows_the_example(example: Path) -> None:
    page = (ROOT / "docs" / "destinations" / example.stem).with_suffix(".md")
    assert f"```yaml\n{example.read_text()}```" in page.read_text()


@by_name
def test_example_is_a_valid_project(example: Path) -> None:
    (schema,) = (
        file
        for file in files("meltano") or []
        if str(file).endswith("schemas/meltano.schema.json")
    )
    jsonschema.validate(
        yaml.safe_load(example.read_text()), json.loads(schema.read_text())
    )
