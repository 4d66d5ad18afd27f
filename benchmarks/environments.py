"""A virtual environment for each program.

All use the same interpreter: two builds of one version of Python differ by 20 %.
"""

# ruff: noqa: S603 - the programs run are our own

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from hashlib import sha256
from pathlib import Path

HERE = Path(__file__).parent
PROGRAMS = HERE / "programs"
ROOT = HERE.parent
OURS = "tap-unleash"


def executable(environment: str, program: str) -> str:
    """Return the path of a program in an environment."""
    return str(HERE / ".venvs" / environment / "bin" / program)


def build(environment: str) -> None:
    """Build an environment of pinned packages, unless it exists.

    A program of this repository is installed again each time, and not editable.
    """
    python = Path(executable(environment, "python"))
    home = python.parents[1]
    program = PROGRAMS / environment
    ours = environment == OURS
    requirements = ROOT / "constraints.txt" if ours else program / "requirements.txt"
    pins = sha256(requirements.read_bytes() + sys.version.encode()).hexdigest()
    marker = home / "pins"
    install = ("pip", "install", "--compile-bytecode", "--python", python)
    if not marker.exists() or marker.read_text() != pins:
        _uv("venv", "--clear", "--python", sys.executable, home)
        if not ours:
            _uv(*install, "--requirements", requirements)
    if ours:
        again = ("--reinstall-package", OURS)
        _uv(*install, "--constraints", requirements, *again, ROOT)
    elif (program / "pyproject.toml").exists():
        _uv(*install, "--no-deps", "--reinstall", program)
    marker.write_text(pins)


def _uv(*arguments: str | Path) -> None:
    folders = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))
    uv = shutil.which("uv", path=folders)
    if not uv:
        message = "uv is needed to build the environments: pip install uv"
        raise SystemExit(message)
    subprocess.run([uv, "--quiet", *arguments], check=True)
