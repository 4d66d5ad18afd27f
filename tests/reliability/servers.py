"""A server on localhost that is no mock API."""

from __future__ import annotations

import socket
from contextlib import ExitStack, contextmanager, suppress
from threading import Thread
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterator


@contextmanager
def server(
    answer: bytes, context: ssl.SSLContext | None = None
) -> Iterator[tuple[int, list[bytes]]]:
    """Answer each connection's first request with these bytes, and close it.

    The port and the requests are yielded; a connection without one is an empty request.
    """
    received: list[bytes] = []
    listener = socket.create_server(("127.0.0.1", 0))

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

    def accept_all() -> None:
        with suppress(OSError):
            while True:
                respond(listener.accept()[0])

    thread = Thread(target=accept_all)
    thread.start()
    try:
        yield listener.getsockname()[1], received
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()
