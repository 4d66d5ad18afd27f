"""The tap with other constants, alone or as forks of a process that has imported it."""

from __future__ import annotations

import json
import os
import sys
import time
from pkgutil import resolve_name
from types import SimpleNamespace
from typing import Any

from tap_unleash import client, session
from tap_unleash.tap import TapUnleash


def hurry(speed: float) -> None:
    """Let the tap wait so many times shorter, but give up as late as usual."""
    clock = SimpleNamespace(
        monotonic=lambda: time.monotonic() * speed,
        sleep=lambda seconds: time.sleep(seconds / speed),
    )
    jitter = {"backoff_jitter": lambda _self, value: value / speed}
    for owner, changed in ((client.UnleashStream, jitter), (session, {"time": clock})):
        for name, value in changed.items():
            getattr(owner, name)
            setattr(owner, name, value)
    session.MAX_RETRY_AFTER = int(session.MAX_RETRY_AFTER * speed)


def run(job: dict[str, Any]) -> None:
    """Run the tap's command line."""
    if job["speed"] != 1:
        hurry(job["speed"])
    for name, value in job["constants"].items():
        module, _, constant = f"tap_unleash.{name}".rpartition(".")
        owner = resolve_name(module)
        getattr(owner, constant)
        setattr(owner, constant, value)
    TapUnleash.cli(args=job["arguments"], prog_name="tap-unleash")


def serve() -> None:
    """Run a job per line of standard input; print the process ID, then its exit code."""
    while line := sys.stdin.readline():
        job = json.loads(line)
        if not (child := os.fork()):
            for number, path in ((0, os.devnull), (1, job["out"]), (2, job["err"])):
                flags = os.O_WRONLY | os.O_CREAT if number else os.O_RDONLY
                os.dup2(os.open(path, flags, 0o600), number)
            os.environ.clear()
            os.environ.update(job["env"])
            run(job)
            sys.exit()
        print(child, flush=True)  # noqa: T201
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)  # noqa: T201


if __name__ == "__main__":
    serve() if len(sys.argv) == 1 else run(json.loads(sys.argv[1]))
