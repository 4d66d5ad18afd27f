"""What surrounds the program: workflows, Dockerfiles, the example of an environment."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import yaml
from programs import run

from tap_unleash.tap import TapUnleash

ROOT = Path(__file__).parents[1]


def test_workflows_and_dockerfiles_are_clean() -> None:
    run("make", "delivery")


def test_workflow_tests_every_python_that_is_promised() -> None:
    workflow = yaml.safe_load((ROOT / ".github/workflows/test.yml").read_text())
    tap = Path(sys.executable).with_name("tap-unleash")
    about = json.loads(run(tap, "--about", "--format=json"))
    versions = workflow["jobs"]["tests"]["strategy"]["matrix"]["python"]
    assert versions == about["supported_python_versions"]


def test_env_example_names_settings() -> None:
    names = re.findall(r"^#?TAP_UNLEASH_(\w+)=", (ROOT / ".env.example").read_text(), re.MULTILINE)
    assert {name.lower() for name in names} <= set(TapUnleash.config_jsonschema["properties"])
