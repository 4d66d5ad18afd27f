"""The documented Unleash live Analytics API, and control endpoints for tests.

"The documentation" is the vendor's page on the Analytics API. What it leaves open is an
option; see `mock_api.options`.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import suppress
from itertools import islice
from math import ceil
from random import Random
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import unquote

import msgspec
from fastapi import (
    APIRouter,
    Depends,
    FastAPI,
    HTTPException,
    Path,
    Query,
    Request,
    Response,
)
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, PlainTextResponse, StreamingResponse
from fastapi.security import APIKeyHeader, HTTPAuthorizationCredentials, HTTPBearer
from pydantic import BaseModel, BeforeValidator, Field
from starlette.convertors import StringConvertor, register_url_convertor
from starlette.exceptions import HTTPException as StarletteHTTPException

from mock_api.faults import MESSAGES, Misbehaviour, retry_after
from mock_api.selection import Asked, Selection, select
from mock_api.state import Exchange, State

if TYPE_CHECKING:
    from collections.abc import Sequence

    from starlette.types import ASGIApp, Receive, Scope, Send
    from starlette.types import Message as Event


KEYS = (
    "class_name",
    "count",
    "device_id",
    "frame_number",
    "model_id",
    "session_id",
    "source_file_name",
    "timestamp",
)
TABLEAU_KEYS = (
    "timestamp",
    "class_name",
    "count",
    "device_id",
    "source_file_name",
    "frame_number",
    "model_id",
    "session_id",
)


class Message(BaseModel):
    """The body of every error (documentation: "Error Response Format")."""

    message: str


class Page(BaseModel):
    """Rows as arrays in the order of `keys` (documentation: "Size Optimized Data")."""

    keys: list[str]
    total_num_pages: int = Field(ge=0)
    data: list[list[Any]]


class TableauPage(BaseModel):
    """Rows as objects (documentation: "Tableau Formatted Data")."""

    total_num_pages: int = Field(ge=0)
    data: list[dict[str, Any]]


def _json_number(value: object) -> object:
    # JSON has one kind of number: 5.0 equals 5; true and "5" are no numbers.
    if type(value) not in {int, float}:
        message = "must be a number"
        raise ValueError(message)
    return value


Whole = Annotated[int, Field(ge=0, le=10_000), BeforeValidator(_json_number)]


class Growth(BaseModel):
    """How many rows to add to each device that has some, and how late they are."""

    count: Whole
    late_minutes: Whole = 0


class Grown(BaseModel):
    """How many rows were added."""

    added: int


class Tally(BaseModel):
    """Counts of the requests so far."""

    requests: int
    max_in_flight: int
    by_status: dict[str, int]


class Segment(StringConvertor):
    """A path segment; an empty one is an invalid parameter, not another path."""

    regex = "[^/]*"


register_url_convertor("segment", Segment())


def _text(segment: str) -> str:
    return unquote(segment, errors="strict")


def _digits(segment: str) -> str:
    text = _text(segment)
    if not (text.isascii() and text.isdigit()) or text.startswith("0"):
        msg = "not a positive integer"
        raise ValueError(msg)
    return text


DeviceId = Annotated[
    str,
    Path(
        alias="deviceId",
        min_length=1,
        max_length=128,
        pattern=r"^[^\x00-\x1f\x7f]+$",
        description="Unique Device ID",
        examples=["Wabcdb35be35bb72"],
    ),
    BeforeValidator(_text),
]
# The documentation's table says nanoseconds; its examples have the 13 digits of
# milliseconds.
_EPOCH = {
    "ge": 10**12,
    "lt": 10**13,
    "description": "Unix epoch, milliseconds",
    "examples": [1597630156000],
}
Since = Annotated[int, Path(alias="unixUTCTimeStampFrom", **_EPOCH), BeforeValidator(_digits)]
Until = Annotated[int, Path(alias="unixUTCTimeStampTo", **_EPOCH), BeforeValidator(_digits)]
PageNumber = Annotated[
    int,
    Path(alias="pageNumber", ge=1, lt=2**31, description="Page number", examples=[1]),
    BeforeValidator(_digits),
]


async def get_state(request: Request) -> State:
    """Return the state of the mock API that serves this request."""
    state: State = request.state.mock_api
    return state


Stateful = Annotated[State, Depends(get_state)]


async def delay(state: Stateful) -> None:
    """Take the time that the options ask for, or answer 504 as AWS API Gateway does."""
    try:
        await asyncio.wait_for(_take_time(state), state.options.gateway_timeout)
    except asyncio.TimeoutError:
        raise HTTPException(504, MESSAGES[504]) from None


async def _take_time(state: State) -> None:
    if state.options.latency:
        await asyncio.sleep(state.options.latency)
    if state.options.serial_seconds is not None:
        async with state.turn:
            await asyncio.sleep(state.options.serial_seconds)


async def authorise(
    state: Stateful,
    key: Annotated[str | None, Depends(APIKeyHeader(name="x-api-key", auto_error=False))],
    bearer: Annotated[HTTPAuthorizationCredentials | None, Depends(HTTPBearer(auto_error=False))],
) -> None:
    """Check the credential (documentation: "API Key").

    The vendor's newer pages add personal access tokens, `ul_pat_...`, sent as Bearer.
    """
    token = bearer.credentials if bearer and bearer.credentials.startswith("ul_pat_") else None
    if state.options.api_key not in (key, token):
        raise HTTPException(403, MESSAGES[403])


async def throttle(state: Stateful) -> None:
    """Answer 429 beyond the rate limit, as AWS API Gateway does."""
    if seconds := ceil(state.wait()):
        form = state.options.retry_after
        header = {"none": None, "seconds": str(seconds), "date": "date"}[form]
        raise HTTPException(429, MESSAGES[429], retry_after(header, seconds))


async def find(  # noqa: PLR0913 - those of the documentation
    request: Request,
    state: Stateful,
    *,
    device: DeviceId,
    since: Since,
    until: Until,
    page: PageNumber,
) -> Selection:
    """Find the rows of a page; see `mock_api.selection`."""
    if since > until:
        raise HTTPException(422, "unixUTCTimeStampFrom is after unixUTCTimeStampTo")
    return state.cached(
        request.url.path,
        state.options.cache_seconds,
        lambda: select(state, Asked(device, since, until, page)),
    )


Selected = Annotated[Selection, Depends(find)]


def columns(state: State, selected: Selection, known: Sequence[str]) -> list[str]:
    """Return the columns of a page: the documented ones that occur, then others."""
    found = {name: None for row in selected.rows for name in row}
    keys = [name for name in known if name in found or not found] + [
        name for name in found if name not in known
    ]
    if state.options.key_order == "shuffled":
        Random(f"{state.options.seed}/{selected.page}").shuffle(keys)
    return keys


def total(state: State, selected: Selection) -> dict[str, float | str | None]:
    """Return the number of pages in the form that the options ask for."""
    form, pages = state.options.total, selected.total
    if form == "missing" or (form == "first-page" and selected.page > 1):
        return {}
    if form == "null" or pages is None:
        return {"total_num_pages": None}
    forms: dict[str, float | str] = {"string": str(pages), "float": float(pages)}
    return {"total_num_pages": forms.get(form, pages)}


def empty(state: State, page: dict[str, Any] | list[Any]) -> Response:
    """Return a page without rows in the form that the options ask for."""
    form = state.options.empty_form
    if form == "204":
        return Response(status_code=204)
    if form == "null-data":
        return answer(state, {**page, "data": None} if isinstance(page, dict) else None)
    if form == "no-keys" and isinstance(page, dict):
        page = {name: value for name, value in page.items() if name != "keys"}
    return answer(state, page)


def answer(state: State, content: Any) -> Response:  # noqa: ANN401 - any JSON
    """Return JSON, or 502 if it is larger than Gateway permits."""
    body = msgspec.json.encode(content)
    if state.options.max_body is not None and len(body) > state.options.max_body:
        raise HTTPException(502, MESSAGES[502])
    return Response(body, media_type="application/json")


def _errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    return {status: {"model": Message, "description": MESSAGES[status]} for status in statuses}


api = APIRouter(
    prefix="/v1/analytics",
    tags=["Analytics API"],
    dependencies=[Depends(delay), Depends(authorise), Depends(throttle)],
    responses=_errors(400, 401, 403, 429, 500, 502, 503, 504),
)
_RANGE = "/" + "/".join(
    f"{{{name}:segment}}"
    for name in (
        "deviceId",
        "unixUTCTimeStampFrom",
        "unixUTCTimeStampTo",
        "pageNumber",
    )
)


@api.get("/version", response_class=PlainTextResponse)
async def version(state: Stateful) -> str:
    """API version number, "for testing and confirmation of valid API key".

    The documentation prints `{"1.0.1"}`, which is not JSON.
    """
    return {
        "braces": '{"1.0.1"}',
        "string": '"1.0.1"',
        "bare": "1.0.1",
        "object": '{"version":"1.0.1"}',
    }[state.options.version_form]


@api.get("/devices", response_model=list[str])
async def devices(state: Stateful) -> Response:
    """All device IDs of the account."""
    return answer(state, state.account.listing(state.visits))


def _number(value: Any) -> Any:  # noqa: ANN401 - whatever the account lists
    """Return the number that a text writes, or else the value."""
    exact = isinstance(value, str) and value.isdecimal() and str(int(value)) == value
    return int(value) if exact else value


@api.get("/sessions", response_model=list[str])
async def sessions(state: Stateful) -> Response:
    """All session IDs of the account."""
    ids = state.account.session_ids()
    if state.options.session_form == "null":
        return answer(state, None)
    if state.options.session_form == "number":
        return answer(state, list(map(_number, ids)))
    return answer(state, ids)


@api.get(_RANGE, response_model=Page, responses=_errors(404, 413, 422))
async def size_optimized(state: Stateful, selected: Selected) -> Response:
    """Rows of a device between two times, as arrays."""
    keys = columns(state, selected, KEYS)
    data = [[row.get(key) for key in keys] for row in selected.rows]
    page = {"keys": keys, **total(state, selected), "data": data}
    return answer(state, page) if data else empty(state, page)


@api.get(
    "/tableau" + _RANGE,
    response_model=TableauPage | list[dict[str, Any]],
    responses=_errors(404, 413, 422),
)
async def tableau(state: Stateful, selected: Selected) -> Response:
    """Rows of a device between two times, as objects."""
    keys = columns(state, selected, TABLEAU_KEYS)
    data = [{key: row[key] for key in keys if key in row} for row in selected.rows]
    bare = state.options.tableau_form == "bare-array"
    page = data if bare else {**total(state, selected), "data": data}
    return answer(state, page) if data else empty(state, page)


control = APIRouter(prefix="/mock", tags=["Mock API"], responses=_errors(400, 422))


@control.get(
    "/truth",
    response_class=StreamingResponse,
    responses={200: {"content": {"application/x-ndjson": {}}}},
)
async def truth(
    state: Stateful, device: Annotated[str | None, Query()] = None
) -> StreamingResponse:
    """Every row that is visible now, of all devices or one, as lines of JSON."""
    rows = state.truth(device)
    batches = iter(lambda: list(islice(rows, 1000)), [])
    lines = map(msgspec.json.Encoder().encode_lines, batches)
    return StreamingResponse(lines, media_type="application/x-ndjson")


@control.post("/rows")
async def grow(state: Stateful, growth: Growth) -> Grown:
    """Add new rows."""
    added = state.account.grow(growth.count, late_minutes=growth.late_minutes)
    return Grown(added=added)


@control.get("/requests")
async def requests(state: Stateful) -> Tally:
    """Count the requests so far."""
    by_status = Counter(str(exchange.status) for exchange in state.requests)
    return Tally(
        requests=len(state.requests),
        max_in_flight=state.max_in_flight,
        by_status=by_status,
    )


class Journal:
    """The ASGI middleware that records each request.

    It also keeps encoded slashes from splitting a path.
    """

    def __init__(self, app: ASGIApp) -> None:
        """Wrap an app."""
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Forward a request with its path still percent-encoded."""
        scope["path"] = scope["raw_path"].decode()
        if scope["path"].startswith("/mock/"):
            await self._app(scope, receive, send)
            return
        state: State = scope["state"]["mock_api"]
        headers = {
            name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]
        }
        exchange = Exchange(scope["method"], scope["path"], headers)

        async def noting(event: Event) -> None:
            if event["type"] == "http.response.start":
                exchange.status = event["status"]
            await send(event)

        # A server that stops cancels its responses; there is nobody to report that to.
        with suppress(asyncio.CancelledError), state.noted(exchange):
            await self._app(scope, receive, noting)


async def _http_error(_request: Request, error: StarletteHTTPException) -> Response:
    return JSONResponse({"message": error.detail}, error.status_code, error.headers)


async def _invalid(_request: Request, error: RequestValidationError) -> Response:
    first = error.errors()[0]
    return JSONResponse({"message": f"{first['loc'][-1]}: {first['msg']}"}, 422)


app = FastAPI(
    title="Unleash live Analytics API (mock)",
    description=__doc__,
    version="1.0.1",
    redirect_slashes=False,
    exception_handlers={
        StarletteHTTPException: _http_error,
        RequestValidationError: _invalid,
    },
)
app.include_router(api)
app.include_router(control)
app.add_middleware(Misbehaviour)
app.add_middleware(Journal)
