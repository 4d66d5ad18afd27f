"""A window is read exactly, or not at all: proven against simulated sources.

A source that nothing changes is read exactly (every row once, whatever the order of rows)
if the API answers each page from the rows as they are at that moment, with ``LIMIT`` and
``OFFSET``, and with timestamps of whole milliseconds if it does not sort.

A source that changes meanwhile is read exactly, too, if also all of this is true:

- The API sorts by timestamp, in ascending or descending order. Rows of one timestamp may come
  in any order, and in another order with each request.
- Rows are inserted anywhere, and the oldest ones expire: all rows of a millisecond at once,
  and none appears at or before it afterwards. Or rows are deleted anywhere, and none is
  inserted at the same time.

Exact then means that of each row at least as many copies are emitted as the API had all the
time that the row's window was being read, and at most as many as it had at any moment.

Bounds of a range may be inclusive or exclusive. They may be rounded outward to a second or a
day; or, if one of them is inclusive, both down to a second, or to a day unless the only row
of a day before the seam of two windows is the millisecond before it. Then rows of adjacent
windows, and outside of the range, may be emitted as well; see `Reading`.

Otherwise the reading ends with an error. It never does if the API sorts, tells the number of
pages, rounds nothing, limits no range, and two pages hold four times the rows of any three
adjacent milliseconds.
"""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from math import ceil
from random import Random
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)

from tap_unleash.api import pagination
from tap_unleash.api.pagination import TotalPagesPaginator
from tap_unleash.api.time_window import DAY, SECOND, TimeWindow
from unit.simulated_source import KINDS, MIDNIGHT, Reading, Source, Wrong

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from tap_unleash.api.page import Page
    from tap_unleash.api.pagination import Requests
    from unit.simulated_source import Key, Paginator

PARTS = 11
SOURCES_PER_PART = 2_000

MINUTE = 60 * SECOND

INSTANTS: list[Callable[[Random], int]] = [
    lambda random: random.choice([0, 1, 999, 1000, 1001, 2000, 59_999, MINUTE]),
    lambda random: random.randrange(3),
    lambda random: random.randrange(20),
    lambda random: random.randrange(200) * 125,
    lambda random: random.randrange(-10, 10) * DAY,
    lambda random: random.randrange(-6, 6) * DAY // 2 + random.randrange(2),
]
"""Milliseconds: few or many, adjacent or far apart."""

CHANGES: dict[str, list[str]] = {
    "none": [],
    "insertions": ["insert"],
    "retention": ["expire"],
    "insertions and retention": ["insert", "expire"],
    "deletions": ["delete"],
}

QUICK = settings(
    database=None,
    deadline=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)


