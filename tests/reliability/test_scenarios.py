"""Random scenarios, faults and kills: at the end the table is the truth, always.

`SOAK=1000 python -m pytest tests/reliability -m soak` runs that many more scenarios.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Any, TypeVar

import pytest
from hypothesis import HealthCheck, Phase, given, note, seed, settings
from hypothesis import strategies as st

from mock_api import Account, Fault, MockAPI, Row
from reliability.runs import (
    IMPATIENT,
    Table,
    assert_truth,
    bookmarks,
    expected,
    last_state,
    messages,
    row,
    run,
    run_until,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from mock_api.faults import Kind

T = TypeVar("T")

SCENARIOS_PER_PART = 13
PARTS = 4
PACE = IMPATIENT | {"gate.MAX_PAUSE": 0.005}
"""Constants of the tap: throttled at random, it learns the pace of its pauses."""

PATIENCE = 300
"""Seconds for a run, however busy the machine is."""

SOAK = int(os.environ.get("SOAK", "0"))

EVERYTHING = 10_000_000
"""Minutes of lookback that reach behind all rows there are."""

TRANSIENT: list[Kind] = [
    "status_413",
    "status_429",
    "quota",
    "status_500",
    "status_502",
    "status_503",
    "status_504",
    "html",
    "empty",
    "malformed",
    "no_data",
    "string_total",
    "drop",
    "reset_before",
    "reset_amid",
    "cut",
]


@dataclass
class Scenario:
    """An account, how its server answers, and what happens to the tap."""

    seed: int
    names: list[str]
    sudden: bool
    options: dict[str, Any]
    settings: dict[str, Any]
    constants: dict[str, float]
    kills: list[float]
    kills_of_the_last_run: list[float]
    state: dict[str, Any] | None = None

    def __post_init__(self) -> None:
        """Make what is too much to be printed."""
        self.table = Table()
        random = Random(self.seed)
        self.devices, self.late = (
            {name: rows_of(random, name, sudden=sudden) for name in self.names}
            for sudden in (self.sudden, False)
        )


INSTANTS: list[Callable[[Random], float]] = [
    lambda random: random.choice([0, 0.001, 0.999, 1, 1.001, 59.999, 60, 3600]),
    lambda random: random.randrange(200) / 8,
    lambda random: random.randrange(-200, 200) * 86_400,
]
"""Seconds: on few instants, beside each other, or far apart."""


def rows_of(random: Random, device_id: str, *, sudden: bool) -> list[Row]:
    """Rows of which many are alike; some appear while the others are read."""
    rows: list[Row] = []
    kinds = random.choices(INSTANTS, k=2)
    for _ in range(random.choice([0, 5, 20, 40])):
        values = row(
            device_id,
            random.choice(kinds)(random),
            class_name=random.choice(["person", "truck"]),
            count=random.choice([1, 2.5]),
            source_file_name=random.choice([None, "dröhne.mp4"]),
        )
        after = random.randrange(25) if sudden and random.random() < 0.5 else 0
        rows += [Row(values, after_requests=after)] * random.choice([1, 1, 2])
    return rows


def choices(*values: T) -> st.SearchStrategy[T]:
    return st.sampled_from(values)


def scenarios() -> st.SearchStrategy[Scenario]:
    kinds = st.lists(choices(*TRANSIENT), max_size=3, unique=True)
    kill = st.integers(0, 100).map(lambda percent: percent / 100)
    return st.builds(
        Scenario,
        # Hypothesis alone likes small scenarios, in which little can go wrong.
        seed=st.integers(0, 2**32),
        names=choices(["Wa", "Wb", "Wc"], ["Wa", "Wb"], ["Wa"]),
        sudden=st.booleans(),
        options=st.fixed_dictionaries(
            {
                "page_size": choices(1, 2, 3, 5, 8),
                "bounds": choices("closed", "open", "left-open", "right-open"),
                "order": choices("ascending", "descending", "shuffled"),
                "empty_total": choices(0, 1),
                "key_order": choices("fixed", "shuffled"),
                "tableau_form": choices("object", "object", "bare-array"),
                "rate_limit": choices(None, None, 10),
                "rate_window": st.just(0.04),
                "faults": kinds.map(
                    lambda kinds: tuple(Fault(kind=k, rate=0.1, times=1) for k in kinds)
                ),
                "seed": st.integers(0, 1000),
            }
        ),
        settings=st.fixed_dictionaries(
            {
                "response_format": choices("size_optimized", "tableau"),
                "concurrency": choices(1, 2, 5, 16),
                "lookback_minutes": choices(0, 1, 60),
            }
        ),
        constants=st.fixed_dictionaries(
            {
                "reader.MAX_PAGES": choices(2, 3, 5, 12),
                "writer.BUFFER_SIZE": choices(1, 1000, 64 * 1024),
                "streams.STATE_INTERVAL": choices(0, 0, 5),
                "streams.STATE_INTERVAL_PER_DEVICE": choices(0),
                **{name: st.just(value) for name, value in PACE.items()},
            }
        ),
        kills=st.lists(kill, min_size=1, max_size=3),
        kills_of_the_last_run=st.lists(kill, max_size=1),
    )


def step(scenario: Scenario, api: MockAPI, kill: float | None, **more: Any) -> int:
    """Run once, load what was complete on the pipe, and return the exit code."""
    output = 3_000 + 350 * sum(map(len, scenario.devices.values()))
    options = {
        "state": scenario.state,
        "constants": scenario.constants,
        **scenario.settings,
        **more,
    }
    result = (
        run(api, timeout=PATIENCE, **options)
        if kill is None
        else run_until(api, int(kill * output), **options)
    )
    note(f"kill {kill}: {result.code}, {len(result.out)} bytes, {result.err!r}")
    assert "Traceback" not in result.err
    found = messages(result.out)
    scenario.table.load(found)
    before = bookmarks(scenario.state)
    scenario.state = last_state(found) or scenario.state
    after = bookmarks(scenario.state)
    assert all(after[name] >= bookmark for name, bookmark in before.items())
    return result.code


def read(scenario: Scenario, api: MockAPI, kills: list[float], **more: Any) -> None:
    """Run, be killed and start again, until a run succeeds."""
    for kill in kills:
        step(scenario, api, kill, **more)
    for _ in range(20):
        if step(scenario, api, None, **more) == 0:
            return
    msg = "no run succeeds"
    raise AssertionError(msg)


def check(scenario: Scenario) -> None:
    with MockAPI(Account(scenario.devices), **scenario.options) as api:
        there_from_the_start = expected(api.truth())
        read(scenario, api, scenario.kills)
        there_at_the_end = expected(api.truth())
        rows = scenario.table.rows()
        assert not there_from_the_start - rows, "lost"
        assert not rows - there_at_the_end, "invented"

        # Now every row appears, and more come late.
        for name, late in scenario.late.items():
            api.state.visits[name] += 1000
            api.add(name, late)
        read(
            scenario,
            api,
            scenario.kills_of_the_last_run,
            lookback_minutes=EVERYTHING,
        )
        assert_truth(scenario.table, expected(api.truth()))


def check_scenarios(count: int, number: int) -> None:
    """Check that many scenarios; those of a number are the same in every run."""
    profile = settings(
        max_examples=count,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    seed(number)(profile(given(scenarios())(check)))()


@pytest.mark.parametrize("part", range(PARTS))
def test_the_table_is_the_truth_whatever_happens(part: int) -> None:
    check_scenarios(SCENARIOS_PER_PART, part)


@pytest.mark.soak
@pytest.mark.timeout(0)
@pytest.mark.parametrize("part", range(PARTS, PARTS - (-SOAK // SCENARIOS_PER_PART)))
def test_soak(part: int) -> None:
    check_scenarios(SCENARIOS_PER_PART, part)
