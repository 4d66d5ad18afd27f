"""Time windows: the pieces in which the history of a device is read."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tap_unleash.api.page import Page

EARLIEST, LATEST = 10**12, 10**13 - 1
"""First and last instant that is requested, in epoch milliseconds (2001-09-09 and
2286-11-20): the documentation shows instants of 13 digits only."""

SECOND, DAY = 1_000, 86_400_000

MAX_PARTS = 100
"""Most windows that one is split into at a time, whatever total the API claims."""


@dataclass(frozen=True, slots=True)
class TimeWindow:
    """A half-open time range of one device, in epoch milliseconds.

    It is undocumented whether the API includes the bounds of a range. A request therefore
    starts one millisecond early and ends at the first instant after the window: under
    either reading the response holds every row of the window. It can also hold rows of
    the adjacent windows, which `drop_overlap` removes.

    Attributes:
        device_id: The device.
        start: First instant.
        end: First instant after it.
        first: Whether it begins the range that is read of the device.
        last: Whether it ends that range.
        parent_pages: Number of pages of the window that this one was split from.
        known: An instant within it that has rows, if it was split from a second.
    """

    device_id: str
    start: int
    end: int
    first: bool = True
    last: bool = True
    parent_pages: int | None = None
    known: int | None = None

    @property
    def bounds(self) -> tuple[int, int]:
        """Bounds for the request."""
        return max(self.start - 1, EARLIEST), min(self.end, LATEST)

    @property
    def duration(self) -> int:
        """Milliseconds from start to end."""
        return self.end - self.start

    @property
    def splittable(self) -> bool:
        """Whether it is longer than a millisecond, the resolution of the bounds."""
        return self.duration > 1

    def contains(self, instant: int) -> bool:
        """Tell whether an instant is in the window.

        Args:
            instant: The instant.

        Returns:
            Whether it is.
        """
        return self.start <= instant < self.end

    @property
    def minimal(self) -> TimeWindow:
        """Its first second."""
        return replace(self, end=min(self.start + SECOND, self.end))

    def around(self, instant: int, seconds: int) -> TimeWindow:
        """Return a window around an instant.

        Args:
            instant: The instant.
            seconds: How much longer than the instant the window is, on both sides.

        Returns:
            The window.
        """
        margin = seconds * SECOND
        return TimeWindow(self.device_id, instant - margin, instant + 1 + margin)

    def bisect(self) -> list[TimeWindow]:
        """Split the window in half.

        Returns:
            The two windows.
        """
        return self.limited_to(self.duration // 2)

    def split(
        self, parts: int, instants: Iterable[int], pages: int
    ) -> list[TimeWindow]:
        """Split the time in which there are rows into parts of equal length.

        The seams are on whole days or seconds where possible, so that an API that rounds
        bounds, or timestamps, answers each part completely.

        Args:
            parts: Approximate number of parts; at most `MAX_PARTS` are made.
            instants: Instants of some of the rows; if the API sorts, the earliest and the
                latest are among them.
            pages: Number of pages of the window.

        Returns:
            The windows, which together are this one.
        """
        instants = [*filter(self.contains, instants)]
        low, high = min(instants, default=self.start), max(instants, default=self.end)
        step = (high - low) // min(max(parts, 2), MAX_PARTS) + 1
        unit = DAY if step >= 2 * DAY else SECOND if self.duration > SECOND else 1
        step = -(-step // unit) * unit
        low_seam = low // unit * unit
        points = range(low_seam + step, high + 1, step)
        windows = self._at(points)
        if len(windows) == 1:
            windows = self._at([low_seam, high // unit * unit + unit])
        if len(windows) == 1:
            windows = self.bisect()
        return [
            replace(
                window,
                parent_pages=pages,
                known=max(filter(window.contains, instants), default=None)
                if unit == 1
                else None,
            )
            for window in windows
        ]

    def limited_to(self, duration: int) -> list[TimeWindow]:
        """Split off a window of limited duration.

        Args:
            duration: Milliseconds.

        Returns:
            The window and the rest, or this window alone if it is short enough.
        """
        for unit in (DAY, SECOND):
            seam = (self.start + duration) // unit * unit
            if seam > self.start:
                return self._at([seam])
        return self._at([self.start + duration])

    def drop_overlap(self, pages: list[Page]) -> list[Page]:
        """Drop rows that belong to adjacent windows.

        A row outside of the requested bounds shows that the API rounds them; then rows of
        adjacent windows are kept, because those may lack them. A row more than a day
        outside of the device's range has a wrong timestamp and belongs to no other
        window, so it is kept.

        Args:
            pages: The pages of the window.

        Returns:
            The pages without these rows.
        """
        low, high = self.bounds
        outside = {
            at
            for page in pages
            if not page.is_within(self.start, self.end)
            for at in page.instants.values()
            if not self.start <= at < self.end
        }
        rounded = any(not low <= at <= high for at in outside)
        foreign = set()
        for at in outside:
            if at < self.start:
                outermost, distance = self.first, self.start - at
            else:
                outermost, distance = self.last, at - self.end
            if distance <= DAY if outermost else not rounded:
                foreign.add(at)
        return [page.without(foreign) for page in pages]

    def _at(self, points: Iterable[int]) -> list[TimeWindow]:
        inside = [point for point in points if self.start < point < self.end]
        bounds = [self.start, *inside, self.end]
        return [
            replace(
                self,
                start=start,
                end=end,
                first=self.first and start == self.start,
                last=self.last and end == self.end,
                known=self.known if start <= (self.known or 0) < end else None,
            )
            for start, end in pairwise(bounds)
        ]
