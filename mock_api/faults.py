"""Fault injection: which requests a fault affects, and the response they get.

Error bodies are those of AWS API Gateway, which is in front of the API: the response to
a wrong key, `{"message":"Forbidden"}` (documentation: "Error Response Format"), is
Gateway's own.
"""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import json
import re
import socket
import struct
import time
from collections import Counter
from email.utils import formatdate
from functools import cache
from math import ceil
from random import Random
from typing import TYPE_CHECKING, Any, Literal

from pydantic import ConfigDict, Field, TypeAdapter
from pydantic.dataclasses import dataclass
from starlette.responses import HTMLResponse, JSONResponse, Response

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import TypeAlias

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    Answer: TypeAlias = tuple[int, list[tuple[bytes, bytes]], bytes]

MESSAGES = {
    400: "Bad Request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not Found",
    408: "Request Timeout",
    413: "Request Too Long",
    421: "Misdirected Request",
    422: "Validation failed",
    425: "Too Early",
    429: "Too Many Requests",
    500: "Internal Server Error",
    502: "Internal server error",
    503: "Service Unavailable",
    504: "Endpoint request timed out",
}

_DRIP = 16  # bytes of one chunk of a dripping response

_SEGMENTS = "(/[^/]*){4}"
STREAMS = {
    "version": "^/v1/analytics/version$",
    "devices": "^/v1/analytics/devices$",
    "sessions": "^/v1/analytics/sessions$",
    "analytics": f"^/v1/analytics{_SEGMENTS}$",
    "tableau": f"^/v1/analytics/tableau{_SEGMENTS}$",
}

Kind = Literal[
    "status_204",
    "status_400",
    "status_401",
    "status_403",
    "status_404",
    "status_408",
    "status_413",
    "status_421",
    "status_422",
    "status_425",
    "status_429",
    "status_500",
    "status_502",
    "status_503",
    "status_504",
    "quota",
    "errors_in_200",
    "redirect",
    "html",
    "empty",
    "malformed",
    "no_data",
    "no_total",
    "string_total",
    "short_row",
    "null_data",
    "swallowed",
    "errors_and_no_data",
    "timed_out_half",
    "other_shape",
    "drop",
    "reset_before",
    "reset_amid",
    "cut",
    "stall",
    "stall_amid",
    "slow",
    "drip",
    "drip_headers",
    "hang",
    "bomb",
    "endless",
]


@dataclass(frozen=True, kw_only=True, config=ConfigDict(extra="forbid"))
class Fault:
    """One kind of fault, and which requests it affects.

    Attributes:
        kind: The fault. `status_429` and the like are that response; `quota` is
            Gateway's other 429.
        where: An endpoint (version, devices, sessions, analytics, tableau), or a
            regular expression to search for in the path; by default, all requests.
            `analytics` is the size-optimized endpoint alone.
        rate: The probability that a request is affected, determined by the seed, the
            path and the number of earlier requests for it.
        times: The maximum number of times that the same path is affected.
        start: The first of the matching requests that may be affected, counted from 1.
        until: The last one.
        seconds: The duration of a stall or of a slow body, or the time between two
            chunks of a dripping response.
        retry_after: The `Retry-After` header; `date` is a date two seconds ahead.
        location: The target of a redirect.
    """

    kind: Kind
    where: str = ""
    rate: float = Field(default=1, ge=0, le=1)
    times: int | None = Field(default=None, ge=0)
    start: int = Field(default=1, ge=1)
    until: int | None = Field(default=None, ge=0)
    seconds: float = Field(default=5, ge=0)
    retry_after: str | None = None
    location: str = "http://127.0.0.1:9/"

    @classmethod
    def parse(cls, spec: str) -> Fault:
        """Parse a text such as `kind=status_503,where=analytics,rate=0.1`."""
        return TypeAdapter(cls).validate_python(
            dict(part.split("=", 1) for part in spec.split(","))
        )


class Schedule:
    """Decides which requests are affected, in the same way for the same seed."""

    def __init__(self, faults: Iterable[Fault], seed: int) -> None:
        """Start at the first request."""
        self._faults = [
            (fault, re.compile(STREAMS.get(fault.where, fault.where))) for fault in faults
        ]
        self._seed = seed
        self._counts: Counter[object] = Counter()

    def due(self, path: str) -> Fault | None:
        """Count a request for a path, and return the first fault that affects it."""
        due = None
        for number, (fault, pattern) in enumerate(self._faults):
            if not pattern.search(path):
                continue
            request = self._count(number)
            visit = self._count((number, path))
            chance = Random(f"{self._seed}/{number}/{path}/{visit}").random()
            if (
                due is None
                and fault.start <= request <= (fault.until or request)
                and chance < fault.rate
                and (fault.times is None or self._counts["struck", number, path] < fault.times)
            ):
                self._counts["struck", number, path] += 1
                due = fault
        return due

    def _count(self, what: object) -> int:
        self._counts[what] += 1
        return self._counts[what]