class Scenario:
    """A random source, how it changes, and in which order its pages are requested."""

    def __init__(self, number: int, **options: Any) -> None:
        self.random = random = Random(number)
        choice = random.choice
        self.source = source = Source(
            page_size=choice([1, 2, 3, 4, 5, 7, 9, 12]),
            order=choice([1, 1, 1, -1, -1, 0]),
            ties=choice(["stable", "per URL", "per URL", "per request"]),
            with_total=random.random() < 0.75,
            inclusive=(random.random() < 0.5, random.random() < 0.5),
            unit=choice([1] * 8 + [SECOND, DAY]),
            floor=random.random() < 0.5,
            past_the_end=choice(["empty", "refused", "last page"]),
            empty_total=choice([0, 1, None]),
            longest=choice([None] * 6 + [SECOND, MINUTE, DAY, 5 * DAY]),
        )
        self.changes = choice([*CHANGES, "none", "insertions and retention"])
        self.rate = choice([0.01, 0.05, 0.2, 0.5])
        self.changes_left = choice([1, 3, 10, 40])
        self.max_pages = choice([2, 3, 5, 60, 60])
        for name, value in options.items():
            setattr(self if hasattr(self, name) else source, name, value)
        if source.floor and source.unit > 1 and not any(source.inclusive):
            source.inclusive = (True, False)
        self._fill()
        self.windows = self._windows()

    def _fill(self) -> None:
        random, source = self.random, self.source
        before_a_second = source.unit == DAY and source.floor
        self._instants = random.sample(
            INSTANTS[before_a_second:], random.choice([1, 1, 2])
        )
        self._kinds = random.choice([1, 2, 2, 3, len(KINDS)])
        self._micros = 0
        if not source.order:
            self.changes = "none"
        elif not before_a_second:
            self._micros = random.choice([0, 0, 0, 0, 0, 500])
        pages = random.random() * random.choice([1, 2, 4, 8, 14])
        rows = min(60, int(source.page_size * pages))
        while len(source.rows) < rows:
            micros, kind = self._row()
            for _ in range(random.choice([1, 1, 1, 2])):
                source.insert(micros, kind)

    def _windows(self) -> list[TimeWindow]:
        random = self.random
        reach = 20 * DAY if self.source.longest is None else 4 * self.source.longest
        start, end = MIDNIGHT - reach, MIDNIGHT + reach
        if random.random() < 0.2:
            start = MIDNIGHT + random.choice([0, 1, 500, 1000])
        if random.random() < 0.2:
            end = MIDNIGHT + random.choice([1, 2, 3, 500, 1000, 1001, MINUTE])
        windows = [TimeWindow("W1", start, max(end, start + 1))]
        if duration := random.choice([0, 0, 0, 0, 0, SECOND, DAY]):
            for _ in range(20):
                windows[-1:] = windows[-1].limited_to(duration)
        return windows

    def _row(self) -> Key:
        random = self.random
        at = MIDNIGHT + random.choice(self._instants)(random)
        micros = at * 1000 + random.choice([0, self._micros])
        return micros, random.randrange(self._kinds)

    def change(self) -> None:
        random, source = self.random, self.source
        options = CHANGES[self.changes]
        if not options or not self.changes_left or random.random() > self.rate:
            return
        for _ in range(random.choice([1, 1, 1, 2, 3])):
            self.changes_left = max(self.changes_left - 1, 0)
            option = random.choice(options)
            if option == "insert":
                source.insert(*self._row())
            elif source.rows and option == "expire":
                source.expire()
            elif source.rows:
                source.delete(random.randrange(len(source.rows)))

    def read(self, paginator: Paginator = TotalPagesPaginator) -> Reading:
        random = self.random
        reading = Reading(
            self.source, self.windows, max_pages=self.max_pages, paginator=paginator
        )
        while wanted := reading.wanted:
            some = random.choice([len(wanted), random.randrange(len(wanted)) + 1])
            reading.answer(random.sample(wanted, some), self.change)
        return reading


@pytest.mark.parametrize("part", range(PARTS))
def test_a_window_is_read_exactly_or_not_at_all(part: int) -> None:
    seeds: set[int] = set()
    exact = 0

    @seed(part)
    @settings(QUICK, max_examples=SOURCES_PER_PART)
    @given(st.integers(0, 2**64))
    def read(number: int) -> None:
        nonlocal exact
        seeds.add(number)
        exact += Scenario(number).read().error is None

    read()
    assert len(seeds) >= SOURCES_PER_PART
    assert PARTS * SOURCES_PER_PART >= 20_000
    assert exact > SOURCES_PER_PART / 2


