"""The results as tables."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from benchmarks.scenarios import SCENARIOS
from benchmarks.verdicts import verdicts

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from benchmarks.verdicts import Scenarios

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


def comparison(scenarios: Scenarios, *, goals: bool = False) -> Iterator[str]:
    """Compare the tap with the alternatives, and if asked with the required ratios."""
    columns = ("scenario", "compared with", "ratio", "required", "verdict")
    shown = slice(None if goals else 3)
    return _table(columns[shown], (row[shown] for row in verdicts(scenarios)))


def markdown(results: dict[str, Any]) -> str:
    """Return the report."""
    return "\n".join(_lines(results["scenarios"], results["environment"]))


def _lines(scenarios: Scenarios, environment: dict[str, str]) -> Iterator[str]:
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
