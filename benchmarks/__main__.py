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
from benchmarks.report import report
from benchmarks.scenarios import DEVICES, ROWS, SCENARIOS, measure
from demo.pipeline import ROOT

if TYPE_CHECKING:
    from benchmarks.report import Scenarios


def main() -> None:
    """Measure, and write the results."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    add = parser.add_argument
    add("--only", action="append", choices=SCENARIOS, help="a scenario; may be given again")
    add("--runs", type=int, default=5, help="how often each program runs (default: 5)")
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
    scenarios: Scenarios = {
        name: {"programs": measure(SCENARIOS[name], arguments.runs, arguments.rows)}
        for name in arguments.only or SCENARIOS
    }
    text = "\n".join(report(scenarios, environment))
    print(text)
    arguments.output.mkdir(parents=True, exist_ok=True)
    (arguments.output / "results.md").write_text(text)
    (arguments.output / "throughput.svg").write_text(picture(scenarios))


if __name__ == "__main__":
    main()