def roomy(number: int, **options: Any) -> Scenario | None:
    """Return a scenario whose pages hold the rows of many instants, and no other trouble."""
    options = {"with_total": True, "unit": 1, "longest": None, **options}
    scenario = Scenario(number, **options)
    scenario.windows = [TimeWindow("W1", MIDNIGHT - 20 * DAY, MIDNIGHT + 20 * DAY)]
    instants = Counter(row.micros // 1000 for row in scenario.source.rows)
    crowd = max(
        (sum(instants[at + i] for i in (-1, 0, 1)) for at in instants), default=0
    )
    size = scenario.source.page_size
    return scenario if scenario.source.order and 2 * crowd <= size else None


@settings(QUICK, max_examples=2_000, derandomize=True)
@given(st.integers(0, 2**64))
def test_no_change_and_no_order_of_ties_ends_in_an_error(number: int) -> None:
    if scenario := roomy(number):
        reading = scenario.read()
        assert not reading.error
        pages = ceil(scenario.source.inserted / scenario.source.page_size)
        assert scenario.source.requests <= 60 + 40 * pages


@settings(QUICK, max_examples=2_000, derandomize=True)
@given(st.integers(0, 2**64), st.sampled_from(["stable", "per URL"]))
def test_a_calm_window_costs_few_requests(number: int, ties: str) -> None:
    scenario = roomy(number, changes="none", ties=ties, max_pages=60)
    if not scenario:
        return
    (window,) = scenario.windows
    reading = scenario.read()
    assert not reading.error
    source = scenario.source
    pages = [rows for (of, _), rows in source.answers.items() if of == window]
    on_pages = Counter(key for rows in pages for key in {row[::2] for row in rows})
    alone = {micros // 1000 for (micros, _), count in on_pages.items() if count > 1}
    looks = {1: 1, 2: 3}.get(len(pages), len(pages) + 2)
    assert source.requests == looks + len(alone)


SMALL_ROWS = st.tuples(
    st.sampled_from([0, 1, 2, 1_000, 2_000, DAY]).map(
        lambda ms: (MIDNIGHT + ms) * 1000
    ),
    st.integers(0, 1),
)


class ChangingSource(RuleBasedStateMachine):
    """A small source, so that hypothesis reduces a failure to very few steps."""

    reading: Reading

    @initialize(
        rows=st.lists(SMALL_ROWS, max_size=20),
        changes=st.sampled_from(sorted(CHANGES)),
        options=st.fixed_dictionaries(
            {
                "page_size": st.integers(1, 5),
                "order": st.sampled_from([1, -1]),
                "ties": st.sampled_from(["stable", "per URL", "per request"]),
                "with_total": st.booleans(),
                "inclusive": st.tuples(st.booleans(), st.booleans()),
                "past_the_end": st.sampled_from(["empty", "refused", "last page"]),
            }
        ),
        max_pages=st.sampled_from([2, 60]),
    )
    def begin(
        self, rows: list[Key], changes: str, options: dict[str, Any], max_pages: int
    ) -> None:
        self.changes = CHANGES[changes]
        self.source = Source(**options)
        for row in rows:
            self.source.insert(*row)
        window = TimeWindow("W1", MIDNIGHT - DAY, MIDNIGHT + 2 * DAY)
        self.reading = Reading(self.source, [window], max_pages=max_pages)

    @rule(choice=st.lists(st.integers(0, 30), min_size=1, max_size=6))
    def answer(self, choice: list[int]) -> None:
        if wanted := self.reading.wanted:
            some = dict.fromkeys(wanted[number % len(wanted)] for number in choice)
            self.reading.answer(some)

    @precondition(lambda self: "insert" in self.changes)
    @rule(row=SMALL_ROWS)
    def insert(self, row: Key) -> None:
        self.source.insert(*row)

    @precondition(lambda self: "expire" in self.changes and self.source.rows)
    @rule()
    def expire(self) -> None:
        self.source.expire()

    @precondition(lambda self: "delete" in self.changes and self.source.rows)
    @rule(index=st.integers(0, 100))
    def delete(self, index: int) -> None:
        self.source.delete(index % len(self.source.rows))

    def teardown(self) -> None:
        if hasattr(self, "reading"):
            finish(self.reading)


def finish(reading: Reading) -> None:
    while wanted := reading.wanted:
        reading.answer(wanted)


def test_no_order_of_answers_and_changes_gives_a_wrong_result() -> None:
    machine = settings(
        database=None,
        deadline=None,
        derandomize=True,
        max_examples=600,
        stateful_step_count=30,
        suppress_health_check=list(HealthCheck),
    )
    run_state_machine_as_test(ChangingSource, settings=machine)


class NaivePaginator(TotalPagesPaginator):
    """Requests pages 1 to n, as most taps do."""

    def _read(self) -> Requests[list[Page]]:
        (first,) = self._seen = yield from self._get([1])
        others = yield from self._get(range(2, (first.total or 1) + 1))
        return [first, *others]


def caught_after(paginator: Paginator = TotalPagesPaginator, **options: Any) -> int:
    """Return how many sources it takes to find a wrong result."""
    for number in range(2_000):
        with suppress(Wrong):
            Scenario(number, with_total=True, **options).read(paginator)
            continue
        return number + 1
    pytest.fail("no source shows that the rule is needed")


@pytest.mark.parametrize(
    "options",
    [
        {"changes": "none", "order": 1, "ties": "per URL"},
        {"changes": "insertions", "order": 1},
        {"changes": "retention", "order": 1},
        {"changes": "deletions", "order": -1},
    ],
)
def test_the_sources_catch_a_naive_paginator(options: dict[str, Any]) -> None:
    assert caught_after(NaivePaginator, **options)


@pytest.mark.parametrize(
    ("target", "name", "replacement", "options"),
    [
        pytest.param(
            pagination,
            "_different",
            lambda *_: set(),
            {"changes": "insertions and retention", "order": 1},
            id="the first and the last page are read again",
        ),
        pytest.param(
            pagination,
            "_on_two_pages",
            lambda *_: set(),
            {"changes": "none", "ties": "per URL"},
            id="instants with identical rows on two pages are read alone",
        ),
        pytest.param(
            TimeWindow,
            "bounds",
            property(lambda self: (self.start, self.end - 1)),
            {"changes": "none", "inclusive": (False, False)},
            id="windows overlap",
        ),
        pytest.param(
            TimeWindow,
            "drop_overlap",
            lambda _, pages: pages,
            {"changes": "none", "inclusive": (True, True), "unit": 1},
            id="the overlap of windows is dropped",
        ),
    ],
)
def test_the_sources_catch_a_paginator_without_a_rule(
    monkeypatch: pytest.MonkeyPatch,
    target: object,
    name: str,
    replacement: object,
    options: dict[str, Any],
) -> None:
    monkeypatch.setattr(target, name, replacement)
    assert caught_after(**options)


def source_of(instants: Iterable[int], **options: Any) -> Source:
    source = Source(page_size=2, **options)
    for at in instants:
        source.insert((MIDNIGHT + at) * 1000, 0)
    return source


def numbers(reading: Reading) -> list[int]:
    return [request.number for request in reading.wanted]


def answer(reading: Reading, *pages: int) -> None:
    reading.answer([request for request in reading.wanted if request.number in pages])


def test_the_first_page_is_looked_at_last() -> None:
    source = source_of(range(0, 70, 10))
    reading = Reading(source, [TimeWindow("W1", MIDNIGHT - DAY, MIDNIGHT + DAY)])
    answer(reading, 1)
    answer(reading, 4)
    answer(reading, 2)
    source.insert(
        (MIDNIGHT + 35) * 1000, 0
    )  # moves the row at 50 from page 3 to page 4
    answer(reading, 3)
    # If both pages were requested at once, a row could expire after the response for page 1
    # and before the one for page 4, and both would be what they were.
    assert numbers(reading) == [4]
    source.expire()
    answer(reading, 4)
    assert numbers(reading) == [1]
    finish(reading)
    assert not reading.error


def test_known_limit_a_deletion_hidden_by_an_insertion() -> None:
    source = source_of(range(0, 80, 10))
    reading = Reading(source, [TimeWindow("W1", MIDNIGHT - DAY, MIDNIGHT + DAY)])
    answer(reading, 1)
    answer(reading, 4)
    answer(reading, 2)
    source.delete(3)  # Now the row at 40 is on page 2, which was read before,
    source.insert((MIDNIGHT + 55) * 1000, 0)  # and pages 1 and 4 are what they were.
    answer(reading, 3)
    with pytest.raises(Wrong, match=f"1 to 1 of .{(MIDNIGHT + 40) * 1000}"):
        finish(reading)


@pytest.mark.parametrize(
    ("inclusive", "at"), [((False, False), 0), ((True, True), 999)]
)
def test_known_limit_bounds_rounded_down_to_days(
    inclusive: tuple[bool, bool], at: int
) -> None:
    source = source_of([at], unit=DAY, floor=True, inclusive=inclusive)
    windows = [
        TimeWindow("W1", MIDNIGHT - DAY, MIDNIGHT + SECOND, last=False),
        TimeWindow("W1", MIDNIGHT + SECOND, MIDNIGHT + 2 * DAY, first=False),
    ]
    with pytest.raises(Wrong, match="1 to 1"):
        finish(Reading(source, windows))


def test_a_second_is_not_split_if_bounds_are_rounded_to_seconds() -> None:
    source = source_of([1], unit=SECOND, floor=True)
    window = TimeWindow("W1", MIDNIGHT, MIDNIGHT + SECOND)
    parts = window.split(2, [MIDNIGHT + 1, MIDNIGHT + 3], 2)
    reading = Reading(source, parts)
    finish(reading)
    assert "cannot be requested in smaller parts" in str(reading.error)
