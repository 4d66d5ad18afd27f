"""The scenarios: which programs read which data, and how they take turns."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, NamedTuple

from benchmarks.contenders import CONTENDERS, Contender, Task, lines
from benchmarks.data import Shape
from benchmarks.environments import build
from benchmarks.measure import Cost, MeasurementError, digest, run
from benchmarks.pipeline import PIPELINES, drop
from benchmarks.server import requested, serve
from demo.postgres import postgres

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

LATENCY = 0.1
CONCURRENCY = 16
_PATIENCE = 60  # seconds: a program that takes longer runs once


class Plan(NamedTuple):
    """The options of a measurement."""

    runs: int
    scale: int  # divisor of the amount of data
    programs: Sequence[str]


@dataclass(frozen=True)
class Entry:
    """A program that takes part in a scenario."""

    program: str
    shape: Shape
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Scenario:
    """Programs to compare, and how the API answers them."""

    title: str
    entries: Sequence[Entry]
    programs: Mapping[str, Contender] = field(default_factory=lambda: CONTENDERS)
    latency: float = 0


def measure(name: str, plan: Plan) -> dict[str, Any]:
    """Run the programs of a scenario in turn, so that disturbances affect all of them."""
    scenario = SCENARIOS[name]
    entries = {entry.program: entry for entry in scenario.entries if entry.program in plan.programs}
    for entry in entries.values():
        for environment in scenario.programs[entry.program].environments:
            build(environment)
    results: dict[str, dict[str, Any]] = {}
    runs: dict[str, list[Cost]] = {label: [] for label in entries}
    with ExitStack() as stack:
        loads = entries and scenario.programs is PIPELINES
        database = stack.enter_context(postgres()) if loads else ""
        urls = {}
        expected = {}
        for shape in {entry.shape for entry in entries.values()}:
            scaled = shape.scaled(plan.scale)
            urls[shape] = stack.enter_context(serve(scaled, scenario.latency))
            expected[shape] = digest(scaled.all_rows())
        for turn in range(plan.runs):
            for label, entry in entries.items():
                costs = runs[label]
                if turn and costs[0].wall > _PATIENCE:
                    continue
                with TemporaryDirectory() as folder:
                    task = Task(
                        url=urls[entry.shape],
                        work=Path(folder),
                        settings=entry.settings,
                        database=database,
                    )
                    cost, rows, facts = _run(scenario.programs[entry.program], task)
                figures = f"{cost.wall:8.2f} s {cost.cpu:8.2f} s CPU {cost.peak:6.0f} MiB"
                print(f"{name:16} {label:32} {figures}", file=sys.stderr)
                if rows != expected[entry.shape]:
                    message = f"{name}, {label}: {rows}, not {expected[entry.shape]}"
                    raise MeasurementError(message)
                costs.append(cost)
                results[label] = _medians(costs, rows[0]) | facts
    return {"programs": {label: results[label] for label in entries}}


def _run(program: Contender, task: Task) -> tuple[Cost, tuple[int, int], dict[str, int]]:
    command = program.command(task)
    requested(task.url)
    cost = run(command, task.work, program.variables)
    facts = requested(task.url)
    facts["state_bytes"] = sum(map(len, lines(task.work / "stdout", b'"STATE"')))
    rows = digest(program.rows(task))
    if task.database:
        facts["table_mb"] = drop(task.database)
    return cost, rows, facts


def _medians(costs: list[Cost], rows: int) -> dict[str, Any]:
    figures = [asdict(cost) for cost in costs]
    medians = {name: median(run[name] for run in figures) for name in figures[0]}
    rate = rows / medians["wall"]
    return {**medians, "rows": rows, "rows_a_second": rate, "runs": figures}


def _each(shape: Shape, *programs: str, **settings: object) -> list[Entry]:
    return [Entry(program, shape, settings) for program in programs]


# A last page that is full by chance costs requests, so no device has whole pages.
SCENARIOS = {
    "cpu": Scenario(
        "CPU-bound: no latency, 10 devices of 50,000 rows",
        _each(Shape(10, 49_963), *CONTENDERS),
    ),
    "network": Scenario(
        "Network-bound: 100 ms per response, 20 devices of 10 pages of 1,000 rows",
        _each(Shape(20, 9_963), *CONTENDERS, concurrency=CONCURRENCY),
        latency=LATENCY,
    ),
    "pipeline": Scenario(
        "Pipelines into PostgreSQL: no latency, 10 devices of 20,000 rows",
        _each(Shape(10, 20_000), *PIPELINES, concurrency=4),
        PIPELINES,
    ),
}
