"""The documented API from memory, as fast as one process of plain asyncio serves it.

The mock API would dominate the measurements, so the programs read from this server instead.
Responses are built from rows that were encoded at the start, and each is built once.
"""

# ruff: noqa: S603 - the programs run are our own

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import sys
import time
from bisect import bisect_left, bisect_right
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime
from functools import cache
from http import HTTPStatus
from http.client import HTTPConnection
from subprocess import PIPE, Popen
from typing import TYPE_CHECKING, Any
from urllib.request import urlopen

from benchmarks.data import KEYS, PAGE_ROWS, Shape, device_rows
from benchmarks.environments import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator

_ANALYTICS = "/v1/analytics/"
_END_OF_TIME = 4_102_444_800_000
_HEAD_END = b"\r\n\r\n"


@dataclass
class Stats:
    """What the server has seen since it was last asked."""

    requests: int = 0
    in_flight: int = 0
    peak_in_flight: int = 0


class Account:
    """The devices and rows of one account, and the responses that tell of them."""

    def __init__(self, shape: Shape) -> None:
        """Encode every row.

        Args:
            shape: The size of the account.
        """
        self.device_ids = shape.device_ids
        self.rows: dict[str, tuple[list[int], list[bytes]]] = {}
        milliseconds = cache(
            lambda text: round(
                datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp() * 1000
            )
        )
        for device_id in self.device_ids[: shape.devices]:
            rows = list(device_rows(shape, device_id))
            self.rows[device_id] = (
                [milliseconds(row[-1]) for row in rows],
                [json.dumps(row, separators=(",", ":")).encode() for row in rows],
            )
        self._head = b'{"keys":' + json.dumps(KEYS).encode()
        self.page = cache(self._page)

    def answer(self, path: str) -> bytes:
        """Look up the response to a request.

        Args:
            path: The path asked for.

        Returns:
            The response, head and body.
        """
        match path.removeprefix(_ANALYTICS).split("/"):
            case ["version"]:
                return _response("1.0.1")
            case ["devices"]:
                return _response(self.device_ids)
            case ["sessions"]:
                return _response(["1704099600000"])
            case [device_id, start, end, page]:
                times, _ = self.rows.get(device_id, ([], []))
                return self.page(
                    device_id,
                    bisect_left(times, int(start)),
                    bisect_right(times, int(end)),
                    int(page),
                )
        return _response(
            {"message": "Missing Authentication Token"}, HTTPStatus.FORBIDDEN
        )

    def _page(self, device_id: str, first: int, last: int, page: int) -> bytes:
        _, rows = self.rows.get(device_id, ([], []))
        total = max(1, -(-(last - first) // PAGE_ROWS))
        start = first + (page - 1) * PAGE_ROWS
        data = b",".join(rows[start : min(last, start + PAGE_ROWS)])
        return _response(
            b'%b,"total_num_pages":%d,"data":[%b]}' % (self._head, total, data)
        )


def _response(body: Any, status: HTTPStatus = HTTPStatus.OK) -> bytes:  # noqa: ANN401 - any JSON
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    head = (
        f"HTTP/1.1 {status} {status.phrase}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n"
    )
    return head.encode() + content


class Connection(asyncio.Protocol):
    """One kept-alive connection."""

    def __init__(self, account: Account, stats: Stats, latency: float) -> None:
        """Serve an account.

        Args:
            account: Whose rows are served.
            stats: Where requests are counted.
            latency: Seconds that each response waits.
        """
        self.account = account
        self.stats = stats
        self.latency = latency
        self.received = b""
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Remember where to answer."""
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - what a stream server always hands over
        self.transport = transport

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        """Forget where to answer."""
        self.transport = None

    def data_received(self, data: bytes) -> None:
        """Answer every request that is complete."""
        self.received += data
        while _HEAD_END in self.received:
            head, _, self.received = self.received.partition(_HEAD_END)
            path = head.split(b" ", 2)[1].decode()
            if path == "/stats":
                self._send(_response(asdict(self.stats)), counted=False)
                self.stats.requests = self.stats.peak_in_flight = 0
            elif b"\r\nx-api-key:" not in head.lower():
                self._send(
                    _response({"message": "Forbidden"}, HTTPStatus.FORBIDDEN),
                    counted=False,
                )
            else:
                self.stats.requests += 1
                self.stats.in_flight += 1
                self.stats.peak_in_flight = max(
                    self.stats.peak_in_flight, self.stats.in_flight
                )
                asyncio.get_running_loop().call_later(
                    self.latency, self._send, self.account.answer(path)
                )

    def _send(self, response: bytes, *, counted: bool = True) -> None:
        self.stats.in_flight -= counted
        if self.transport:
            self.transport.write(response)


@dataclass(frozen=True)
class Server:
    """A running server, seen from outside.

    Attributes:
        port: Where it listens.
        shape: What it serves.
        latency: Seconds that each response waits.
    """

    port: int
    shape: Shape
    latency: float

    @property
    def url(self) -> str:
        """The base URL to give to a program."""
        return f"http://127.0.0.1:{self.port}/v1"

    def stats(self) -> dict[str, int]:
        """Ask what the server has seen, and start counting anew."""
        with urlopen(f"http://127.0.0.1:{self.port}/stats") as response:
            stats: dict[str, int] = json.load(response)
        return stats

    def drain(self) -> float:
        """Read every page and look at none: what the server alone can do.

        Returns:
            The rows read in a second.
        """
        connection = HTTPConnection("127.0.0.1", self.port)
        start = time.perf_counter()
        for device_id in self.shape.device_ids[: self.shape.devices]:
            for page in range(-(-self.shape.rows // PAGE_ROWS)):
                path = f"{_ANALYTICS}{device_id}/0/{_END_OF_TIME}/{page + 1}"
                connection.request("GET", path, headers={"x-api-key": "drain"})
                connection.getresponse().read()
        return self.shape.total / (time.perf_counter() - start)


@contextmanager
def serve(shape: Shape, latency: float = 0) -> Iterator[Server]:
    """Run a server in a process of its own.

    Args:
        shape: The size of the account.
        latency: Seconds that each response waits.

    Yields:
        The server, ready.
    """
    command = [
        sys.executable,
        "-m",
        "benchmarks.server",
        json.dumps(asdict(shape)),
        str(latency),
    ]
    # Leaving closes its standard input, and it ends.
    with Popen(command, stdout=PIPE, stdin=PIPE, cwd=ROOT) as process:
        assert process.stdout  # noqa: S101 - it is piped
        yield Server(int(process.stdout.readline()), shape, latency)


async def _main(shape: Shape, latency: float) -> None:
    stats = Stats()
    account = Account(shape)
    gc.collect()
    gc.freeze()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(
        lambda: Connection(account, stats, latency), "127.0.0.1", 0
    )
    print(server.sockets[0].getsockname()[1], flush=True)
    await loop.run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("shape", type=json.loads)
    parser.add_argument("latency", type=float)
    arguments = parser.parse_args()
    asyncio.run(_main(Shape(**arguments.shape), arguments.latency))
