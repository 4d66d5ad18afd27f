"""Progress: a bar on a terminal, log lines elsewhere."""

from __future__ import annotations

import sys
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING

from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

if TYPE_CHECKING:
    import logging

LOG_INTERVAL = 30
"""Seconds between two log lines."""


class Progress(ExitStack):
    """Devices done, and records.

    Attributes:
        records: Number of records so far.
    """

    def __init__(self, devices: int, logger: logging.Logger) -> None:
        """Show that no device is done yet.

        Args:
            devices: Number of devices to read.
            logger: Takes the log lines if stderr is not a terminal.
        """
        super().__init__()
        self._logger = logger
        self._logged = time.monotonic()
        self.records = self._done = 0
        terminal = bool(sys.stderr and sys.stderr.isatty())
        form = "{l_bar}{bar}| {n:.0f}/{total} devices{postfix} [{elapsed}, {remaining} left]"
        self._bar = self.enter_context(tqdm(total=devices, bar_format=form, disable=not terminal))
        if terminal:
            self.enter_context(logging_redirect_tqdm())

    def advance(self, records: int, share: float) -> None:
        """Count emitted records.

        Args:
            records: Number of records since the last call.
            share: Share of the current device that is done.
        """
        self.records += records
        self._bar.set_postfix_str(f"{self.records:,} records", refresh=False)
        self._bar.update(self._done + share - self._bar.n)
        if self._bar.disable and time.monotonic() > self._logged + LOG_INTERVAL:
            self._logged = time.monotonic()
            done, devices = self._done + share, self._bar.total
            self._logger.info("%d of %d devices done, %d records", done, devices, self.records)

    def next_device(self) -> None:
        """Count a device."""
        self._done += 1
        self.advance(0, 0)
