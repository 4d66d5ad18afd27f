"""The ratios that the tap must reach, and those that it has reached."""

from __future__ import annotations

import operator
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from benchmarks.contenders import TEMPLATE
from benchmarks.data import PAGE_ROWS
from benchmarks.environments import OURS
from benchmarks.scenarios import CONCURRENCY, LATENCY

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Scenarios: TypeAlias = dict[str, dict[str, Any]]
"""The results by scenario."""

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


def _devices(required: str, devices: int) -> _Goal:
    ours, theirs = (f"{program}, {devices:,} devices" for program in (OURS, TEMPLATE))
    return _ratio(f"{devices:,} devices, wall", required, "devices", theirs, ours)


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
    _ratio(
        "10,000 devices, wall",
        "≤ 11",
        "devices",
        f"{OURS}, 1,000 devices",
        f"{OURS}, 10,000 devices",
    ),
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


def verdicts(scenarios: Scenarios) -> Iterator[tuple[str, str, str, str, str]]:
    """Yield the cells of the table: the measured ratio, the required one, and a verdict."""
    for figure, against, required, measure in _GOALS:
        ratio, verdict = "-", "not measured"
        with suppress(KeyError):
            measured = measure(scenarios)
            sign, limit = required.split()
            if limit.startswith("1/"):
                ratio = f"1/{1 / measured:.1f}"
                required_ratio = 1 / float(limit.removeprefix("1/"))
            else:
                ratio = f"{measured:.2f}"
                required_ratio = float(limit)
            reached = _OPERATORS[sign](measured, required_ratio)
            verdict = "reached" if reached else "**missed**"
        yield figure, against, ratio, required, verdict
