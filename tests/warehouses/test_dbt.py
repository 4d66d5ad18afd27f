"""The dbt package: every row of every model, in each kind of warehouse.

Snowflake and BigQuery are emulated. The commands for PostgreSQL are those of the page.
"""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import subprocess
from collections import Counter, defaultdict
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

import psycopg
import pytest
import yaml
from programs import run
from psycopg.rows import dict_row

from demo.pipeline import instant
from demo.postgres import postgres
from mock_api import Account, MockAPI, Row
from mock_api.app import KEYS
from warehouses.pipeline import PROGRAMS, ROOT, Rows, emulated, load_twice, program, query
from warehouses.test_bigquery import emulator

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

PACKAGE = ROOT / "dbt"
PAGE = (ROOT / "docs" / "guides" / "analyze.md").read_text()
SECTION = PAGE.partition("\n## Models with dbt\n")[2].partition("\n## ")[0]
BUILD, *LATER = re.findall(r"```sh\n(.*?)```", SECTION, re.DOTALL)
(PACKAGES,) = re.findall(r"```yaml\n(.*?)```", SECTION, re.DOTALL)
CREDENTIALS = "export PGHOST=host PGUSER=user PGPASSWORD=password PGDATABASE=db\n"

FRAME = ("device_id", "session_id", "model_id", "source_file_name", "frame_number", "timestamp")
SESSION = ("session_id", "device_id", "model_id")
GROUP = "number_of_persons_in_group"
with (PACKAGE / "seeds" / "unleash_metrics.csv").open() as seed:
    METRICS = {row["class_name"] for row in csv.DictReader(seed)}
NOT_COMPARED = {"record_id", "frame_id", "hours_since_last_record"}
"""Hashes, which the numbers of frames depend on, and hours, which are compared by themselves."""

CAMERA = "Wc0ffee000000000"
START = datetime(2020, 4, 1, tzinfo=timezone.utc)
ZONE = "Asia/Kolkata"  # its hours begin at half past
SITE = {"device_id": CAMERA, "name": "Gate", "site": "Bay, North", "timezone": "Australia/Sydney"}

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


def odd_account() -> Account:
    """Generated devices, and one with odd records around the end of daylight saving time."""
    account = Account.generate(rows=300, non_ascii=True, start=START, end=START + timedelta(6))

    def add(time: str, name: str | None, count: float | None, **changes: Any) -> None:
        values = {
            "class_name": name,
            "count": count,
            "device_id": CAMERA,
            "frame_number": 1,
            "model_id": "starter-ai",
            "session_id": "2",
            "source_file_name": f"{CAMERA}?token=a|b",
            "timestamp": f"2020-{time}Z",
        }
        account.add(CAMERA, [Row(values | changes)])

    add("03-01T00:00:00.000", "person", 1, session_id="1")  # before the start date
    # In Sydney, all of these are between two and three o'clock, before and after the change.
    add("04-04T15:59:59.999", "person", 2)
    add("04-04T15:59:59.999", "person", 3)
    add("04-04T16:00:00.000", "person", 4)
    add("04-04T16:00:00.000", "person", 0, frame_number=2)
    add("04-04T17:00:00.000", "person", 2**24 + 1)
    add("04-04T17:00:00.000", "car", None)
    add("04-04T18:00:00.000", "dog", 1, session_id=None, source_file_name=None)
    add("04-04T18:00:00.000", None, 1, frame_number=None)
    add("04-04T18:00:00.000", "person", 1, session_id="3")
    add("04-04T18:00:00.000", "person", 1, session_id="3", model_id="another")
    for count in (2, 2, 4):
        add("04-05T00:00:00.000", GROUP, count)
    add("04-05T00:00:00.000", "total_count", None)
    add("04-05T00:00:00.000", "number_of_groups", 3)
    return account


def grouped(rows: Rows, *names: str) -> list[tuple[dict[str, Any], Rows]]:
    groups = defaultdict(list)
    for row in rows:
        groups[tuple(row[name] for name in names)].append(row)
    return [(dict(zip(names, key, strict=True)), of) for key, of in groups.items()]


def counts(rows: Rows) -> list[float]:
    return [float(row["count"]) for row in rows if row["count"] is not None]


