"""Serve the documented Unleash live Analytics API on localhost, with synthetic data."""

from __future__ import annotations

import argparse
import signal
import threading
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Literal, get_args, get_origin

from pydantic import ValidationError

from mock_api import Account, Fault, MockAPI, Options
from mock_api.account import END, START

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo


def _moment(text: str) -> datetime:
    moment = datetime.fromisoformat(text.replace("Z", "+00:00"))
    return moment.replace(tzinfo=moment.tzinfo or timezone.utc)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m mock_api",
        description=__doc__,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("--host", default="127.0.0.1", help="address to listen on")
    add("--port", type=int, default=0, help="port to listen on; 0 for a free one")
    add(
        "--devices",
        type=int,
        default=4,
        help="number of devices; every fourth has no rows",
    )
    add(
        "--rows",
        type=int,
        default=1000,
        help="rows per device, except for every fourth",
    )
    add(
        "--start",
        type=_moment,
        default=START,
        help="start of the data, inclusive, ISO 8601",
    )
    add("--end", type=_moment, default=END, help="end of the data, exclusive, ISO 8601")
    add(
        "--rows-per-second",
        type=int,
        help="rows in each second from the start on, whatever the end is, some of them "
        "identical; by default, the rows are spread over the time",
    )
    add(
        "--fault",
        dest="faults",
        metavar="SPEC",
        type=Fault.parse,
        action="append",
        default=[],
        help="fault to inject, such as "
        "kind=status_503,where=analytics,rate=0.1,times=2,start=5; may be repeated",
    )
    fields: dict[str, FieldInfo] = vars(Options)["__pydantic_fields__"]
    for name, field in fields.items():
        if name != "faults":
            choice = get_origin(field.annotation) is Literal
            add(
                f"--{name.replace('_', '-')}",
                default=field.default,
                choices=get_args(field.annotation) if choice else None,
                help=field.description,
            )
    return parser


def main() -> None:
    """Serve until SIGTERM or SIGINT."""
    stopped = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopped.set())
    parser = _parser()
    given = vars(parser.parse_args())
    place = {name: given.pop(name) for name in ("host", "port")}
    names = ("devices", "rows", "start", "end", "rows_per_second")
    extent = {name: given.pop(name) for name in names}
    try:
        options = Options(**given)
    except ValidationError as error:
        parser.error(str(error))
    account = Account.generate(**extent, seed=options.seed)
    with MockAPI(account, **place, **vars(options)) as api:
        print(api.url, flush=True)
        stopped.wait()


if __name__ == "__main__":
    main()
