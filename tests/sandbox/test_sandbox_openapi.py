# noqa: INP001 - a package of this name would hide the one that is tested
"""The OpenAPI page and the server agree."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import schemathesis
from hypothesis import settings

from sandbox import Sandbox, World

if TYPE_CHECKING:
    from collections.abc import Iterator

    from schemathesis.schemas import BaseSchema


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(World.generate(devices=2, rows=20)) as sandbox:
        yield sandbox


@pytest.fixture(scope="module")
def page(sandbox: Sandbox) -> BaseSchema:
    return schemathesis.openapi.from_url(f"{sandbox.url[:-3]}/openapi.json")


schema = schemathesis.pytest.from_fixture("page")


@schema.parametrize()
@settings(max_examples=25, deadline=None)
def test_page_and_server_agree(case: schemathesis.Case) -> None:
    case.call_and_validate(headers={"x-api-key": "sandbox"})
