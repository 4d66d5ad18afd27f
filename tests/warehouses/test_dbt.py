"""The dbt package: every row of every model, in each kind of warehouse.

The folder `models` has the rows of an account, and those that the models make of them. The
commands for PostgreSQL are those of the page.
"""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import subprocess
import time
from collections import Counter, defaultdict
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest
import yaml
from programs import PROGRAMS, run

from demo.pipeline import ROOT
from mock_api import Account, MockAPI, Row
from warehouses.pipeline import (
    Rows,
    Warehouse,
    bigquery,
    postgresql,
    program,
    snowflake,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

PAGE = (ROOT / "docs" / "guides" / "analyze.md").read_text()
SECTION = PAGE.partition("\n## Models with dbt\n")[2].partition("\n## ")[0]
BUILD, *LATER = re.findall(r"```sh\n(.*?)```", SECTION, re.DOTALL)
(PACKAGES,) = re.findall(r"```yaml\n(.*?)```", SECTION, re.DOTALL)
(SITE,) = re.findall(r"^echo '(.+)' >> seeds/unleash_sites.csv$", SECTION, re.MULTILINE)
CREDENTIALS = "export PGHOST=host PGUSER=user PGPASSWORD=password PGDATABASE=db\n"

MODELS = sorted(Path(__file__).with_name("models").glob("*.csv"))
START = "2020-04-01T00:00:00"
DEVICES = ("W629f6fbd82c07cd", "Wc0ffee000000000", "Wdead00000000000")
"""In Sydney, where daylight saving time ends; in no known place; and without records."""

OWN_PROJECT = """
name: own
profile: unleash
flags: {send_anonymous_usage_stats: false}
seeds: {unleash: {unleash_sites: {+enabled: false}}}
"""
IN_DUCKDB = """
import json, sys
from pathlib import Path
import duckdb
connection = duckdb.connect(sys.argv[1])
if sys.argv[2].startswith("SELECT"):
    cursor = connection.execute(sys.argv[2])
    names = [column[0] for column in cursor.description]
    for row in cursor.fetchall():
        print(json.dumps(dict(zip(names, row)), default=str))
else:
    connection.execute("CREATE SCHEMA unleash")
    for file in map(Path, sys.argv[2:]):
        connection.execute(f"CREATE TABLE unleash.{file.stem} AS FROM read_json('{file}')")
"""
IN_SNOWFLAKE = """
import os, sys
import fakesnow
from dbt.cli.main import dbtRunner
with fakesnow.patch(db_path=os.environ["EMULATED_SNOWFLAKE"]):
    sys.exit(not dbtRunner().invoke(sys.argv[1:]).success)
"""

pytestmark = pytest.mark.timeout(600)


def cells(path: Path) -> Rows:
    with path.open() as file:
        return list(csv.DictReader(file))


def account() -> Account:
    rows = cells(Path(__file__).with_name("models") / "stg_unleash__analytics.csv")
    found = Account(dict.fromkeys(DEVICES, ()))
    for row in rows:
        values = {name: text or None for name, text in row.items() if name != "is_metric"}
        numbers = {name: json.loads(row[name] or "null") for name in ("count", "frame_number")}
        found.add(row["device_id"], [Row(values | numbers)])
    return found


def plain(value: object) -> object:
    """Times without zone, which all are in UTC or local, and rounded numbers."""
    text = "" if value is None else str(value).replace("Z", "+00:00")
    if re.fullmatch(r"\d{4}-\d\d-\d\d[ T].+", text):
        return datetime.fromisoformat(text).replace(tzinfo=timezone.utc)
    try:
        return round(float(text), 3)
    except ValueError:
        return text


def counted(rows: Rows) -> Counter[frozenset[tuple[str, object]]]:
    return Counter(frozenset((name, plain(row[name])) for name in row) for row in rows)


def assert_models(query: Callable[[str], Rows]) -> None:
    for path in MODELS:
        earliest = time.time() // 3600
        found = query(f"SELECT * FROM unleash_models.{path.stem}")  # noqa: S608
        latest = time.time() // 3600
        for row in found:
            for name in ("record_id", "frame_id"):
                row.pop(name, None)
            if "hours_since_last_record" in row:
                hours, last = row.pop("hours_since_last_record"), plain(row["last_record_at"])
                if isinstance(last, datetime):
                    assert earliest <= last.timestamp() // 3600 + hours <= latest
                else:
                    assert hours is None
        rows = [row for row in cells(path) if row.get("timestamp", START) >= START]
        assert counted(found) == counted(rows), path.stem


def extracted(folder: Path) -> str:
    """Run the tap; copy the package, with a site and another time zone, whose hours differ."""
    shutil.copytree(ROOT / "dbt", folder / "dbt")
    project = folder / "dbt" / "dbt_project.yml"
    text = project.read_text()
    assert "unleash_timezone: UTC" in text
    project.write_text(text.replace("unleash_timezone: UTC", "unleash_timezone: Asia/Kolkata"))
    with MockAPI(account()) as api:
        return run(
            *(PROGRAMS / "tap-unleash", "--config=ENV"),
            TAP_UNLEASH_API_KEY="mock",
            TAP_UNLEASH_API_URL=api.url,
            TAP_UNLEASH_START_DATE=START,
        )


def load(folder: Path, warehouse: Warehouse, messages: str) -> None:
    """Pipe the messages of the tap into a target that is set up as in its example."""
    name = warehouse.target.name.removeprefix("target-")
    example = yaml.safe_load((ROOT / "examples" / "warehouses" / f"{name}.yml").read_text())
    (target,) = example["plugins"]["loaders"]
    (folder / "config.json").write_text(json.dumps(target["config"]))
    subprocess.run(
        [warehouse.target, "--config", folder / "config.json", "--config", "ENV"],
        env=os.environ | warehouse.environment | target.get("env", {}),
        input=messages,
        check=True,
        text=True,
    )


def build(
    folder: Path, command: Sequence[str | Path], profile: dict[str, str], **environment: str
) -> None:
    """Build the package's copy with a profile for the warehouse."""
    with (folder / "dbt" / "seeds" / "unleash_sites.csv").open("a") as file:
        file.write(f"{SITE}\n")
    output = {"threads": 1, "schema": "unleash_models"} | profile
    profiles = {"unleash": {"target": "test", "outputs": {"test": output}}}
    (folder / "dbt" / "profiles.yml").write_text(yaml.safe_dump(profiles))
    run(*command, cwd=folder / "dbt", **environment)


def test_models_in_duckdb(tmp_path: Path) -> None:
    """Of an append-only target: with copies, of which the newer ones are right."""
    python = program("dbt", "python")
    lines: dict[str, list[str]] = defaultdict(list)
    for message in map(json.loads, extracted(tmp_path).splitlines()):
        if message["type"] == "RECORD":
            record = message["record"]
            stale = record | {"count": 99} if "count" in record else record
            for version, copy in enumerate((stale, record, stale)):
                row = copy | {"loaded_at": version % 2}
                lines[message["stream"]].append(json.dumps(row))
    files = [tmp_path / f"{stream}.json" for stream in lines]
    for file in files:
        file.write_text("\n".join(lines[file.stem]))
    database = tmp_path / "warehouse.duckdb"
    zone = "Australia/Sydney"
    in_duckdb = partial(run, python, "-c", IN_DUCKDB, database, cwd=tmp_path, TZ=zone)
    in_duckdb(*files)
    profile = {"type": "duckdb", "path": str(database)}
    command = (program("dbt", "dbt"), "build", "--vars", "unleash_loaded_at: loaded_at")
    build(tmp_path, command, profile, TZ=zone)
    assert_models(lambda sql: [json.loads(row) for row in in_duckdb(sql).splitlines()])


def test_models_in_snowflake(tmp_path: Path) -> None:
    python = program("dbt", "python")
    with snowflake(tmp_path) as warehouse:
        load(tmp_path, warehouse, extracted(tmp_path))
        profile = dict.fromkeys(("account", "user", "password", "warehouse"), "none")
        profile |= {"type": "snowflake", "database": "RAW"}
        build(tmp_path, (python, "-c", IN_SNOWFLAKE, "build"), profile, **warehouse.environment)
        assert_models(warehouse.query)


def test_models_in_bigquery(tmp_path: Path) -> None:
    dbt = program("dbt", "dbt")
    with bigquery(tmp_path) as warehouse:
        load(tmp_path, warehouse, extracted(tmp_path))
        access = {"method": "oauth-secrets", "token": "none"}
        access["api_endpoint"] = warehouse.environment["BIGQUERY_EMULATOR_HOST"]
        build(tmp_path, (dbt, "build"), {"type": "bigquery", "project": "my-project"} | access)
        assert_models(warehouse.query)


def test_commands_of_the_page_in_postgres(tmp_path: Path) -> None:
    """The views are created before the second sync, which goes on with them."""
    for folder in ("tap-unleash", "project", "own"):
        (tmp_path / folder).mkdir()
    messages = extracted(tmp_path / "tap-unleash")
    # The variable holds a list, separated by spaces: the clone's path can have some.
    requirements = ROOT / "tests" / "warehouses" / "requirements" / "dbt.txt"
    shutil.copy(requirements, tmp_path / "constraints.txt")
    assert CREDENTIALS in BUILD
    environment = {
        "DBT_USE_COLORS": "false",
        "PATH": f"{tmp_path}/bin:{PROGRAMS}:{os.environ['PATH']}",
        "UV_CONSTRAINT": str(tmp_path / "constraints.txt"),
        "UV_PYTHON": str(program("dbt", "python")),
        "UV_TOOL_BIN_DIR": str(tmp_path / "bin"),
        "UV_TOOL_DIR": str(tmp_path / "tools"),
    }
    with postgresql(tmp_path) as warehouse:
        server = urlsplit(warehouse.environment["TARGET_POSTGRES_SQLALCHEMY_URL"])
        credentials = (
            f"export PGHOST={server.hostname} PGPORT={server.port} PGDATABASE=postgres "
            f"PGUSER={server.username} PGPASSWORD={server.password}\n"
        )

        def paste(folder: str, *scripts: str) -> str:
            script = "".join(scripts).replace(CREDENTIALS, "")
            command = ("bash", "-euo", "pipefail", "-c", credentials + script)
            return run(*command, cwd=tmp_path / folder, **environment)

        load(tmp_path, warehouse, messages)
        paste("project", BUILD)
        load(tmp_path, warehouse, messages)
        assert "1 of 1 WARN freshness of unleash.analytics" in paste("project/dbt", *LATER)
        assert_models(warehouse.query)

        own = tmp_path / "own"
        shutil.copytree(tmp_path / "project" / "dbt" / "seeds", own / "seeds")
        (own / "seeds" / "unleash_metrics.csv").unlink()
        shutil.copy(ROOT / "dbt" / "profiles.yml", own)
        (own / "packages.yml").write_text(PACKAGES)
        (own / "dbt_project.yml").write_text(OWN_PROJECT)
        warehouse.query("DROP SCHEMA unleash_models CASCADE")
        paste("own", "dbt deps\n", "dbt build\n")
        assert_models(warehouse.query)

        warehouse.query("DELETE FROM unleash.sessions WHERE session_id = 's3'")
        failure = r"(?s)FAIL 1 relationships_stg_unleash__analytics_session_id.+ ERROR=1 "
        with pytest.raises(AssertionError, match=failure):
            paste("project/dbt", "dbt build\n")
