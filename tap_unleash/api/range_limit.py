"""The longest time range that the API answers, learned from which ranges it refuses.

A range can also be refused for another reason: a gateway that times out now and then, or a
time with more rows. So a limit that was found is lowered only if several ranges in a row are
refused, and a longer range is tried now and then.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tap_unleash.api.time_window import TimeWindow

REFUSALS = 3
"""How many windows in a row must be refused to lower a limit at which windows were
answered."""


class RangeLimit:
    """Chooses the length of windows.

    Attributes:
        longest: Length of windows in milliseconds, if limited.
    """

    def __init__(self, longest: int | None = None) -> None:
        """Start without knowing whether a window is answered.

        Args:
            longest: Length of the first window, if it should be limited.
        """
        self.longest = longest
        self._answered = 0  # longest window that was, since the limit was lowered
        self._refused = 0  # shortest of the windows that were refused in a row
        self._refusals = 0
        self._trial: int | None = None
        self._patience = 1
        self._streak = 0

    def take(self, window: TimeWindow) -> list[TimeWindow]:
        """Split off the next window to request.

        Args:
            window: The window that is left to read.

        Returns:
            The next window, and the rest if there is one.
        """
        if self.longest is None:
            return [window]
        trial = self._trial is None and self._streak >= self._patience
        windows = window.limited_to(self.longest * (2 if trial else 1))
        if windows[0].duration > self.longest:
            self._trial, self._streak = windows[0].duration, 0
        return windows

    def accept(self, duration: int) -> None:
        """Learn that a window was answered.

        Args:
            duration: Its length in milliseconds.
        """
        if duration >= self._refused:
            self._refusals = 0
        self._answered = max(self._answered, duration)
        if self.longest is None:
            return
        if duration > self.longest:
            self.longest, self._trial = duration, None
            self._patience = self._streak = 1
        elif 2 * duration > self.longest:  # not only the rest of a range
            self._streak += 1

    def reject(self, duration: int) -> None:
        """Learn that a window was refused; its parts are to be requested instead.

        Args:
            duration: Its length in milliseconds.
        """
        if self.longest is not None and duration > self.longest:
            if duration == self._trial:
                self._trial, self._streak = None, 0
                self._patience *= 2
            return
        self._refused = min(duration, self._refused) if self._refusals else duration
        self._refusals += 1
        if duration <= self._answered:
            if self._refusals < REFUSALS:
                return
            self._patience = 1
        self.longest = max(duration // 2, 1)
        self._answered = min(self._answered, self.longest)
        self._refusals = self._streak = 0
        self._trial = None
