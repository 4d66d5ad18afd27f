"""The documented Unleash live Analytics API, and an address that adds rows.

"The documentation" is the vendor's page on the Analytics API. What it leaves open is an
option; see `mock_api.options`.
"""

from __future__ import annotations

import asyncio
import re
from contextlib import suppress
from itertools import chain
from random import Random
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from mock_api.faults import MESSAGES, misbehave
from mock_api.selection import Asked, Selection, select
from mock_api.state import Exchange

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.types import Message, Receive, Scope, Send

    from mock_api.state import State

KEYS = (
    *("class_name", "count", "device_id", "frame_number"),
    *("model_id", "session_id", "source_file_name", "timestamp"),
)
TABLEAU_KEYS = (
    *("timestamp", "class_name", "count", "device_id"),
    *("source_file_name", "frame_number", "model_id", "session_id"),
)
_RANGE = re.compile(r"/v1/analytics/(tableau/)?([^/]*)/([^/]*)/([^/]*)/([^/]*)")
# The documentation's table says nanoseconds; its examples have 13 digits: milliseconds.
_VALID = re.compile(r"[^\x00-\x1f\x7f]{1,128}/[1-9]\d{12}/[1-9]\d{12}/[1-9]\d{0,9}")


class App:
    """The ASGI app."""

    def __init__(self, state: State) -> None:
        """Serve these data with these options."""
        self._state = state
        self._options = state.options

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, and record it unless it is for /mock."""
        # Of the path as it was sent: an encoded slash does not divide it.
        path = scope["raw_path"].decode()
        if path == "/mock/rows":
            self._state.account.grow(**await Request(scope, receive).json())
            await Response(status_code=204)(scope, receive, send)
            return
        headers = {
            name.decode("latin-1"): text.decode("latin-1") for name, text in scope["headers"]
        }
        exchange = Exchange(path, headers)
        self._state.requests.append(exchange)

        async def noting(event: Message) -> None:
            if event["type"] == "http.response.start":
                exchange.status = event["status"]
            await send(event)

        async def respond(scope: Scope, receive: Receive, send: Send) -> None:
            response = await self._response(exchange)
            await response(scope, receive, send)

        fault = self._state.schedule.due(path)
        # A server that stops cancels its responses; there is nobody to report that to.
        with suppress(asyncio.CancelledError):
            await misbehave(fault, respond, scope, receive, noting)

    async def _response(self, exchange: Exchange) -> Response:
        try:
            await asyncio.wait_for(self._take_time(), self._options.gateway_timeout)
            self._admit(exchange.headers)
            return self._answer(exchange.path)
        except asyncio.TimeoutError:
            status = 504  # as AWS API Gateway
        except HTTPException as error:
            status = error.status_code
        return JSONResponse({"message": MESSAGES[status]}, status)

    async def _take_time(self) -> None:
        await asyncio.sleep(self._options.latency)
        if self._options.serial_seconds:
            async with self._state.turn:
                await asyncio.sleep(self._options.serial_seconds)

    def _admit(self, headers: Mapping[str, str]) -> None:
        """Check the credential (documentation: "API Key"), then the rate limit.

        The vendor's newer pages add personal access tokens, `ul_pat_...`, sent as Bearer.
        """
        key = self._options.api_key
        token = f"Bearer {key}" if key.startswith("ul_pat_") else key
        if headers.get("x-api-key") != key and headers.get("authorization") != token:
            raise HTTPException(403)
        if not self._state.admit():
            raise HTTPException(429)

    def _answer(self, path: str) -> Response:
        account = self._state.account
        if path == "/v1/analytics/version":
            # "For testing and confirmation of valid API key"; this is not JSON.
            return Response('{"1.0.1"}', media_type="text/plain")
        if path == "/v1/analytics/devices":
            return _json(list(account.devices))
        if path == "/v1/analytics/sessions":
            ids = account.session_ids()
            return _json(None if self._options.session_form == "null" else ids)
        if not (found := _RANGE.fullmatch(path)):
            raise HTTPException(404)
        tableau, *parameters = found.groups()
        device, since, until, page = map(unquote, parameters)
        if not _VALID.fullmatch(f"{device}/{since}/{until}/{page}") or since > until:
            raise HTTPException(422)
        asked = Asked(device, int(since), int(until), int(page))
        selected = self._state.cached(
            path, self._options.cache_seconds, lambda: select(self._state, asked)
        )
        return self._page(selected, tableau=bool(tableau))

    def _page(self, selected: Selection, *, tableau: bool) -> Response:
        """Return rows as objects or as arrays (documentation: "Size Optimized Data")."""
        keys = self._columns(selected, TABLEAU_KEYS if tableau else KEYS)
        page: dict[str, Any] = {} if tableau else {"keys": keys}
        page |= self._total(selected)
        if tableau:
            page["data"] = [{key: row[key] for key in keys if key in row} for row in selected.rows]
        else:
            page["data"] = [[*map(row.get, keys)] for row in selected.rows]
        if not page["data"]:
            form = self._options.empty_form
            if form == "204":
                return Response(status_code=204)
            if form == "null-data":
                page["data"] = None
            elif form == "no-keys":
                page.pop("keys", None)
        return _json(page)

    def _columns(self, selected: Selection, known: tuple[str, ...]) -> list[str]:
        """Return the columns of a page: the documented ones that occur, then others."""
        found = dict.fromkeys(chain.from_iterable(selected.rows))
        keys = [name for name in known if name in found or not found]
        keys += [name for name in found if name not in known]
        if self._options.key_order == "shuffled":
            Random(f"{self._options.seed}/{selected.page}").shuffle(keys)
        return keys

    def _total(self, selected: Selection) -> dict[str, float | str | None]:
        """Return the number of pages in the form that the options ask for."""
        form, pages = self._options.total, selected.total
        if form == "missing" or (form == "first-page" and selected.page > 1):
            return {}
        forms = {"null": None, "string": str(pages), "float": float(pages)}
        return {"total_num_pages": forms.get(form, pages)}


def _json(content: Any) -> Response:  # noqa: ANN401 - any JSON
    return Response(msgspec.json.encode(content), media_type="application/json")
