"""Exceptions of the API client. The message of each is a line that a user can act on."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tap_unleash.api.time_window import TimeWindow


class UnleashError(Exception):
    """A device or an endpoint cannot be read; others may be."""


class FatalError(UnleashError):
    """Nothing can be read: the credential, the network or the rate limit is at fault."""


class RequestRejected(UnleashError):
    """The API rejected a request and would reject it again.

    Attributes:
        status: The HTTP status, 4xx.
    """

    def __init__(self, message: str, status: int) -> None:
        """Store the status.

        Args:
            message: The error line.
            status: The HTTP status.
        """
        super().__init__(message)
        self.status = status


class Unavailable(UnleashError):
    """The API did not answer, or answered 5xx, after all attempts."""


class WindowTooLarge(UnleashError):
    """A window is too long for the API, or cannot be read consistently in one piece.

    Attributes:
        windows: What to read instead, if known.
    """

    def __init__(self, message: str, windows: Sequence[TimeWindow] = ()) -> None:
        """Store the windows.

        Args:
            message: The error line, should the window turn out not to be the cause.
            windows: The windows that it was split into.
        """
        super().__init__(message)
        self.windows = windows


class WindowChanged(UnleashError):
    """The data of a window kept changing while its pages were being read."""


class InvalidResponse(UnleashError):
    """A response body differs from the documentation."""


class InvalidRecord(UnleashError):
    """A row has a value that cannot be stored and that no retry can fix."""


class Cancelled(Exception):
    """The reader was closed; no further request is wanted."""
