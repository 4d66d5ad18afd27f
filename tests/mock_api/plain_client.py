"""A client without a library, and rows to read with it."""

from __future__ import annotations

import json
from contextlib import closing
from http.client import HTTPConnection
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

from mock_api import MockAPI, Row

if TYPE_CHECKING:
    from http.client import HTTPMessage

ID = "Wabcdb35be35bb72"
EVER = "1000000000000/9999999999999"
PERSON = {
    "class_name": "person",
    "count": 1,
    "device_id": ID,
    "frame_number": 110251,
    "model_id": "starter-ai",
    "session_id": "1597622730877",
    "source_file_name": f"{ID}?token=sneaky-firefox-288",
    "timestamp": "2020-08-17T02:08:49.000Z",
}


class Reply(NamedTuple):
    status: int
    headers: HTTPMessage
    body: bytes

    def json(self) -> Any:  # noqa: ANN401 - any JSON
        return json.loads(self.body)


def ask(
    api: MockAPI,
    path: str,
    *,
    method: str = "GET",
    headers: dict[str, str] | None = None,
    body: str | None = None,
) -> Reply:
    address = urlsplit(api.url)
    if not path.startswith(("/v1", "/mock")):
        path = f"/v1/analytics/{path}"
    if headers is None:
        headers = {"x-api-key": api.state.options.api_key}
    with closing(HTTPConnection(address.netloc, timeout=10)) as connection:
        connection.request(method, path, body, headers)
        response = connection.getresponse()
        return Reply(response.status, response.headers, response.read())


def at(milliseconds: int, **values: object) -> Row:
    return Row(PERSON | {"count": milliseconds} | values, milliseconds * 1000)


def read(api: MockAPI, path: str, form: str = "") -> list[dict[str, Any]]:
    rows, page, total = [], 0, 1
    while page < total:
        page += 1
        got = ask(api, f"{form}{path}/{page}").json()
        total = got["total_num_pages"]
        rows += [row if form else dict(zip(got["keys"], row, strict=True)) for row in got["data"]]
    return rows
