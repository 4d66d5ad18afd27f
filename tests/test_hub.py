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
    made = run(sys.executable, script, cwd=ROOT, LOGLEVEL="ERROR")
    assert DEFINITION.read_text() == made, "run `make hub`"


def test_hub_accepts_it() -> None:
    schema = hub_schema("extractors.schema.json").contents
    registry: Registry[Any] = Registry(retrieve=hub_schema)  # type: ignore[call-arg]
    validator = Draft7Validator(schema, registry=registry)
    definition = yaml.safe_load(DEFINITION.read_text())
    assert [e.message for e in validator.iter_errors(definition)] == []
    assert not validator.is_valid({**definition, "unheard_of": 1})
    assert not validator.is_valid({**definition, "settings": [{"kind": "date"}]})


def test_logo_is_a_picture_without_text() -> None:
    logo = ET.parse(ROOT / "hub" / "unleash-live.svg").getroot()  # noqa: S314
    tags = {element.tag.rpartition("}")[2] for element in logo.iter()}
    assert tags == {"svg", "title", "path", "circle"}  # and so transparent


@pytest.mark.timeout(600)
def test_meltano_adds_and_runs_it(tmp_path: Path) -> None:
    meltano, project = SCRIPTS / "meltano", tmp_path / "project"
    run(SCRIPTS / "uv", "build", "-q", "--wheel", "-o", tmp_path, cwd=ROOT)
    (wheel,) = tmp_path.glob("*.whl")
    definition = yaml.safe_load(DEFINITION.read_text()) | {"pip_url": str(wheel)}
    (tmp_path / "tap-unleash.yml").write_text(yaml.safe_dump(definition))
    loader = {
        "name": "target-jsonl",
        "namespace": "target_jsonl",
        "variant": "andyh1203",
        "pip_url": "target-jsonl==0.1.4",
        "settings": [{"name": "destination_path"}],
    }
    (tmp_path / "target-jsonl.yml").write_text(yaml.safe_dump(loader))
    quiet = {
        "MELTANO_CLI_DISABLE_VERSION_CHECK": "1",
        "MELTANO_SEND_ANONYMOUS_USAGE_STATS": "false",
        "NO_COLOR": "1",
    }
    run(meltano, "init", project, cwd=tmp_path, **quiet)
    for kind, name in ("extractor", "tap-unleash"), ("loader", "target-jsonl"):
        reference = ("--from-ref", tmp_path / f"{name}.yml", "--plugin-type", kind)
        run(meltano, "add", *reference, name, cwd=project, **quiet)
    listed = run(meltano, "config", "list", "tap-unleash", cwd=project, **quiet)
    assert "api_key [env: TAP_UNLEASH_API_KEY]" in listed
    rows = project / "output"
    with MockAPI(Account.generate(devices=3, rows=50)) as api:
        config = {
            "TAP_UNLEASH_API_URL": api.url,
            "TAP_UNLEASH_API_KEY": "mock",
            "TARGET_JSONL_DESTINATION_PATH": str(rows),
        }
        run(
            meltano,
            "run",
            "tap-unleash",
            "target-jsonl",
            cwd=project,
            **quiet,
            **config,
        )
        (file,) = rows.glob("analytics*.jsonl")
        loaded = map(json.loads, file.read_text().splitlines())
        truth = api.truth()
    own = {"record_id", "extra_fields"}
    assert sorted(map(sortable, truth)) == sorted(
        sortable({k: v for k, v in row.items() if k not in own}) for row in loaded
    )


def test_meltano_selects_what_the_definition_selects(tmp_path: Path) -> None:
    """From a lock file, as Meltano writes it for a plugin of the Hub."""
    definition = yaml.safe_load(DEFINITION.read_text())
    locks = tmp_path / "plugins" / "extractors"
    locks.mkdir(parents=True)
    lock = json.dumps(definition | {"plugin_type": "extractors"})
    (locks / f"tap-unleash--{definition['variant']}.lock").write_text(lock)
    plugin = {"name": "tap-unleash", "variant": definition["variant"]}
    project = {"project_id": "mine", "plugins": {"extractors": [plugin]}}
    (tmp_path / "meltano.yml").write_text(yaml.safe_dump(project))
    printed = run(
        *(SCRIPTS / "meltano", "config", "print", "tap-unleash", "--extras"),
        cwd=tmp_path,
        MELTANO_CLI_DISABLE_VERSION_CHECK="1",
        MELTANO_SEND_ANONYMOUS_USAGE_STATS="false",
        NO_COLOR="1",
    )
    selected = json.loads(printed)["_select"]
    assert selected == ["analytics.*", "devices.*", "sessions.*"]


def sortable(row: dict[str, Any]) -> str:
    return json.dumps(row, sort_keys=True)
