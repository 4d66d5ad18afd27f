"""Programs that are run as a user or a workflow would run them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from demo.pipeline import ROOT

PROGRAMS = Path(sys.executable).parent
"""The folder of the programs of this environment."""


def run(*command: str | Path, cwd: Path = ROOT, **env: str) -> str:
    """Run a program that must succeed, and give what it printed."""
    done = subprocess.run(
        command, cwd=cwd, env=os.environ | env, capture_output=True, check=False, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def assert_serves(*command: str | Path, cwd: Path = ROOT, **env: str) -> None:
    """Check that a program starts the mock API; it is ended then."""
    with subprocess.Popen(
        command, cwd=cwd, env=os.environ | env, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout
        assert process.stdout.readline().startswith("http://127.0.0.1:")
        process.terminate()
