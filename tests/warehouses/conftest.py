from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

import demo.postgres

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def postgres() -> Iterator[str]:
    with demo.postgres.postgres() as url:
        yield url
