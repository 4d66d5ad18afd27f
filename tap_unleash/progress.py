"""Progress: a bar for who watches, a line now and then for who reads the log."""

from __future__ import annotations

import sys
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import logging

LOG_INTERVAL = 30.0
"""Seconds at least between two lines in the log."""


class Progress:
    """Devices done, rows, rows a second and time left."""

    def __init__(self, devices: int, logger: logging.Logger) -> None:
        """Show that nothing is done yet.

        Args:
            devices: How many devices are to be read.
            logger: Where the lines go if stderr is no terminal.
        """
        self._devices = devices
        self._logger = logger
        self._devices_done = 0
        self._rows = 0
        self._started = self._logged = time.monotonic()
        self._bar = None
        self._closing = ExitStack()
        if sys.stderr.isatty():
            from tqdm import tqdm  # noqa: PLC0415 - most runs have no terminal
            from tqdm.contrib.logging import logging_redirect_tqdm  # noqa: PLC0415

            self._closing.enter_context(logging_redirect_tqdm())
            self._bar = self._closing.enter_context(
                tqdm(
                    total=devices,
                    unit="device",
                    bar_format="{l_bar}{bar}| {n:.0f}/{total} devices{postfix} "
                    "[{elapsed}, {remaining} left]",
                )
            )

    def advance(self, rows: int, share: float) -> None:
        """Count what went out.

        Args:
            rows: The rows that went out since the last time.
            share: How much of the current device is done; after 1 the next one follows.
        """
        self._rows += rows
        done = self._devices_done + share
        self._devices_done = int(done)
        now = time.monotonic()
        rate = self._rows / max(now - self._started, 1e-3)
        if self._bar is not None:
            self._bar.set_postfix_str(
                f"{self._rows:,} rows, {rate:,.0f}/s", refresh=False
            )
            self._bar.update(done - self._bar.n)
            if done >= self._devices:
                self._closing.close()
        elif now >= self._logged + LOG_INTERVAL:
            self._logged = now
            left = (now - self._started) * (self._devices / done - 1) if done else 0.0
            self._logger.info(
                "%d of %d devices done, %d rows, %.0f rows a second, about %.0f minutes left",
                self._devices_done,
                self._devices,
                self._rows,
                rate,
                left / 60,
            )
