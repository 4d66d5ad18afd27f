"""The DAGs, each run by a real Airflow."""

from __future__ import annotations

import json
import os
import sys
from datetime import datetime, timezone
from pathlib import Path

import pytest
from programs import run

from demo.pipeline import ROOT, Pipeline, compare
from demo.postgres import postgres
from mock_api import Account, MockAPI

PROGRAMS = ROOT / ".venvs" / "airflow" / "bin"

pytestmark = [
    pytest.mark.skipif(
        not (PROGRAMS.parent / ".ready").exists(), reason="`make test-scheduler` builds it"
    ),
    pytest.mark.timeout(600),
]


def test_shards_and_years_equal_the_truth(tmp_path: Path) -> None:
    account = Account.generate(
        devices=8,
        rows=300,
        start=datetime(2023, 7, 1, tzinfo=timezone.utc),
        end=datetime(2025, 7, 1, tzinfo=timezone.utc),
    )
    with postgres() as url, MockAPI(account) as api:
        pipeline = Pipeline(tmp_path, api.url, url)
        environment = {
            "AIRFLOW_HOME": str(tmp_path),
            "AIRFLOW__CORE__DAGS_FOLDER": str(ROOT / "examples" / "airflow"),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "PATH": f"{PROGRAMS}:{Path(sys.executable).parent}:{os.environ['PATH']}",
            "MELTANO_PROJECT_ROOT": str(tmp_path),
            "MELTANO_STATE_BACKEND_URI": (tmp_path / "state").as_uri(),
            "TAP_UNLEASH_API_KEY": "mock",
            "TAP_UNLEASH_API_URL": api.url,
            "TARGET_POSTGRES_SQLALCHEMY_URL": url.replace("://", "+psycopg://"),
            "UNLEASH_SHARDS": "2",
        }

        def trigger(dag: str, conf: dict[str, int], **since: str) -> None:
            command = ("airflow", "dags", "test", dag, "--conf", json.dumps(conf))
            run(PROGRAMS / command[0], *command[1:], cwd=tmp_path, **environment, **since)

        run(PROGRAMS / "airflow", "db", "migrate", cwd=tmp_path, **environment)
        trigger("unleash", {}, UNLEASH_LIVE_SINCE="2025")
        live = [row for row in api.truth() if row["timestamp"] >= "2025"]
        assert compare(live, pipeline.rows()) == (0, 0)
        trigger("unleash_backfill", {"first": 2023, "last": 2024})
        assert compare(api.truth(), pipeline.rows()) == (0, 0)

        api.account.grow(100)
        trigger("unleash", {})
        assert compare(api.truth(), pipeline.rows()) == (0, 0)

        api.account.grow(100)
        trigger("unleash_single", {})
        assert compare(api.truth(), pipeline.rows()) == (0, 0)
