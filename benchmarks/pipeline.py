"""Whole pipelines into PostgreSQL."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Any

import psycopg
import yaml

from benchmarks.contenders import CONTENDERS, KEY, Contender, Task
from benchmarks.data import Row
from benchmarks.environments import OURS, ROOT, executable
from benchmarks.measure import run

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_TARGET = "target-postgres"
_PLUGINS = {
    plugin["name"]: plugin["config"]
    for kind in yaml.safe_load((ROOT / "meltano.yml").read_text())["plugins"].values()
    for plugin in kind
    if "config" in plugin
}
_SHIPPED = _PLUGINS[_TARGET]
_SCHEMA = _SHIPPED["default_target_schema"]
_BATCH = _PLUGINS[f"{OURS}-in-batches"]["batch_config"]

_BEFORE = {"default_target_schema": _SCHEMA, "use_copy": True}
"""The settings of the target before they were optimized."""

_TRIGGER = f"""
CREATE TRIGGER skip_unchanged_rows BEFORE UPDATE ON {_SCHEMA}.analytics
FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger()
"""


def _target(task: Task, settings: Mapping[str, Any]) -> dict[str, Any]:
    url = task.database.replace("postgresql:", "postgresql+psycopg:")
    return {"sqlalchemy_url": f"{url}?options=-c%20timezone%3DUTC", **settings}


def _meltano(
    *, batch: bool = False, target: Mapping[str, Any] = _SHIPPED, trigger: bool = False
) -> Contender:
    def command(task: Task) -> list[str]:
        tap = {"api_key": KEY, "api_url": task.url, **task.settings}
        if batch:
            tap["batch_config"] = _BATCH
        capabilities = ("catalog", "discover", "state", "batch", "structured-logging")
        extractor = {
            "name": OURS,
            "namespace": "tap_unleash",
            "executable": executable(OURS, OURS),
            "capabilities": capabilities,
            "settings": [{"name": "end_date"}],
            "config": tap,
            "select": ["analytics.*"],
        }
        loader = {
            "name": _TARGET,
            "namespace": "target_postgres",
            "executable": executable(_TARGET, _TARGET),
            "config": _target(task, target),
        }
        project = {
            "send_anonymous_usage_stats": False,
            "project_id": "benchmark",
            "default_environment": "prod",
            "environments": [{"name": "prod"}],
            "plugins": {"extractors": [extractor], "loaders": [loader]},
        }
        task.write("meltano.yml", project)  # JSON is YAML, too
        arguments = [executable("meltano", "meltano"), "run", OURS, _TARGET]
        if trigger:
            # A sync of the time before the first row creates the table.
            run(arguments, task.work, {"TAP_UNLEASH_END_DATE": "2023-01-01"})
            with psycopg.connect(task.database) as connection:
                connection.execute(_TRIGGER.encode())
        return arguments

    return Contender(("meltano", OURS, _TARGET), command, _loaded_rows)


def _piped(task: Task) -> list[str]:
    config = task.write("target.json", _target(task, _SHIPPED))
    tap = shlex.join(CONTENDERS[OURS].command(task))
    target = shlex.join([executable(_TARGET, _TARGET), "--config", config])
    return ["/bin/bash", "-o", "pipefail", "-c", f"{tap} | {target}"]


def _dlt(*options: str, **variables: str) -> Contender:
    dlt = CONTENDERS["dlt"]
    return Contender(
        dlt.environments,
        lambda task: [*dlt.command(task), "--database", task.database, *options],
        _loaded_rows,
        {
            **dlt.variables,
            # These affect Arrow tables only.
            "NORMALIZE__PARQUET_NORMALIZER__ADD_DLT_ID": "true",
            "NORMALIZE__PARQUET_NORMALIZER__ADD_DLT_LOAD_ID": "true",
            **variables,
        },
    )


def _bare(task: Task) -> list[str]:
    threads = str(task.settings["concurrency"])
    options = ("--threads", threads, "--database", task.database)
    return [*CONTENDERS["bare script"].command(task), *options]


def _loaded_rows(task: Task) -> Iterator[Row]:
    columns = ", ".join(Row.__struct_fields__[:-1]).replace("count", '"count"::float8')
    timestamp = """to_char("timestamp", 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"')"""
    query = f"SELECT {columns}, {timestamp} FROM {_SCHEMA}.analytics"  # noqa: S608
    with psycopg.connect(task.database) as connection:
        connection.execute("SET timezone TO 'UTC'")
        for row in connection.execute(query.encode()):
            yield Row(*row)


def drop(database: str) -> int:
    """Drop the tables, and return the size of the table `analytics` in MB."""
    query = f"SELECT pg_total_relation_size('{_SCHEMA}.analytics')"
    with psycopg.connect(database) as connection:
        ((size,),) = connection.execute(query.encode())
        connection.execute(f"DROP SCHEMA {_SCHEMA} CASCADE".encode())
    return round(float(size) / 1e6)


PIPELINES = {
    "meltano run": _meltano(),
    "meltano run, before": _meltano(target=_BEFORE),
    "meltano run, BATCH": _meltano(batch=True),
    "meltano run, BATCH, trigger": _meltano(batch=True, trigger=True),
    "piped without Meltano": Contender((OURS, _TARGET), _piped, _loaded_rows),
    "dlt merge": _dlt(),
    "dlt merge, parallelized": _dlt("--parallel"),
    "dlt merge, csv, 2 workers": _dlt(
        "--format=csv",
        NORMALIZE__WORKERS="2",
        NORMALIZE__DATA_WRITER__FILE_MAX_ITEMS="20000",
    ),
    "dlt merge, Arrow": _dlt("--format=parquet"),
    "dlt merge, Arrow, parallelized": _dlt("--format=parquet", "--parallel"),
    "bare script": Contender(("bare",), _bare, _loaded_rows),
}
