"""Two runs of Meltano, the tap and a real target, with the project of an example."""

from __future__ import annotations

import re
from itertools import chain
from typing import TYPE_CHECKING

import pytest
import yaml
from programs import PROGRAMS, run

from demo.pipeline import ROOT, compare
from mock_api import Account, MockAPI
from warehouses.pipeline import (
    Rows,
    Warehouse,
    bigquery,
    jsonl,
    postgresql,
    snowflake,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager
    from pathlib import Path

PAGES = ROOT / "docs" / "destinations"
(TRIGGER,) = re.findall(r"```sql\n(.+?)```", (PAGES / "postgres.md").read_text(), re.DOTALL)
COLUMNS = {
    "postgres": "information_schema.columns WHERE table_name = 'analytics'",
    "bigquery": "unleash.INFORMATION_SCHEMA.COLUMNS WHERE table_name = 'analytics' "
    "AND column_name NOT LIKE '_sdc_%'",
}
"""Where the types are that the page of a destination documents."""


@pytest.mark.timeout(600)  # the target for BigQuery sleeps a lot
@pytest.mark.parametrize(
    ("warehouse", "tap"),
    [
        (jsonl, "tap-unleash"),
        (postgresql, "tap-unleash"),
        (postgresql, "tap-unleash-in-batches"),
        (snowflake, "tap-unleash"),
        (snowflake, "tap-unleash-in-batches"),
        (bigquery, "tap-unleash"),
    ],
)
def test_table_equals_the_truth(
    warehouse: Callable[[Path], AbstractContextManager[Warehouse]], tap: str, tmp_path: Path
) -> None:
    """After a run, and after a second one with new and late-arriving records."""
    with (
        warehouse(tmp_path) as (target, variables, query),
        MockAPI(Account.generate(rows=1000, non_ascii=True)) as api,
    ):
        name = target.name.removeprefix("target-")
        page = (PAGES / f"{name}.md").read_text()
        project = yaml.safe_load((ROOT / "examples/warehouses" / f"{name}.yml").read_text())
        # Only the paths of the programs differ from the example.
        programs = {"tap-unleash": PROGRAMS / "tap-unleash", target.name: target}
        for plugin in chain.from_iterable(project["plugins"].values()):
            if "pip_url" in plugin:
                del plugin["pip_url"]
                plugin["executable"] = str(programs[plugin["name"]])
        (folder := tmp_path / "project").mkdir()
        (folder / "meltano.yml").write_text(yaml.safe_dump(project))
        variables |= {
            "NO_COLOR": "1",
            "TAP_UNLEASH_API_KEY": "mock",
            "TAP_UNLEASH_API_URL": api.url,
        }

        def sync() -> Rows:
            run(PROGRAMS / "meltano", "run", tap, target.name, cwd=folder, **variables)
            return query("SELECT * FROM unleash.analytics")

        assert compare(api.truth(), sync()) == (0, 0)
        if name == "postgres":
            query(TRIGGER)
        api.account.grow(300)
        api.account.grow(100, late_minutes=30)
        rows = sync()
        loaded = {row["record_id"]: row for row in rows}
        assert compare(api.truth(), loaded.values()) == (0, 0)
        assert len(loaded) == 4200
        # Files have no key: a record that is read twice is there twice.
        assert (len(rows) > len(loaded)) == (name == "jsonl")
        if columns := COLUMNS.get(name):
            types = query(f"SELECT column_name, data_type FROM {columns}")  # noqa: S608
            lines = re.findall(r"^\| (`[a-z_]+`.*) \| `(.+?)`.* \|$", page, re.MULTILINE)
            assert {row["column_name"]: row["data_type"] for row in types} == {
                column: kind for names, kind in lines for column in re.findall("`(.+?)`", names)
            }
