from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

import sandbox.postgres

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def postgres() -> Iterator[str]:
    with sandbox.postgres.postgres() as url:
        yield url
