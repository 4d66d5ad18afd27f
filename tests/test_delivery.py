"""How the tap reaches people: wheel, images, workflows; each step done by the real tool."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
import sysconfig
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from programs import run

from mock_api import Account, MockAPI
from tap_unleash.tap import TapUnleash

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[1]
SCRIPTS = Path(sysconfig.get_path("scripts"))


@pytest.fixture(scope="module")
def api() -> Iterator[MockAPI]:
    with MockAPI(Account.generate(devices=2, rows=30)) as server:
        yield server


@pytest.fixture(scope="module")
def settings(api: MockAPI) -> dict[str, str]:
    return {"TAP_UNLEASH_API_URL": api.url, "TAP_UNLEASH_API_KEY": "mock"}


def records(output: str) -> int:
    messages = map(json.loads, output.splitlines())
    return sum(m["type"] == "RECORD" and m["stream"] == "analytics" for m in messages)


def test_workflows_and_dockerfiles_are_clean() -> None:
    run("make", "delivery")


def test_workflow_tests_every_python_that_is_promised() -> None:
    workflow = yaml.safe_load((ROOT / ".github/workflows/test.yml").read_text())
    about = json.loads(run(SCRIPTS / "tap-unleash", "--about", "--format=json"))
    versions = workflow["jobs"]["tests"]["strategy"]["matrix"]["python"]
    assert versions == about["supported_python_versions"]


def test_env_example_names_settings() -> None:
    names = re.findall(r"^#?TAP_UNLEASH_(\w+)=", (ROOT / ".env.example").read_text(), re.MULTILINE)
    assert {name.lower() for name in names} <= set(TapUnleash.config_jsonschema["properties"])


def dockerfile(name: str) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """Read the instructions of the build stage, and those of the image."""
    text = re.sub(r"^#.*\n|\\\n", "", (ROOT / name).read_text(), flags=re.MULTILINE)
    steps = [line.partition(" ")[::2] for line in text.splitlines() if line]
    image = max(i for i, (word, _) in enumerate(steps) if word == "FROM")
    return steps[:image], steps[image:]


def build(name: str, root: Path) -> list[str]:
    """Do by hand what the build stage does, below a folder; give the entry point."""
    steps, image = dockerfile(name)
    env = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    workdir = root

    def below(text: str) -> str:
        return re.sub(r"/(opt|project|src)\b", rf"{root}/\1", text)

    for word, rest in steps:
        if word == "WORKDIR":
            workdir = Path(below(rest))
            workdir.mkdir(parents=True)
        elif word == "COPY":
            for line in (ROOT / ".dockerignore").read_text().splitlines():
                if line.startswith("!"):
                    source = ROOT / line[1:]
                    copy: Any = shutil.copytree if source.is_dir() else shutil.copy
                    copy(source, workdir / line[1:])
        elif word in {"ARG", "ENV"}:
            key, _, value = rest.partition("=")
            env[key] = re.sub(r"\$\{(\w+)\}", lambda found: env[found[1]], value)
        elif word == "RUN":
            run("sh", "-c", below(rest), cwd=workdir, **env)
    assert dict(image)["USER"] == "65532:65532"
    entry: list[str] = json.loads(below(dict(image)["ENTRYPOINT"]))
    return entry


def test_image_of_the_tap(tmp_path: Path, api: MockAPI, settings: dict[str, str]) -> None:
    tap = build("Dockerfile", tmp_path)
    assert "0.1.0.dev0" in run(*tap, "--version", cwd=tmp_path)
    shutil.rmtree(tmp_path / "src")  # it is not in the image
    output = run(*tap, "--config", "ENV", cwd=tmp_path, **settings)
    assert records(output) == len(api.truth())
