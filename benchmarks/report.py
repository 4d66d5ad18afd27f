"""The results as tables."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

from benchmarks.scenarios import SCENARIOS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

Scenarios: TypeAlias = dict[str, dict[str, Any]]
"""The results by scenario."""

_INTRODUCTION = """\
Written by `make bench`. Programs take turns, and figures are medians of their runs. Each run
emitted exactly the rows of the mock API. Wall and CPU times are of the whole process,
including its start."""

_FIGURES = {
    "wall, s": ("wall", "{:,.2f}"),
    "CPU, s": ("cpu", "{:,.2f}"),
    "rows/s": ("rows_a_second", "{:,.0f}"),
    "peak, MiB": ("peak", "{:,.0f}"),
    "requests": ("requests", "{:,.0f}"),
}


def report(scenarios: Scenarios, environment: Mapping[str, str]) -> Iterator[str]:
    """Yield the lines of the report."""
    yield from ("# Benchmarks", "", _INTRODUCTION, "")
    for name, results in scenarios.items():
        yield from (f"## {SCENARIOS[name].title}", "")
        rows = [
            (program, *(form.format(cost[figure]) for figure, form in _FIGURES.values()))
            for program, cost in results["programs"].items()
        ]
        yield from _table(("program", *_FIGURES), rows)
    yield from ("## Environment", "")
    yield from _table(("", "value"), environment.items())


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """Lay out a Markdown table that is legible as text, too."""
    cells = [head, *rows]
    first, *others = (max(map(len, column)) for column in zip(*cells, strict=True))
    cells.insert(1, ["-" * first, *("-" * (width - 1) + ":" for width in others)])
    for name, *figures in cells:
        columns = [name.ljust(first), *map(str.rjust, figures, others)]
        yield f"| {' | '.join(columns)} |"
    yield ""
