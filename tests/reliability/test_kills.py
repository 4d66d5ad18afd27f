"""Runs that end early: killed at any byte, by a signal, by a target that is gone.

Whoever continues from the last STATE has exactly the account's rows in the end.
`make soak` draws more scenarios.
"""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Any

import pytest

from mock_api import Account, Fault, MockAPI, Row
from reliability.runs import (
    EVERY_WINDOW,
    Run,
    assert_complete,
    assert_loaded,
    assert_one_line,
    choices,
    failures,
    read,
    row,
    run,
    started,
)

if TYPE_CHECKING:
    from pathlib import Path

    from mock_api.faults import Kind

SCENARIOS = 10
SOAK = int(os.environ.get("SOAK", "0"))

EVERYTHING = 10_000_000
"""A lookback window in minutes that includes all rows."""

TRANSIENT: list[Kind] = [
    *("status_204", "status_408", "status_429", "status_500", "status_502"),
    *("status_503", "status_504", "errors_and_no_data", "malformed", "cut", "drop"),
]


@dataclass
class Scenario:
    """An account, the behavior of its API, and settings; made at random."""

    random: Random

    def __post_init__(self) -> None:
        """Draw them."""
        one = self.random.choice
        self.names = ["Wa", "Wb", "Wc"][: one([1, 2, 3])]
        faults = self.random.sample(TRANSIENT, one([0, 0, 1, 2]))
        self.options: dict[str, Any] = {
            "page_size": one([20, 30, 50]),
            "order": one(choices("order")[:5]),
            "bounds": one(choices("bounds")),
            "total": one(["present", "present", "missing", "string", "zero", "first-page"]),
            "past_end": one(choices("past_end")),
            "max_pages": one([None, None, 4]),
            "faults": [Fault(kind=kind, where="/W", rate=0.1, times=1) for kind in faults],
            "seed": self.random.randrange(1000),
        }
        self.settings: dict[str, Any] = {
            "response_format": one(["size_optimized", "tableau"]),
            "concurrency": one([1, 2, 5]),
            "lookback_minutes": one([0, 60]),
        }
        self.constants = {
            "rules.MAX_PAGES": one([2, 3, 50]),
            "streams.Analytics.STATE_MSG_FREQUENCY": one([1, 70]),
        }

    def rows(self, device_id: str, count: int) -> list[Row]:
        """Draw rows; some are identical, and some appear only while others are read."""
        random = self.random
        found = []
        for _ in range(random.randrange(count)):
            second = random.choice([random.randrange(90), random.randrange(9_000_000)])
            values = row(device_id, second + random.choice([0, 0, 0.001, 0.999]))
            values["class_name"] = random.choice(["person", "truck"])
            after = random.choice([0, 0, 0, random.randrange(40)])
            found += [Row(values, after_requests=after)] * random.choice([1, 1, 2])
        return found


def survive(scenario: Scenario, api: MockAPI, runs: list[Run], **settings: Any) -> None:
    """Run until a run succeeds, after some that are killed, from the state so far."""
    output = 3_000 + 250 * len(api.truth())
    for kill_at in [*(scenario.random.randrange(output) for _ in range(3)), *[None] * 9]:
        state = next((run.state for run in runs[::-1] if run.state), None)
        options = {"constants": scenario.constants, **scenario.settings, **settings}
        runs.append(run(api, state=state, kill_at=kill_at, **options))
        if kill_at is None and not failures(runs[-1]):
            return
    pytest.fail("no run succeeds")


@pytest.mark.parametrize("number", range(SCENARIOS))
def test_the_table_is_exact_after_kills(number: int, tmp_path: Path) -> None:
    scenario = Scenario(Random(f"scenario {number}"))
    account = Account({name: scenario.rows(name, 150) for name in scenario.names})
    settings: dict[str, Any] = {}
    if number % 3 == 0:
        settings["batch_config"] = {
            "encoding": {"format": "jsonl", "compression": "gzip"},
            "storage": {"root": tmp_path.as_uri()},
            "batch_size": scenario.random.choice([1, 7, 90]),
        }
    runs: list[Run] = []
    with MockAPI(account, **scenario.options) as api:
        survive(scenario, api, runs, **settings)
        for name in scenario.names:
            api.state.visits[name] += 1000
            api.account.add(name, scenario.rows(name, 20))
            api.state.visits[name] += 1000
        survive(scenario, api, runs, **settings, lookback_minutes=EVERYTHING)
        assert_loaded(api.truth(), *runs)


@pytest.mark.soak
@pytest.mark.parametrize("number", range(SCENARIOS, SCENARIOS + SOAK))
def test_soak(number: int, tmp_path: Path) -> None:
    test_the_table_is_exact_after_kills(number, tmp_path)


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
    constants = {"rules.MAX_PAGES": 5}
    with MockAPI(account(), page_size=50) as api:
        with started(api, constants=constants) as process:
            out = read(process.stdout, 150_000)
            process.send_signal(number)
            rest, err = process.communicate()
        broken = Run(process.returncode, out + rest, err.decode())
        assert broken.code == 128 + number
        assert broken.err == (
            "tap-unleash: Interrupted. The next sync resumes from the last checkpoint.\n"
        )
        assert broken.out.endswith(b"\n")
        assert broken.messages[-1]["type"] == "STATE"
        resume(api, broken)


def test_a_signal_ends_a_run_that_waits_for_the_api() -> None:
    faults = [Fault(kind="hang", where="analytics")]
    with MockAPI(account(), faults=faults) as api, started(api) as process:
        out = read(process.stdout, 1)
        process.send_signal(signal.SIGTERM)
        rest, _ = process.communicate()
    assert process.returncode == 128 + signal.SIGTERM
    assert Run(0, out + rest, "").messages[-1]["type"] == "STATE"


@pytest.mark.parametrize("size", [1, 100_000])
def test_a_closed_pipe_ends_the_run_with_one_line(size: int) -> None:
    constants = {"rules.MAX_PAGES": 5, **EVERY_WINDOW}
    with MockAPI(account(), page_size=50) as api, started(api, constants=constants) as process:
        assert process.stdout is not None
        out = read(process.stdout, size)
        process.stdout.close()
        assert process.stderr is not None
        err = process.stderr.read().decode()
        process.wait()
        broken = Run(process.returncode, out, err)
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
