"""Load a synthetic account into a real PostgreSQL with Meltano, twice, and check every row."""

from __future__ import annotations

import json
import signal
import sys
import time
from contextlib import ExitStack, contextmanager
from datetime import datetime, timedelta, timezone
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, NoReturn
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

import psycopg
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from demo.picture import chart, save
from demo.pipeline import ROOT, TABLE, MeltanoError, Pipeline, compare, instant
from demo.postgres import PostgresError, postgres
from mock_api import Account, MockAPI

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

PICTURE = ROOT / "output" / "detections.svg"
DEVICES = 4
START, END = (datetime(2020, 8, day, tzinfo=timezone.utc) for day in (15, 17))
ROWS = 4_000
NEW_ROWS = 50
LATE_ROWS = 10
LATE_MINUTES = 45
LOOKBACK = timedelta(minutes=60)

console = Console(highlight=False)
say = partial(console.print, soft_wrap=True)


class DemoError(Exception):
    """Something is not as it should be."""


def main() -> None:
    """Run the demo; exit with 1 if anything is off."""
    signal.signal(signal.SIGTERM, _interrupt)
    signal.signal(signal.SIGINT, _interrupt)
    try:
        with ExitStack() as stack:
            folder = Path(stack.enter_context(TemporaryDirectory()))
            with _step("PostgreSQL starts"):
                database = stack.enter_context(postgres())
            account = Account.generate(devices=DEVICES, rows=ROWS, start=START, end=END)
            api = stack.enter_context(MockAPI(account, page_size=500))
            address = urlsplit(database)
            say(f"from {api.url} to {address.hostname}:{address.port}")
            # Whoever presses Ctrl-C twice still gets all of it cleaned up.
            for number in (signal.SIGINT, signal.SIGTERM):
                stack.callback(signal.signal, number, signal.SIG_IGN)
            show(api, Pipeline(folder, api.url, database))
    except (DemoError, MeltanoError, PostgresError) as error:
        console.print(f"\n{error}", style="red", markup=False)
        sys.exit(1)
    except KeyboardInterrupt as interrupt:
        (number,) = interrupt.args
        say("\nInterrupted; nothing was left behind.")
        sys.exit(128 + number)


def show(api: MockAPI, pipeline: Pipeline) -> None:
    """Load everything, let new rows appear, and load these.

    Args:
        api: What is read.
        pipeline: Reads it.

    Raises:
        DemoError: If the table is not what it should be.
    """
    say(f"\nThe account: {DEVICES} devices, one of them silent, ", end="")
    say(f"and {len(api.truth()):,} rows.\n")
    _load(api, pipeline)
    _show_rows(pipeline)
    before = _show_bookmarks(api, pipeline)

    known, asked = len(api.truth()), len(api.requests)
    _grow(api, count=NEW_ROWS)
    _grow(api, count=LATE_ROWS, late_minutes=LATE_MINUTES)
    grown = len(api.truth()) - known
    say(f"{grown} new rows appear; {LATE_ROWS} a device are up to ", end="")
    say(f"{LATE_MINUTES} minutes late.\n")
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
        msg = f"The second run fetched {fetched['rows']} rows, not {expected}."
        raise DemoError(msg)
    say(
        f"The second run made {requests} requests and fetched {expected} rows: ", end=""
    )
    say(f"the {grown} new ones and {expected - grown} of the lookback of 60 minutes.\n")
    _show_bookmarks(api, pipeline)
    PICTURE.parent.mkdir(exist_ok=True)
    with psycopg.connect(pipeline.database) as connection:
        save(chart(connection), PICTURE)
    say(f"Detections per hour and class: {PICTURE}\n")
    say("[bold green]Both times the table held exactly the rows of the account.")


def _load(api: MockAPI, pipeline: Pipeline) -> None:
    with _step("meltano run tap-unleash target-postgres"):
        pipeline.run()
    rows, truth = pipeline.rows(), api.truth()
    missing, invented = compare(truth, rows)
    doubled = len(rows) - len({row["record_id"] for row in rows})
    say(f"Compared row by row: {len(truth):,} rows in the account, ", end="")
    say(f"{len(rows):,} in the table; {missing} missing, {invented} invented, ", end="")
    say(f"{doubled} doubled.\n")
    if missing or invented or doubled:
        msg = "The table does not hold exactly the rows of the account."
        raise DemoError(msg)


def _show_rows(pipeline: Pipeline) -> None:
    counts = pipeline.query(
        "SELECT device_id, class_name, count(*) AS rows "  # noqa: S608
        f"FROM {TABLE} GROUP BY 1, 2"
    )
    devices = sorted({row["device_id"] for row in counts})
    cells = {(row["class_name"], row["device_id"]): row["rows"] for row in counts}
    table = _table("Rows per class and device", "class")
    for device in devices:
        table.add_column(device, justify="right")
    for name in sorted({row["class_name"] for row in counts}):
        table.add_row(
            name, *(f"{cells.get((name, device), 0):,}" for device in devices)
        )
    console.print(table, "")


def _show_bookmarks(api: MockAPI, pipeline: Pipeline) -> dict[str, str]:
    bookmarks = pipeline.bookmarks()
    table = _table("Bookmarks, says `meltano state get`", "device", "bookmark")
    latest: dict[str, str] = {}
    for row in api.truth():
        device, timestamp = row["device_id"], row["timestamp"]
        latest[device] = max(latest.get(device, timestamp), timestamp, key=instant)
    for device in api.account.devices:
        table.add_row(device, bookmarks.get(device, "none: no row so far"))
    console.print(table, "")
    if bookmarks != latest:
        msg = f"The bookmarks should be those of the latest rows: {latest}"
        raise DemoError(msg)
    return bookmarks


def _grow(api: MockAPI, **growth: int) -> None:
    url = api.url.removesuffix("/v1") + "/mock/rows"
    headers = {"content-type": "application/json"}
    request = Request(url, json.dumps(growth).encode(), headers)  # noqa: S310
    with urlopen(request):  # noqa: S310
        pass


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    table.collapse_padding = True
    for column in columns:
        table.add_column(column, no_wrap=True)
    return table


@contextmanager
def _step(name: str) -> Iterator[None]:
    started = time.monotonic()
    with console.status(name):
        yield
    say(f"[bold]$[/] {name}" if name.startswith("meltano") else name, end=" ")
    say(f"[dim]({time.monotonic() - started:.1f} s)")


def _interrupt(number: int, _frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt(number)


if __name__ == "__main__":
    main()
