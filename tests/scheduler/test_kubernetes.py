"""The manifests are valid for Kubernetes, and their command line runs unchanged."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from demo.pipeline import ROOT, Pipeline, compare
from demo.postgres import postgres
from mock_api import Account, MockAPI
from tap_unleash.config import shard_of

if TYPE_CHECKING:
    from collections.abc import Mapping

MANIFEST = ROOT / "examples" / "kubernetes" / "unleash.yml"
VALIDATE = ROOT / ".venvs" / "kubernetes-validate" / "bin" / "kubernetes-validate"
JOB, CRON_JOB = yaml.safe_load_all(MANIFEST.read_text())


def container(job: Mapping[str, Any]) -> dict[str, Any]:
    (found,) = job["spec"]["template"]["spec"]["containers"]
    return dict(found)


def variables(of: Mapping[str, Any]) -> dict[str, str]:
    return {variable["name"]: variable["value"] for variable in of["env"]}


@pytest.mark.skipif(not VALIDATE.exists(), reason="`make test-scheduler` builds it")
@pytest.mark.parametrize("version", ["1.33", "1.35"])
def test_manifests_are_valid(version: str) -> None:
    subprocess.run([VALIDATE, "--strict", "-k", version, MANIFEST], check=True)


def test_manifests_agree_on_the_number_of_workers() -> None:
    jobs = [JOB, CRON_JOB["spec"]["jobTemplate"]]
    assert container(jobs[0]) == container(jobs[1])
    for job in jobs:
        spec = job["spec"]
        shards = int(variables(container(job))["SHARDS"])
        assert spec["completions"] == spec["parallelism"] == shards


def test_workers_together_load_the_truth_though_one_is_killed(tmp_path: Path) -> None:
    (state := tmp_path / "state").mkdir()
    account = Account.generate(devices=16, rows=3000)
    pipelines: list[Pipeline] = []
    with ExitStack() as stack:
        url = stack.enter_context(postgres())
        api = stack.enter_context(MockAPI(account, page_size=250, latency=0.2))

        def start(index: int, folder: Path) -> subprocess.Popen[bytes]:
            """Run the command of a container, in a directory of its own."""
            folder.mkdir()
            pipelines.append(Pipeline(folder, api.url, url))
            of = container(JOB)
            with (folder / "log").open("wb") as log:
                return subprocess.Popen(
                    [*of["command"], *of["args"]],
                    cwd=folder,
                    env={
                        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
                        "HOME": str(folder),
                        "TAP_UNLEASH_API_KEY": "mock",
                        "TAP_UNLEASH_API_URL": api.url,
                        "TARGET_POSTGRES_SQLALCHEMY_URL": url.replace("://", "+psycopg://"),
                        "MELTANO_STATE_BACKEND_URI": state.as_uri(),
                        **variables(of),
                        "JOB_COMPLETION_INDEX": str(index),
                    },
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                )

        def asked(worker: int) -> int:
            names = [request.path.split("/")[3:4] for request in api.requests]
            return sum(shard_of(n, 4) == worker for (n,) in names if n.startswith("W"))

        for run in range(2):
            folders = [tmp_path / f"{run}-{index}" for index in range(4)]
            workers = [start(index, folder) for index, folder in enumerate(folders)]
            if run == 0:
                while asked(3) < 10:
                    time.sleep(0.1)
                    assert workers[2].poll() is None
                os.killpg(workers[2].pid, signal.SIGKILL)
                assert workers[2].wait() == -signal.SIGKILL
                # As the Job's controller does: the same index in a new pod.
                folders[2] = tmp_path / "again"
                workers[2] = start(2, folders[2])
            for worker, folder in zip(workers, folders, strict=True):
                assert worker.wait() == 0, (folder / "log").read_text()
            assert compare(api.truth(), pipelines[0].rows()) == (0, 0)
            assert {path.name.rpartition(":")[2] for path in state.iterdir()} == {
                f"shard-{number}-of-4" for number in range(1, 5)
            }
            api.account.grow(100)
