"""The command line: files are UTF-8, and the last line says why the run ended."""

from __future__ import annotations

import logging
import os
import sys
from contextlib import suppress
from io import StringIO
from typing import Any, NoReturn

import click
import msgspec
from typing_extensions import override

from tap_unleash.errors import FatalError


class JSONFile(click.File):
    """A JSON object in UTF-8, whatever the locale is."""

    @override
    def convert(self, *args: Any) -> Any:
        reason = "it is not a JSON object"
        try:
            text = super().convert(*args).read()
            msgspec.json.decode(text, type=dict)
            return StringIO(text)
        except (ValueError, msgspec.DecodeError):
            pass
        except click.BadParameter as error:
            reason = error.message
        msg = f"Cannot read the {args[1].name} file: {reason}."
        raise FatalError(msg)


JSON_FILE = JSONFile(encoding="utf-8-sig")


def leave(code: int, message: str) -> NoReturn:
    """End without waiting for requests in flight.

    Args:
        code: The exit code.
        message: The last line on stderr.
    """
    click.echo(f"tap-unleash: {message}", err=True)
    logging.shutdown()
    with suppress(OSError, AttributeError):  # the latter if it was closed from the start
        sys.stdout.flush()
    os._exit(code)
