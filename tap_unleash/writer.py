"""Buffered standard output."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from singer_sdk.contrib.msgspec import MsgSpecWriter
from singer_sdk.singerlib.messages import Message, RecordMessage
from typing_extensions import override

from tap_unleash.errors import FatalError

if TYPE_CHECKING:
    from collections.abc import Callable


class BufferedWriter(MsgSpecWriter):
    """Gathers RECORD messages; every other message is written with those before it."""

    _busy = False
    _when_idle: Callable[[], None] | None = None

    @override
    def write_message(self, message: Message) -> None:
        flush = not isinstance(message, RecordMessage)
        self.write(self.format_message(message), flush=flush)

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
            sys.stdout.buffer.write(lines)
            if flush:
                sys.stdout.flush()
        except OSError as error:
            msg = f"Cannot write to standard output: {error.strerror}."
            if isinstance(error, BrokenPipeError):
                msg = "Output pipe closed: the target exited. See the target's log."
            raise FatalError(msg) from error
        finally:
            self._busy = False
        if action := self._when_idle:
            self._when_idle = None
            action()

    def when_idle(self, action: Callable[[], None]) -> None:
        """Run an action from a signal handler, but not during a write.

        Args:
            action: Called now, or when the current write is complete.
        """
        if self._busy:
            self._when_idle = action
        else:
            action()


def buffer_stdout() -> None:
    """Buffer standard output, as much as a Linux pipe holds, even if Python is told not to."""
    sys.stdout = open(  # noqa: SIM115 - it stays open
        sys.stdout.fileno(), "w", buffering=64 * 1024, encoding="utf-8", closefd=False
    )
