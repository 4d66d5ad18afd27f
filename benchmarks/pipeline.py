"""End to end: whole pipelines into a real PostgreSQL."""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import psycopg
import yaml

from benchmarks.contenders import CONTENDERS, KEY, Task
from benchmarks.data import KEYS, Shape, all_rows
from benchmarks.environments import OURS, PROGRAMS, ROOT, executable
from benchmarks.measure import Cost, Digest, compare, run
from benchmarks.scenarios import CONCURRENCY, LATENCY, Plan, Result, tell
from benchmarks.server import serve
from demo.postgres import postgres

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from benchmarks.data import Row

PLUGINS = yaml.safe_load((ROOT / "meltano.yml").read_text())["plugins"]

TARGET = "target-postgres"

(SHIPPED,) = (p["config"] for p in PLUGINS["loaders"] if p["name"] == TARGET)
"""The settings of the target as shipped."""

SCHEMA = SHIPPED["default_target_schema"]

BEFORE = {"default_target_schema": SCHEMA, "use_copy": True}
"""The settings of the target before they were optimized."""

(BATCH,) = (
    p["config"]["batch_config"]
    for p in PLUGINS["extractors"]
    if p["name"] == f"{OURS}-in-batches"
)

TRIGGER = f"""
CREATE TRIGGER skip_unchanged_rows BEFORE UPDATE ON {SCHEMA}.analytics
FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger()
"""


@dataclass(frozen=True)
class Job:
    """What a pipeline loads, and from where to where.

    Attributes:
        url: Base URL of the API.
        database: Address of the database: user, password, host, port and name.
        work: An empty folder.
        concurrency: Number of concurrent requests.
    """

    url: str
    database: str
    work: Path
    concurrency: int


@dataclass(frozen=True)
class Pipeline:
    """A program that loads the table `analytics`.

    Attributes:
        command: Returns its command line.
        environments: The environments that it needs.
        variables: Its environment variables.
        trigger: Whether the trigger exists before the load.
    """

    command: Callable[[Job], list[str]]
    environments: tuple[str, ...]
    variables: Mapping[str, str] = field(default_factory=dict)
    trigger: bool = False


def _target(job: Job, settings: Mapping[str, Any]) -> dict[str, Any]:
    url = f"postgresql+psycopg://{job.database}?options=-c%20timezone%3DUTC"
    return {"sqlalchemy_url": url, **settings}


def _meltano(
    *, batch: bool = False, target: Mapping[str, Any] = SHIPPED
) -> Callable[[Job], list[str]]:
    def command(job: Job) -> list[str]:
        tap: dict[str, Any] = {"api_key": KEY, "api_url": job.url}
        tap["concurrency"] = job.concurrency
        if batch:
            tap["batch_config"] = BATCH
        extractor = {
            "name": OURS,
            "namespace": "tap_unleash",
            "executable": executable(OURS, OURS),
            "capabilities": [
                *("catalog", "discover", "state", "batch", "structured-logging")
            ],
            "settings": [{"name": "end_date"}],
            "config": tap,
            "select": ["analytics.*"],
        }
        loader = {
            "name": TARGET,
            "namespace": "target_postgres",
            "executable": executable(TARGET, TARGET),
            "config": _target(job, target),
        }
        project = {
            "send_anonymous_usage_stats": False,
            "project_id": "benchmark",
            "default_environment": "prod",
            "environments": [{"name": "prod"}],
            "plugins": {"extractors": [extractor], "loaders": [loader]},
        }
        # JSON is YAML, too.
        (job.work / "meltano.yml").write_text(json.dumps(project))
        return [executable("meltano", "meltano"), "run", OURS, TARGET]

    return command


def _piped(job: Job) -> list[str]:
    task = Task(job.url, job.work, {"concurrency": job.concurrency})
    config = task.write("target.json", _target(job, SHIPPED))
    tap = shlex.join(CONTENDERS[OURS].command(task))
    target = shlex.join([executable(TARGET, TARGET), "--config", config])
    return ["/bin/bash", "-o", "pipefail", "-c", f"{tap} | {target}"]


def _dlt(*options: str) -> Callable[[Job], list[str]]:
    return lambda job: [
        *CONTENDERS["dlt"].command(Task(job.url, job.work)),
        *("--database", f"postgresql://{job.database}", *options),
    ]


def _bare(job: Job) -> list[str]:
    script = str(PROGRAMS / "bare" / "load.py")
    return [
        *(executable("bare", "python"), script, job.url, KEY),
        *(f"postgresql://{job.database}", str(job.concurrency)),
    ]


