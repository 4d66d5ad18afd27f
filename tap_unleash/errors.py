"""Errors. The message of each is a line that a user can act on."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tap_unleash.windows import TimeWindow


class UnleashError(Exception):
    """A device or a list cannot be read; others may be."""


class FatalError(UnleashError):
    """Nothing can be read: a setting, the credential, the network or a limit is at fault."""


class WindowTooLong(UnleashError):
    """The API does not answer a range, and may answer a shorter one."""


class WindowInDoubt(UnleashError):
    """A window cannot be read in one piece.

    Attributes:
        parts: The windows to read instead, in order.
    """

    def __init__(self, parts: Sequence[TimeWindow]) -> None:
        """Store the parts.

        Args:
            parts: The windows.
        """
        super().__init__(f"{len(parts)} windows instead of one")
        self.parts = parts
