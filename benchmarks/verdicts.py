"""What the tap must reach, and whether it did."""

from __future__ import annotations

import operator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from benchmarks.environments import OURS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Scenarios: TypeAlias = dict[str, dict[str, Any]]

_TEMPLATE = "SDK template"


@dataclass(frozen=True)
class Goal:
    """One row of the table.

    Attributes:
        what: The scenario and the figure.
        against: What it is compared with.
        required: The ratio, as it is written.
        limit: The ratio, as a number.
        measure: Takes the ratio from the results; KeyError when a part of them is missing.
        at_least: Whether the ratio is to be that great, not that small.
    """

    what: str
    against: str
    required: str
    limit: float
    measure: Callable[[Scenarios], float]
    at_least: bool = False


@dataclass(frozen=True)
class Verdict:
    """A goal and the measured ratio.

    Attributes:
        goal: The goal.
        measured: The ratio; None when it was not measured.
    """

    goal: Goal
    measured: float | None

    @property
    def word(self) -> str:
        """The verdict in a word."""
        if self.measured is None:
            return "not measured"
        compare = operator.ge if self.goal.at_least else operator.le
        return "reached" if compare(self.measured, self.goal.limit) else "**missed**"

    @property
    def ratio(self) -> str:
        """The ratio as the goal writes it."""
        if self.measured is None:
            return "-"
        if self.goal.required.startswith("≤ 1/"):
            return f"1/{1 / self.measured:.1f}"
        return f"{self.measured:.2f}"


def _ratio(
    scenario: str, ours: str, theirs: str, figure: str = "wall"
) -> Callable[[Scenarios], float]:
    def measure(scenarios: Scenarios) -> float:
        programs = scenarios[scenario]["programs"]
        return float(programs[ours][figure] / programs[theirs][figure])

    return measure


def _deep(scenarios: Scenarios) -> float:
    wall = scenarios["deep"]["programs"][OURS]["wall"]
    started = scenarios["startup"]["programs"][OURS]["wall"]
    return float((wall - started) / scenarios["deep"]["ideal"])


def _state(scenarios: Scenarios) -> float:
    return float(
        scenarios["devices"]["programs"][f"{OURS}, 5,000 devices"]["state_bytes"] / 1e6
    )


def _fastest_dlt(scenarios: Scenarios) -> float:
    return max(
        _ratio("cpu", OURS, program)(scenarios)
        for program in ("dlt", "dlt, 16 workers")
    )


GOALS = (
    Goal("CPU-bound, wall", _TEMPLATE, "≤ 1/8", 1 / 8, _ratio("cpu", OURS, _TEMPLATE)),
    Goal(
        "CPU-bound, distinct values, wall",
        _TEMPLATE,
        "≤ 1/8",
        1 / 8,
        _ratio("distinct", OURS, _TEMPLATE),
    ),
    Goal(
        "CPU-bound, CPU",
        _TEMPLATE,
        "≤ 1/8",
        1 / 8,
        _ratio("cpu", OURS, _TEMPLATE, "cpu"),
    ),
    Goal(
        "CPU-bound, wall",
        "dlt's extract, the faster of two",
        "≤ 1/2",
        1 / 2,
        _fastest_dlt,
    ),
    Goal(
        "CPU-bound, wall",
        "bare script with record IDs",
        "≤ 1.3",
        1.3,
        _ratio("cpu", OURS, "bare script, ids"),
    ),
    Goal(
        "Network-bound, wall",
        _TEMPLATE,
        "≤ 1/9",
        1 / 9,
        _ratio("network", OURS, _TEMPLATE),
    ),
    Goal(
        "Network-bound, wall",
        "dlt, 16 workers",
        "≤ 1/1.4",
        1 / 1.4,
        _ratio("network", OURS, "dlt, 16 workers"),
    ),
    Goal(
        "100 pages per device, wall without start-up",
        "requests * latency / concurrency",
        "≤ 1.12",
        1.12,
        _deep,
    ),
    Goal(
        "1,000 devices, wall",
        _TEMPLATE,
        "≤ 1/6",
        1 / 6,
        _ratio("devices", f"{OURS}, 1,000 devices", f"{_TEMPLATE}, 1,000 devices"),
    ),
    Goal(
        "5,000 devices, wall",
        _TEMPLATE,
        "≤ 1/35",
        1 / 35,
        _ratio("devices", f"{OURS}, 5,000 devices", f"{_TEMPLATE}, 5,000 devices"),
    ),
    Goal(
        "Pipeline, meltano run, wall",
        "dlt merge",
        "≤ 1.0",
        1,
        _ratio("pipeline", "meltano run", "dlt merge"),
    ),
    Goal(
        "Pipeline, meltano run, BATCH, wall",
        "dlt merge",
        "≤ 1/1.4",
        1 / 1.4,
        _ratio("pipeline", "meltano run, BATCH", "dlt merge"),
    ),
    Goal(
        "Pipeline with latency, meltano run, BATCH, wall",
        "dlt merge, parallelized",
        "≤ 1/1.5",
        1 / 1.5,
        _ratio("pipeline-network", "meltano run, BATCH", "dlt merge, parallelized"),
    ),
    Goal(
        "Pipeline, meltano run, wall",
        "meltano run, before",
        "≤ 1/2.2",
        1 / 2.2,
        _ratio("pipeline", "meltano run", "meltano run, before"),
    ),
    Goal("5,000 devices, STATE in MB", "-", "< 5", 5, _state),
    Goal(
        "10,000 devices, wall",
        "1,000 devices",
        "≤ 11",
        11,
        _ratio("devices", f"{OURS}, 10,000 devices", f"{OURS}, 1,000 devices"),
    ),
    Goal(
        "Resume with 5,000 partitions, rows/s",
        "1 partition",
        "≥ 0.9",
        0.9,
        _ratio("resume", "5,000 partitions", "1 partition", "rows_a_second"),
        at_least=True,
    ),
    Goal(
        "Start-up (`--version`), wall",
        _TEMPLATE,
        "≤ 1.1",
        1.1,
        _ratio("startup", OURS, _TEMPLATE),
    ),
    Goal(
        "Peak memory, CPU-bound",
        _TEMPLATE,
        "≤ 1.6",
        1.6,
        _ratio("cpu", OURS, _TEMPLATE, "peak"),
    ),
)


def verdicts(scenarios: Scenarios) -> Iterator[Verdict]:
    """Judge results.

    Args:
        scenarios: The results by scenario.

    Yields:
        The verdict of each goal.
    """
    for goal in GOALS:
        try:
            measured = goal.measure(scenarios)
        except KeyError:
            measured = None
        yield Verdict(goal, measured)
