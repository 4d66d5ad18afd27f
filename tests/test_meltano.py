"""meltano.yml: it is valid, and says what the tap says of itself."""

from __future__ import annotations

import json
from datetime import date
from importlib.resources import files
from operator import itemgetter
from typing import TYPE_CHECKING, Any

import yaml
from jsonschema import Draft202012Validator

from demo.pipeline import ROOT, Pipeline
from mock_api import Account, MockAPI

if TYPE_CHECKING:
    from pathlib import Path

MELTANO: dict[str, Any] = yaml.safe_load((ROOT / "meltano.yml").read_text())
HUB: dict[str, Any] = yaml.safe_load((ROOT / "hub" / "tap-unleash.yml").read_text())
EXTRACTOR, _in_batches = MELTANO["plugins"]["extractors"]


def test_meltano_accepts_it() -> None:
    schema = json.loads((files("meltano") / "schemas/meltano.schema.json").read_text())
    validator = Draft202012Validator(schema)
    assert [error.message for error in validator.iter_errors(MELTANO)] == []
    assert not validator.is_valid({**MELTANO, "environments": [{"named": "prod"}]})


def test_the_extractor_is_that_of_the_hub_definition() -> None:
    for name in ("capabilities", "executable", "namespace", "settings_group_validation"):
        assert EXTRACTOR[name] == HUB[name]
    by_name = itemgetter("name")
    assert sorted(EXTRACTOR["settings"], key=by_name) == [
        setting | {"kind": setting["kind"].replace("password", "string")}
        for setting in HUB["settings"]
    ]


def test_prod_takes_the_key_from_the_environment(tmp_path: Path) -> None:
    settings = {"api_key": "ul_pat_mine", "start_date": "2024-01-31"}
    with MockAPI(Account.generate(rows=1), api_key="ul_pat_mine") as api:
        pipeline = Pipeline(tmp_path, api.url, "postgresql://mine", settings)
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
