"""The results as tables, and the ratios that the tap must reach."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

from benchmarks.scenarios import SCENARIOS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

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


def report(results: dict[str, Any]) -> Iterator[str]:
    """Yield the lines of the report."""
    scenarios, environment = results["scenarios"], results["environment"]
    yield from ("# Benchmarks", "", _INTRODUCTION, "")
    if warning := environment.get("data"):
        yield from (f"**Data: {warning}.**", "")
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
