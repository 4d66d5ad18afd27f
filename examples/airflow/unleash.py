"""Unleash live into a warehouse with many workers, each reading its share of the devices.

Two DAGs: `unleash` reads what is new, every hour. `unleash_backfill` reads past years,
a year and share of the devices each task, when it is triggered.

Airflow's environment says where things are: `MELTANO_PROJECT_ROOT` is a Meltano project
whose plugins are installed, `MELTANO_STATE_BACKEND_URI` is where all workers keep their
bookmarks, and `UNLEASH_SHARDS` is how many workers there are. `meltano` is in the `PATH`.
"""

from __future__ import annotations

import os
from datetime import datetime, timezone
from itertools import product
from typing import Any

from airflow.providers.standard.operators.bash import BashOperator
from airflow.sdk import Param, dag, task

SHARDS = int(os.environ.get("UNLEASH_SHARDS", "4"))
LIVE_SINCE = int(os.environ.get("UNLEASH_LIVE_SINCE", "2025"))
"""The year with which `unleash` begins; those before are for `unleash_backfill`."""

# Meltano keeps files of a run by the name of the plugin: workers on one machine need a
# folder each, which is here the one that Airflow makes for the task and removes.
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


def share(worker: int) -> dict[str, str]:
    """Tell a worker which devices it reads, and the name of its bookmarks."""
    return {
        "TAP_UNLEASH_SHARD": f"{worker}/{SHARDS}",
        "TAP_UNLEASH_START_DATE": f"{LIVE_SINCE}-01-01T00:00:00Z",
        "STATE": f"shard-{worker}-of-{SHARDS}",
    }


def year(worker: int, number: int) -> dict[str, str]:
    """Tell a worker the same for one year; what lies on its edges may be read twice."""
    return {
        **share(worker),
        "TAP_UNLEASH_START_DATE": f"{number}-01-01T00:00:00Z",
        "TAP_UNLEASH_END_DATE": f"{number + 1}-01-01T00:00:00Z",
        "STATE": f"{number}-shard-{worker}-of-{SHARDS}",
    }


@dag(
    schedule="@hourly",
    start_date=datetime(2025, 1, 1, tzinfo=timezone.utc),
    catchup=False,
    max_active_runs=1,  # never two workers of one share
    default_args={"retries": 5},
)
def unleash() -> None:
    """Read what is new."""
    load().expand(env=[share(worker + 1) for worker in range(SHARDS)])


@dag(
    schedule=None,
    max_active_runs=1,
    default_args={"retries": 5},
    params={
        "first": Param(LIVE_SINCE - 5, type="integer"),
        "last": Param(LIVE_SINCE - 1, type="integer"),
    },
)
def unleash_backfill() -> None:
    """Read past years, the last included."""

    @task
    def shares(params: dict[str, int]) -> list[dict[str, str]]:
        years = range(params["first"], params["last"] + 1)
        return [year(worker + 1, n) for n, worker in product(years, range(SHARDS))]

    load().expand(env=shares())


unleash()
unleash_backfill()
