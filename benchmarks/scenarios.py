"""What is run against what, and on which data."""

from __future__ import annotations

import statistics
import sys
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from benchmarks.contenders import CONTENDERS, Task, lines
from benchmarks.data import Shape, all_rows
from benchmarks.environments import OURS, executable
from benchmarks.measure import Cost, Digest, compare, run
from benchmarks.server import Server, serve

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

LATENCY = 0.1
CONCURRENCY = 16
PARTITIONS = 5_000
_PATIENCE = 60


@dataclass(frozen=True)
class Plan:
    """How much is measured.

    Attributes:
        runs: How often each program runs; one that takes more than a minute runs once.
        scale: By how much the data are made smaller.
        programs: The programs that are asked for.
    """

    runs: int
    scale: int
    programs: Sequence[str]


@dataclass(frozen=True)
class Entry:
    """A program that takes part in a scenario.

    Attributes:
        label: What it is called there.
        program: Which program it is.
        server: Where it reads.
        settings: Settings of ours.
        state: A state that ours goes on from.
    """

    label: str
    program: str
    server: Server
    settings: Mapping[str, Any] = field(default_factory=dict)
    state: Mapping[str, Any] | None = None


@dataclass
class Result:
    """What the runs of one program in one scenario came to.

    Attributes:
        rows: How many rows it emits.
        costs: What each run cost.
        facts: What else is worth telling of the last run.
    """

    rows: int
    costs: list[Cost] = field(default_factory=list)
    facts: dict[str, int] = field(default_factory=dict)

    def summary(self) -> dict[str, Any]:
        """Reduce the runs to medians.

        Returns:
            The medians, and the runs.
        """
        wall = statistics.median(cost.wall for cost in self.costs)
        return {
            "wall": wall,
            "cpu": statistics.median(cost.cpu for cost in self.costs),
            "peak": statistics.median(cost.peak for cost in self.costs),
            "rows": self.rows,
            "rows_a_second": self.rows / wall,
            **self.facts,
            "runs": [asdict(cost) for cost in self.costs],
        }


def tell(scenario: str, label: str, cost: Cost) -> None:
    """Say on stderr what a run cost.

    Args:
        scenario: The scenario.
        label: The program.
        cost: What it cost.
    """
    figures = f"{cost.wall:8.2f} s {cost.cpu:8.2f} s CPU {cost.peak:6.0f} MiB"
    print(f"{scenario:12} {label:32} {figures}", file=sys.stderr)


def interleave(scenario: str, plan: Plan, entries: Sequence[Entry]) -> dict[str, Any]:
    """Run programs in turn, so that what disturbs the machine disturbs all of them.

    Args:
        scenario: What the race is called.
        plan: How much is measured.
        entries: Who takes part.

    Returns:
        The summary of each.
    """
    entries = [entry for entry in entries if entry.program in plan.programs]
    expected = {
        entry.server.shape: Digest.of(all_rows(entry.server.shape)) for entry in entries
    }
    results = {entry.label: Result(entry.server.shape.total) for entry in entries}
    for turn in range(plan.runs):
        for entry in entries:
            result = results[entry.label]
            if turn and result.costs[0].wall > _PATIENCE:
                continue
            contender = CONTENDERS[entry.program]
            with TemporaryDirectory() as directory:
                work = Path(directory)
                command = contender.command(
                    Task(entry.server.url, work, entry.settings, entry.state)
                )
                entry.server.stats()
                cost = run(command, work, contender.variables)
                tell(scenario, entry.label, cost)
                compare(
                    f"{scenario}, {entry.label}",
                    Digest.of(contender.rows(work)),
                    expected[entry.server.shape],
                )
                state_bytes = sum(map(len, lines(work / "stdout", b'"STATE"')))
            result.costs.append(cost)
            result.facts = entry.server.stats() | {"state_bytes": state_bytes}
    return {label: result.summary() for label, result in results.items()}


