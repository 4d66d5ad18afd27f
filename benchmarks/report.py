"""The results as tables."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from benchmarks.verdicts import verdicts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from benchmarks.verdicts import Scenarios, Verdict

TITLES = {
    "cpu": "CPU-bound: no latency, 10 devices of 50,000 rows",
    "distinct": "CPU-bound, distinct values: no latency, 10 devices of 50,000 rows",
    "network": "Network-bound: 100 ms per response, 20 devices of 10 pages of 1,000 rows",
    "concurrency": "Network-bound, by number of concurrent requests",
    "deep": "Network-bound, 10 devices of 100 pages of 1,000 rows",
    "devices": "Many devices of 10 rows, no latency",
    "resume": "Resume of one device with 500,000 rows, by partitions in the state",
    "startup": "Start-up: `--version`",
    "pipeline": "Pipelines into PostgreSQL: no latency, 10 devices of 20,000 rows",
    "pipeline-network": "Pipelines into PostgreSQL: 100 ms per response, 16 concurrent",
}
_INTRODUCTION = """\
Written by `make bench`. Programs take turns. Figures are medians of their runs; a program that
takes more than a minute runs once. Each run emitted exactly the rows of the API. Wall and CPU
times are of the whole process, including its start. All programs write to files."""
_FIGURES = (
    ("wall, s", "wall", "{:,.2f}"),
    ("CPU, s", "cpu", "{:,.2f}"),
    ("rows/s", "rows_a_second", "{:,.0f}"),
    ("peak, MiB", "peak", "{:,.0f}"),
    ("requests", "requests", "{:,}"),
    ("concurrent", "peak_in_flight", "{}"),
    ("STATE, bytes", "state_bytes", "{:,}"),
    ("table, MB", "table_mb", "{:,}"),
)


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """Lay out a Markdown table, legible as text too.

    Args:
        head: The titles of the columns.
        rows: The cells.

    Yields:
        The lines.
    """
    cells = [head, *rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    first, *others = widths
    cells.insert(1, ["-" * first, *("-" * (width - 1) + ":" for width in others)])
    for row in cells:
        columns = [row[0].ljust(first), *map(str.rjust, row[1:], others)]
        yield f"| {' | '.join(columns)} |"
    yield ""


def comparison(scenarios: Scenarios, *, goals: bool = False) -> Iterator[str]:
    """Compare the tap with the alternatives.

    Args:
        scenarios: The results by scenario.
        goals: Whether to compare the ratios with the required ones, too.

    Yields:
        The lines.
    """
    columns: dict[str, Callable[[Verdict], str]] = {
        "scenario": lambda verdict: verdict.goal.what,
        "compared with": lambda verdict: verdict.goal.against,
        "ratio": lambda verdict: verdict.ratio,
    }
    if goals:
        columns["required"] = lambda verdict: verdict.goal.required
        columns["verdict"] = lambda verdict: verdict.word
    return table(
        tuple(columns),
        [
            [cell(verdict) for cell in columns.values()]
            for verdict in verdicts(scenarios)
        ],
    )


def markdown(results: dict[str, Any]) -> str:
    """Write the report.

    Args:
        results: What was measured, where, and with what.

    Returns:
        The report.
    """
    scenarios = results["scenarios"]
    return "\n".join(_lines(results["environment"], scenarios))


def _lines(environment: dict[str, str], scenarios: Scenarios) -> Iterator[str]:
    yield from ("# Benchmarks", "", _INTRODUCTION, "")
    if warning := environment.get("data"):
        yield from (f"**Data: {warning}.**", "")
    yield from comparison(scenarios)
    for name, title in TITLES.items():
        if name in scenarios:
            yield from (f"## {title}", "")
            yield from _scenario(scenarios[name])
    yield from ("## Environment", "")
    yield from table(("", "value"), environment.items())


def _scenario(results: dict[str, Any]) -> Iterator[str]:
    programs = results["programs"]
    columns = {
        title: [
            form.format(program[figure]) if figure in program else ""
            for program in programs.values()
        ]
        for title, figure, form in _FIGURES
    }
    columns["runs"] = [str(len(program["runs"])) for program in programs.values()]
    told = {
        title: cells
        for title, cells in columns.items()
        if any(cell not in {"", "0"} for cell in cells)
    }
    yield from table(("program", *told), zip(programs, *told.values(), strict=True))
    if rate := results.get("server_rows_a_second"):
        read = f"a client that discards them receives {rate:,.0f} rows/s"
        yield from (f"The server is not the limit: {read}.", "")
    if ideal := results.get("ideal"):
        yield from (f"Requests * latency / concurrency is {ideal:.2f} s.", "")
