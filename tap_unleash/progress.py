"""Progress: a bar on a terminal, log lines elsewhere."""

from __future__ import annotations

import sys
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import logging

LOG_INTERVAL = 30.0
"""Least number of seconds between two log lines."""

MIN_SHARE = 0.01
"""Share of the work that must be done before the time left is estimated."""


class Progress:
    """Devices done, rows, rows per second and time left."""

    def __init__(self, devices: int, logger: logging.Logger) -> None:
        """Show that no device is done yet.

        Args:
            devices: Number of devices to read.
            logger: Takes the log lines if stderr is not a terminal.
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
        """Count emitted rows.

        Args:
            rows: Number of rows since the last call.
            share: Share of the current device that is done; after 1, the next device follows.
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
            self._logger.info(
                "%d of %d devices done, %d rows, %.0f rows/s%s",
                self._devices_done,
                self._devices,
                self._rows,
                rate,
                self._time_left(now, done),
            )

    def _time_left(self, now: float, done: float) -> str:
        if done < MIN_SHARE * self._devices:
            return ""
        left = (now - self._started) * (self._devices / done - 1)
        return f", about {left / 60:.0f} minutes left"