def total(values: list[float]) -> float | None:
    return sum(values) if values else None


def hourly(rows: Rows) -> dict[str, Any]:
    sums = [total(counts(of)) for _, of in grouped(rows, *FRAME)]
    found = [value for value in sums if value is not None]
    return {
        "records": len(rows),
        "frames": sum(value > 0 for value in found),
        "detections": total(found),
        "most_in_one_frame": max(found, default=None),
    }


def frame_metrics(rows: Rows) -> dict[str, Any]:
    values = {name: counts([r for r in rows if r["class_name"] == name]) for name in METRICS}
    groups = values.pop(GROUP)
    return {
        **{name: max(of, default=None) for name, of in values.items()},
        "persons_in_groups": total(groups),
        "persons_in_largest_group": max(groups, default=None),
    }


def extent(rows: Rows) -> dict[str, Any]:
    times = [row["timestamp"] for row in rows]
    first, last = min(times, default=None), max(times, default=None)
    return {"first_record_at": first, "last_record_at": last, "records": len(rows)}


def session(rows: Rows) -> dict[str, Any]:
    classes = {row["class_name"] for row in rows if not row["is_metric"]} - {None}
    frames = len(grouped(rows, *FRAME))
    return {**extent(rows), "frames": frames, "classes": ", ".join(sorted(classes)) or None}


def device(rows: Rows) -> dict[str, Any]:
    days = [row["timestamp"].toordinal() for row in rows]
    rate = len(rows) / (max(days) - min(days) + 1) if rows else None
    return {**extent(rows), "records_per_day": rate}


def expected(
    truth: Rows, sessions: Sequence[str], devices: Sequence[str], site: dict[str, str], zone: str
) -> dict[str, Rows]:
    """Compute the rows of all models from those of the API."""
    rows = [{name: row[name] for name in KEYS} for row in truth]
    local = []
    for row in rows:
        row["is_metric"] = row["class_name"] in METRICS
        there = ZoneInfo(site["timezone"] if row["device_id"] == site["device_id"] else zone)
        time = row["timestamp"].replace(tzinfo=timezone.utc).astimezone(there)
        local.append(row | {"hour": time.strftime("%Y-%m-%d %H:00:00")})
    detections = [row for row in local if not row["is_metric"]]
    metrics = [row for row in rows if row["is_metric"]]
    of_session = [(key, of) for key, of in grouped(rows, *SESSION) if key["session_id"]]
    without = set(sessions) - {key["session_id"] for key, _ in of_session}
    of_session += [(dict.fromkeys(SESSION) | {"session_id": name}, []) for name in without]
    nowhere = dict.fromkeys(site)
    return {
        "stg_unleash__analytics": rows,
        "unleash__detections_hourly": [
            key | hourly(of) for key, of in grouped(detections, "device_id", "class_name", "hour")
        ],
        "unleash__frame_metrics": [key | frame_metrics(of) for key, of in grouped(metrics, *FRAME)],
        "unleash__sessions": [key | session(of) for key, of in of_session],
        "unleash__devices": [
            (site if name == site["device_id"] else nowhere | {"device_id": name})
            | device([row for row in rows if row["device_id"] == name])
            for name in devices
        ],
    }


def plain(value: object) -> object:
    """Times without zone, which all are in UTC or local, and rounded numbers."""
    text = str(value).replace("Z", "+00:00")
    if re.fullmatch(r"\d{4}-\d\d-\d\d[ T].+", text):
        return datetime.fromisoformat(text).replace(tzinfo=None)
    return round(float(value), 3) if isinstance(value, (float, int, Decimal)) else value


def comparable(rows: Rows) -> Counter[frozenset[tuple[str, Any]]]:
    return Counter(
        frozenset((name, plain(row[name])) for name in row.keys() - NOT_COMPARED) for row in rows
    )


