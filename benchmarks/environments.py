"""A virtual environment for each program.

All are of one interpreter: two builds of the same Python differ by 20 %.
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
ENVIRONMENTS = HERE / ".venvs"
ROOT = HERE.parent
OURS = "tap-unleash"


def executable(environment: str, program: str) -> str:
    """Say where a program of an environment is.

    Args:
        environment: The environment.
        program: The name of its console script.

    Returns:
        The path.
    """
    return str(ENVIRONMENTS / environment / "bin" / program)


def build(environment: str) -> None:
    """Build an environment unless it stands already.

    What is in it is pinned. A program of this repository is installed anew each time, and
    not editable.

    Args:
        environment: Its name.
    """
    home = ENVIRONMENTS / environment
    program = PROGRAMS / environment
    ours = environment == OURS
    requirements = ROOT / "constraints.txt" if ours else program / "requirements.txt"
    pins = sha256(requirements.read_bytes() + sys.version.encode()).hexdigest()
    marker = home / "pins"
    install = (
        "pip",
        "install",
        "--compile-bytecode",
        "--python",
        executable(environment, "python"),
    )
    if not marker.exists() or marker.read_text() != pins:
        _uv("venv", "--clear", "--python", sys.executable, str(home))
        if not ours:
            _uv(*install, "--requirements", str(requirements))
    if ours:
        _uv(
            *install,
            "--constraints",
            str(requirements),
            "--reinstall-package",
            OURS,
            str(ROOT),
        )
    elif (program / "pyproject.toml").exists():
        _uv(*install, "--no-deps", "--reinstall", str(program))
    marker.write_text(pins)


def _uv(*arguments: str) -> None:
    beside = Path(sys.executable).parent
    uv = shutil.which("uv", path=os.pathsep.join((str(beside), os.environ["PATH"])))
    if not uv:
        message = "uv is needed to build the environments: pip install uv"
        raise SystemExit(message)
    subprocess.run([uv, "--quiet", *arguments], check=True)
