"""Randomized scenarios, faults and kills: the table is never wrong, and complete in the end.

`SOAK=1000 python -m pytest tests/reliability -m soak` runs that many more scenarios.
"""

from __future__ import annotations

import os
import sys
from bisect import bisect_right
from collections import Counter
from dataclasses import dataclass
from datetime import datetime
from math import ceil
from random import Random
from typing import TYPE_CHECKING, Any

import pytest

from mock_api import Account, Fault, MockAPI, Row
from reliability.runs import (
    IMPATIENT,
    Run,
    Table,
    assert_truth,
    at,
    bookmarks,
    choices,
    expected,
    failures,
    last_state,
    messages,
    row,
    run,
    run_until,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from mock_api.faults import Kind

SCENARIOS = 52
PACE = IMPATIENT | {"api.rate_limiter.MAX_PAUSE": 0.005}
"""Constants of the tap: with random 429 responses, it estimates a rate from its pauses."""

PATIENCE = 300
"""Seconds for a run, however busy the machine is."""

SOAK = int(os.environ.get("SOAK", "0"))

DAY = 86_400

SPAN = 200 * DAY
"""Seconds before and after `START` in which there are rows."""

EVERYTHING = 10_000_000
"""A lookback window in minutes that includes all rows."""

TRANSIENT: list[Kind] = [
    "status_204",
    "status_408",
    "status_413",
    "status_421",
    "status_425",
    "status_429",
    "quota",
    "status_500",
    "status_502",
    "status_503",
    "status_504",
    "errors_in_200",
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

REJECTING: list[Kind] = ["status_400", "status_404", "status_422"]
"""Faults that fail a device, a stream or the sync if its first page gets them."""

SLOW: list[Kind] = ["hang", "drip", "drip_headers", "stall_amid"]

SORTED = {
    "ascending",
    "descending",
    "ties-per-page",
    "descending-ties-per-page",
    "ties-per-request",
}


@dataclass
class Scenario:
    """An account, the behavior of its API, and the kills of the tap.

    Attributes:
        random: It makes the rows.
        names: The devices.
        change: Whether rows are inserted or deleted while they are read.
        roomy: Whether a page holds all rows of three adjacent instants.
        options: Those of the mock API.
        settings: Those of the tap.
        constants: Those of the tap.
        kills: Where each run is killed, as a share of the output, before one is not.
        kills_of_the_last_run: The same, once all rows are there.
    """

    random: Random
    names: list[str]
    change: str
    roomy: bool
    options: dict[str, Any]
    settings: dict[str, Any]
    constants: dict[str, float]
    kills: list[float]
    kills_of_the_last_run: list[float]
    state: dict[str, Any] | None = None
    late_rows_are_there: bool = False

    def __post_init__(self) -> None:
        """Make what is too much to be printed."""
        self.table = Table()
        random = self.random
        if self.change == "expire and insert" and self.options["order"] not in SORTED:
            self.change = "insert"  # otherwise an insertion may hide a deletion
        if "expire" in self.change:
            self.options["expire_per_request"] = random.choice([1, 3])
        # Records that share their identifying values are numbered by their counts. With
        # equal counts, their numbers do not depend on which of them are there.
        self.renumbered = self.roomy and self.change in {"none", "insert"}
        self.devices, self.late = (
            {name: self._rows(name, change) for name in self.names}
            for change in (self.change, "none")
        )
        rows = [[*self.devices[name], *self.late[name]] for name in self.names]
        if self.roomy:
            self.options["page_size"] += max(most_rows(r, ADJACENT) for r in rows)
        # That second is requested to tell a limit from an outage.
        self.most_pages_of_a_second = max(
            ceil(most_rows(r, 1002) / self.options["page_size"]) for r in rows
        )
        if self.options["max_range_seconds"]:
            self.settings["start_date"] = at(-SPAN - DAY)
            self.settings["end_date"] = at(SPAN + DAY)
        if {fault.kind for fault in self.options["faults"]} & {*SLOW}:
            self.settings["request_timeout"] = 1

    @property
    def solvable(self) -> bool:
        """Whether each window can be read consistently once nothing changes."""
        without_total = (
            self.options["total"] != "present"
            or self.options["tableau_form"] == "bare-array"
        )
        return (
            self.roomy
            and self.options["round_bounds"] == "none"
            and (self.options["max_pages"] or 99) >= self.most_pages_of_a_second
            and not (without_total and self.options["past_end"] == "repeat")
        )

    def present_late_rows(self, device_id: str) -> list[Row]:
        """Return the late rows that were added so far."""
        return self.late[device_id] if self.late_rows_are_there else []

    def _rows(self, device_id: str, change: str) -> list[Row]:
        """Make rows of which many are identical; some appear or vanish meanwhile."""
        random = self.random
        rows: list[Row] = []
        kinds = random.choices(INSTANTS, k=2)
        for _ in range(random.choice([0, 5, 20, 40, *([120] if self.roomy else [])])):
            name = random.choice(["person", "truck"])
            count = random.choice([1, 2.5]) if self.renumbered else len(name)
            values = row(
                device_id,
                random.choice(kinds)(random),
                class_name=name,
                count=count,
                source_file_name=random.choice([None, "dröhne.mp4"]),
            )
            after, until = 0, None
            if "insert" in change and random.random() < 0.5:
                after = random.randrange(1, 25)
                if "expire" in change:
                    values["model_id"] = "inserted"
            elif change == "delete" and random.random() < 0.3:
                until = random.randrange(25)
            copies = random.choice([1, 1, 2])
            new = Row(values, after_requests=after, until_requests=until)
            if self.roomy and most_rows([*rows, *[new] * copies], ADJACENT) > MOST:
                continue
            rows += [new] * copies
        return rows


ADJACENT = 2
"""Milliseconds from the first to the last of three adjacent instants."""

MOST = 6
"""Most rows in three adjacent instants of a device whose pages hold them."""

INSTANTS: list[Callable[[Random], float]] = [
    lambda random: random.choice([0, 0.001, 0.999, 1, 1.001, 59.999, 60, 3600]),
    lambda random: random.randrange(200) / 8,
    lambda random: random.randrange(-200, 200) * DAY,
]
"""Seconds: few instants, adjacent ones, or distant ones."""


def _milliseconds(timestamp: str) -> int:
    return round(
        datetime.fromisoformat(timestamp.replace("Z", "+00:00")).timestamp() * 1000
    )


def most_rows(rows: Iterable[Row], span: int) -> int:
    """Return the largest number of rows within so many milliseconds."""
    times = sorted(_milliseconds(row.values["timestamp"]) for row in rows)
    return max(
        (bisect_right(times, t + span) - n for n, t in enumerate(times)), default=0
    )


def draw_faults(random: Random) -> tuple[Fault, ...]:
    kinds = random.sample(TRANSIENT, random.randrange(4))
    faults = [Fault(kind=kind, rate=0.1, times=1) for kind in kinds]
    if random.random() < 0.4:
        # Every run requests other addresses, for which it may strike again.
        kind = random.choice([*REJECTING, *SLOW])
        faults.append(Fault(kind=kind, rate=0.1, times=1, until=60, seconds=2))
    return tuple(faults)


def draw(random: Random) -> Scenario:
    """Draw a scenario."""
    one = random.choice
    forms = ("key_order", "empty_total", "empty_form", "version_form", "session_form")
    return Scenario(
        random=random,
        names=one([["Wa", "Wb", "Wc"], ["Wa", "Wb"], ["Wa"]]),
        change=one(
            ["none", "insert", "insert", "delete", "expire", "expire and insert"]
        ),
        roomy=random.random() < 0.75,
        options={
            "page_size": one([1, 2, 3, 5, 8, 1000]),
            "bounds": one(choices("bounds")),
            "round_bounds": one(["none"] * 8 + [*choices("round_bounds")]),
            "order": one(choices("order")),
            "total": one(["present", "present", *choices("total")]),
            "past_end": one(choices("past_end")),
            "tableau_form": one(["object", "object", "bare-array"]),
            "max_range_seconds": one([None, None, None, 40 * DAY]),
            "max_pages": one([None, None, None, 2, 5]),
            "too_large": one(choices("too_large")),
            "rate_limit": one([None, None, 10]),
            "rate_window": 0.04,
            "faults": draw_faults(random),
            "seed": random.randrange(1000),
            **{name: one(choices(name)) for name in forms},
        },
        settings={
            "response_format": one(["size_optimized", "tableau"]),
            "concurrency": one([1, 2, 5, 16]),
            "lookback_minutes": one([0, 1, 60]),
        },
        constants={
            **PACE,
            "api.pagination.MAX_PAGES": one([2, 3, 5, 12]),
            "writer.BUFFER_SIZE": one([1, 1000, 64 * 1024]),
            "streams.STATE_INTERVAL": one([0, 0, 5]),
            "streams.STATE_INTERVAL_PER_DEVICE": 0,
        },
        kills=[random.random() for _ in range(random.randrange(1, 4))],
        kills_of_the_last_run=[random.random() for _ in range(random.randrange(2))],
    )


def show(text: str) -> None:
    """Print what pytest shows if the scenario fails."""
    sys.stdout.write(f"{text}\n")


def step(scenario: Scenario, api: MockAPI, kill: float | None, **more: Any) -> int:
    """Run once, load the complete messages, check the table; return the exit code."""
    output = 3_000 + 350 * sum(map(len, scenario.devices.values()))
    options = {
        "state": scenario.state,
        "constants": scenario.constants,
        **scenario.settings,
        **more,
    }
    before = bookmarks(scenario.state)
    visits = Counter(api.state.visits)
    result = (
        run(api, timeout=PATIENCE, **options)
        if kill is None
        else run_until(api, int(kill * output), **options)
    )
    show(f"kill {kill}: {result.code}, {len(result.out)} bytes, {result.err}")
    assert "Traceback" not in result.err
    found = messages(result.out)
    scenario.table.load(found)
    scenario.state = last_state(found) or scenario.state
    after = bookmarks(scenario.state)
    assert all(after[name] >= bookmark for name, bookmark in before.items())

    synced = set() if kill is not None else synced_devices(scenario, result)
    for name in synced:
        since = 0
        if name in before:
            lookback = int(options["lookback_minutes"]) * 60_000
            since = _milliseconds(before[name]) - lookback
        rows = [*scenario.devices[name], *scenario.present_late_rows(name)]
        check_extracted(scenario, api, name, rows, visits=visits[name], since=since)
    # A run that ends early can leave records with old and new numbers side by side.
    if len(synced) == len(scenario.names) or not scenario.renumbered:
        check_not_invented(scenario, api)
        for name, bookmark in after.items():
            rows = scenario.devices[name]
            until = _milliseconds(bookmark)
            check_extracted(scenario, api, name, rows, visits=0, until=until)
    return result.code


def synced_devices(scenario: Scenario, result: Run) -> set[str]:
    """Return the devices that a run has read completely."""
    if result.code and "tap-unleash: Sync incomplete: " not in result.err:
        line = result.err.splitlines()[-1]
        rejected = line.startswith("tap-unleash: Request rejected (HTTP 4")
        assert rejected or (
            line.startswith("tap-unleash: 3 devices in a row failed. ")
            and not scenario.solvable
        )
        return set()
    failed = failures(result)
    devices = {name for name in scenario.names if f"device {name!r}" in failed}
    assert failed.keys() <= {
        "stream 'sessions'",
        *(f"device {name!r}" for name in scenario.names),
    }
    return {*scenario.names} - devices


def check_extracted(  # noqa: PLR0913
    scenario: Scenario,
    api: MockAPI,
    name: str,
    rows: Iterable[Row],
    *,
    visits: int,
    since: int = 0,
    until: int = 10**14,
) -> None:
    """Check that no row is missing that a device's requests after so many all saw."""
    last = api.state.visits[name]
    seen = [
        row.values
        for row in rows
        if row.visible(visits + 1)
        and row.visible(last)
        and since <= _milliseconds(row.values["timestamp"]) <= until
    ]
    # Some may have expired.
    lost = (expected(seen) & expected(api.truth(name))) - scenario.table.rows()
    assert not lost, f"{lost.total()} lost, such as {next(iter(lost))}"


def check_not_invented(scenario: Scenario, api: MockAPI) -> None:
    """Check that all records are rows that were visible to some request."""
    rows = [
        row.values
        for name in scenario.names
        for row in [*scenario.devices[name], *scenario.present_late_rows(name)]
        if row.after_requests < api.state.visits[name]
    ]
    invented = scenario.table.rows() - expected(rows)
    assert not invented, f"{invented.total()} invented, such as {next(iter(invented))}"


def read(scenario: Scenario, api: MockAPI, kills: list[float], **more: Any) -> None:
    """Run, be killed and start again, until a run succeeds, if one can."""
    for kill in kills:
        step(scenario, api, kill, **more)
    for _ in range(20 if scenario.solvable else 1):
        if step(scenario, api, None, **more) == 0:
            return
    assert not scenario.solvable, "no run succeeds"


@pytest.mark.timeout(900)
@pytest.mark.parametrize("number", range(SCENARIOS))
def test_the_table_is_the_truth_whatever_happens(number: int) -> None:
    scenario = draw(Random(f"scenario {number}"))
    show(str(scenario))
    with MockAPI(Account(scenario.devices), **scenario.options) as api:
        read(scenario, api, scenario.kills)
        # Now every row appears or vanishes, and more arrive late.
        for name, late in scenario.late.items():
            api.state.visits[name] += 1000
            api.add(name, late)
        scenario.late_rows_are_there = True
        read(
            scenario,
            api,
            scenario.kills_of_the_last_run,
            lookback_minutes=EVERYTHING,
        )
        if scenario.solvable and scenario.change in {"none", "insert"}:
            assert_truth(scenario.table, expected(api.truth()))


@pytest.mark.soak
@pytest.mark.timeout(900)
@pytest.mark.parametrize("number", range(SCENARIOS, SCENARIOS + SOAK))
def test_soak(number: int) -> None:
    test_the_table_is_the_truth_whatever_happens(number)
