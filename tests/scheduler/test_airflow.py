"""The DAGs, run by a real Airflow with several concurrent workers."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest
import requests

from demo.pipeline import ROOT, Pipeline, compare
from demo.postgres import postgres
from mock_api import Account, MockAPI
from scheduler.workers import requests_of_worker

if TYPE_CHECKING:
    from collections.abc import Iterator

PROGRAMS = ROOT / ".venvs" / "airflow" / "bin"

pytestmark = pytest.mark.skipif(
    not (PROGRAMS.parent / ".ready").exists(), reason="`make test-scheduler` builds it"
)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


class Airflow:
    """A client of the API of a running Airflow."""

    def __init__(self, url: str, log: Path) -> None:
        self.url = url
        self.log = log
        self.session = requests.Session()

    def ready(self) -> bool:
        try:
            health = self.call("GET", "api/v2/monitor/health")
        except (requests.ConnectionError, requests.HTTPError):
            return False
        parts = ("metadatabase", "scheduler", "dag_processor")
        if any(health[part]["status"] != "healthy" for part in parts):
            return False
        token = self.call("GET", "auth/token")["access_token"]
        self.session.headers["Authorization"] = f"Bearer {token}"
        return len(self.call("GET", "api/v2/dags")["dags"]) == 2

    def call(self, method: str, path: str, **body: object) -> dict[str, Any]:
        answer = self.session.request(method, f"{self.url}/{path}", json=body or None)
        answer.raise_for_status()
        return dict(answer.json())

    def trigger(self, dag: str, **params: int) -> str:
        path = f"api/v2/dags/{dag}"
        self.call("PATCH", path, is_paused=False)
        run = self.call("POST", f"{path}/dagRuns", logical_date=None, conf=params)
        return f"{path}/dagRuns/{run['dag_run_id']}"

    def tasks(self, run: str) -> list[dict[str, Any]]:
        found = self.call("GET", f"{run}/taskInstances")["task_instances"]
        return [task for task in found if task["task_id"] == "load"]

    def wait(self, run: str) -> list[dict[str, Any]]:
        while (state := self.call("GET", run)["state"]) in {"queued", "running"}:
            time.sleep(1)
        assert state == "success", self.log.read_text()[-20_000:]
        return self.tasks(run)


@contextmanager
def airflow(folder: Path, **environment: str) -> Iterator[Airflow]:
    port = free_port()
    settings = {
        "API__PORT": port,
        "API__BASE_URL": f"http://127.0.0.1:{port}",
        "CORE__DAGS_FOLDER": ROOT / "examples" / "airflow",
        "CORE__DEFAULT_TASK_RETRY_DELAY": 5,
        "CORE__EXECUTION_API_SERVER_URL": f"http://127.0.0.1:{port}/execution/",
        "CORE__LOAD_EXAMPLES": False,
        "CORE__PARALLELISM": 8,
        "CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": True,
        "LOGGING__TRIGGER_LOG_SERVER_PORT": free_port(),
        "LOGGING__WORKER_LOG_SERVER_PORT": free_port(),
        "SCHEDULER__SCHEDULER_HEARTBEAT_SEC": 1,
    }
    with (folder / "log").open("wb") as log:
        standalone = subprocess.Popen(
            [PROGRAMS / "airflow", "standalone"],
            cwd=folder,
            env={
                "AIRFLOW_HOME": str(folder),
                "HOME": str(folder),
                "PATH": f"{PROGRAMS}:{Path(sys.executable).parent}:{os.environ['PATH']}",
                "PYTHONDONTWRITEBYTECODE": "1",
                **{f"AIRFLOW__{name}": str(settings[name]) for name in settings},
                **environment,
            },
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        running = Airflow(f"http://127.0.0.1:{port}", folder / "log")
        while not running.ready():
            assert standalone.poll() is None, running.log.read_text()
            time.sleep(1)
        yield running
    finally:
        for process in psutil.Process(standalone.pid).children(recursive=True):
            with suppress(psutil.NoSuchProcess):
                process.kill()
        standalone.kill()
        standalone.wait()


def kill_a_worker(shard: str) -> None:
    """Kill all programs of a task."""
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            command = process.cmdline()
            if (
                any(part.endswith("/tap-unleash") for part in command)
                and "--discover" not in command
                and process.environ().get("TAP_UNLEASH_SHARD") == shard
            ):
                os.killpg(os.getpgid(process.pid), signal.SIGKILL)
                return
    pytest.fail("no such worker")


@pytest.mark.timeout(600)
def test_shards_and_years_equal_the_truth_though_a_worker_is_killed(
    tmp_path: Path,
) -> None:
    account = Account.generate(
        devices=16,
        rows=3000,
        start=datetime(2022, 7, 1, tzinfo=timezone.utc),
        end=datetime(2025, 7, 1, tzinfo=timezone.utc),
    )
    (project := tmp_path / "project").mkdir()
    (home := tmp_path / "airflow").mkdir()
    with (
        postgres() as url,
        MockAPI(account, page_size=50, latency=0.2) as api,
    ):
        pipeline = Pipeline(project, api.url, url)
        with airflow(
            home,
            MELTANO_PROJECT_ROOT=str(project),
            MELTANO_STATE_BACKEND_URI=(tmp_path / "state").as_uri(),
            TAP_UNLEASH_API_KEY="mock",
            TAP_UNLEASH_API_URL=api.url,
            TARGET_POSTGRES_SQLALCHEMY_URL=url.replace("://", "+psycopg://"),
            UNLEASH_SHARDS="4",
            UNLEASH_LIVE_SINCE="2025",
        ) as scheduler:
            scheduler.wait(scheduler.trigger("unleash"))
            live = [row for row in api.truth() if row["timestamp"] >= "2025"]
            assert compare(live, pipeline.rows()) == (0, 0)

            before = requests_of_worker(3, api)
            run = scheduler.trigger("unleash_backfill", first=2022, last=2024)
            while requests_of_worker(3, api) < before + 10:
                time.sleep(0.1)
            kill_a_worker("3/4")
            tasks = scheduler.wait(run)
            assert sorted(task["try_number"] for task in tasks) == [*[1] * 11, 2]
            assert compare(api.truth(), pipeline.rows()) == (0, 0)

            api.account.grow(100)
            scheduler.wait(scheduler.trigger("unleash"))
            assert compare(api.truth(), pipeline.rows()) == (0, 0)
            assert api.max_in_flight > 4
