"""Buffered standard output."""

from __future__ import annotations

import atexit
import os
import select
import sys
from functools import partial
from typing import TYPE_CHECKING

from singer_sdk.contrib.msgspec import MsgSpecWriter
from singer_sdk.singerlib.messages import RecordMessage
from typing_extensions import override

from tap_unleash.api.errors import FatalError

if TYPE_CHECKING:
    from collections.abc import Callable

    from singer_sdk.singerlib.messages import Message

BUFFER_SIZE = 64 * 1024
"""Bytes gathered before a write: the capacity of a Linux pipe."""


class BufferedWriter(MsgSpecWriter):
    """Gathers RECORD messages; every other message is written with those before it."""

    def __init__(self) -> None:
        """Start with an empty buffer, which is flushed at exit."""
        super().__init__()
        self._buffer = bytearray()
        self._busy = False
        self._when_idle: Callable[[], None] | None = None
        atexit.register(self.flush)

    @override
    def write_message(self, message: Message) -> None:
        self.write(
            self.format_message(message),
            flush=not isinstance(message, RecordMessage),
        )

    def write(self, lines: bytes | bytearray, *, flush: bool = False) -> None:
        """Write lines.

        Args:
            lines: JSON lines, each with its line feed.
            flush: Whether to write them immediately.

        Raises:
            FatalError: If standard output cannot be written.
        """
        self._busy = True
        try:
            if flush or len(self._buffer) + len(lines) >= BUFFER_SIZE:
                self._flush(lines)
            else:
                self._buffer += lines
        finally:
            self._busy = False
        if action := self._when_idle:
            self._when_idle = None
            action()

    def flush(self) -> None:
        """Write what was gathered."""
        self.write(b"", flush=True)

    def _flush(self, lines: bytes | bytearray) -> None:
        # Emptied first: a write that failed is not tried again.
        gathered, self._buffer = self._buffer, bytearray()
        out = sys.stdout.buffer
        try:
            for piece in (gathered, lines):
                written = 0
                # An unbuffered stdout can take a part only, for example if a signal comes.
                while written < len(piece):
                    rest = memoryview(piece)[written:]
                    written += _once_writable(partial(out.write, rest)) or 0
            _once_writable(out.flush)
        except OSError as error:
            raise output_error(error) from None

    def when_idle(self, action: Callable[[], None]) -> None:
        """Run an action from a signal handler, but not during a write.

        Args:
            action: Called now, or when the current write is complete.
        """
        if self._busy:
            self._when_idle = action
        else:
            action()


def output_error(error: OSError) -> FatalError:
    """Give standard output up.

    Args:
        error: Why it cannot be written.

    Returns:
        The error to raise.
    """
    # The interpreter flushes stdout at exit and would report the error again.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    if isinstance(error, BrokenPipeError):
        msg = "Output pipe closed: the target exited. See the target's log."
    else:
        msg = f"Cannot write to standard output: {error.strerror}."
    return FatalError(msg)


def _once_writable(write: Callable[[], int | None]) -> int | None:
    """Write; if stdout is non-blocking and full, wait until it is not."""
    try:
        written = write()
    except BlockingIOError as error:
        select.select([], [sys.stdout], [])
        return error.characters_written or _once_writable(write)
    if written == 0:
        select.select([], [sys.stdout], [])
    return written
