"""The cost of a run, and the rows that it emitted."""

# ruff: noqa: S603 - the programs run are our own

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from benchmarks.data import Row

_SPAWN = Path(__file__).with_name("spawn.py")
_LOG_TAIL = 2_000


class MeasurementError(Exception):
    """A program failed, or emitted other rows than the API has."""


@dataclass(frozen=True)
class Cost:
    """The cost of a run."""

    wall: float  # seconds
    cpu: float  # seconds, user and system
    peak: float  # memory in MiB


def digest(rows: Iterable[Row]) -> tuple[int, int]:
    """Return the number of rows, and a checksum that does not depend on their order."""
    count = total = 0
    for row in rows:
        count += 1
        total += hash(row)
    return count, total


def run(command: Sequence[str], work: Path, variables: Mapping[str, str]) -> Cost:
    """Run a program in a folder, with its output in the files `stdout` and `stderr`."""
    minimum = {
        "HOME": str(work),
        "LANG": "C.UTF-8",
        "NO_PROXY": "127.0.0.1",
        "PATH": os.environ["PATH"],
    }
    stderr = work / "stderr"
    spawned = subprocess.run(
        [sys.executable, "-I", "-S", _SPAWN, work / "stdout", stderr, *command],
        cwd=work,
        env=minimum | dict(variables),
        check=True,
        stdout=subprocess.PIPE,
    )
    code, wall, cpu, peak = json.loads(spawned.stdout)
    if code:
        log = stderr.read_text()[-_LOG_TAIL:]
        message = f"{' '.join(command)} ended with {code}:\n{log}"
        raise MeasurementError(message)
    return Cost(wall, cpu, peak / 1024)
