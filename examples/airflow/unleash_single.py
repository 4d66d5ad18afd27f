"""Load new records of Unleash live into a warehouse every hour, in one task.

Set `MELTANO_PROJECT_ROOT` in Airflow's environment: a Meltano project in which the plugins
are installed. `meltano` must be on the `PATH`.
"""

from __future__ import annotations

from datetime import datetime, timezone

from airflow.providers.standard.operators.bash import BashOperator
from airflow.sdk import DAG

with DAG(
    "unleash_single",
    schedule="@hourly",
    start_date=datetime(2025, 1, 1, tzinfo=timezone.utc),
    catchup=False,
    max_active_runs=1,  # never two syncs with one state
    default_args={"retries": 5},
):
    BashOperator(
        task_id="load",
        bash_command='exec meltano --cwd "$MELTANO_PROJECT_ROOT" --environment prod run '
        "--no-install tap-unleash target-postgres",
    )
