"""The command line: every error is one line, and files are UTF-8."""

from __future__ import annotations

import json
import logging
import os
import sys
from contextlib import suppress
from io import StringIO
from typing import Any, NoReturn

import click
from singer_sdk.plugin_base import SingerCommand
from typing_extensions import override

from tap_unleash.errors import FatalError, UnleashError
from tap_unleash.writer import buffer_stdout


class Command(SingerCommand):
    """Reports every error as one line."""

    @override
    def main(self, *args: Any, **kwargs: Any) -> Any:
        buffer_stdout()
        try:
            return super().main(*args, **kwargs)
        except Exception as error:
            self.logger.debug("Details of the error", exc_info=True)
            text = " ".join(str(error).split())
            known = isinstance(error, UnleashError)
            leave(1, text if known else f"{type(error).__name__}: {text}")


class JSONFile(click.File):
    """A JSON object in UTF-8, whatever the locale is."""

    @override
    def convert(self, *args: Any) -> Any:
        with suppress(ValueError):
            text = super().convert(*args).read()
            if isinstance(json.loads(text), dict):
                return StringIO(text)
        msg = f"Cannot read the {args[1].name} file: it is not a JSON object."
        raise FatalError(msg)


def leave(code: int, message: str) -> NoReturn:
    """End without waiting for requests in flight.

    Args:
        code: The exit code.
        message: The last line on stderr.
    """
    click.echo(f"tap-unleash: {message}", err=True)
    logging.shutdown()
    with suppress(OSError):
        sys.stdout.flush()
    os._exit(code)
