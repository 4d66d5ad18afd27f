"""The scenarios: programs take turns to read the same account of the mock API."""

# ruff: noqa: S603 - the programs run are our own

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, NamedTuple

from benchmarks.programs import EXTRACTORS, PIPELINES, VARIABLES, Program, Task
from demo.pipeline import compare
from demo.postgres import postgres
from mock_api import Account, MockAPI

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    Results = dict[str, dict[str, dict[str, float]]]

DEVICES = 20  # every fourth of which has no rows
ROWS = 19_963  # a last page that is full by chance would cost requests
_SPAWN = Path(__file__).with_name("spawn.py")


class Scenario(NamedTuple):
    """Programs to compare, and how the API answers them."""

    title: str
    programs: Mapping[str, Program]
    latency: float = 0
    concurrency: int = 4


SCENARIOS = {
    "cpu": Scenario("Extraction: no latency", EXTRACTORS),
    "network": Scenario(
        "Extraction: 100 ms per response, 16 concurrent requests if the program supports them",
        EXTRACTORS,
        latency=0.1,
        concurrency=16,
    ),
    "pipeline": Scenario("Pipelines into PostgreSQL: no latency", PIPELINES),
}


def measure(scenario: Scenario, runs: int, rows: int) -> dict[str, dict[str, float]]:
    """Run the programs in turn, so that disturbances affect all of them.

    Returns:
        The medians of the figures of each program.

    Raises:
        SystemExit: If a program failed, or emitted other rows than the API has.
    """
    costs: dict[str, list[dict[str, float]]] = {name: [] for name in scenario.programs}
    loads = scenario.programs is PIPELINES
    account = Account.generate(devices=DEVICES, rows=rows)
    with (
        MockAPI(account, latency=scenario.latency) as api,
        postgres() if loads else nullcontext("") as database,
    ):
        truth = api.truth()
        for name in [*costs] * runs:
            program, asked = scenario.programs[name], len(api.requests)
            with TemporaryDirectory() as folder:
                task = Task(api.url, Path(folder), scenario.concurrency, database)
                cost = _run(program.command(task), task.work)
                if (wrong := compare(truth, program.rows(task))) != (0, 0):
                    message = f"{name}: {wrong[0]} rows are missing, and {wrong[1]} are wrong"
                    raise SystemExit(message)
            cost["requests"] = len(api.requests) - asked
            cost["rows_a_second"] = len(truth) / cost["wall"]
            print(f"{name:24} {cost['wall']:8.2f} s {cost['cpu']:8.2f} s CPU", file=sys.stderr)
            costs[name].append(cost)
    return {
        name: {figure: median(cost[figure] for cost in found) for figure in found[0]}
        for name, found in costs.items()
    }


def _run(command: Sequence[str], work: Path) -> dict[str, float]:
    """Run a program in a folder, with its output in the files `stdout` and `stderr`."""
    variables = {"HOME": str(work), "LANG": "C.UTF-8", "PATH": os.environ["PATH"]}
    stderr = work / "stderr"
    spawned = subprocess.run(
        [sys.executable, "-I", "-S", _SPAWN, work / "stdout", stderr, *command],
        cwd=work,
        env=variables | VARIABLES,
        check=True,
        stdout=subprocess.PIPE,
    )
    code, wall, cpu, peak = json.loads(spawned.stdout)
    if code:
        message = f"{' '.join(command)} ended with {code}:\n{stderr.read_text()[-2_000:]}"
        raise SystemExit(message)
    return {"wall": wall, "cpu": cpu, "peak": peak / 1024}
