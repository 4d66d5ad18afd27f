"""The documented API from memory, as fast as one process of plain asyncio serves it.

The mock API would dominate the measurements, so the programs read from this server instead.
Rows are encoded at the start, and each response is built once.
"""

# ruff: noqa: S603 - the programs run are our own

from __future__ import annotations

import asyncio
import gc
import json
import sys
from bisect import bisect_left, bisect_right
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime
from functools import cache
from subprocess import PIPE, Popen
from typing import TYPE_CHECKING
from urllib.request import urlopen

from msgspec import Raw
from msgspec.json import encode
from msgspec.structs import astuple

from benchmarks.data import PAGE_ROWS, Row, Shape
from benchmarks.environments import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator

_ANALYTICS = "/v1/analytics/"
_HEAD_END = b"\r\n\r\n"


@dataclass
class _Stats:
    requests: int = 0
    in_flight: int = 0
    peak_in_flight: int = 0


class _Account:
    """The devices and rows of an account, as responses."""

    def __init__(self, shape: Shape) -> None:
        self.stats = _Stats()
        self._device_ids = shape.device_ids
        self._rows: dict[str, tuple[list[int], list[bytes]]] = {}
        self._head = b'{"keys":' + encode(Row.__struct_fields__)
        self._page = cache(self._build_page)
        for device_id in self._device_ids[: shape.devices]:
            rows = list(shape.device_rows(device_id))
            times = [_milliseconds(row.timestamp) for row in rows]
            encoded = [encode(astuple(row)) for row in rows]
            self._rows[device_id] = (times, encoded)

    def answer(self, path: str) -> bytes:
        """Return the response to a request, head and body."""
        if path == f"{_ANALYTICS}devices":
            return _response(self._device_ids)
        device_id, start, end, page = path.removeprefix(_ANALYTICS).split("/")
        times, _ = self._rows.get(device_id, ([], []))
        first = bisect_left(times, int(start))
        last = bisect_right(times, int(end))
        return self._page(device_id, first, last, int(page))

    def _build_page(self, device_id: str, first: int, last: int, page: int) -> bytes:
        _, rows = self._rows.get(device_id, ([], []))
        total = max(1, -(-(last - first) // PAGE_ROWS))
        start = first + (page - 1) * PAGE_ROWS
        data = b",".join(rows[start : min(last, start + PAGE_ROWS)])
        body = b'%b,"total_num_pages":%d,"data":[%b]}' % (self._head, total, data)
        return _response(Raw(body))


@cache
def _milliseconds(timestamp: str) -> int:
    instant = datetime.fromisoformat(timestamp.replace("Z", "+00:00"))
    return round(instant.timestamp() * 1000)


def _response(body: object) -> bytes:
    content = encode(body)
    head = (
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(content)}\r\n\r\n"
    )
    return head.encode() + content


class _Connection(asyncio.Protocol):
    """A kept-alive connection."""

    def __init__(self, account: _Account, latency: float) -> None:
        self._account = account
        self._latency = latency
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - true of a stream server
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Answer all requests that are complete."""
        self._received += data
        stats = self._account.stats
        while _HEAD_END in self._received:
            head, _, self._received = self._received.partition(_HEAD_END)
            path = head.split(b" ", 2)[1].decode()
            if path == "/stats":
                self._send(_response(asdict(stats)))
                stats.requests = stats.peak_in_flight = 0
            else:
                stats.requests += 1
                stats.in_flight += 1
                stats.peak_in_flight = max(stats.peak_in_flight, stats.in_flight)
                response = self._account.answer(path)
                loop = asyncio.get_running_loop()
                loop.call_later(self._latency, self._finish, response)

    def _finish(self, response: bytes) -> None:
        self._account.stats.in_flight -= 1
        self._send(response)

    def _send(self, response: bytes) -> None:
        if not self._transport.is_closing():
            self._transport.write(response)


@contextmanager
def serve(shape: Shape, latency: float) -> Iterator[str]:
    """Run a server, which waits before each response, and return its URL."""
    arguments = (json.dumps(asdict(shape)), str(latency))
    command = [sys.executable, "-m", "benchmarks.server", *arguments]
    # The server ends when its standard input is closed, at the end of the block.
    with Popen(command, stdout=PIPE, stdin=PIPE, cwd=ROOT) as process:
        assert process.stdout  # noqa: S101 - it is piped
        yield f"http://127.0.0.1:{int(process.stdout.readline())}/v1"


def requested(url: str) -> dict[str, int]:
    """Return the counts of a server since the last call."""
    with urlopen(url.replace("/v1", "/stats")) as response:  # noqa: S310 - our server
        stats: dict[str, int] = json.load(response)
    return stats


async def _main(shape: Shape, latency: float) -> None:
    account = _Account(shape)
    gc.collect()
    gc.freeze()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: _Connection(account, latency), "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await loop.run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(_main(Shape(**json.loads(sys.argv[1])), float(sys.argv[2])))
