"""Measure this tap and the alternatives, and write a table and a picture; see `--help`."""

from __future__ import annotations

import argparse
import os
import platform
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.picture import picture
from benchmarks.scenarios import DEVICES, ROWS, SCENARIOS, measure
from demo.pipeline import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from benchmarks.scenarios import Results

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


def main() -> None:
    """Measure, and write the results."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    add = parser.add_argument
    add("--only", action="append", choices=SCENARIOS, help="a scenario; may be given again")
    add("--runs", type=int, default=3, help="how often each program runs (default: 3)")
    add("--rows", type=int, default=ROWS, help=f"rows per device (default: {ROWS:,})")
    add("--output", type=Path, default=ROOT / "build" / "bench", help="default: build/bench")
    arguments = parser.parse_args()
    packages = ("singer-sdk", "msgspec", "requests", "meltano")
    pins = (ROOT / "benchmarks" / "dlt.txt").read_text().splitlines()
    environment = {
        "when": f"{datetime.now(timezone.utc):%Y-%m-%d %H:%M} UTC",
        "data": f"{DEVICES} devices, every fourth without rows; {arguments.rows:,} rows each",
        "Python": f"{platform.python_implementation()} {platform.python_version()}",
        "machine": f"{os.cpu_count()} CPUs, {platform.system()} {platform.machine()}",
        **{name: version(name) for name in ("tap-unleash", *packages)},
        "dlt": next(pin.removeprefix("dlt==") for pin in pins if pin.startswith("dlt==")),
    }
    results = {
        SCENARIOS[name].title: measure(SCENARIOS[name], arguments.runs, arguments.rows)
        for name in arguments.only or SCENARIOS
    }
    text = "\n".join(_report(results, environment))
    print(text)
    arguments.output.mkdir(parents=True, exist_ok=True)
    (arguments.output / "results.md").write_text(text)
    (arguments.output / "throughput.svg").write_text(picture(results))


def _report(results: Results, environment: Mapping[str, str]) -> Iterator[str]:
    """Yield the lines of the report."""
    yield from ("# Benchmarks", "", _INTRODUCTION, "")
    for title, programs in results.items():
        yield from (f"## {title}", "")
        rows = [
            (program, *(form.format(cost[figure]) for figure, form in _FIGURES.values()))
            for program, cost in programs.items()
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


if __name__ == "__main__":
    main()
