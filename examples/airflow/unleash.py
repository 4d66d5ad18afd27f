"""Load Unleash live into a warehouse with several workers, one per shard of the devices.

The DAG `unleash` loads new records every hour. `unleash_backfill` loads past years when it
is triggered, with one task per year and shard.

Set these variables in Airflow's environment: `MELTANO_PROJECT_ROOT` (a Meltano project in
which the plugins are installed), `MELTANO_STATE_BACKEND_URI` (where all workers keep their
bookmarks) and `UNLEASH_SHARDS` (the number of shards). `meltano` must be on the `PATH`.
"""

from __future__ import annotations

import os
from datetime import datetime, timezone
from itertools import product
from typing import Any

from airflow.providers.standard.operators.bash import BashOperator
from airflow.sdk import Param, dag, task

SHARDS = int(os.environ.get("UNLEASH_SHARDS", "4"))
LIVE_SINCE = os.environ.get("UNLEASH_LIVE_SINCE")
"""First year that `unleash` loads, by default all history; `unleash_backfill` loads earlier
years."""

# Meltano names the files of a run after the plugin, so each worker on a machine needs its
# own system directory: the temporary directory of the Airflow task.
RUN = """
mkdir .meltano
for plugins in extractors loaders; do
  ln -s "$MELTANO_PROJECT_ROOT/.meltano/$plugins" .meltano
done
export MELTANO_SYS_DIR_ROOT="$PWD/.meltano"
exec meltano --cwd "$MELTANO_PROJECT_ROOT" --environment prod run --no-install \
  --state-id-suffix "$STATE" tap-unleash target-postgres
"""


def load() -> Any:  # noqa: ANN401 - Airflow has no public name for it
    """Declare the task that is mapped over environments."""
    return BashOperator.partial(
        task_id="load",
        bash_command=RUN,
        append_env=True,
        map_index_template="{{ task.env.STATE }}",
    )


def shard(worker: int) -> dict[str, str]:
    """Return the shard of a worker and the suffix of its state ID."""
    since = {"TAP_UNLEASH_START_DATE": f"{LIVE_SINCE}-01-01"} if LIVE_SINCE else {}
    return {
        "TAP_UNLEASH_SHARD": f"{worker}/{SHARDS}",
        "STATE": f"shard-{worker}-of-{SHARDS}",
        **since,
    }


def year(worker: int, number: int) -> dict[str, str]:
    """Return the same for one year, including its last day."""
    return {
        **shard(worker),
        "TAP_UNLEASH_START_DATE": f"{number}-01-01",
        "TAP_UNLEASH_END_DATE": f"{number}-12-31",
        "STATE": f"{number}-shard-{worker}-of-{SHARDS}",
    }


@dag(
    schedule="@hourly",
    start_date=datetime(2025, 1, 1, tzinfo=timezone.utc),
    catchup=False,
    max_active_runs=1,  # never two workers per shard
    default_args={"retries": 5},
)
def unleash() -> None:
    """Load new records."""
    load().expand(env=[shard(worker + 1) for worker in range(SHARDS)])


@dag(
    schedule=None,
    max_active_runs=1,
    default_args={"retries": 5},
    params={
        "first": Param(2020, type="integer"),
        "last": Param(2024, type="integer"),
    },
)
def unleash_backfill() -> None:
    """Load past years, including the last one."""

    @task
    def shards(params: dict[str, int]) -> list[dict[str, str]]:
        years = range(params["first"], params["last"] + 1)
        return [year(worker + 1, n) for n, worker in product(years, range(SHARDS))]

    load().expand(env=shards())


unleash()
unleash_backfill()
