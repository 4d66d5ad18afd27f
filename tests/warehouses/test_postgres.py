"""Into a real PostgreSQL with the real loader."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import psycopg
import pytest
from psycopg.rows import dict_row

from demo.pipeline import ROOT
from demo.postgres import postgres
from warehouses.pipeline import Rows, documented, load_twice, program

if TYPE_CHECKING:
    from pathlib import Path

PAGE = ROOT / "docs" / "destinations" / "postgres.md"
(TRIGGER,) = re.findall(r"```sql\n(.+?)```", PAGE.read_text(), re.DOTALL)
COLUMNS = (
    "SELECT column_name, data_type FROM information_schema.columns "
    "WHERE table_schema = 'unleash' AND table_name = 'analytics'"
)


@pytest.mark.parametrize("tap", ["tap-unleash", "tap-unleash-in-batches"])
def test_table_equals_the_truth(tmp_path: Path, tap: str) -> None:
    loader = program("target-postgres", "target-postgres")
    with (
        postgres() as url,
        psycopg.connect(url, row_factory=dict_row, autocommit=True) as connection,
    ):
        execute = connection.execute
        execute("ALTER ROLE CURRENT_USER SET timezone = 'Australia/Sydney'")

        def rows() -> Rows:
            return execute("SELECT * FROM unleash.analytics").fetchall()

        loaded = load_twice(
            tmp_path,
            loader,
            rows,
            {"TARGET_POSTGRES_SQLALCHEMY_URL": url.replace("://", "+psycopg://")},
            tap=tap,
            between=lambda: execute(TRIGGER),
        )
        types = execute(COLUMNS).fetchall()
    assert len(loaded) == 4200
    assert {row["column_name"]: row["data_type"] for row in types} == documented("postgres")
