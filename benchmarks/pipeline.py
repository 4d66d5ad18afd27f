"""End to end: `meltano run` into a real PostgreSQL, by RECORD and by BATCH."""

from __future__ import annotations

import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from benchmarks.contenders import CONTENDERS, Task
from benchmarks.data import Shape, all_rows
from benchmarks.environments import OURS, executable
from benchmarks.measure import Cost, Digest, compare, run
from benchmarks.postgres import USER, Database, postgres
from benchmarks.scenarios import Plan, Result, tell
from benchmarks.server import Server, serve

if TYPE_CHECKING:
    from collections.abc import Mapping

_LOADER = "target-postgres"
_TUNED = {"use_copy": True, "validate_records": False}
_ALONE = "tap alone, into a file"
_WAYS: dict[str, tuple[bool, Mapping[str, bool]]] = {
    "RECORD": (False, {}),
    "RECORD, loader tuned": (False, _TUNED),
    "BATCH": (True, {}),
    "BATCH, loader tuned": (True, _TUNED),
}


def pipeline(plan: Plan) -> dict[str, Any]:
    """Load 10 devices of 20,000 rows.

    Args:
        plan: How much is measured.

    Returns:
        The ways to load them, and the tap without a loader.
    """
    if OURS not in plan.programs:
        return {"programs": {}}
    shape = Shape(10, 20_000 // plan.scale)
    expected = Digest.of(all_rows(shape))
    results = {way: Result(shape.total) for way in (_ALONE, *_WAYS)}
    with serve(shape) as server, postgres() as database:
        for _ in range(plan.runs):
            for way, result in results.items():
                with TemporaryDirectory() as directory:
                    work = Path(directory)
                    if way == _ALONE:
                        command = CONTENDERS[OURS].command(Task(server.url, work))
                        cost = run(command, work, {})
                        loaded = Digest.of(CONTENDERS[OURS].rows(work))
                    else:
                        cost = _load(work, server, database, way)
                        loaded = Digest.of(database.rows())
                        database.clear()
                tell("pipeline", way, cost)
                compare(f"pipeline, {way}", loaded, expected)
                result.costs.append(cost)
    return {"programs": {way: result.summary() for way, result in results.items()}}


def _load(work: Path, server: Server, database: Database, way: str) -> Cost:
    """Run a Meltano project; its file is JSON, which is YAML too."""
    batch, tuning = _WAYS[way]
    tap: dict[str, Any] = {"api_key": "benchmark", "api_url": server.url}
    if batch:
        encoding = {"format": "jsonl", "compression": "gzip"}
        tap["batch_config"] = {"encoding": encoding, "storage": {"root": work.as_uri()}}
    loader = {
        "host": "127.0.0.1",
        "port": database.port,
        "user": USER,
        "password": "none",
        "database": "postgres",
        "default_target_schema": database.schema,
        **tuning,
    }
    extractor_plugin = {
        "name": OURS,
        "namespace": "tap_unleash",
        "executable": executable(OURS, OURS),
        "capabilities": ["catalog", "discover", "state", "batch", "structured-logging"],
        "config": tap,
        "select": ["analytics.*"],
    }
    loader_plugin = {
        "name": _LOADER,
        "namespace": "target_postgres",
        "executable": executable(_LOADER, _LOADER),
        "config": loader,
    }
    project = {
        "requires_meltano": ">=4.0,<5",
        "send_anonymous_usage_stats": False,
        "default_environment": "dev",
        "environments": [{"name": "dev"}],
        "plugins": {"extractors": [extractor_plugin], "loaders": [loader_plugin]},
    }
    (work / "meltano.yml").write_text(json.dumps(project))
    return run([executable("meltano", "meltano"), "run", OURS, _LOADER], work, {})
