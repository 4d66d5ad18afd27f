"""Into Snowflake with the real loader; the warehouse itself is emulated."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from demo.pipeline import compare
from mock_api import Account, MockAPI
from warehouses.pipeline import Project, program

EMULATED = Path(__file__).with_name("emulated_snowflake.py")

TYPES = {
    "RECORD_ID": "TEXT",
    "DEVICE_ID": "TEXT",
    "SESSION_ID": "TEXT",
    "MODEL_ID": "TEXT",
    "SOURCE_FILE_NAME": "TEXT",
    "CLASS_NAME": "TEXT",
    "COUNT": "FLOAT",
    "FRAME_NUMBER": "NUMBER",
    "TIMESTAMP": "TIMESTAMP_NTZ",
    "EXTRA_FIELDS": "VARIANT",
}


@pytest.mark.parametrize("tap", ["tap-unleash", "tap-unleash-in-batches"])
def test_table_equals_the_truth(tmp_path: Path, tap: str) -> None:
    python = program("target-snowflake", "python")
    loader = tmp_path / "target-snowflake"
    loader.write_text(f'#!/bin/sh\nexec "{python}" "{EMULATED}" "$@"\n')
    loader.chmod(0o755)
    (project := tmp_path / "project").mkdir()
    (databases := tmp_path / "databases").mkdir()
    meltano = Project(
        project, "warehouses/snowflake.yml", target_snowflake=loader
    ).meltano

    def query(sql: str) -> list[dict[str, Any]]:
        found = subprocess.run(
            [loader, sql],
            env={"EMULATED_SNOWFLAKE": str(databases)},
            stdout=subprocess.PIPE,
            check=True,
            text=True,
        )
        return [json.loads(line) for line in found.stdout.splitlines()]

    def analytics() -> list[dict[str, Any]]:
        return [
            {name.lower(): value for name, value in row.items()}
            for row in query("SELECT * FROM RAW.UNLEASH.ANALYTICS")
        ]

    with MockAPI(Account.generate(rows=1000, non_ascii=True)) as api:
        environment = {
            "EMULATED_SNOWFLAKE": str(databases),
            "TAP_UNLEASH_API_URL": api.url,
            "TARGET_SNOWFLAKE_PASSWORD": "none",
        }
        meltano("run", tap, "target-snowflake", **environment)
        assert compare(api.truth(), analytics()) == (0, 0)
        api.account.grow(300)
        api.account.grow(100, late_minutes=30)
        meltano("run", tap, "target-snowflake", **environment)
        loaded = analytics()
        assert compare(api.truth(), loaded) == (0, 0)
        assert len({row["record_id"] for row in loaded}) == len(loaded) == 4200
    columns = query(
        "SELECT * FROM RAW.information_schema.columns WHERE table_name = 'ANALYTICS'"
    )
    types = {column["COLUMN_NAME"]: column["DATA_TYPE"] for column in columns}
    assert {name: types[name] for name in TYPES} == TYPES
