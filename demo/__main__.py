"""Load a synthetic account into PostgreSQL with Meltano, twice, and check every record."""

from __future__ import annotations

import argparse
import os
import re
import shlex
import signal
import sys
import time
from contextlib import ExitStack, contextmanager
from datetime import datetime, timedelta, timezone
from pathlib import Path
from subprocess import DEVNULL, run
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, NoReturn
from urllib.parse import urlsplit

from rich.console import Console
from rich.json import JSON

from demo import DemoError
from demo.pipeline import ROOT, TABLE, Pipeline, compare, instant
from demo.postgres import programs, start, stop
from mock_api import Account, MockAPI

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

REPORT = ROOT / "output" / "report.html"
DEVICES = 4
START, END = (datetime(2020, 8, day, tzinfo=timezone.utc) for day in (15, 17))
ROWS = 4_000
NEW_ROWS = 50
LATE_ROWS = 10
LATE_MINUTES = 45
LOOKBACK = timedelta(minutes=60)

SAMPLES = f"""
SELECT DISTINCT ON (class_name) json_strip_nulls(to_json(sample)) AS record
FROM {TABLE} AS sample
WHERE class_name IN ('person', 'number_of_groups', 'corrosion')
    AND count > 1 AND frame_number > 1 AND source_file_name LIKE '%.mp4'
ORDER BY class_name DESC, timestamp, record_id
"""  # noqa: S608
"""A person, a metric and a defect."""

console = Console(highlight=False, record=True)
say = console.print


def main() -> None:
    """Run the demo; exit with 1 if anything is off."""
    arguments = _arguments()
    if arguments.stop:
        stop(arguments.stop)
        return
    signal.signal(signal.SIGTERM, _interrupt)
    signal.signal(signal.SIGINT, _interrupt)
    try:
        with ExitStack() as stack:
            folder = Path(stack.enter_context(TemporaryDirectory()))
            removal = stack.enter_context(ExitStack())
            with _step("PostgreSQL starts"):
                files, database = start()
                removal.callback(stop, files)
            account = Account.generate(devices=DEVICES, rows=ROWS, start=START, end=END, daily=True)
            api = stack.enter_context(MockAPI(account, page_size=500))
            address = urlsplit(database).netloc.rpartition("@")[2]
            say(f"The mock API listens at {api.url},\nPostgreSQL at {address}.")
            # Whoever presses Ctrl-C twice still gets all of it cleaned up.
            for number in (signal.SIGINT, signal.SIGTERM):
                stack.callback(signal.signal, number, signal.SIG_IGN)
            show(api, Pipeline(folder, api.url, database))
            say("Next: your own data, with a token, as README.md shows.")
            if arguments.save:
                svg = console.export_svg(title="make demo")
                # Without the fonts that it would load from a server.
                svg = re.sub(r"@font-face \{.*?\}", "", svg, flags=re.DOTALL)
                arguments.save.write_text(" ".join(svg.split()) + "\n", encoding="utf-8")
            if arguments.keep:
                _show_commands(files, database)
                removal.pop_all()
    except DemoError as error:
        console.print(f"\n{error}", style="red", markup=False)
        sys.exit(1)
    except KeyboardInterrupt as interrupt:
        (number,) = interrupt.args
        say("\nInterrupted; nothing was left behind.")
        sys.exit(128 + number)


