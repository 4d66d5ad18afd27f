"""A virtual environment for each program.

All use the same interpreter: two builds of one version of Python differ by 20 %.
"""

# ruff: noqa: S603 - the programs run are our own

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

HERE = Path(__file__).parent
PROGRAMS = HERE / "programs"
ROOT = HERE.parent
OURS = "tap-unleash"


def executable(environment: str, program: str) -> str:
    """Return the path of a program in an environment."""
    return str(HERE / ".venvs" / environment / "bin" / program)


@cache
def build(environment: str) -> None:
    """Install the pinned packages, and our programs: again each time, and not editable."""
    python = Path(executable(environment, "python"))
    program = PROGRAMS / environment
    options = ("--compile-bytecode", "--python", python)
    _uv("venv", "--allow-existing", "--python", sys.executable, python.parents[1])
    if environment == OURS:
        pins = ("--constraints", ROOT / "constraints.txt")
        _uv("pip", "install", *options, *pins, "--reinstall-package", OURS, ROOT)
        return
    _uv("pip", "sync", *options, program / "requirements.txt")
    if (program / "pyproject.toml").exists():
        _uv("pip", "install", *options, "--no-deps", "--reinstall", program)


def _uv(*arguments: str | Path) -> None:
    folders = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))
    uv = shutil.which("uv", path=folders)
    if not uv:
        message = "uv is needed to build the environments: pip install uv"
        raise SystemExit(message)
    subprocess.run([uv, "--quiet", *arguments], check=True)