def retry_after(value: str | None, seconds: int = 2) -> dict[str, str]:
    """Return the `Retry-After` header; `date` is a date so many seconds ahead."""
    if value == "date":
        value = formatdate(ceil(time.time()) + seconds, usegmt=True)
    return {} if value is None else {"Retry-After": value}


async def pause(receive: Receive, seconds: float | None = None) -> bool:
    """Wait, and return whether the client closed the connection meanwhile."""

    async def gone() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass

    try:
        await asyncio.wait_for(gone(), seconds)
    except asyncio.TimeoutError:
        return False
    return True


class Misbehaviour:
    """The ASGI middleware that injects the faults into requests for /v1."""

    def __init__(self, app: ASGIApp) -> None:
        """Wrap an app."""
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Forward a request, or inject a fault if one is due."""
        fault = (
            scope["state"]["mock_api"].schedule.due(scope["path"])
            if scope["path"].startswith("/v1/")
            else None
        )
        if fault is None:
            await self._app(scope, receive, send)
        elif answer := _instead(fault):
            await answer(scope, receive, send)
        elif fault.kind in _BROKEN:
            await _BROKEN[fault.kind](fault, self._app, scope, receive, send)
        else:
            status, headers, body = await _capture(self._app, scope, receive)
            changed = Response(
                _CHANGES[fault.kind](body),
                status,
                media_type=dict(headers).get(b"content-type", b"").decode() or None,
            )
            await changed(scope, receive, send)


def _instead(fault: Fault) -> Response | None:
    """Return the response that replaces the right one, if one does."""
    if fault.kind == "status_204":
        return Response(status_code=204)
    if fault.kind == "quota" or fault.kind.startswith("status_"):
        status = 429 if fault.kind == "quota" else int(fault.kind[-3:])
        message = "Limit Exceeded" if fault.kind == "quota" else MESSAGES[status]
        headers = retry_after(fault.retry_after)
        return JSONResponse({"message": message}, status, headers)
    make = _REPLACEMENTS.get(fault.kind)
    return make(fault) if make else None


_REPLACEMENTS: dict[str, Callable[[Fault], Response]] = {
    "errors_in_200": lambda _: JSONResponse({"errors": [{"message": MESSAGES[500]}]}),
    "redirect": lambda fault: Response(None, 302, {"Location": fault.location}),
    "html": lambda _: HTMLResponse(
        "<!doctype html><title>Unleash live</title><p>We are back soon.</p>"
    ),
    "empty": lambda _: Response(media_type="application/json"),
}


def _changing(change: Callable[[dict[str, Any]], object]) -> Callable[[bytes], bytes]:
    """Apply a change to the object of a page; other bodies stay unchanged."""

    def changed(body: bytes) -> bytes:
        with contextlib.suppress(ValueError):
            page = json.loads(body)
            if isinstance(page, dict) and page.get("data") is not None:
                change(page)
                return json.dumps(page).encode()
        return body

    return changed


def _shorten(page: dict[str, Any]) -> None:
    for row in page["data"][:1]:
        row.popitem() if isinstance(row, dict) else row.pop()


def _swallow(page: dict[str, Any]) -> None:
    page["data"] = []
    if page.get("total_num_pages"):
        page["total_num_pages"] = type(page["total_num_pages"])(0)


def _fail(page: dict[str, Any]) -> None:
    page.update(data=[], total_num_pages=0, errors=[{"message": MESSAGES[500]}])


def _halve(page: dict[str, Any]) -> None:
    page.update(data=page["data"][: len(page["data"]) // 2], timed_out=True)


def _other_shape(body: bytes) -> bytes:
    try:
        value = json.loads(body)
    except ValueError:
        value = {}
    return json.dumps(
        value["data"] if isinstance(value, dict) and "data" in value else {"result": value}
    ).encode()


_CHANGES: dict[str, Callable[[bytes], bytes]] = {
    "malformed": lambda body: body[: len(body) // 2],
    "no_data": _changing(lambda page: page.pop("data")),
    "no_total": _changing(lambda page: page.pop("total_num_pages", None)),
    "string_total": _changing(
        lambda page: page.update(total_num_pages=str(page.get("total_num_pages")))
    ),
    "short_row": _changing(_shorten),
    "null_data": _changing(lambda page: page.update(data=None)),
    "swallowed": _changing(_swallow),
    "errors_and_no_data": _changing(_fail),
    "timed_out_half": _changing(_halve),
    "other_shape": _other_shape,
}


async def _capture(app: ASGIApp, scope: Scope, receive: Receive) -> Answer:
    """Run the app, and return its response."""
    messages: list[Message] = []

    async def send(message: Message) -> None:
        messages.append(message)

    await app(scope, receive, send)
    start, *parts = messages
    return (
        start["status"],
        start["headers"],
        b"".join(part.get("body", b"") for part in parts),
    )


async def _begin(send: Send, answer: Answer, length: int) -> None:
    """Send the headers and the start of the body, with more to follow."""
    status, headers, body = answer
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body[:length], "more_body": True})


def _reset(transport: asyncio.Transport) -> None:
    # With a linger time of zero, closing sends RST instead of FIN.
    transport.get_extra_info("socket").setsockopt(
        socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
    )
    transport.abort()


async def _drop(_fault: Fault, _app: ASGIApp, scope: Scope, receive: Receive, _send: Send) -> None:
    scope["state"]["transport"].close()
    await pause(receive)


async def _reset_before(
    _fault: Fault, _app: ASGIApp, scope: Scope, receive: Receive, _send: Send
) -> None:
    _reset(scope["state"]["transport"])
    await pause(receive)


async def _reset_amid(
    _fault: Fault, app: ASGIApp, scope: Scope, receive: Receive, send: Send
) -> None:
    answer = await _capture(app, scope, receive)
    await _begin(send, answer, len(answer[2]) // 2)
    _reset(scope["state"]["transport"])
    await pause(receive)


async def _cut(_fault: Fault, app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    answer = await _capture(app, scope, receive)
    await _begin(send, answer, len(answer[2]) // 2)
    scope["state"]["transport"].close()
    await pause(receive)


async def _stall(fault: Fault, app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    await pause(receive, fault.seconds)
    await app(scope, receive, send)


async def _stall_amid(
    fault: Fault, app: ASGIApp, scope: Scope, receive: Receive, send: Send
) -> None:
    answer = await _capture(app, scope, receive)
    half = len(answer[2]) // 2
    await _begin(send, answer, half)
    await pause(receive, fault.seconds)
    await send({"type": "http.response.body", "body": answer[2][half:]})


async def _slow(fault: Fault, app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    answer = await _capture(app, scope, receive)
    await _begin(send, answer, 0)
    step = len(answer[2]) // 20 + 1
    for sent in range(0, len(answer[2]), step):
        await pause(receive, fault.seconds / 20)
        await send(
            {
                "type": "http.response.body",
                "body": answer[2][sent : sent + step],
                "more_body": True,
            }
        )
    await send({"type": "http.response.body"})


async def _drip(fault: Fault, app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    answer = await _capture(app, scope, receive)
    await _begin(send, answer, 0)
    for sent in range(0, len(answer[2]), _DRIP):
        if await pause(receive, fault.seconds):
            return
        chunk = answer[2][sent : sent + _DRIP]
        await send({"type": "http.response.body", "body": chunk, "more_body": True})
    await send({"type": "http.response.body"})


async def _drip_headers(
    fault: Fault, _app: ASGIApp, scope: Scope, receive: Receive, _send: Send
) -> None:
    # Not through the server, which sends all headers together.
    write = scope["state"]["transport"].write
    write(b"HTTP/1.1 200 OK\r\nx-drip: ")
    while not await pause(receive, fault.seconds):
        write(b"-" * _DRIP)


async def _hang(_fault: Fault, _app: ASGIApp, _scope: Scope, receive: Receive, _send: Send) -> None:
    await pause(receive)


@cache
def _compressed() -> bytes:
    return gzip.compress(b" " * 2**26)


async def _flood(fault: Fault, _app: ASGIApp, scope: Scope, _receive: Receive, send: Send) -> None:
    """Send 16 GiB of white space in 16 MiB of gzip, or endless white space."""
    bomb = fault.kind == "bomb"
    headers = [
        (b"content-type", b"application/json"),
        *([(b"content-encoding", b"gzip")] if bomb else []),
    ]
    chunk = _compressed() if bomb else b" " * 2**16
    await _begin(send, (200, headers, b""), 0)
    left = 256 if bomb else -1
    while left and not scope["state"]["transport"].is_closing():
        await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await asyncio.sleep(0)
        left -= 1
    await send({"type": "http.response.body"})


_BROKEN = {
    "drop": _drop,
    "reset_before": _reset_before,
    "reset_amid": _reset_amid,
    "cut": _cut,
    "stall": _stall,
    "stall_amid": _stall_amid,
    "slow": _slow,
    "drip": _drip,
    "drip_headers": _drip_headers,
    "hang": _hang,
    "bomb": _flood,
    "endless": _flood,
}
