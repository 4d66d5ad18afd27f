"""Fault injection: which requests a fault affects, and the response they get.

Error bodies are those of AWS API Gateway, which is in front of the API: the response to
a wrong key, `{"message":"Forbidden"}` (documentation: "Error Response Format"), is
Gateway's own.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import socket
import struct
import time
from collections import Counter
from email.utils import formatdate
from http import HTTPStatus
from math import ceil
from random import Random
from typing import TYPE_CHECKING, Any, Literal

from pydantic import ConfigDict, Field, TypeAdapter
from pydantic.dataclasses import dataclass
from starlette.responses import HTMLResponse, JSONResponse, Response

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

MESSAGES = {status.value: status.phrase for status in HTTPStatus} | {
    422: "Validation failed",
    502: "Internal server error",
    504: "Endpoint request timed out",
}

_SEGMENTS = "(/[^/]*){4}$"
_ENDPOINTS = {
    "analytics": f"^/v1/analytics{_SEGMENTS}",
    "tableau": f"^/v1/analytics/tableau{_SEGMENTS}",
}

_Rejection = Literal["status_400", "status_401", "status_403", "status_404", "status_413"]
_Refusal = Literal["status_408", "status_421", "status_422", "status_425", "status_429"]
_Outage = Literal["status_204", "status_500", "status_502", "status_503", "status_504"]
_Body = Literal["errors_in_200", "redirect", "html", "empty", "malformed", "no_data", "null_data"]
_Lie = Literal["swallowed", "errors_and_no_data", "timed_out_half"]
_Break = Literal["drop", "reset_before", "reset_amid", "cut"]
_Delay = Literal["stall", "stall_amid", "slow", "drip", "hang"]
Kind = Literal[_Rejection, _Refusal, _Outage, _Body, _Lie, _Break, _Delay]


@dataclass(frozen=True, kw_only=True, config=ConfigDict(extra="forbid"))
class Fault:
    """One kind of fault, and which requests it affects.

    Attributes:
        kind: The fault. `status_429` and the like are that response.
        where: A regular expression to search for in the path, or `analytics` or `tableau`
            for the pages of one format; by default, all requests.
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
    times: int | None = None
    start: int = 1
    until: int | None = None
    seconds: float = 5
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
            (fault, re.compile(_ENDPOINTS.get(fault.where, fault.where))) for fault in faults
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


async def misbehave(
    fault: Fault | None, app: ASGIApp, scope: Scope, receive: Receive, send: Send
) -> None:
    """Let the app answer a request, or inject a fault if one is due."""
    if fault is None:
        await app(scope, receive, send)
    elif answer := _instead(fault):
        await answer(scope, receive, send)
    elif fault.kind in {"malformed", *_CHANGES}:
        start, body = await _capture(app, scope, receive)
        kind = dict(start["headers"]).get(b"content-type", b"").decode() or None
        changed = _changed(fault.kind, body)
        await Response(changed, start["status"], media_type=kind)(scope, receive, send)
    else:
        await _disturb(fault, app, scope, receive, send)


def _instead(fault: Fault) -> Response | None:
    """Return the response that replaces the right one, if one does."""
    if fault.kind == "status_204":
        return Response(status_code=204)
    if fault.kind.startswith("status_"):
        status = int(fault.kind[-3:])
        value = fault.retry_after
        if value == "date":
            value = formatdate(ceil(time.time()) + 2, usegmt=True)
        headers = {} if value is None else {"Retry-After": value}
        return JSONResponse({"message": MESSAGES[status]}, status, headers)
    return {
        "errors_in_200": JSONResponse({"errors": [{"message": MESSAGES[500]}]}),
        "redirect": Response(None, 302, {"Location": fault.location}),
        "html": HTMLResponse("<!doctype html><title>Unleash live</title><p>We are back soon.</p>"),
        "empty": Response(media_type="application/json"),
    }.get(fault.kind)


def _changed(kind: str, body: bytes) -> bytes:
    """Change the object of a page; other bodies stay unchanged unless they are malformed."""
    if kind == "malformed":
        return body[: len(body) // 2]
    with contextlib.suppress(ValueError):
        page = json.loads(body)
        if isinstance(page, dict) and page.get("data") is not None:
            _CHANGES[kind](page)
            return json.dumps(page).encode()
    return body


def _swallow(page: dict[str, Any]) -> None:
    page["data"] = []
    if page.get("total_num_pages"):
        page["total_num_pages"] = type(page["total_num_pages"])(0)


def _halve(page: dict[str, Any]) -> None:
    page.update(data=page["data"][: len(page["data"]) // 2], timed_out=True)


_FAILURE = {"data": [], "total_num_pages": 0, "errors": [{"message": MESSAGES[500]}]}
_CHANGES: dict[str, Callable[[dict[str, Any]], object]] = {
    "no_data": lambda page: page.pop("data"),
    "null_data": lambda page: page.update(data=None),
    "swallowed": _swallow,
    "errors_and_no_data": lambda page: page.update(_FAILURE),
    "timed_out_half": _halve,
}


async def _capture(app: ASGIApp, scope: Scope, receive: Receive) -> tuple[Message, bytes]:
    """Run the app, and return the start of its response, and the body."""
    messages: list[Message] = []

    async def send(message: Message) -> None:
        messages.append(message)

    await app(scope, receive, send)
    return messages[0], b"".join(message.get("body", b"") for message in messages[1:])


async def _disturb(fault: Fault, app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    """Delay a response or a part of it, or end the connection before or in its middle."""
    if fault.kind == "stall":
        await _pause(receive, fault.seconds)
        await app(scope, receive, send)
        return
    if fault.kind not in {"drop", "reset_before", "hang"}:
        start, body = await _capture(app, scope, receive)
        await send(start)
        sizes = {"slow": len(body) // 20 + 1, "drip": 16}
        size = sizes.get(fault.kind, (len(body) + 1) // 2 or 1)
        chunks = [body[sent : sent + size] for sent in range(0, len(body), size)]
        broken = fault.kind in {"cut", "reset_amid"}
        for chunk in chunks[:1] if broken else chunks:
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
            if not broken:
                await _pause(receive, fault.seconds / (len(chunks) if fault.kind == "slow" else 1))
    transport: asyncio.Transport = scope["state"]["transport"]
    if fault.kind in {"reset_before", "reset_amid"}:
        # With a linger time of zero, closing sends RST instead of FIN.
        transport.get_extra_info("socket").setsockopt(
            socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
        )
        transport.abort()
    elif fault.kind in {"drop", "cut"}:
        transport.close()
    elif fault.kind != "hang":
        await send({"type": "http.response.body"})
        return
    await _pause(receive)


async def _pause(receive: Receive, seconds: float | None = None) -> None:
    """Wait, or until the client closes the connection."""

    async def gone() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass

    with contextlib.suppress(asyncio.TimeoutError):
        await asyncio.wait_for(gone(), seconds)
