"""The results as tables, and the ratios that the tap must reach."""

from __future__ import annotations

import operator
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from benchmarks.contenders import TEMPLATE
from benchmarks.data import PAGE_ROWS
from benchmarks.environments import OURS
from benchmarks.scenarios import CONCURRENCY, LATENCY, SCENARIOS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

Scenarios: TypeAlias = dict[str, dict[str, Any]]
"""The results by scenario."""

_INTRODUCTION = """\
Written by `make bench`. Programs take turns. Figures are medians of their runs; a program that
takes more than a minute runs once. Each run emitted exactly the rows of the API. Wall and CPU
times are of the whole process, including its start. All programs write to files."""

_FIGURES = {
    "wall, s": ("wall", "{:,.2f}"),
    "CPU, s": ("cpu", "{:,.2f}"),
    "rows/s": ("rows_a_second", "{:,.0f}"),
    "peak, MiB": ("peak", "{:,.0f}"),
    "requests": ("requests", "{:,}"),
    "concurrent": ("peak_in_flight", "{}"),
    "STATE, bytes": ("state_bytes", "{:,}"),
    "table, MB": ("table_mb", "{:,}"),
}

_OPERATORS = {"≤": operator.le, "<": operator.lt, "≥": operator.ge}
_DLT = "dlt, 16 workers"
_IDEAL = "requests * latency / concurrency"


class _Goal(NamedTuple):
    figure: str
    against: str
    required: str
    measure: Callable[[Scenarios], float]  # KeyError if it was not measured


def _ratio(  # noqa: PLR0913 - a row of the table
    title: str,
    required: str,
    scenario: str,
    theirs: str = TEMPLATE,
    ours: str = OURS,
    *,
    figure: str = "wall",
) -> _Goal:
    def measure(scenarios: Scenarios) -> float:
        programs = scenarios[scenario]["programs"]
        return float(programs[ours][figure] / programs[theirs][figure])

    return _Goal(title, theirs, required, measure)


def _devices(required: str, devices: int, theirs: str = "") -> _Goal:
    title = f"{devices:,} devices"
    ours, template = f"{OURS}, {title}", f"{TEMPLATE}, {title}"
    return _ratio(f"{title}, wall", required, "devices", theirs or template, ours)


def _pipeline(required: str, ours: str, theirs: str, *, latency: bool = False) -> _Goal:
    title = "Pipeline with latency" if latency else "Pipeline"
    scenario = "pipeline-network" if latency else "pipeline"
    return _ratio(f"{title}, {ours}, wall", required, scenario, theirs, ours)


def _deep(scenarios: Scenarios) -> float:
    deep = scenarios["deep"]["programs"][OURS]
    startup = scenarios["startup"]["programs"][OURS]
    ideal = deep["rows"] / PAGE_ROWS * LATENCY / CONCURRENCY
    return float((deep["wall"] - startup["wall"]) / ideal)


def _state(scenarios: Scenarios) -> float:
    ours = scenarios["devices"]["programs"][f"{OURS}, 5,000 devices"]
    return float(ours["state_bytes"] / 1e6)


_GOALS = (
    _ratio("CPU-bound, wall", "≤ 1/8", "cpu"),
    _ratio("CPU-bound, distinct values, wall", "≤ 1/8", "distinct"),
    _ratio("CPU-bound, CPU", "≤ 1/8", "cpu", figure="cpu"),
    _ratio("CPU-bound, wall", "≤ 1/2", "cpu", "dlt"),
    _ratio("CPU-bound, wall", "≤ 1/2", "cpu", _DLT),
    _ratio("CPU-bound, wall", "≤ 1.3", "cpu", "bare script, ids"),
    _ratio(
        "CPU-bound, without extra_fields, CPU",
        "≤ 1.1",
        "selection",
        "all fields",
        "without extra_fields",
        figure="cpu",
    ),
    _ratio("Network-bound, wall", "≤ 1/9", "network"),
    _ratio("Network-bound, wall", "≤ 1/1.4", "network", _DLT),
    _Goal("100 pages per device, wall without start-up", _IDEAL, "≤ 1.12", _deep),
    _devices("≤ 1/6", 1_000),
    _devices("≤ 1/35", 5_000),
    _pipeline("≤ 1.0", "meltano run", "dlt merge"),
    _pipeline("≤ 1/1.4", "meltano run, BATCH", "dlt merge"),
    _pipeline("≤ 1/1.5", "meltano run, BATCH", "dlt merge, parallelized", latency=True),
    _pipeline("≤ 1/2.2", "meltano run", "meltano run, before"),
    _Goal("5,000 devices, STATE in MB", "-", "< 5", _state),
    _devices("≤ 11", 10_000, f"{OURS}, 1,000 devices"),
    _ratio(
        "Resume with 5,000 partitions, rows/s",
        "≥ 0.9",
        "resume",
        "1 partition",
        "5,000 partitions",
        figure="rows_a_second",
    ),
    _ratio("Start-up (`--version`), wall", "≤ 1.1", "startup"),
    _ratio("Peak memory, CPU-bound", "≤ 1.6", "cpu", figure="peak"),
)


def comparison(scenarios: Scenarios, *, goals: bool = False) -> Iterator[str]:
    """Compare the tap with the alternatives, and on request with the required ratios."""
    columns = ("scenario", "compared with", "ratio", "required", "verdict")
    shown = slice(None if goals else 3)
    return _table(columns[shown], (row[shown] for row in _verdicts(scenarios)))


def _verdicts(scenarios: Scenarios) -> Iterator[tuple[str, str, str, str, str]]:
    """Yield the cells of the table: the measured ratio, the required one, and a verdict."""
    for figure, against, required, measure in _GOALS:
        ratio, verdict = "-", "not measured"
        with suppress(KeyError):
            measured = measure(scenarios)
            sign, limit = required.split()
            inverse, number = limit.startswith("1/"), float(limit.removeprefix("1/"))
            ratio = f"1/{1 / measured:.1f}" if inverse else f"{measured:.2f}"
            reached = _OPERATORS[sign](measured, 1 / number if inverse else number)
            verdict = "reached" if reached else "**missed**"
        yield figure, against, ratio, required, verdict


def report(results: dict[str, Any]) -> Iterator[str]:
    """Yield the lines of the report."""
    scenarios, environment = results["scenarios"], results["environment"]
    yield from ("# Benchmarks", "", _INTRODUCTION, "")
    if warning := environment.get("data"):
        yield from (f"**Data: {warning}.**", "")
    yield from comparison(scenarios)
    for name, scenario in SCENARIOS.items():
        if results := scenarios.get(name):
            yield from (f"## {scenario.title}", "")
            yield from _programs(results["programs"])
    yield from ("## Environment", "")
    yield from _table(("", "value"), environment.items())


def _programs(programs: dict[str, dict[str, Any]]) -> Iterator[str]:
    columns = {
        title: [
            form.format(program[figure]) if program.get(figure) else ""
            for program in programs.values()
        ]
        for title, (figure, form) in _FIGURES.items()
    }
    columns["runs"] = [str(len(program["runs"])) for program in programs.values()]
    shown = {title: cells for title, cells in columns.items() if any(cells)}
    yield from _table(("program", *shown), zip(programs, *shown.values(), strict=True))


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """Lay out a Markdown table that is legible as text, too."""
    cells = [head, *rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    first, *others = widths
    cells.insert(1, ["-" * first, *("-" * (width - 1) + ":" for width in others)])
    for name, *figures in cells:
        columns = [name.ljust(first), *map(str.rjust, figures, others)]
        yield f"| {' | '.join(columns)} |"
    yield ""
