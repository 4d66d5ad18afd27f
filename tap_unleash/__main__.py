"""Run the tap: ``python -m tap_unleash``. Every error is one line."""

from __future__ import annotations

import os

from tap_unleash.cli import leave
from tap_unleash.errors import UnleashError
from tap_unleash.tap import TapUnleash
from tap_unleash.writer import buffer_stdout


def main() -> None:
    """Run the command line."""
    if not os.environ.get("LOGLEVEL"):
        os.environ.pop("LOGLEVEL", None)
    logger = TapUnleash.logger
    try:
        command = TapUnleash.cli  # sets the log level
    except ValueError as error:
        leave(1, f"{error}. Correct or unset LOGLEVEL and TAP_UNLEASH_LOGLEVEL.")
    try:
        buffer_stdout()
        command()
    except Exception as error:
        logger.debug("Details of the error", exc_info=True)
        text = " ".join(str(error).split())
        known = isinstance(error, UnleashError)
        leave(1, text if known else f"{type(error).__name__}: {text}")


if __name__ == "__main__":
    main()
