"""The tap with other constants, in a process of its own."""

from __future__ import annotations

import json
import os
import sys
import time
from pkgutil import resolve_name
from types import SimpleNamespace
from typing import Any

from tap_unleash import session
from tap_unleash.__main__ import main


def hurry(speed: float) -> dict[str, Any]:
    """Let the tap wait so many times shorter, but give up as late as usual."""
    clock = SimpleNamespace(
        monotonic=lambda: time.monotonic() * speed,
        sleep=lambda seconds: time.sleep(seconds / speed),
    )
    return {
        "client.UnleashStream.backoff_jitter": lambda _self, value: value / speed,
        "session.time": clock,
        "session.MAX_RETRY_AFTER": int(session.MAX_RETRY_AFTER * speed),
    }


def run(job: dict[str, Any]) -> None:
    """Run the tap's command line."""
    changes = hurry(job["speed"]) if job["speed"] != 1 else {}
    for name, value in (changes | job["constants"]).items():
        module, _, constant = f"tap_unleash.{name}".rpartition(".")
        owner = resolve_name(module)
        getattr(owner, constant)
        setattr(owner, constant, value)
    sys.argv = ["tap-unleash", *job["arguments"]]
    main()


def fork(job: dict[str, Any]) -> None:
    """Run it in a fork of a process that has imported it."""
    for number, path in enumerate((os.devnull, job["out"], job["err"])):
        flags = os.O_WRONLY | os.O_CREAT if number else os.O_RDONLY
        os.dup2(os.open(path, flags, 0o600), number)
    os.environ.clear()
    os.environ.update(job["env"])
    run(job)


if __name__ == "__main__":
    run(json.loads(sys.argv[1]))
