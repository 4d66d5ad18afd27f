"""Serve the documented Unleash live Analytics API on localhost, with synthetic data."""

from __future__ import annotations

import argparse
import signal
import threading
from typing import TYPE_CHECKING, Literal, get_args, get_origin

from pydantic import ValidationError

from mock_api import Account, Fault, MockAPI, Options

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m mock_api",
        description=__doc__,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("--port", type=int, default=0, help="port to listen on; 0 for a free one")
    add("--devices", type=int, default=4, help="number of devices; every fourth has no rows")
    add("--rows", type=int, default=1000, help="rows per device, except for every fourth")
    add(
        "--fault",
        dest="faults",
        metavar="SPEC",
        type=Fault.parse,
        action="append",
        default=[],
        help="fault to inject, such as kind=status_503,rate=0.1; may be repeated",
    )
    fields: dict[str, FieldInfo] = vars(Options)["__pydantic_fields__"]
    for name, field in fields.items():
        if name != "faults":
            literal = get_origin(field.annotation) is Literal
            choices = get_args(field.annotation) if literal else None
            text = (field.description or "").replace("%", "%%")
            add(f"--{name.replace('_', '-')}", default=field.default, choices=choices, help=text)
    return parser


def main() -> None:
    """Serve until SIGTERM or SIGINT."""
    stopped = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopped.set())
    parser = _parser()
    given = vars(parser.parse_args())
    port, devices, rows = (given.pop(name) for name in ("port", "devices", "rows"))
    try:
        options = Options(**given)
    except ValidationError as error:
        parser.error(str(error))
    account = Account.generate(devices=devices, rows=rows, seed=options.seed)
    with MockAPI(account, port=port, **vars(options)) as api:
        print(api.url, flush=True)
        stopped.wait()


if __name__ == "__main__":
    main()
