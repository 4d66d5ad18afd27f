"""Time windows: the pieces in which the history of a device is read."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable

EARLIEST, LATEST = 10**12, 10**13 - 1
"""First and last instant that is requested, in epoch milliseconds (2001-09-09 and
2286-11-20): the documentation shows instants of 13 digits only."""

SECOND, DAY = 1_000, 86_400_000

MAX_PARTS = 100
"""Most windows that one is split into at a time, whatever total the API claims."""


@dataclass(frozen=True, slots=True)
class TimeWindow:
    """A half-open time range of one device, in epoch milliseconds.

    Attributes:
        device_id: The device.
        start: First instant.
        end: First instant after it.
        known: An instant within it that has rows.
        parent_pages: Number of pages that the window reported that it is a part of.
        stale: Number of generations of parts that reported as many pages as their parents.
    """

    device_id: str
    start: int
    end: int
    known: int | None = None
    parent_pages: int = 0
    stale: int = 0

    def bounds(self, look: int = 0) -> tuple[int, int]:
        """Return the bounds of a request, right whether the API includes them or not.

        Args:
            look: Milliseconds by which the request is longer at its end, to have another URL.

        Returns:
            The bounds. The response has every row of the window; those outside of it
            belong to adjacent windows.
        """
        return max(self.start - 1, EARLIEST), min(self.end + look, LATEST)

    @property
    def duration(self) -> int:
        """Milliseconds from start to end."""
        return self.end - self.start

    @property
    def splittable(self) -> bool:
        """Whether it is longer than a second."""
        return self.duration > SECOND

    def contains(self, instant: int) -> bool:
        """Tell whether an instant is in the window.

        Args:
            instant: The instant.

        Returns:
            Whether it is.
        """
        return self.start <= instant < self.end

    def bisect(self) -> list[TimeWindow]:
        """Split the window in half.

        Returns:
            The two windows.
        """
        return self.limited_to(self.duration // 2)

    def limited_to(self, duration: int) -> list[TimeWindow]:
        """Split off a window of limited duration.

        Args:
            duration: Milliseconds.

        Returns:
            The window and the rest, or this window alone if it is short enough.
        """
        for unit in (DAY, SECOND, 1):
            seam = (self.start + duration) // unit * unit
            if seam > self.start:
                break
        return self._at([seam])

    def split(self, parts: int, instants: Iterable[int]) -> list[TimeWindow]:
        """Split the time in which there are rows into parts.

        Args:
            parts: Approximate number of parts; at most `MAX_PARTS` are made.
            instants: The instants of the rows that were seen.

        Returns:
            The windows, which together are this one. Seams are on whole seconds, or on whole
            days if the parts are long. Each part knows the latest of the instants in it.
        """
        if not (inside := sorted(filter(self.contains, instants))):
            return self.bisect()
        low, high = inside[0], inside[-1]
        parts = min(max(parts, 2), MAX_PARTS)
        step = (high - low) // parts + 1
        unit = DAY if step >= 2 * DAY else SECOND
        seams = [(low + step * n) // unit * unit for n in range(1, parts)]
        if len(windows := self._at(seams)) == 1:  # all of them are in a second
            windows = self._at([low // SECOND * SECOND, (high // SECOND + 1) * SECOND])
        if len(windows) == 1:
            windows = self.bisect()
        for place, part in enumerate(windows):
            latest = inside[bisect_left(inside, part.end) - 1]
            if part.contains(latest):
                windows[place] = replace(part, known=latest)
        return windows

    def _at(self, seams: Iterable[int]) -> list[TimeWindow]:
        inside = sorted({seam for seam in seams if self.start < seam < self.end})
        return [
            replace(
                self,
                start=start,
                end=end,
                known=self.known if start <= (self.known or 0) < end else None,
            )
            for start, end in pairwise([self.start, *inside, self.end])
        ]


class PageRequest(NamedTuple):
    """A page of a window.

    Attributes:
        window: The window.
        number: The page number, from 1.
        look: Milliseconds by which the requested range is longer; see `TimeWindow.bounds`.
    """

    window: TimeWindow
    number: int
    look: int = 0
