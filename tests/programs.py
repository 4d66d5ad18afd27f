"""Programs that are run as a user or a workflow would run them."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

from demo.pipeline import ROOT

if TYPE_CHECKING:
    from pathlib import Path


def run(*command: str | Path, cwd: Path = ROOT, **env: str) -> str:
    """Run a program that must succeed, and give what it printed."""
    done = subprocess.run(
        command, cwd=cwd, env=os.environ | env, capture_output=True, check=False, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
