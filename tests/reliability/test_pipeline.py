"""A pipeline of which a process is killed: the next run completes the table."""

from __future__ import annotations

import os
import signal
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import psycopg
import pytest

from demo.pipeline import MeltanoError, Pipeline, compare
from demo.postgres import postgres
from mock_api import Account, Fault, MockAPI

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from concurrent.futures import Future
    from typing import TypeAlias

    Harm: TypeAlias = Callable[[Pipeline, Future[None]], None]


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with postgres() as url:
        yield url


@pytest.fixture
def database(server: str) -> str:
    """A new database of the server."""
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute("DROP DATABASE IF EXISTS load WITH (FORCE)")
        connection.execute("CREATE DATABASE load")
    return server.rpartition("/")[0] + "/load"


def when_rows_are_there(pipeline: Pipeline, loading: Future[None]) -> None:
    """Wait until something of the load is committed."""
    while not loading.done():
        with suppress(psycopg.errors.UndefinedTable):
            (row,) = pipeline.query("SELECT count(*) AS rows FROM unleash.analytics")
            if row["rows"]:
                return


def kill(name: str) -> Harm:
    """Kill the program of that name, but not the processes that started it."""

    def harm(pipeline: Pipeline, loading: Future[None]) -> None:
        when_rows_are_there(pipeline, loading)
        for process in psutil.Process().children(recursive=True):
            if any(Path(part).name == name for part in process.cmdline()[:2]):
                process.kill()

    return harm


def crash_database(pipeline: Pipeline, loading: Future[None]) -> None:
    """Kill a server process that is writing: the server drops all connections and restarts."""
    writing = (
        "SELECT pid FROM pg_stat_activity WHERE datname = current_database() "
        "AND state = 'active' AND query ~* '^ *(copy|insert) '"
    )
    while not loading.done():
        for process in pipeline.query(writing):
            os.kill(process["pid"], signal.SIGKILL)
            return


@pytest.mark.parametrize(
    "harm",
    [
        pytest.param(kill("target-postgres"), id="loader"),
        pytest.param(kill("tap-unleash"), id="tap"),
        pytest.param(crash_database, id="database"),
    ],
)
def test_a_killed_process_loses_no_record(
    harm: Harm, database: str, tmp_path: Path
) -> None:
    account = Account.generate(devices=3, rows=12_000, non_ascii=True)
    # The last device stalls, so that the load cannot be complete too soon.
    stall = Fault(
        kind="stall", where=f"/{list(account.devices)[-1]}/", until=1, seconds=40
    )
    with MockAPI(account, faults=(stall,)) as api, ThreadPoolExecutor(1) as pool:
        pipeline = Pipeline(tmp_path, api.url, database)
        loading = pool.submit(pipeline.run)
        harm(pipeline, loading)
        with pytest.raises(MeltanoError):
            loading.result()

        pipeline.run()
        assert compare(api.truth(), pipeline.rows()) == (0, 0)
        assert set(pipeline.bookmarks()) == set(account.devices)
