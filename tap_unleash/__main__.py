"""Run the tap as a module: ``python -m tap_unleash``."""

from __future__ import annotations

import os
import sys

from tap_unleash.tap import TapUnleash


def main() -> None:
    """Run the tap, if the log level is valid: the SDK would print a traceback."""
    if not os.environ.get("LOGLEVEL"):
        os.environ.pop("LOGLEVEL", None)
    try:
        TapUnleash.cli()
    except ValueError as error:
        sys.exit(f"tap-unleash: {error}. Correct or unset LOGLEVEL and TAP_UNLEASH_LOGLEVEL.")


if __name__ == "__main__":
    main()
