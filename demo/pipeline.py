"""Meltano, the tap and the PostgreSQL loader, in a project of their own."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg.rows import dict_row

from demo import DemoError
from mock_api.app import KEYS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

ROOT = Path(__file__).parents[1]
STATE_ID = "mock:tap-unleash-to-target-postgres"
TABLE = "unleash.analytics"


@dataclass(frozen=True)
class Pipeline:
    """A copy of the repository's Meltano project, from a mock API to a database.

    The plugins are those installed in the repository. State, logs and all other files
    that Meltano writes stay in the folder.

    Attributes:
        folder: An empty folder.
        api_url: The URL of the mock API.
        database: The URL of the database.
    """

    folder: Path
    api_url: str
    database: str

    def __post_init__(self) -> None:
        """Lay out the project."""
        shutil.copy(ROOT / "meltano.yml", self.folder)
        (self.folder / ".meltano").mkdir()
        for plugins in ("extractors", "loaders"):
            installed = ROOT / ".meltano" / plugins
            if not installed.is_dir():
                msg = "Meltano's plugins are not installed: make .meltano/.ready"
                raise DemoError(msg)
            (self.folder / ".meltano" / plugins).symlink_to(installed)

    def meltano(self, *args: str) -> str:
        """Run a command of Meltano.

        Args:
            args: The arguments of ``meltano``.

        Returns:
            Its standard output.

        Raises:
            DemoError: If it fails; with its log.
        """
        with subprocess.Popen(  # noqa: S603
            [sys.executable, "-m", "meltano.cli", *args],
            cwd=self.folder,
            env=self._environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        ) as process:
            try:
                output, log = process.communicate()
            except BaseException:
                # Its programs with it: they are a group of their own.
                os.killpg(process.pid, signal.SIGKILL)
                raise
        if process.returncode:
            msg = f"`meltano {' '.join(args)}` failed:\n{log}{output}"
            raise DemoError(msg)
        return output

    def run(self) -> None:
        """Load what is new."""
        self.meltano("run", "--no-install", "tap-unleash", "target-postgres")

    def bookmarks(self) -> dict[str, str]:
        """Get the bookmark of each device that has one."""
        state = json.loads(self.meltano("state", "get", STATE_ID))
        partitions = state["singer_state"]["bookmarks"]["analytics"]["partitions"]
        return {
            partition["context"]["device_id"]: partition["replication_key_value"]
            for partition in partitions
            if "replication_key_value" in partition
        }

    def rows(self) -> list[dict[str, Any]]:
        """Get all rows of the table `analytics`."""
        return self.query(f"SELECT * FROM {TABLE}")  # noqa: S608

    def query(self, sql: str) -> list[dict[str, Any]]:
        """Query the database.

        Args:
            sql: The query.

        Returns:
            Its rows.
        """
        with psycopg.connect(self.database, row_factory=dict_row) as connection:
            return connection.execute(sql.encode()).fetchall()

    def _environment(self) -> dict[str, str]:
        foreign = ("MELTANO_", "PG", "TAP_UNLEASH_", "TARGET_")
        return {
            **{k: v for k, v in os.environ.items() if not k.startswith(foreign)},
            "TAP_UNLEASH_API_URL": self.api_url,
            "TARGET_POSTGRES_SQLALCHEMY_URL": self.database.replace(
                "postgresql:", "postgresql+psycopg:"
            ),
            "MELTANO_CLI_DISABLE_VERSION_CHECK": "1",
            "MELTANO_ENVIRONMENT": "mock",
            "NO_COLOR": "1",
            "XDG_STATE_HOME": str(self.folder),
        }


def compare(
    truth: Iterable[Mapping[str, Any]], rows: Iterable[Mapping[str, Any]]
) -> tuple[int, int]:
    """Compare the rows of the API with the rows of the table, one by one.

    Args:
        truth: The rows of the mock API.
        rows: The rows of the table.

    Returns:
        The number of missing rows, and the number of rows that are not the API's.
    """
    expected = Counter(map(_cells, truth))
    found = Counter(map(_cells, rows))
    return (expected - found).total(), (found - expected).total()


def instant(timestamp: str) -> datetime:
    """Read a timestamp of the API, as the table holds it: UTC, without saying so.

    Args:
        timestamp: Such as ``2020-08-17T02:08:49.000Z``.

    Returns:
        The instant.
    """
    moment = datetime.fromisoformat(timestamp.replace("Z", "+00:00"))
    return moment.astimezone(timezone.utc).replace(tzinfo=None)


def _cells(row: Mapping[str, Any]) -> tuple[Any, ...]:
    cells = {name: row.get(name) for name in KEYS}
    if isinstance(cells["timestamp"], str):
        cells["timestamp"] = instant(cells["timestamp"])
    return tuple(cells.values())
