"""A pipeline as a user runs it: Meltano, the tap and a loader, from an example's file."""

from __future__ import annotations

import sys
from itertools import chain
from pathlib import Path

import pytest
import yaml
from programs import run

ROOT = Path(__file__).parents[2]
ENVIRONMENTS = ROOT / ".venvs"
PROGRAMS = Path(sys.executable).parent


def program(environment: str, name: str) -> Path:
    """Find a program of an environment, or skip the test."""
    path = ENVIRONMENTS / environment / "bin" / name
    if not path.exists():
        pytest.skip(
            f"{name} is missing: `make test-warehouses` installs it if possible"
        )
    return path


class Project:
    """A Meltano project whose meltano.yml is an example of ours.

    Only the paths of the programs differ: installed ones are used.
    """

    def __init__(self, folder: Path, example: str, **programs: Path) -> None:
        """Write the project; names of programs have underscores instead of dashes."""
        self.folder = folder
        project = yaml.safe_load((ROOT / "examples" / example).read_text())
        programs = {"tap_unleash": PROGRAMS / "tap-unleash", **programs}
        for plugin in chain.from_iterable(project["plugins"].values()):
            if "pip_url" in plugin:
                del plugin["pip_url"]
                found = programs[plugin["name"].replace("-", "_")]
                plugin["executable"] = str(found)
        (folder / "meltano.yml").write_text(yaml.safe_dump(project))
        self.environment = {
            "MELTANO_CLI_LOG_LEVEL": "info",
            "NO_COLOR": "1",
            "TAP_UNLEASH_API_KEY": "mock",
        }

    def meltano(self, *arguments: str, **environment: str) -> str:
        """Run Meltano, which must succeed; return its output."""
        return run(
            PROGRAMS / "meltano",
            *arguments,
            cwd=self.folder,
            **(self.environment | environment),
        )