def show(api: MockAPI, pipeline: Pipeline) -> None:
    """Load everything, let new records appear, and load these.

    Args:
        api: The source.
        pipeline: Loads it.

    Raises:
        DemoError: If the table is not what it should be.
    """
    total = len(api.truth())
    say(f"\nThe account has {DEVICES} devices, one without data, and {total:,} records.\n")
    _load(api, pipeline)
    _show_samples(pipeline)
    before = _bookmarks(api, pipeline)

    asked = len(api.requests)
    api.account.grow(NEW_ROWS)
    api.account.grow(LATE_ROWS, late_minutes=LATE_MINUTES)
    grown = len(api.truth()) - total
    say(
        f"{grown} new records appear; {LATE_ROWS} per device are up to "
        f"{LATE_MINUTES} minutes late.\n"
    )
    [last] = pipeline.query("SELECT pg_current_xact_id()::text AS transaction")
    _load(api, pipeline)

    [fetched] = pipeline.query(
        f"SELECT count(*) AS rows FROM {TABLE} "  # noqa: S608
        f"WHERE xmin::text::bigint > {last['transaction']}"
    )
    expected = sum(
        instant(row["timestamp"]) >= instant(before[row["device_id"]]) - LOOKBACK
        for row in api.truth()
    )
    requests = len(api.requests) - asked
    if fetched["rows"] != expected:
        msg = f"The second run extracted {fetched['rows']} records, not {expected}."
        raise DemoError(msg)
    say(
        f"The second run made {requests} requests and extracted {expected} records: "
        f"the {grown} new ones and {expected - grown} in the lookback window of "
        f"{LOOKBACK.seconds // 60} minutes.\n"
    )
    bookmarks = _bookmarks(api, pipeline)
    say("Bookmarks (meltano state get):")
    for device in api.account.devices:
        say(f"{device}  {bookmarks.get(device, 'none (no records)')}")
    REPORT.parent.mkdir(exist_ok=True)
    program = [sys.executable, "examples/report.py", "--output", str(REPORT)]
    command = [*program, "--database", pipeline.database]
    run(command, check=True, cwd=ROOT, stdout=DEVNULL)  # noqa: S603
    say("\n[bold green]After both runs, the table held exactly the account's records.")
    say(f"A report on them, for your browser: {REPORT.relative_to(ROOT)}")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m demo", description=__doc__)
    add = parser.add_argument
    add("--keep", action="store_true", help="leave the database running at the end")
    add("--stop", metavar="FOLDER", type=Path, help="stop and remove such a database")
    add("--save", metavar="FILE", type=Path, help="write the output to this SVG file, too")
    arguments = parser.parse_args()
    # The folder is removed, whatever it holds.
    if arguments.stop and not (arguments.stop / "data" / "PG_VERSION").exists():
        parser.error(f"{arguments.stop} has no database")
    return arguments


def _load(api: MockAPI, pipeline: Pipeline) -> None:
    with _step("meltano run tap-unleash target-postgres"):
        pipeline.run()
    rows, truth = pipeline.rows(), api.truth()
    missing, unexpected = compare(truth, rows)
    duplicates = len(rows) - len({row["record_id"] for row in rows})
    say(
        f"Compared record by record: {len(truth):,} in the account, "
        f"{len(rows):,} in the table:\n{missing} missing, {unexpected} unexpected, "
        f"{duplicates} duplicates.\n"
    )
    if missing or unexpected or duplicates:
        msg = "The table does not hold exactly the records of the account."
        raise DemoError(msg)


def _show_samples(pipeline: Pipeline) -> None:
    samples = [row["record"] for row in pipeline.query(SAMPLES)]
    say(f"Three records of the table {TABLE}:\n", style="italic")
    lines = (JSON.from_data(sample, indent=None) for sample in samples)
    say(*lines, sep="\n\n", end="\n\n")
    first = samples[0]
    say(
        "The first record in words: In frame {frame_number} of the recording "
        "{source_file_name}, the model {model_id} found {count:g} persons.\n".format(**first)
    )


def _bookmarks(api: MockAPI, pipeline: Pipeline) -> dict[str, str]:
    bookmarks = pipeline.bookmarks()
    # The rows of a device are in the order of time.
    latest = {row["device_id"]: row["timestamp"] for row in api.truth()}
    if bookmarks != latest:
        msg = f"The bookmarks are not those of the latest records: {latest}"
        raise DemoError(msg)
    return bookmarks


def _show_commands(files: Path, database: str) -> None:
    psql = os.path.relpath(programs() / "psql")
    python = os.path.relpath(sys.executable)
    say("\nPostgreSQL keeps running. To connect:\n")
    say(shlex.join([psql, database]), markup=False, soft_wrap=True)
    say("\nTo stop it and remove its files:\n")
    command = [python, "-m", "demo", "--stop", str(files)]
    say(shlex.join(command), markup=False, soft_wrap=True)


@contextmanager
def _step(name: str) -> Iterator[None]:
    started = time.monotonic()
    with console.status(name):
        yield
    prompt = "[bold]$[/] " if name.startswith("meltano") else ""
    say(f"{prompt}{name} [dim]({time.monotonic() - started:.1f} s)")


def _interrupt(number: int, _frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt(number)


if __name__ == "__main__":
    main()