def cpu(plan: Plan) -> dict[str, Any]:
    """Read as fast as the program can: no latency, 10 devices of 50,000 rows.

    Args:
        plan: How much is measured.

    Returns:
        The programs, and the rate of the server for a client that discards the rows.
    """
    programs = (
        OURS,
        "SDK template",
        "dlt",
        "dlt, 16 workers",
        "Airbyte CDK",
        "bare script",
        "bare script, ids",
        "bare script, 8 threads",
    )
    with serve(Shape(10, 50_000 // plan.scale)) as server:
        server.drain()
        rate = server.drain()
        return {
            "programs": interleave(
                "cpu", plan, [Entry(program, program, server) for program in programs]
            ),
            "server_rows_a_second": rate,
        }


def distinct(plan: Plan) -> dict[str, Any]:
    """Read rows that share next to no values, without latency.

    Args:
        plan: How much is measured.

    Returns:
        The programs.
    """
    with serve(Shape(10, 50_000 // plan.scale, distinct=True)) as server:
        entries = [
            Entry(program, program, server) for program in (OURS, "SDK template", "dlt")
        ]
        return {"programs": interleave("distinct", plan, entries)}


def network(plan: Plan) -> dict[str, Any]:
    """Wait for a slow API: 100 ms per response, 20 devices of 10 pages.

    Args:
        plan: How much is measured.

    Returns:
        The programs.
    """
    others = (
        "SDK template",
        "dlt",
        "dlt, 16 workers",
        "Airbyte CDK, 16 workers",
        "bare script, 16 threads",
    )
    with serve(Shape(20, 10_000 // plan.scale), LATENCY) as server:
        entries = [Entry(OURS, OURS, server, {"concurrency": CONCURRENCY})]
        entries += [Entry(program, program, server) for program in others]
        return {"programs": interleave("network", plan, entries)}


def deep(plan: Plan) -> dict[str, Any]:
    """Wait for a slow API with many pages: 100 ms per response, 10 devices of 100 pages.

    Args:
        plan: How much is measured.

    Returns:
        Ours, its start-up, and the seconds that the requests alone take.
    """
    with serve(Shape(10, 100_000 // plan.scale), LATENCY) as server:
        entry = Entry(OURS, OURS, server, {"concurrency": CONCURRENCY})
        return {
            "programs": interleave("deep", plan, [entry]),
            "ideal": server.shape.pages * LATENCY / CONCURRENCY,
        }


def devices(plan: Plan) -> dict[str, Any]:
    """Read many devices of 10 rows.

    Args:
        plan: How much is measured.

    Returns:
        The programs, by how many devices there were.
    """
    with ExitStack() as stack:
        small, large, huge = (
            stack.enter_context(serve(Shape(count // plan.scale, 10)))
            for count in (1_000, 5_000, 10_000)
        )
        entries = [
            Entry(
                f"{program}, {server.shape.devices * plan.scale:,} devices",
                program,
                server,
            )
            for program, server in (
                (OURS, small),
                ("SDK template", small),
                ("dlt", small),
                ("dlt, 16 workers", small),
                ("bare script", small),
                (OURS, large),
                ("SDK template", large),
                (OURS, huge),
            )
        ]
        return {"programs": interleave("devices", plan, entries)}


def resume(plan: Plan) -> dict[str, Any]:
    """Go on with one device when the state holds one, and when it holds 5,000.

    Args:
        plan: How much is measured.

    Returns:
        Ours with either state.
    """
    with serve(Shape(1, 500_000 // plan.scale, quiet=PARTITIONS - 1)) as server:
        chosen, *others = server.shape.device_ids
        entries = [
            Entry(
                label, OURS, server, {"device_ids": [chosen]}, _state([*before, chosen])
            )
            for label, before in (
                ("1 partition", []),
                (f"{PARTITIONS:,} partitions", others),
            )
        ]
        return {"programs": interleave("resume", plan, entries)}


def _state(device_ids: Sequence[str]) -> dict[str, Any]:
    partitions = [
        {
            "context": {"device_id": device_id},
            "replication_key": "timestamp",
            "replication_key_value": "2023-12-31T00:00:00.000Z",
        }
        for device_id in device_ids
    ]
    return {"bookmarks": {"analytics": {"partitions": partitions}}}


def concurrency(plan: Plan) -> dict[str, Any]:
    """Wait for a slow API with 1 to 16 requests in flight.

    Args:
        plan: How much is measured.

    Returns:
        Ours, by requests in flight.
    """
    with serve(Shape(20, 10_000 // plan.scale), LATENCY) as server:
        entries = [
            Entry(f"{count} in flight", OURS, server, {"concurrency": count})
            for count in (1, 2, 4, 8, 16)
        ]
        return {"programs": interleave("concurrency", plan, entries)}


def startup(plan: Plan) -> dict[str, Any]:
    """Print the version and end.

    Args:
        plan: How much is measured; this is quick, so it runs four times as often.

    Returns:
        The two taps.
    """
    commands = {
        OURS: executable(OURS, OURS),
        "SDK template": executable("template", "tap-template"),
    }
    results = {program: Result(0) for program in commands if program in plan.programs}
    with TemporaryDirectory() as directory:
        for _ in range(4 * plan.runs):
            for program, result in results.items():
                result.costs.append(
                    run([commands[program], "--version"], Path(directory), {})
                )
    for program, result in results.items():
        tell("startup", program, result.costs[-1])
    return {
        "programs": {program: result.summary() for program, result in results.items()}
    }
