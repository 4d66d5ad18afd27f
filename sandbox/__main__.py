"""The command line: `python -m sandbox`."""

from __future__ import annotations

import argparse
import signal
import threading
from datetime import datetime, timezone
from typing import Literal, get_args, get_origin

from pydantic import ValidationError

from sandbox import Fault, Options, Sandbox, World
from sandbox.world import END, START


def _moment(text: str) -> datetime:
    moment = datetime.fromisoformat(text.replace("Z", "+00:00"))
    return moment.replace(tzinfo=moment.tzinfo or timezone.utc)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m sandbox",
        description=__doc__,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on")
    parser.add_argument(
        "--port", type=int, default=0, help="port to listen on; 0 chooses a free one"
    )
    parser.add_argument(
        "--devices",
        type=int,
        default=4,
        help="how many devices; every fourth is silent",
    )
    parser.add_argument(
        "--rows", type=int, default=1000, help="rows of each device that is not silent"
    )
    parser.add_argument(
        "--start", type=_moment, default=START, help="when the data begin, as ISO 8601"
    )
    parser.add_argument("--end", type=_moment, default=END, help="when they end")
    parser.add_argument(
        "--fault",
        type=Fault.parse,
        action="append",
        default=[],
        help="kind=status_503,where=analytics,rate=0.1,times=2,start=5 and so on, any number of times",
    )
    for name, field in Options.__pydantic_fields__.items():
        if name != "faults":
            choices = (
                get_args(field.annotation)
                if get_origin(field.annotation) is Literal
                else None
            )
            parser.add_argument(
                f"--{name.replace('_', '-')}",
                default=field.default,
                choices=choices,
                help=field.description,
            )
    return parser


def main() -> None:
    """Serve until SIGTERM or SIGINT."""
    parser = _parser()
    given = vars(parser.parse_args())
    place = {name: given.pop(name) for name in ("host", "port")}
    extent = {name: given.pop(name) for name in ("devices", "rows", "start", "end")}
    faults = given.pop("fault")
    stopped = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopped.set())
    try:
        sandbox = Sandbox(
            World.generate(**extent, seed=int(given["seed"])),
            **place,
            **given,
            faults=faults,
        )
    except ValidationError as error:
        parser.error(str(error))
    with sandbox:
        print(sandbox.url, flush=True)
        stopped.wait()


if __name__ == "__main__":
    main()
