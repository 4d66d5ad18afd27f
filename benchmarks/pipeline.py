"""Whole pipelines into PostgreSQL."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import psycopg
import yaml

from benchmarks.contenders import CONTENDERS, KEY, Contender, Task
from benchmarks.data import Row
from benchmarks.environments import OURS, ROOT, executable

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


def _target(task: Task, settings: Mapping[str, Any]) -> dict[str, Any]:
    url = task.database.replace("postgresql:", "postgresql+psycopg:")
    return {"sqlalchemy_url": f"{url}?options=-c%20timezone%3DUTC", **settings}


def _meltano(*, batch: bool = False) -> Contender:
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
            "config": _target(task, _SHIPPED),
        }
        project = {
            "send_anonymous_usage_stats": False,
            "project_id": "benchmark",
            "default_environment": "prod",
            "environments": [{"name": "prod"}],
            "plugins": {"extractors": [extractor], "loaders": [loader]},
        }
        task.write("meltano.yml", project)  # JSON is YAML, too
        return [executable("meltano", "meltano"), "run", OURS, _TARGET]

    return Contender(("meltano", OURS, _TARGET), command, _loaded_rows)


def _dlt(*options: str) -> Contender:
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
        },
    )


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
    "meltano run, BATCH": _meltano(batch=True),
    "dlt merge": _dlt(),
    "dlt merge, Arrow": _dlt("--format=parquet"),
}
