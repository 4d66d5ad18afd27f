"""The OpenAPI page and the server agree."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from urllib.request import urlopen

import pytest
import schemathesis
from hypothesis import settings

from mock_api import Account, MockAPI, Row
from mock_api.app import app

if TYPE_CHECKING:
    from collections.abc import Iterator

EXAMPLE = "Wabcdb35be35bb72"
TIMES = ("unixUTCTimeStampFrom", "unixUTCTimeStampTo")
PAGE = app.openapi()
schema = schemathesis.openapi.from_dict(PAGE)


@pytest.fixture(scope="module")
def root() -> Iterator[str]:
    row = {"device_id": EXAMPLE, "timestamp": "2020-08-17T02:09:16.000Z"}
    with MockAPI(Account({EXAMPLE: [Row(row)] * 3}), page_size=2) as api:
        yield api.url.removesuffix("/v1")


def test_page_is_served(root: str) -> None:
    with urlopen(f"{root}/openapi.json", timeout=10) as response:  # noqa: S310
        assert json.load(response) == PAGE
    with urlopen(f"{root}/docs", timeout=10) as response:  # noqa: S310
        assert response.status == 200


@schema.parametrize()
@settings(max_examples=30, deadline=None)
def test_page_and_server_agree(case: schemathesis.Case[Any], root: str) -> None:
    # From may not be after to, which is beyond what OpenAPI can say.
    parameters = case.path_parameters
    if all(str(parameters.get(name)).isdigit() for name in TIMES):
        times = sorted((parameters[name] for name in TIMES), key=int)
        parameters.update(zip(TIMES, times, strict=True))
    case.call_and_validate(base_url=root, headers={"x-api-key": "mock"})
