"""Ask the live API what its documentation leaves open, and report without private data.

The credential is read from the environment variable TAP_UNLEASH_API_KEY.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from http import HTTPStatus
from pathlib import Path

from scripts.probe import report
from scripts.probe.asker import INTERVAL, MAX_REQUESTS, TIMEOUT, Asker, Stopped
from scripts.probe.exchange import OK
from scripts.probe.plan import probe
from tap_unleash.api.client import API_URL
from tap_unleash.api.errors import UnleashError
from tap_unleash.api.failures import HINTS
from tap_unleash.config import PREFIX, Config


class ProbeError(Exception):
    """The probe cannot be made; the message says why."""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m scripts.probe",
        description=__doc__,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    url = os.environ.get(f"{PREFIX}API_URL", API_URL)
    add("--api-url", default=url, help="base URL of the API")
    add("--device", help="device to examine; by default, one with rows is chosen")
    add("--start", help="start of the time range to examine, ISO 8601")
    add("--end", help="end of the time range to examine, ISO 8601; by default, now")
    add(
        "--budget",
        type=int,
        choices=range(1, MAX_REQUESTS + 1),
        metavar=f"1-{MAX_REQUESTS}",
        default=MAX_REQUESTS,
        help="most requests",
    )
    add(
        "--output",
        type=Path,
        default=Path("build", "probe"),
        help="folder of the report",
    )
    add("--timeout", type=float, default=TIMEOUT, help="most seconds for a response")
    return parser


def _config(given: argparse.Namespace) -> Config:
    """Check the options as the tap does."""
    key = os.environ.get(f"{PREFIX}API_KEY", "")
    if not key:
        msg = f"Missing credential. Set {PREFIX}API_KEY."
        raise ProbeError(msg)
    settings = {
        "api_key": key,
        "api_url": given.api_url,
        "start_date": given.start,
        "end_date": given.end,
        "lookback_minutes": 0,
        "response_format": "size_optimized",
        "concurrency": 1,
        "request_timeout": 1,
    }
    known = {name: value for name, value in settings.items() if value is not None}
    return Config.parse(known, now=time.time_ns() // 1_000_000)


def _check_writable(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name in ("report.json", "report.md"):
            with (folder / name).open("a"):
                pass
    except OSError as error:
        msg = f"Cannot write to '{folder}': {error.strerror}. Choose another --output."
        raise ProbeError(msg) from None


def run(ask: Asker, config: Config, device: str | None) -> report.Report:
    """Probe an API."""
    ended = ""
    try:
        version = ask.get("version", "version")
        if version.status is None:
            msg = f"The API does not respond: {ask.reason}."
            raise ProbeError(msg)
        if version.status != OK:
            raise ProbeError(_rejected(version.status))
        probe(ask, device, config.start, config.end)
    except Stopped as stopped:
        if not any(exchange.status == OK for exchange in ask.log):
            msg = f"The API does not respond: {ask.reason or stopped}."
            raise ProbeError(msg) from None
        ended = str(stopped)
    except KeyboardInterrupt:
        ended = "it was interrupted"
    # Plain HTTP is accepted for loopback addresses only.
    local = config.api_url.startswith("http:")
    return report.make(ask.log, loopback=local, ended=ended)


def _rejected(status: int) -> str:
    phrase = HTTPStatus(status).phrase if status in {*HTTPStatus} else ""
    what = f"The API rejected the request for its version (HTTP {status} {phrase})."
    if hint := HINTS.get(status, "Check --api-url." if status < 500 else ""):  # noqa: PLR2004
        return f"{what} {hint}".replace("'api_key'", f"{PREFIX}API_KEY").replace(
            "'api_url'", "--api-url"
        )
    return f"{what} Retry later."


def main() -> None:
    """Probe, and write the reports."""
    given = _parser().parse_args()
    try:
        config = _config(given)
        _check_writable(given.output)
        # Nobody needs politeness on this machine.
        interval = 0 if config.api_url.startswith("http:") else INTERVAL
        ask = Asker(
            config.api_url,
            config.api_key,
            budget=given.budget,
            interval=interval,
            timeout=given.timeout,
        )
        made = run(ask, config, given.device)
    except (ProbeError, UnleashError) as error:
        sys.exit(f"probe: {error}")
    write(made, given.output)
    print(f"{len(ask.log)} requests were sent.", end=" ")
    if made["ended_early"]:
        print(f"The probe ended early: {made['ended_early']}.", end=" ")
    print(f"Report: {given.output / 'report.md'}")


def write(made: report.Report, folder: Path) -> None:
    """Write both forms of a report."""
    text = json.dumps(made, indent=2, ensure_ascii=False)
    (folder / "report.json").write_text(f"{text}\n", encoding="utf-8")
    (folder / "report.md").write_text(report.markdown(made), encoding="utf-8")


if __name__ == "__main__":
    main()
