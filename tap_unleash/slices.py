"""Time slices: the pieces in which a device's history is read."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from tap_unleash.client import TapError
from tap_unleash.page import timestamp

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from tap_unleash.page import Page

EARLIEST = 1_000_000_000_000
"""The first instant asked for, in epoch milliseconds (2001-09-09): the documentation shows
instants of 13 digits only, and this is the first of them."""

SHORTEST = 1_000
"""Milliseconds below which a slice is not divided."""


@dataclass(frozen=True, slots=True)
class Slice:
    """A half-open range of one device's time, in epoch milliseconds.

    Nobody says whether the API takes the bounds of a range as in or out of it. So it is
    asked for a millisecond more at the start, and up to the first instant behind the end:
    under any reading of the bounds every row of the slice is in the answer, and rows of
    the slices beside it may be; those are left to these.

    Attributes:
        device_id: The device.
        start: First instant.
        end: First instant behind it.
        last: Whether it is the last slice of its device in this run.
    """

    device_id: str
    start: int
    end: int
    last: bool = True

    @property
    def bounds(self) -> tuple[int, int]:
        """The bounds to ask the API for."""
        return max(self.start - 1, EARLIEST), self.end

    @property
    def divisible(self) -> bool:
        """Whether it can be divided."""
        return self.end - self.start > SHORTEST

    def halves(self) -> list[Slice]:
        """Divide it in the middle."""
        return self._at([(self.start + self.end) // 2])

    def cut(self, parts: int, instants: list[int]) -> list[Slice]:
        """Divide the time in which there are rows into parts of equal length.

        Args:
            parts: Into about how many.
            instants: Those of some of its rows, the earliest and latest among them if the
                API sorts them: the more of its time they miss, the more cuts are needed.

        Returns:
            The slices, which together are this one.
        """
        low = max(min(instants, default=self.start), self.start)
        high = min(max(instants, default=self.end), self.end)
        if high - low < 2 * SHORTEST:
            points = [low, low + SHORTEST]
        else:
            step = max(SHORTEST, (high - low) // parts + 1)
            points = list(range(low + step, high, step))
        return self._at(points) if self._inside(points) else self.halves()

    def own(self, page: Page) -> Page:
        """Leave out the rows of the neighbouring slices.

        A row outside of what was asked for belongs to no neighbour, however wrong its
        timestamp looks, and stays.

        Args:
            page: A page of the answer.

        Returns:
            The page, or what is left of it.
        """
        low, high = self.bounds
        foreign = {low, high} - {self.start}
        theirs = {stamp for stamp, at in page.instants.items() if at in foreign}
        if not theirs:
            return page
        stamps = page.columns["timestamp"]
        return page.take(
            [row for row, stamp in enumerate(stamps) if stamp not in theirs]
        )

    def _inside(self, points: list[int]) -> list[int]:
        return [point for point in points if self.start < point < self.end]

    def _at(self, points: list[int]) -> list[Slice]:
        bounds = [self.start, *self._inside(points), self.end]
        return [
            Slice(self.device_id, start, end, last=self.last and end == self.end)
            for start, end in pairwise(bounds)
        ]


def instant(config: Mapping[str, Any], setting: str) -> int | None:
    """Get the instant of a setting.

    Args:
        config: The settings.
        setting: The name of one.

    Returns:
        The instant in epoch milliseconds, rounded down, if it is set.

    Raises:
        TapError: If it is not a date, with or without a time.
    """
    if not (value := config.get(setting)):
        return None
    try:
        day_only = len(value) == len("YYYY-MM-DD")
        return timestamp(f"{value}T00:00" if day_only else value)[1]
    except ValueError:
        msg = f"`{setting}` is {value!r}, not a date such as 2024-01-31T00:00:00Z."
        raise TapError(msg) from None
