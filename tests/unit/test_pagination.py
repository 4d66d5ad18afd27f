"""A window is read exactly, or the reading ends with an error: tested on simulated sources.

Assumptions
-----------
The API takes each page from the rows of that moment, as a database with ``LIMIT`` and
``OFFSET`` does, and its page size is constant. Then a source that does not change is read
exactly, in whatever order its rows come, even in another one with each request. (Unsorted
timestamps must be whole milliseconds.)

A source that changes while a window is being read is read exactly under one of these
assumptions:

- Rows are inserted anywhere, and none is deleted. Or rows are deleted anywhere, and none is
  inserted.
- Rows are inserted anywhere, and the oldest ones expire: all rows of a millisecond at once,
  and no row is inserted at or before it afterwards. The API sorts by timestamp, in ascending
  or descending order. Rows of one timestamp may come in any order, even in another one with
  each request.

Exact means that the number of emitted copies of each row lies between the fewest and the
most that the source had at any moment while the row's window was being read.

A page beyond the first may be refused although there is one, but not twice in a row.

The bounds of a range may be inclusive or exclusive. The API may round them outward, to
seconds or days. If at least one bound is inclusive, it may also round both down: to seconds,
or to days if no row lies in the last millisecond of a second. For rounded bounds, `Reading`
says what is compared.

Liveness
--------
The reading ends without an error if the API sorts, reports the number of pages, neither
rounds bounds nor limits ranges, returns pages of at least twice as many rows as three
adjacent milliseconds have, and changes fewer than `MAX_READS` times.
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
from tap_unleash.api.errors import WindowChanged
from tap_unleash.api.pagination import MAX_READS, TotalPagesPaginator
from tap_unleash.api.time_window import DAY, SECOND, TimeWindow
from unit.simulated_source import KINDS, MIDNIGHT, Reading, Source, Wrong, as_page

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

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
            lapse=choice([None] * 6 + [2, 5, 20]),
        )
        self.changes = choice([*CHANGES, "none", "insertions and retention"])
        self.rate = choice([0, 0, 0.02, 0.1, 0.5])
        self.changes_left = choice([1, 3, 10, 40])
        self.max_pages = choice([2, 3, 5, 60, 60])
        for name, value in options.items():
            setattr(self if hasattr(self, name) else source, name, value)
        if source.floor and source.unit > 1 and not any(source.inclusive):
            source.inclusive = (True, False)
        self._fill()
        self.windows = self._windows()
        self._moment = 0

    def _fill(self) -> None:
        random, source = self.random, self.source
        before_a_second = source.unit == DAY and source.floor
        self._instants = random.sample(
            INSTANTS[before_a_second:], random.choice([1, 1, 2])
        )
        self._kinds = random.choice([1, 2, 2, 3, len(KINDS)])
        self._micros = 0
        if not source.order:
            if len(CHANGES[self.changes]) > 1:
                self.changes = "insertions"  # one could hide a row that expires
        elif not before_a_second:
            self._micros = random.choice([0, 0, 0, 0, 0, 500])
        pages = random.random() * random.choice([1, 2, 4, 8, 14])
        rows = min(60, int(source.page_size * pages))
        while len(source.rows) < rows:
            micros, kind = self._row()
            for _ in range(random.choice([1, 1, 1, 2])):
                source.insert(micros, kind)
        self._rows = len(source.rows) + random.choice([0, 0, 1])
        self._balance = random.choice([0, 0.5, 0.9])
        pages = ceil(len(source.rows) / source.page_size)
        self._moments = random.sample(range(2 * pages + 6), random.choice([2, 3, 4]))

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
        self._moment += 1
        due = (
            random.random() < self.rate if self.rate else self._moment in self._moments
        )
        if not options or not self.changes_left or not due:
            return
        for _ in range(random.choice([1, 1, 1, 2, 3])):
            self.changes_left = max(self.changes_left - 1, 0)
            option = random.choice(options)
            if len(options) > 1 and random.random() < self._balance:
                # A constant number of rows hides changes best.
                option = options[len(source.rows) >= self._rows]
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


def crowd(rows: Mapping[Key, int]) -> int:
    """Return the most rows of three adjacent milliseconds."""
    at: Counter[int] = Counter()
    for (micros, _), copies in rows.items():
        for neighbor in (-1, 0, 1):
            at[micros // 1000 + neighbor] += copies
    return max(at.values(), default=0)


def untroubled(number: int, **options: Any) -> Scenario:
    """Return a scenario in which only changes and the order of ties are a trouble."""
    while True:
        scenario = Scenario(
            number, with_total=True, unit=1, longest=None, lapse=None, **options
        )
        source = scenario.source
        if source.order and 2 * crowd(source.counts) <= source.page_size:
            window = TimeWindow("W1", MIDNIGHT - 20 * DAY, MIDNIGHT + 20 * DAY)
            scenario.windows = [window]
            return scenario
        number += 1


@settings(QUICK, max_examples=1_000, derandomize=True)
@given(st.integers(0, 2**64), st.integers(1, MAX_READS - 1))
def test_few_changes_and_no_order_of_ties_end_in_an_error(
    number: int, changes_left: int
) -> None:
    scenario = untroubled(number, changes_left=changes_left)
    reading = scenario.read()
    source = scenario.source
    if 2 * crowd(reading.most) <= source.page_size:
        assert not reading.error
        assert source.requests <= 8 * (ceil(source.inserted / source.page_size) + 3)


@settings(QUICK, max_examples=1_000, derandomize=True)
@given(st.integers(0, 2**64), st.sampled_from(["stable", "per URL"]))
def test_a_calm_window_costs_few_requests(number: int, ties: str) -> None:
    scenario = untroubled(number, changes="none", ties=ties, max_pages=60)
    (window,) = scenario.windows
    reading = scenario.read()
    assert not reading.error
    source = scenario.source
    pages = [rows for (of, _), rows in source.answers.items() if of == window]
    on_pages = Counter(key for rows in pages for key in {row[::2] for row in rows})
    alone = {micros // 1000 for (micros, _), count in on_pages.items() if count > 1}
    looks = len(pages) + 2
    if not alone:
        looks = {1: 1, 2: 3}.get(len(pages), looks)
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
    # If both pages were requested together, a row could expire after the response for page 1
    # and before the one for page 4, and both would be what they were.
    assert numbers(reading) == [4]
    source.expire()
    answer(reading, 4)
    assert numbers(reading) == [1]
    finish(reading)
    assert not reading.error


def test_a_second_page_is_looked_at_again_if_an_instant_was_read_after_it() -> None:
    source = Source(page_size=2, order=0, ties="per URL", inclusive=(False, False))
    for micros, kind in ((0, 0), (0, 0), (1000, 1)):
        source.insert(MIDNIGHT * 1000 + micros, kind)
    window = TimeWindow("W1", MIDNIGHT - 20 * DAY, MIDNIGHT + 20 * DAY)
    reading = Reading(source, [window])
    answer(reading, 1)
    answer(reading, 2)
    (alone,) = reading.wanted
    # The row at 1 is on both pages, and one at 0 on none.
    assert alone.window.contains(MIDNIGHT + 1)
    # Now there are as many rows as on both pages.
    source.insert(MIDNIGHT * 1000 + 1000, 1)
    finish(reading)
    assert not reading.error


def test_a_second_page_is_looked_at_again_if_the_end_was_read_after_it() -> None:
    source = source_of(range(0, 50, 10), with_total=False)
    reading = Reading(source, [TimeWindow("W1", MIDNIGHT - DAY, MIDNIGHT + DAY)])
    answer(reading, 1)
    answer(reading, 2)
    source.delete(2)  # moves the only row of page 3 to page 2
    finish(reading)
    assert not reading.error


def crowded() -> tuple[Source, Reading]:
    """Return a millisecond with four rows, of which each page holds two or three."""
    source = Source(page_size=3)
    for micros in (0, 0, 1, 1):
        source.insert(MIDNIGHT * 1000 + micros, 0)
    return source, Reading(source, [TimeWindow("W1", MIDNIGHT, MIDNIGHT + 1)])


def test_rows_that_were_deleted_do_not_count() -> None:
    source, reading = crowded()
    source.page_size = 2
    answer(reading, 1)
    source.delete(0)
    answer(reading, 2)  # Together, the pages have as many rows as there are now.
    finish(reading)
    assert "more identical records than fit one page" in str(reading.error)


def test_both_pages_are_looked_at_again_if_an_instant_fills_them() -> None:
    source, reading = crowded()
    source.insert((MIDNIGHT - 500) * 1000, 0)
    for page in (1, 2, 1, 2, 1):
        answer(reading, page)
    # The last request was for page 1 of the second around the instant. Now its page 2 begins
    # one row later, and ends with a new one: it has as many rows of the instant as before.
    source.insert(MIDNIGHT * 1000 + 2, 0)
    source.expire()
    finish(reading)
    assert "more identical records than fit one page" in str(reading.error)


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


def test_a_second_is_read_if_bounds_are_rounded_to_seconds() -> None:
    source = source_of([3, 4, 5], unit=SECOND, floor=True)
    reading = Reading(source, [TimeWindow("W1", MIDNIGHT - DAY, MIDNIGHT + DAY)])
    for at in (2, 1):
        answer(reading, 1)
        answer(reading, 2)
        source.insert((MIDNIGHT + at) * 1000, 0)
        answer(reading, 1)
    assert len(reading.windows) > 1
    finish(reading)
    assert not reading.error


def test_pages_that_do_not_end_are_an_error() -> None:
    source = Source(
        order=0, ties="per request", with_total=False, past_the_end="last page"
    )
    for micros in range(20):
        source.insert(MIDNIGHT * 1000 + micros, 0)
    reading = Reading(source, [TimeWindow("W1", MIDNIGHT, MIDNIGHT + 1)])
    finish(reading)
    assert "came on pages that do not end" in str(reading.error)
    pages = [as_page([row]) for row in source.rows] * 20
    with pytest.raises(WindowChanged):
        pagination._missing(pages)
