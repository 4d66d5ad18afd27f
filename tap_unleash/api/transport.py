"""Sends a request, and reads its response within limits of time and size."""

from __future__ import annotations

import io
import os
import time
from http.client import HTTPResponse
from typing import TYPE_CHECKING, Any, cast

import requests
from requests.adapters import HTTPAdapter
from typing_extensions import override
from urllib3 import HTTPSConnectionPool
from urllib3.connection import HTTPConnection, HTTPSConnection

from tap_unleash.api.errors import FatalError

if TYPE_CHECKING:
    import socket
    from collections.abc import MutableMapping

    from typing_extensions import Buffer
    from urllib3 import HTTPConnectionPool

MAX_BODY = 64 * 1024 * 1024
"""Most bytes of a decoded body: six times the 10 MB that AWS API Gateway lets through."""

CONNECT_TIMEOUT = 5.0
"""Most seconds to wait for a connection to one address of the host."""

CHUNK = 1024 * 1024
"""Most bytes read from the socket at a time."""


def environment_settings(url: str) -> tuple[MutableMapping[str, str], bool | str]:
    """Read proxies and certificates from environment variables.

    Args:
        url: Base URL of the API. Plain HTTP never goes through a proxy.

    Returns:
        The proxies by scheme, and the file or folder of trusted certificates, or whether
        certificates are verified.
    """
    environment = requests.Session().merge_environment_settings(
        url, {}, None, None, None
    )
    proxies = {} if url.startswith("http:") else environment["proxies"]
    # As curl and httpx do; requests reads the older variables only.
    bundle = os.environ.get("SSL_CERT_FILE") or os.environ.get("SSL_CERT_DIR")
    verify = environment["verify"]
    return proxies, bundle or True if verify in {None, True} else verify


def timeouts(seconds: float) -> tuple[float, float]:
    """Limit the time of a request that is sent by an `Adapter`.

    Args:
        seconds: Most seconds for a complete response.

    Returns:
        Most seconds to wait for a connection, and for the response.
    """
    return min(CONNECT_TIMEOUT, seconds), seconds


class Adapter(HTTPAdapter):
    """Limits the time of a whole response by the read time-out.

    For `requests`, the time-out limits each read from the socket, so a response that
    arrives byte by byte could take hours.
    """

    @override
    def get_connection_with_tls_context(
        self, *args: Any, **kwargs: Any
    ) -> HTTPConnectionPool:
        pool = super().get_connection_with_tls_context(*args, **kwargs)
        secure = isinstance(pool, HTTPSConnectionPool)
        pool = cast("HTTPConnectionPool", pool)
        pool.ConnectionCls = _HTTPSConnection if secure else _HTTPConnection
        return pool


class _DeadlineReader(io.RawIOBase):
    """Reads a socket until its time-out, counted from the start, has passed."""

    def __init__(self, sock: socket.socket, raw: io.RawIOBase) -> None:
        self._sock = sock
        self._raw = raw
        self._deadline = time.monotonic() + (sock.gettimeout() or 0)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Buffer) -> int | None:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        self._sock.settimeout(left)
        return self._raw.readinto(buffer)

    def close(self) -> None:
        self._raw.close()
        super().close()


class _Response(HTTPResponse):
    def __init__(self, sock: socket.socket, *args: Any, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        self.fp = io.BufferedReader(_DeadlineReader(sock, self.fp.detach()))


class _HTTPConnection(HTTPConnection):
    response_class = _Response


class _HTTPSConnection(HTTPSConnection):
    response_class = _Response


def read_body(response: requests.Response) -> bytes:
    """Read a body in pieces.

    Args:
        response: The response, of which only the headers were read.

    Returns:
        The decoded body.

    Raises:
        FatalError: If it exceeds `MAX_BODY`.
    """
    pieces, length = [], 0
    # Decoding copies the body twice, even if there is nothing to decode.
    encoded = "Content-Encoding" in response.headers
    while piece := response.raw.read1(CHUNK, decode_content=encoded):
        pieces.append(piece)
        length += len(piece)
        if length > MAX_BODY:
            msg = (
                f"Response larger than {MAX_BODY >> 20} MiB. Check 'api_url' and the "
                "proxy."
            )
            raise FatalError(msg)
    return b"".join(pieces)
