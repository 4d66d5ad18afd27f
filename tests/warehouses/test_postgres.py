"""Into a real PostgreSQL with the real loader."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from psycopg.rows import dict_row

from demo.pipeline import ROOT, compare
from mock_api import Account, MockAPI
from warehouses.pipeline import Project, program

if TYPE_CHECKING:
    from pathlib import Path

TYPES = {
    "record_id": "text",
    "device_id": "text",
    "session_id": "text",
    "model_id": "text",
    "source_file_name": "text",
    "class_name": "text",
    "count": "numeric",
    "frame_number": "bigint",
    "timestamp": "timestamp without time zone",
    "extra_fields": "jsonb",
}

PAGE = ROOT / "docs" / "destinations" / "postgres.md"
(TRIGGER,) = re.findall(r"```sql\n(.+?)```", PAGE.read_text(), re.DOTALL)


def columns_of(url: str, table: str) -> dict[str, str]:
    with psycopg.connect(url) as connection:
        return dict(
            connection.execute(
                "SELECT column_name, data_type FROM information_schema.columns "
                "WHERE table_schema = 'unleash' AND table_name = %s "
                "AND NOT starts_with(column_name, '_sdc_')",
                [table],
            ).fetchall()
        )


def analytics_of(url: str) -> list[dict[str, Any]]:
    with psycopg.connect(url, row_factory=dict_row) as connection:
        return connection.execute("SELECT * FROM unleash.analytics").fetchall()


@pytest.mark.parametrize("tap", ["tap-unleash", "tap-unleash-in-batches"])
@pytest.mark.parametrize("trigger", [False, True])
def test_table_equals_the_truth(
    postgres: str,
    tmp_path: Path,
    tap: str,
    trigger: bool,  # noqa: FBT001
) -> None:
    with psycopg.connect(postgres) as connection:
        connection.execute("ALTER ROLE CURRENT_USER SET timezone = 'Australia/Sydney'")
    project = Project(
        tmp_path,
        "warehouses/postgres.yml",
        target_postgres=program("target-postgres", "target-postgres"),
    )
    with MockAPI(Account.generate(rows=2000, non_ascii=True)) as api:
        environment = {
            "TAP_UNLEASH_API_URL": api.url,
            "TARGET_POSTGRES_SQLALCHEMY_URL": postgres.replace("://", "+psycopg://"),
        }
        project.meltano("run", tap, "target-postgres", **environment)
        assert compare(api.truth(), analytics_of(postgres)) == (0, 0)
        if trigger:
            with psycopg.connect(postgres) as connection:
                connection.execute(TRIGGER)
        api.account.grow(500)
        api.account.grow(100, late_minutes=30)
        project.meltano("run", tap, "target-postgres", **environment)
        loaded = analytics_of(postgres)
        assert compare(api.truth(), loaded) == (0, 0)
        assert len({row["record_id"] for row in loaded}) == len(loaded) == 7800
        assert loaded[0].keys() == TYPES.keys()
        with psycopg.connect(postgres) as connection:
            assert connection.execute(
                "SELECT count(*) FROM unleash.sessions"
            ).fetchall() == [(len(api.account.session_ids()),)]
    assert columns_of(postgres, "analytics") == TYPES
