"""Runs that end early: killed at any byte, by a signal, by a target that is gone.

Whoever continues from the last STATE has exactly the account's rows in the end.
`make soak` draws more scenarios.
"""

from __future__ import annotations

import os
import signal
from random import Random
from typing import TYPE_CHECKING, Any

import pytest

from mock_api import Account, Fault, MockAPI, Row
from reliability.runs import (
    Run,
    assert_complete,
    assert_loaded,
    assert_one_line,
    batches,
    choices,
    ended,
    failures,
    read,
    row,
    run,
    started,
)

if TYPE_CHECKING:
    from pathlib import Path

    from mock_api.faults import Kind

SOAK = range(10, 10 + int(os.environ.get("SOAK", "0")))
SCENARIOS = [*range(10), *(pytest.param(number, marks=pytest.mark.soak) for number in SOAK)]

ALL = {"lookback_minutes": 10_000_000}
"""Settings of a run that reads all rows again."""

TRANSIENT: list[Kind] = [
    *("status_204", "status_408", "status_429", "status_500", "status_502"),
    *("status_503", "status_504", "errors_and_no_data", "malformed", "cut", "drop"),
]


def rows(random: Random, device_id: str, count: int) -> list[Row]:
    """Draw rows; some are identical, and some appear only while others are read."""
    found = []
    for _ in range(random.randrange(count)):
        second = random.choice([random.randrange(90), random.randrange(9_000_000)])
        values = row(device_id, second + random.choice([0, 0, 0.001, 0.999]))
        values["class_name"] = random.choice(["person", "truck"])
        after = random.choice([0, 0, 0, random.randrange(40)])
        found += [Row(values, after_requests=after)] * random.choice([1, 1, 2])
    return found


def survive(random: Random, api: MockAPI, runs: list[Run], **settings: Any) -> None:
    """Run until a run succeeds, after some that are killed, from the state so far."""
    output = 3_000 + 250 * len(api.truth())
    for kill_at in [*(random.randrange(output) for _ in range(3)), *[None] * 9]:
        state = next((run.state for run in runs[::-1] if run.state), None)
        runs.append(run(api, state=state, kill_at=kill_at, **settings))
        if kill_at is None and not failures(runs[-1]):
            return
    pytest.fail("no run succeeds")


@pytest.mark.parametrize("number", SCENARIOS)
def test_the_table_is_exact_after_kills(number: int, tmp_path: Path) -> None:
    random = Random(f"scenario {number}")
    one = random.choice
    names = ["Wa", "Wb", "Wc"][: one([1, 2, 3])]
    faults = random.sample(TRANSIENT, one([0, 0, 1, 2]))
    options: dict[str, Any] = {
        "page_size": one([20, 30, 50]),
        "order": one(choices("order")[:5]),
        "bounds": one(choices("bounds")),
        "total": one(["present", "present", "missing", "string", "zero", "first-page"]),
        "past_end": one(choices("past_end")),
        "max_pages": one([None, None, 4]),
        "faults": [Fault(kind=kind, where="/W", rate=0.1, times=1) for kind in faults],
        "seed": random.randrange(1000),
    }
    settings: dict[str, Any] = {
        "response_format": one(["size_optimized", "tableau"]),
        "concurrency": one([1, 2, 5]),
        "lookback_minutes": one([0, 60]),
        "constants": {
            "rules.MAX_PAGES": one([2, 3, 50]),
            "streams.Analytics.STATE_MSG_FREQUENCY": one([1, 70]),
        },
    }
    account = Account({name: rows(random, name, 150) for name in names})
    if number % 3 == 0:
        settings["batch_config"] = batches(tmp_path, one([1, 7, 90]))
    runs: list[Run] = []
    with MockAPI(account, **options) as api:
        survive(random, api, runs, **settings)
        for name in names:
            api.state.visits[name] += 1000
            api.account.add(name, rows(random, name, 20))
            api.state.visits[name] += 1000
        survive(random, api, runs, **settings | ALL)
        assert_loaded(api.truth(), *runs)


def account() -> Account:
    """Many more rows than a pipe holds."""
    return Account.generate(devices=2, rows=2_000)


def resume(api: MockAPI, broken: Run) -> None:
    """Check that the next run reads the rest, and no row again without need."""
    assert 0 < len(broken.records()) < len(api.truth())
    assert broken.bookmarks()
    again = run(api, state=broken.state, lookback_minutes=0)
    assert len(again.records()) < len(api.truth())
    assert_complete(api, broken, again)


@pytest.mark.parametrize(("number", "unbuffered"), [(signal.SIGTERM, ""), (signal.SIGINT, "1")])
def test_a_signal_ends_the_run_with_state(
    number: signal.Signals, unbuffered: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONUNBUFFERED", unbuffered)
    with MockAPI(account(), page_size=50) as api:
        with started(api, constants={"rules.MAX_PAGES": 5}) as process:
            out = read(process.stdout, 150_000)
            process.send_signal(number)
            broken = ended(process, out)
        assert broken.code == 128 + number
        assert broken.err == (
            "tap-unleash: Interrupted. The next sync resumes from the last checkpoint.\n"
        )
        assert broken.out.endswith(b"\n")
        assert broken.messages[-1]["type"] == "STATE"
        resume(api, broken)


def test_a_signal_within_a_batch_file_costs_no_record(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"batch_config": batches(tmp_path, 900)}
    settings["constants"] = {"rules.MAX_PAGES": 5}
    with MockAPI(account(), page_size=50) as api:
        with started(api, **settings) as process:
            out = b""
            while b'"BATCH"' not in out:
                assert process.stdout
                out += process.stdout.readline()
            process.send_signal(signal.SIGTERM)
            broken = ended(process, out)
        assert broken.code == 128 + signal.SIGTERM
        again = run(api, state=broken.state, lookback_minutes=0, **settings)
        assert_complete(api, broken, again)


def test_a_signal_ends_a_run_that_waits_for_the_api() -> None:
    faults = [Fault(kind="hang", where="analytics")]
    with MockAPI(account(), faults=faults) as api, started(api) as process:
        out = read(process.stdout, 1)
        process.send_signal(signal.SIGTERM)
        broken = ended(process, out)
    assert broken.code == 128 + signal.SIGTERM
    assert broken.messages[-1]["type"] == "STATE"


@pytest.mark.parametrize("size", [1, 100_000])
def test_a_closed_pipe_ends_the_run_with_one_line(size: int) -> None:
    constants = {"rules.MAX_PAGES": 5, "streams.Analytics.STATE_MSG_FREQUENCY": 1}
    with MockAPI(account(), page_size=50) as api, started(api, constants=constants) as process:
        assert process.stdout is not None
        out = read(process.stdout, size)
        process.stdout.close()
        broken = ended(process, out)
        assert "Output pipe closed: the target exited." in assert_one_line(broken)
        if size > 1:
            resume(api, broken)


def test_a_fatal_error_does_not_wait_for_requests_in_flight() -> None:
    first, second = account().devices
    faults = [Fault(kind="hang", where=f"/{second}/"), Fault(kind="status_403", where=f"/{first}/")]
    with MockAPI(account(), faults=faults) as api:
        result = run(api, request_timeout=600)
    assert "HTTP 403" in assert_one_line(result)
    assert result.messages[-1]["type"] == "STATE"
