"""Measure this tap and the alternatives, and write a table and a picture; see `--help`."""

from __future__ import annotations

import argparse
import os
import platform
import sys
from datetime import datetime, timezone
from pathlib import Path
from subprocess import CalledProcessError, check_output
from typing import Any

from benchmarks.contenders import CONTENDERS
from benchmarks.environments import OURS, PROGRAMS, ROOT, build, executable
from benchmarks.measure import MeasurementError
from benchmarks.picture import picture
from benchmarks.pipeline import PIPELINES
from benchmarks.report import report
from benchmarks.scenarios import SCENARIOS, Plan, measure

_PROGRAMS = [*CONTENDERS, *(name for name in PIPELINES if name not in CONTENDERS)]
_PINS = (
    "dlt",
    "meltano",
    "meltanolabs-target-postgres",
    "msgspec",
    "requests",
    "singer-sdk",
)


def main() -> int:
    """Return 1 if a program failed or emitted other rows than the API has, 0 otherwise."""
    arguments = _arguments()
    names = arguments.only or list(SCENARIOS)
    plan = Plan(
        runs=arguments.runs or (1 if arguments.quick else 5),
        scale=10 if arguments.quick else 1,
        programs=arguments.program or _PROGRAMS,
    )
    output: Path = arguments.output
    results: dict[str, Any] = {"scenarios": {}}
    results["environment"] = _environment()
    if arguments.quick:
        results["environment"]["data"] = "a tenth, so the figures mean nothing"
    failed = False
    for name in names:
        try:
            results["scenarios"][name] = measure(name, plan)
        except (CalledProcessError, MeasurementError) as error:
            failed = True
            results["scenarios"].pop(name, None)
            print(error, file=sys.stderr)
        _write(results, output)
    print(*report(results), sep="\n")
    return failed


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    add = parser.add_argument
    again = "may be given again"
    add("--only", action="append", choices=SCENARIOS, help=f"a scenario; {again}")
    add("--program", action="append", choices=_PROGRAMS, help=f"a program; {again}")
    add("--runs", type=int, help="how often each program runs (default: 5)")
    add("--quick", action="store_true", help="a tenth of the data, once")
    add(
        "--output",
        type=Path,
        default=ROOT / "build" / "bench",
        help="folder of results.md and the picture (default: build/bench)",
    )
    return parser.parse_args()


def _environment() -> dict[str, str]:
    files = PROGRAMS.glob("*/requirements.txt")
    pins = (line.split("==") for file in files for line in file.read_text().splitlines())
    versions = dict(sorted(pin for pin in pins if pin[0] in _PINS))
    build(OURS)
    tap = check_output([executable(OURS, OURS), "--version"], text=True)  # noqa: S603 - ours
    return {
        "when": f"{datetime.now(timezone.utc):%Y-%m-%d %H:%M} UTC",
        "Python": f"{platform.python_implementation()} {platform.python_version()}",
        "machine": f"{os.cpu_count()} CPUs, {platform.system()} {platform.machine()}",
        OURS: tap.strip().removeprefix(f"{OURS} v"),
        **versions,
    }


def _write(results: dict[str, Any], output: Path) -> None:
    output.mkdir(parents=True, exist_ok=True)
    (output / "results.md").write_text("\n".join(report(results)))
    (output / "throughput.svg").write_text(picture(results["scenarios"]))


if __name__ == "__main__":
    sys.exit(main())
