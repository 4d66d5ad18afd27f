"""Into Snowflake with the real loader; the warehouse itself is emulated."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from warehouses.pipeline import Rows, emulated, load_twice, query

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("tap", ["tap-unleash", "tap-unleash-in-batches"])
def test_table_equals_the_truth(tmp_path: Path, tap: str) -> None:
    loader = emulated(tmp_path, "target-snowflake")
    (databases := tmp_path / "databases").mkdir()
    warehouse = {
        "EMULATED_SNOWFLAKE": str(databases),
        "TARGET_SNOWFLAKE_PASSWORD": "none",
    }

    def rows() -> Rows:
        found = query(loader, "SELECT * FROM RAW.UNLEASH.ANALYTICS", warehouse)
        return [{name.lower(): row[name] for name in row} for row in found]

    assert len(load_twice(tmp_path, loader, rows, warehouse, tap=tap)) == 4200