_MELTANO = ("meltano", OURS, TARGET)
_DLT = CONTENDERS["dlt, 16 workers"].variables
_CSV = {
    **_DLT,
    "NORMALIZE__WORKERS": "2",
    "NORMALIZE__DATA_WRITER__FILE_MAX_ITEMS": "20000",
}
_ARROW = {
    **_DLT,
    "NORMALIZE__PARQUET_NORMALIZER__ADD_DLT_ID": "true",
    "NORMALIZE__PARQUET_NORMALIZER__ADD_DLT_LOAD_ID": "true",
}

PIPELINES = {
    "meltano run": Pipeline(_meltano(), _MELTANO),
    "meltano run, before": Pipeline(_meltano(target=BEFORE), _MELTANO),
    "meltano run, BATCH": Pipeline(_meltano(batch=True), _MELTANO),
    "meltano run, BATCH, trigger": Pipeline(
        _meltano(batch=True), _MELTANO, trigger=True
    ),
    "piped without Meltano": Pipeline(_piped, (OURS, TARGET)),
    "dlt merge": Pipeline(_dlt(), ("dlt",), _DLT),
    "dlt merge, parallelized": Pipeline(_dlt("--parallel"), ("dlt",), _DLT),
    "dlt merge, csv, 2 workers": Pipeline(_dlt("--format=csv"), ("dlt",), _CSV),
    "dlt merge, Arrow": Pipeline(_dlt("--format=parquet"), ("dlt",), _ARROW),
    "dlt merge, Arrow, parallelized": Pipeline(
        _dlt("--format=parquet", "--parallel"), ("dlt",), _ARROW
    ),
    "bare script": Pipeline(_bare, ("bare",)),
}

LOCAL = [name for name in PIPELINES if "parallelized" not in name]
"""Pipelines of the scenario without latency."""

NETWORK = [
    "meltano run",
    "meltano run, BATCH",
    "dlt merge",
    "dlt merge, parallelized",
    "dlt merge, Arrow, parallelized",
    "bare script",
]
"""Pipelines of the scenario with latency."""


def pipeline(plan: Plan) -> dict[str, Any]:
    """Load 10 devices of 20,000 rows, without latency.

    Args:
        plan: How much is measured.

    Returns:
        The pipelines.
    """
    return _race("pipeline", plan, LOCAL, 0, 4)


def pipeline_network(plan: Plan) -> dict[str, Any]:
    """Load the same with 100 ms per response and 16 concurrent requests.

    Args:
        plan: How much is measured.

    Returns:
        The pipelines.
    """
    return _race("pipeline-network", plan, NETWORK, LATENCY, CONCURRENCY)


def _race(
    scenario: str, plan: Plan, names: list[str], latency: float, concurrency: int
) -> dict[str, Any]:
    if OURS not in plan.programs:
        return {"programs": {}}
    shape = Shape(10, 20_000 // plan.scale)
    expected = Digest.of(all_rows(shape))
    results = {name: Result(shape.total) for name in names}
    with serve(shape, latency) as server, postgres() as database:
        address = database.removeprefix("postgresql://")
        for _ in range(plan.runs):
            for name, result in results.items():
                with TemporaryDirectory() as folder:
                    job = Job(server.url, address, Path(folder), concurrency)
                    cost = _load(PIPELINES[name], job, database)
                tell(scenario, name, cost)
                with psycopg.connect(database) as connection:
                    loaded = Digest.of(_rows(connection))
                    compare(f"{scenario}, {name}", loaded, expected)
                    query = f"SELECT pg_total_relation_size('{SCHEMA}.analytics')"
                    (size,) = connection.execute(query.encode()).fetchone() or (0,)
                    connection.execute(f"DROP SCHEMA {SCHEMA} CASCADE".encode())
                result.costs.append(cost)
                result.facts = {"table_mb": round(size / 1e6)}
    return {"programs": {name: result.summary() for name, result in results.items()}}


def _load(pipeline: Pipeline, job: Job, database: str) -> Cost:
    command = pipeline.command(job)
    if pipeline.trigger:
        # A sync of the time before the first row creates the table.
        run(command, job.work, {"TAP_UNLEASH_END_DATE": "2023-01-01"})
        with psycopg.connect(database) as connection:
            connection.execute(TRIGGER.encode())
    return run(command, job.work, pipeline.variables)


def _rows(connection: psycopg.Connection) -> Iterator[Row]:
    columns = ", ".join(KEYS[:-1]).replace("count", '"count"::float8')
    timestamp = """to_char("timestamp", 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"')"""
    query = f"SELECT {columns}, {timestamp} FROM {SCHEMA}.analytics"  # noqa: S608
    connection.execute("SET timezone TO 'UTC'")
    yield from connection.execute(query.encode())
