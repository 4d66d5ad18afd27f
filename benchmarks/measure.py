"""What a run costs, and which rows came out of it."""

# ruff: noqa: S603 - the programs run are our own

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from benchmarks.data import Row

_SPAWN = Path(__file__).with_name("spawn.py")
_MASK = (1 << 64) - 1
_LAST_WORDS = 2_000


@dataclass(frozen=True)
class Cost:
    """What a run costs.

    Attributes:
        wall: Seconds from start to end.
        cpu: Seconds of CPU, user and system.
        peak: The greatest memory, in MiB.
    """

    wall: float
    cpu: float
    peak: float


class Digest(NamedTuple):
    """Rows as a multiset, whatever their order.

    Attributes:
        rows: How many they are.
        total: The sum of their hashes; good within one process.
    """

    rows: int
    total: int

    @classmethod
    def of(cls, rows: Iterable[Row]) -> Digest:
        """Reduce rows.

        Args:
            rows: The rows.

        Returns:
            What is equal when the rows are.
        """
        count = total = 0
        for row in rows:
            count += 1
            total += hash(row)
        return cls(count, total & _MASK)


class ProgramFailedError(Exception):
    """A program ended with an error."""


class RowsDifferError(Exception):
    """A program emitted other rows than the API has."""


def compare(who: str, emitted: Digest, expected: Digest) -> None:
    """Insist on the API's rows.

    Args:
        who: What emitted rows.
        emitted: Those rows.
        expected: The API's rows.

    Raises:
        RowsDifferError: They are not the same.
    """
    if emitted != expected:
        message = f"{who}: {emitted.rows:,} rows, not these {expected.rows:,}"
        raise RowsDifferError(message)


def run(command: Sequence[str], work: Path, variables: Mapping[str, str]) -> Cost:
    """Run a program with its output in the files `stdout` and `stderr`.

    Args:
        command: The program and its arguments.
        work: Where it runs and the files are.
        variables: What its environment holds beside the least that programs need.

    Returns:
        What it cost.

    Raises:
        ProgramFailedError: It ended with an error.
    """
    least = {
        "HOME": str(work),
        "LANG": "C.UTF-8",
        "NO_PROXY": "127.0.0.1",
        "PATH": os.environ["PATH"],
    }
    stdout, stderr = work / "stdout", work / "stderr"
    spawned = subprocess.run(
        [sys.executable, "-I", "-S", str(_SPAWN), str(stdout), str(stderr), *command],
        cwd=work,
        env=least | dict(variables),
        check=True,
        stdout=subprocess.PIPE,
    )
    code, wall, cpu, peak = json.loads(spawned.stdout)
    if code:
        said = stderr.read_text()[-_LAST_WORDS:]
        message = f"{' '.join(command)} ended with {code}:\n{said}"
        raise ProgramFailedError(message)
    return Cost(wall, cpu, peak / 1024)
