"""A pipeline as a user runs it: Meltano, the tap and a loader, from an example's file."""

from __future__ import annotations

import json
import re
import sys
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from programs import run

from demo.pipeline import compare
from mock_api import Account, MockAPI

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).parents[2]
PROGRAMS = Path(sys.executable).parent

Rows = list[dict[str, Any]]


def program(environment: str, name: str) -> Path:
    """Find a program of an environment, or skip the test."""
    path = ROOT / ".venvs" / environment / "bin" / name
    if not path.exists():
        pytest.skip(f"`make test-warehouses` installs {name} if possible")
    return path


def emulated(folder: Path, target: str) -> Path:
    """Write a program that runs a loader on an emulated warehouse."""
    python = program(target, "python")
    script = Path(__file__).with_name(f"emulated_{target.removeprefix('target-')}.py")
    loader = folder / target
    loader.write_text(f'#!/bin/sh\nexec "{python}" "{script}" "$@"\n')
    loader.chmod(0o755)
    return loader


def documented(target: str) -> dict[str, str]:
    """Return the types of the columns of `analytics` on the page of a destination."""
    page = (ROOT / "docs" / "destinations" / f"{target}.md").read_text()
    rows = re.findall(r"^\| (`[a-z_]+`.*) \| `(.+?)`.* \|$", page, re.MULTILINE)
    return {name: kind for names, kind in rows for name in re.findall("`(.+?)`", names)}


def query(loader: Path, sql: str, environment: dict[str, str]) -> Rows:
    """Query an emulated warehouse."""
    lines = run(loader, sql, cwd=ROOT, **environment).splitlines()
    return [json.loads(line) for line in lines]


def load_twice(  # noqa: PLR0913
    folder: Path,
    loader: Path,
    rows: Callable[[], Rows],
    environment: dict[str, str],
    *,
    tap: str = "tap-unleash",
    between: Callable[[], object] = lambda: None,
) -> Rows:
    """Run the project of an example, of which only the paths of the programs differ.

    Returns:
        The rows after a second run with new and late-arriving records.
    """
    name = loader.name.removeprefix("target-")
    example = ROOT / "examples" / "warehouses" / f"{name}.yml"
    project = yaml.safe_load(example.read_text())
    programs = {"tap-unleash": PROGRAMS / "tap-unleash", loader.name: loader}
    for plugin in chain.from_iterable(project["plugins"].values()):
        if "pip_url" in plugin:
            del plugin["pip_url"]
            plugin["executable"] = str(programs[plugin["name"]])
    (folder := folder / "project").mkdir()
    (folder / "meltano.yml").write_text(yaml.safe_dump(project))
    with MockAPI(Account.generate(rows=1000, non_ascii=True)) as api:
        environment = environment | {
            "NO_COLOR": "1",
            "TAP_UNLEASH_API_KEY": "mock",
            "TAP_UNLEASH_API_URL": api.url,
        }
        command = (PROGRAMS / "meltano", "run", tap, loader.name)
        run(*command, cwd=folder, **environment)
        assert compare(api.truth(), rows()) == (0, 0)
        between()
        api.account.grow(300)
        api.account.grow(100, late_minutes=30)
        run(*command, cwd=folder, **environment)
        loaded = {row["record_id"]: row for row in rows()}
        assert compare(api.truth(), loaded.values()) == (0, 0)
    assert len(loaded) == 4200
    return rows()
