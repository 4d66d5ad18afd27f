"""The writer: Singer messages on stdout, in large pieces."""

from __future__ import annotations

import atexit
import os
import sys
from typing import TYPE_CHECKING

from singer_sdk.contrib.msgspec import MsgSpecWriter
from singer_sdk.singerlib.messages import RecordMessage
from typing_extensions import override

from tap_unleash.client import TapError

if TYPE_CHECKING:
    from collections.abc import Callable

    from singer_sdk.singerlib.messages import Message

BUFFER_SIZE = 64 * 1024
"""Bytes gathered before a write: what a Linux pipe holds."""


class BufferedWriter(MsgSpecWriter):
    """Gathers records, and lets every other message through with what was before it."""

    def __init__(self) -> None:
        """Start with an empty buffer; what is left in it goes out at the end."""
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
        """Write whole lines.

        Args:
            lines: JSON lines, each with its end.
            flush: Whether they must leave at once.

        Raises:
            TapError: If the reader of stdout has closed it.
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
        """Write out what is gathered."""
        self.write(b"", flush=True)

    def _flush(self, lines: bytes | bytearray) -> None:
        # Emptied first: what could not be written to a closed pipe is not tried again.
        gathered, self._buffer = self._buffer, bytearray()
        try:
            for piece in (gathered, lines):
                written = 0
                # Unbuffered, stdout takes but a part when a signal comes.
                while written < len(piece):
                    written += sys.stdout.buffer.write(memoryview(piece)[written:])
            sys.stdout.buffer.flush()
        except BrokenPipeError:
            # The interpreter flushes stdout once more at exit and would complain.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            msg = "The program that reads the tap's output has closed it."
            raise TapError(msg) from None

    def when_idle(self, action: Callable[[], None]) -> None:
        """Do something from a signal handler, but not amid a write.

        Args:
            action: What to do, now or when the write under way is complete.
        """
        if self._busy:
            self._when_idle = action
        else:
            action()