def assert_models(models: Mapping[str, Rows], read: Callable[[str], Rows]) -> None:
    for name, rows in models.items():
        earliest = datetime.now(timezone.utc)
        found = read(f"SELECT * FROM unleash_models.{name}")  # noqa: S608
        found = [{column.lower(): row[column] for column in row} for row in found]
        assert rows
        assert comparable(found) == comparable(rows), name
        if name != "unleash__devices":
            continue
        nows = (earliest, datetime.now(timezone.utc))
        for row in found:
            last, hours = plain(row["last_record_at"]), row["hours_since_last_record"]
            assert (last is None) == (hours is None)
            if isinstance(last, datetime):
                hour = last.replace(tzinfo=timezone.utc).timestamp() // 3600
                assert nows[0].timestamp() // 3600 <= hour + hours <= nows[1].timestamp() // 3600


def extracted(folder: Path) -> tuple[str, dict[str, Rows]]:
    """Run the tap; return its messages, and the rows of all models in the package's copy."""
    shutil.copytree(PACKAGE, folder / "dbt")
    with (folder / "dbt" / "seeds" / "unleash_sites.csv").open("a") as file:
        csv.DictWriter(file, SITE, lineterminator="\n").writerow(SITE)
    account = odd_account()
    with MockAPI(account) as api:
        messages = run(
            *(PROGRAMS / "tap-unleash", "--config=ENV"),
            TAP_UNLEASH_API_KEY="mock",
            TAP_UNLEASH_API_URL=api.url,
            TAP_UNLEASH_START_DATE=START.isoformat(),
        )
        times = [row | {"timestamp": instant(row["timestamp"])} for row in api.truth()]
    rows = [row for row in times if row["timestamp"] >= START.replace(tzinfo=None)]
    return messages, expected(rows, account.session_ids(), list(account.devices), SITE, ZONE)


def build(
    folder: Path, dbt: Sequence[str | Path], profile: dict[str, str], **environment: str
) -> None:
    """Build the package's copy with a profile for the warehouse."""
    variables = {"unleash_timezone": ZONE}
    if profile["type"] == "duckdb":
        variables["unleash_loaded_at"] = "loaded_at"
    output = {"threads": 1, "schema": "unleash_models"} | profile
    profiles = {"unleash": {"target": "test", "outputs": {"test": output}}}
    (folder / "dbt" / "profiles.yml").write_text(yaml.safe_dump(profiles))
    run(*dbt, "build", "--vars", json.dumps(variables), cwd=folder / "dbt", **environment)


def load(
    folder: Path, loader: Path, messages: str, secret: dict[str, str], **environment: str
) -> None:
    """Pipe the messages of the tap into a loader that is set up as in its example."""
    name = loader.name.removeprefix("target-")
    example = yaml.safe_load((ROOT / "examples" / "warehouses" / f"{name}.yml").read_text())
    (target,) = example["plugins"]["loaders"]
    (folder / "config.json").write_text(json.dumps(target["config"] | secret))
    subprocess.run(
        [loader, "--config", folder / "config.json"],
        env=os.environ | environment,
        input=messages,
        check=True,
        text=True,
    )


def test_models_in_duckdb(tmp_path: Path) -> None:
    """Of an append-only target: with copies, of which the newer ones are right."""
    python = program("dbt", "python")
    messages, models = extracted(tmp_path)
    lines: dict[str, list[str]] = defaultdict(list)
    for message in map(json.loads, messages.splitlines()):
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
    build(tmp_path, [program("dbt", "dbt")], {"type": "duckdb", "path": str(database)}, TZ=zone)
    assert_models(models, lambda sql: [json.loads(row) for row in in_duckdb(sql).splitlines()])


def test_models_in_snowflake(tmp_path: Path) -> None:
    python, loader = program("dbt", "python"), emulated(tmp_path, "target-snowflake")
    messages, models = extracted(tmp_path)
    (databases := tmp_path / "databases").mkdir()
    warehouse = {"EMULATED_SNOWFLAKE": str(databases)}
    load(tmp_path, loader, messages, {"password": "none"}, **warehouse)
    account = {"type": "snowflake", "account": "none", "user": "none", "password": "none"}
    profile = account | {"database": "RAW", "warehouse": "none"}
    build(tmp_path, [python, "-c", IN_SNOWFLAKE], profile, **warehouse)
    assert_models(models, lambda sql: query(loader, sql, warehouse))


