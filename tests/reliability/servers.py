"""Servers on localhost that are no mock API."""

from __future__ import annotations

import socket
from contextlib import ExitStack, contextmanager, suppress
from threading import Thread
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterator


@contextmanager
def listening(handle: Callable[[socket.socket], None]) -> Iterator[int]:
    """Hand over one connection after the other, and yield the port."""
    listener = socket.create_server(("127.0.0.1", 0))

    def accept_all() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            handle(connection)

    thread = Thread(target=accept_all)
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()


@contextmanager
def server(
    answer: bytes, context: ssl.SSLContext | None = None
) -> Iterator[tuple[int, list[bytes]]]:
    """Answer each connection's first request with these bytes, and close it.

    The requests are yielded, too; a connection without one counts as an empty request.
    """
    received: list[bytes] = []

    def respond(connection: socket.socket) -> None:
        received.append(b"")
        with suppress(OSError), ExitStack() as stack:
            stack.enter_context(connection)
            if context:
                connection = context.wrap_socket(connection, server_side=True)
                stack.enter_context(connection)
            received[-1] = connection.recv(65_536)
            connection.sendall(answer)
            # A socket that is closed while there are bytes to read resets the connection.
            connection.shutdown(socket.SHUT_WR)
            while connection.recv(65_536):
                pass

    with listening(respond) as port:
        yield port, received