def test_models_in_bigquery(tmp_path: Path) -> None:
    dbt, loader = program("dbt", "dbt"), emulated(tmp_path, "target-bigquery")
    messages, models = extracted(tmp_path)
    (data := tmp_path / "bigquery").mkdir()
    with emulator(data) as url:
        warehouse = {"BIGQUERY_EMULATOR_HOST": url}
        load(tmp_path, loader, messages, {}, **warehouse)
        access = {"method": "oauth-secrets", "token": "none", "api_endpoint": url}
        profile = {"type": "bigquery", "project": "my-project"} | access
        build(tmp_path, [dbt], profile)
        assert_models(models, lambda sql: query(loader, sql, warehouse))


def test_commands_of_the_page_in_postgres(tmp_path: Path) -> None:
    """The views are created before the second sync, which goes on with them."""
    loader = program("target-postgres", "target-postgres")
    (tmp_path / "tap-unleash").symlink_to(ROOT)
    # The variable holds a list, separated by spaces: the clone's path can have some.
    requirements = ROOT / "tests" / "warehouses" / "requirements" / "dbt.txt"
    shutil.copy(requirements, tmp_path / "constraints.txt")
    assert CREDENTIALS in BUILD
    with (
        postgres() as url,
        psycopg.connect(url, row_factory=dict_row, autocommit=True) as connection,
    ):
        execute, server = connection.execute, urlsplit(url)
        execute("ALTER ROLE CURRENT_USER SET timezone = 'Australia/Sydney'")
        credentials = (
            f"export PGHOST={server.hostname} PGPORT={server.port} PGDATABASE=postgres "
            f"PGUSER={server.username} PGPASSWORD={server.password}\n"
        )

        environment = {
            "DBT_USE_COLORS": "false",
            "PATH": f"{tmp_path}/bin:{PROGRAMS}:{os.environ['PATH']}",
            "UV_CONSTRAINT": str(tmp_path / "constraints.txt"),
            "UV_PYTHON": str(program("dbt", "python")),
            "UV_TOOL_BIN_DIR": str(tmp_path / "bin"),
            "UV_TOOL_DIR": str(tmp_path / "tools"),
        }

        def paste(folder: str, *scripts: str) -> str:
            script = "".join(scripts).replace(CREDENTIALS, "")
            command = ("bash", "-euo", "pipefail", "-c", credentials + script)
            return run(*command, cwd=tmp_path / folder, **environment)

        def read(sql: str) -> Rows:
            return execute(sql.encode()).fetchall()

        rows = load_twice(
            tmp_path,
            loader,
            lambda: read("SELECT * FROM unleash.analytics"),
            {"TARGET_POSTGRES_SQLALCHEMY_URL": url.replace("://", "+psycopg://")},
            between=lambda: paste("project", BUILD),
        )
        execute("INSERT INTO unleash.sessions VALUES ('without records')")
        assert "1 of 1 WARN freshness of unleash.analytics" in paste("project/dbt", *LATER)
        with (tmp_path / "project" / "dbt" / "seeds" / "unleash_sites.csv").open() as file:
            (site,) = csv.DictReader(file)
        sessions, devices = (
            [row["id"] for row in read(f"SELECT {name}_id AS id FROM unleash.{name}s")]  # noqa: S608
            for name in ("session", "device")
        )
        models = expected(rows, sessions, devices, site, "UTC")
        assert_models(models, read)

        (own := tmp_path / "own").mkdir()
        shutil.copytree(tmp_path / "project" / "dbt" / "seeds", own / "seeds")
        (own / "seeds" / "unleash_metrics.csv").unlink()
        shutil.copy(PACKAGE / "profiles.yml", own)
        (own / "packages.yml").write_text(PACKAGES)
        (own / "dbt_project.yml").write_text(OWN_PROJECT)
        execute("DROP SCHEMA unleash_models CASCADE")
        paste("own", "dbt deps\n", "dbt build\n")
        assert_models(models, read)

        lost = rows[0]["session_id"]
        execute("DELETE FROM unleash.sessions WHERE session_id = %s", [lost])
        count = sum(row["session_id"] == lost for row in rows)
        failure = f"FAIL {count} relationships_stg_unleash__analytics_session_id"
        with pytest.raises(AssertionError, match=failure):
            paste("project/dbt", "dbt build\n")
