"""A window is read exactly, or the reading ends with an error: tested on simulated sources.

Assumptions
-----------
The API takes each page from the rows of that moment, as a database with ``LIMIT`` and
``OFFSET`` does, and its page size is constant. Then a source that does not change is read
exactly, in whatever order its rows come. (Unsorted timestamps must be whole milliseconds.)

A source that changes while a window is being read is read exactly in these cases:

- Rows are inserted anywhere, and none is deleted, or the other way round.
- Rows are inserted anywhere, and the oldest ones expire: all rows of a millisecond at once,
  and no row is inserted at or before it afterwards. The API sorts by timestamp; rows of one
  timestamp may come in another order with each request.

Exact means that the number of emitted copies of each row lies between the fewest and the
most that the source had at any moment while the row's window was being read.

The API may be wrong about the number of pages. It may refuse a page beyond the first, or
answer with an empty page, but not twice in a row for the same page. A cache may repeat the
response for a URL. The API may limit its pages, if it returns at least two, the last one of
them in full, and if no second has more rows.

Bounds may be inclusive or exclusive. The API may round them outward, to seconds or days. If
at least one bound is inclusive, it may also round both down: to seconds, or to days if no
row lies in the last millisecond of a second. It may filter by another clock than the one
that it prints. `Reading` says what is compared then.

Liveness
--------
The reading of a source that does not change ends without an error if the API sorts, reports
the number of pages, neither rounds bounds nor limits ranges, and returns pages of 20 rows or
more. The rows of one timestamp fit one page, or they have the same order in all requests,
differ from each other, and other rows come before them.
"""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from dataclasses import replace
from math import ceil
from random import Random
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from tap_unleash import pagination, rules
from tap_unleash.errors import WindowInDoubt
from tap_unleash.pagination import TotalPagesPaginator
from tap_unleash.rules import MAX_READS, PageSizes
from tap_unleash.windows import DAY, SECOND, PageRequest, TimeWindow
from unit.simulated_source import KINDS, MIDNIGHT, Reading, Source, Stored, Wrong, as_page

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence

    from tap_unleash.page import Page, Row
    from unit.simulated_source import Key, Paginator

PARTS = 10
SOURCES_PER_PART = 500
SOAK_PARTS = 400

MINUTE = 60 * SECOND
HOUR = 60 * MINUTE

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

LIES: dict[str, Sequence[object]] = {
    "total": ["none", "floor", "low", "zero", "device", "first page"],
    "cap": [2, 3, 5],
    "unit": [SECOND, DAY],
    "shift": [-2 * HOUR, 2 * HOUR],
    "longest": [SECOND, MINUTE, DAY, 5 * DAY],
    "refused": [2, 5, 20],
    "swallowed": [2, 5, 20],
    "cached": [3, 10, 1000],
}
"""Options of an API in which not only changes and the order of rows are a trouble."""

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
            page_size=choice([1, 2, 3, 4, 5, 7, 9, 12, 20, 30]),
            order=choice([1, 1, 1, -1, -1, 0]),
            ties=choice(["stable", "per URL", "per URL", "per request"]),
            empty_total=choice([0, 1, None]),
            beyond=random.random() < 0.5,
            inclusive=(random.random() < 0.5, random.random() < 0.5),
            floor=random.random() < 0.5,
            past_the_end=choice(["empty", "refused", "last page"]),
        )
        self.lies = random.sample(sorted(LIES), choice([0, 0, 1, 1, 1, 2, 3]))
        self.changes = choice([*CHANGES, "none", "insertions and retention"])
        self.rate = choice([0, 0, 0.02, 0.1, 0.5])
        self.changes_left = choice([1, 3, 10, 40])
        self.max_pages = choice([2, 3, 5, 60, 60])
        for name, value in options.items():
            setattr(self if hasattr(self, name) else source, name, value)
        for lie in self.lies:
            setattr(source, lie, choice(LIES[lie]))
        if source.cap:
            source.total = choice(["exact", "capped"])
        if source.page_size < 12 and source.total != "exact":
            # Otherwise, two equal pages could not be told from a repeated one.
            source.past_the_end = "empty"
        if source.floor and source.unit > 1 and not any(source.inclusive):
            source.inclusive = (True, False)
        if source.unit > 1:
            source.beyond = True
        self._fill()
        self.windows = self._windows()
        self._moment = 0

    def _fill(self) -> None:
        random, source = self.random, self.source
        before_a_second = source.unit == DAY and source.floor
        self._instants = random.sample(INSTANTS[before_a_second:], random.choice([1, 1, 2]))
        self._kinds = random.choice([1, 2, 2, 3, 4, len(KINDS)])
        self._micros = 0
        if not source.order:
            if len(CHANGES[self.changes]) > 1:
                self.changes = "insertions"  # one could hide a row that expires
        elif not before_a_second:
            self._micros = random.choice([0, 0, 0, 0, 0, 500])
        pages = random.random() * random.choice([1, 2, 4, 8, 14])
        rows = min(max(60, 4 * source.page_size), int(source.page_size * pages))
        for _ in range(rows):
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
        if self.source.rows and random.random() < 0.3:
            known = random.choice(self.source.rows).micros // 1000
            windows = [
                replace(window, known=known) if window.contains(known) else window
                for window in windows
            ]
        return windows

    def _row(self) -> Key:
        random = self.random
        at = MIDNIGHT + random.choice(self._instants)(random)
        micros = at * 1000 + random.choice([0, self._micros])
        return micros, random.randrange(self._kinds)

    def change(self) -> None:
        random, source, options = self.random, self.source, CHANGES[self.changes]
        self._moment += 1
        due = random.random() < self.rate if self.rate else self._moment in self._moments
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
        reading = Reading(
            self.source,
            self.windows,
            max_pages=self.max_pages,
            paginator=paginator,
        )
        while wanted := reading.wanted:
            self.change()
            reading.answer(self.random.randrange(len(wanted)))
        return reading


SOAK = [pytest.param(part, marks=pytest.mark.soak) for part in range(PARTS, PARTS + SOAK_PARTS)]


@pytest.mark.parametrize("part", [*range(PARTS), *SOAK])
def test_a_window_is_read_exactly_or_not_at_all(part: int) -> None:
    exact = 0

    @seed(part)
    @settings(QUICK, max_examples=SOURCES_PER_PART)
    @given(st.integers(0, 2**64))
    def read(number: int) -> None:
        nonlocal exact
        exact += Scenario(number).read().error is None

    read()
    assert exact > SOURCES_PER_PART / 2


def crowd(rows: Mapping[Key, int]) -> int:
    """Return the most rows of four adjacent milliseconds, as a request for one instant covers."""
    at: Counter[int] = Counter()
    for (micros, _), copies in rows.items():
        for neighbor in (-2, -1, 0, 1):
            at[micros // 1000 + neighbor] += copies
    return max(at.values(), default=0)


def honest(number: int, **options: Any) -> Scenario:
    """Return a scenario of one window in which only changes and ties are a trouble."""
    order = 1 if number % 2 else -1
    scenario = Scenario(number, **{"lies": [], "order": order, **options})
    scenario.windows = [TimeWindow("W1", MIDNIGHT - 20 * DAY, MIDNIGHT + 20 * DAY)]
    return scenario


@settings(QUICK, max_examples=1_000, derandomize=True)
@given(st.integers(0, 2**64), st.sampled_from([20, 25, 30]))
def test_a_calm_source_ends_without_an_error(number: int, page_size: int) -> None:
    scenario = honest(number, changes="none", page_size=page_size, max_pages=50)
    source = scenario.source
    if crowd(source.counts) > page_size:
        source.ties = "stable"
        rows, source.rows = source.rows, []
        source.counts.clear()
        for kind, row in enumerate(rows):
            source.insert(row.micros, kind % len(KINDS))
        # A page boundary can move within an instant if other rows come before it.
        for day in (-12, 12) if rows else ():
            for kind in range(7):
                source.insert((MIDNIGHT + day * DAY) * 1000, kind)
    if error := scenario.read().error:
        # One second has all rows, and they fill its pages.
        assert "may be cut off" in str(error)
        assert not len(source.rows) % page_size


@settings(QUICK, max_examples=1_000, derandomize=True)
@given(st.integers(0, 2**64), st.integers(1, MAX_READS - 1))
def test_few_changes_and_no_order_of_ties_end_in_an_error(number: int, changes_left: int) -> None:
    scenario = honest(number, changes_left=changes_left)
    source = scenario.source
    reading = scenario.read()
    if 2 * crowd(reading.most) <= source.page_size:
        assert not reading.error
        assert source.requests <= 16 * (ceil(source.inserted / source.page_size) + 3)


@settings(QUICK, max_examples=1_000, derandomize=True)
@given(st.integers(0, 2**64))
def test_a_calm_window_costs_few_requests(number: int) -> None:
    scenario = honest(number, changes="none", ties="stable", max_pages=60)
    source, size = scenario.source, scenario.source.page_size
    if crowd(source.counts) >= size or not len(source.rows) % size:
        return
    assert not scenario.read().error
    numbers = range(1, ceil(len(source.rows) / size) + 1)
    pages = [source._page(0, len(source.rows), number, None) for number in numbers]
    on_pages = Counter(key for page in pages for key in {row[::2] for row in page})
    alone = {micros // 1000 for (micros, _), count in on_pages.items() if count > 1}
    looks = len(pages) + 2 if len(pages) > 1 else 5
    assert source.requests == looks + len(alone)


class NaivePaginator(TotalPagesPaginator):
    """Requests pages 1 to n, as most taps do."""

    def _read(self) -> rules.Steps[list[Row]]:
        (first,) = yield from self._get([1])
        others = yield from self._get(range(2, (first.total or 1) + 1), look=self._look)
        return [row for page in (first, *others) for row in page.rows]


def caught_after(paginator: Paginator = TotalPagesPaginator, **options: Any) -> int:
    """Return how many sources it takes to find a wrong result."""
    for number in range(2_000):
        with suppress(Wrong):
            Scenario(number, **options).read(paginator)
            continue
        return number + 1
    pytest.fail("no source shows that the rule is needed")


@pytest.mark.parametrize("change", [change for change in CHANGES if change != "none"])
def test_the_sources_catch_a_naive_paginator(change: str) -> None:
    order = -1 if change == "deletions" else 1
    assert caught_after(NaivePaginator, lies=[], changes=change, order=order)


@pytest.mark.parametrize("lie", ["cap", "cached", "refused", "swallowed", "total"])
def test_the_sources_catch_a_paginator_that_believes(lie: str) -> None:
    assert caught_after(NaivePaginator, lies=[lie], changes="none", ties="per URL")


def nothing(*, result: object) -> Callable[..., Any]:
    """Return a step that requests nothing."""

    def step(*_: object) -> Generator[Any, Any, object]:
        yield from ()
        return result

    return step


def request_once(
    paginator: TotalPagesPaginator,
    numbers: Iterable[int],
    window: TimeWindow | None = None,
    look: int | None = None,
) -> rules.Steps[list[Page]]:
    """Request pages, and believe that those without rows are empty."""
    look = paginator._look if look is None else look
    requests = tuple(PageRequest(window or paginator._window, n, look) for n in numbers)
    pages = list((yield requests) if requests else ())
    for page in pages:
        paginator._instants |= page.instants
    return pages


NO_CHANGE: dict[str, Any] = {"changes": "none"}

MUTANTS: dict[str, tuple[object, str, object, dict[str, Any]]] = {
    "pages are equally long, and the last one is shorter": (
        *(TotalPagesPaginator, "_follow", nothing(result=True)),
        {**NO_CHANGE, "lies": ["total"]},
    ),
    "a page that is alone is followed by none": (
        *(PageSizes, "is_last", lambda *_: True),
        {**NO_CHANGE, "lies": ["total"]},
    ),
    "an empty page is read again": (
        *(TotalPagesPaginator, "_get", request_once),
        {**NO_CHANGE, "lies": ["swallowed"]},
    ),
    "the first and the last page are read again": (
        *(TotalPagesPaginator, "_look_again", nothing(result=set())),
        {"changes": "insertions and retention", "order": 1},
    ),
    "instants with identical rows on two pages are read alone": (
        *(rules, "on_two_pages", lambda *_: set()),
        {**NO_CHANGE, "ties": "per URL"},
    ),
    "no row is after the end": (
        *(pagination, "SECOND", 30 * DAY),
        {**NO_CHANGE, "lies": ["shift"]},
    ),
    "windows overlap": (
        *(TimeWindow, "bounds", lambda w, look=0: (w.start, w.end - 1 + look)),
        {**NO_CHANGE, "inclusive": (False, False)},
    ),
    "the overlap of windows is dropped": (
        *(TotalPagesPaginator, "_without_margins", lambda _, rows: rows),
        {**NO_CHANGE, "inclusive": (True, True)},
    ),
}


@pytest.mark.parametrize("rule_name", MUTANTS)
def test_the_sources_catch_a_paginator_without_a_rule(
    monkeypatch: pytest.MonkeyPatch, rule_name: str
) -> None:
    target, name, replacement, options = MUTANTS[rule_name]
    monkeypatch.setattr(target, name, replacement)
    assert caught_after(**{"lies": [], **options})


def source_of(instants: Iterable[int], **options: Any) -> Source:
    source = Source(**{"page_size": 2, **options})
    for at in instants:
        source.insert((MIDNIGHT + at) * 1000, 0)
    return source


def reading_of(source: Source, reach: int = DAY) -> Reading:
    return Reading(source, [TimeWindow("W1", MIDNIGHT - reach, MIDNIGHT + reach)])


def answer(reading: Reading, *numbers: int) -> None:
    for number in numbers:
        wanted = [request.number for request in reading.wanted]
        reading.answer(wanted.index(number))


def test_the_first_page_is_looked_at_last() -> None:
    source = source_of(range(0, 70, 10))
    reading = reading_of(source)
    answer(reading, 1, 4, 2)
    # It moves the row at 50 from page 3 to page 4.
    source.insert((MIDNIGHT + 35) * 1000, 0)
    answer(reading, 3)
    # If both pages were requested together, a row could expire after the response for page 1
    # and before the one for page 4, and both would be what they were.
    assert [request.number for request in reading.wanted] == [4]
    source.expire()
    answer(reading, 4)
    assert [request.number for request in reading.wanted] == [1]
    reading.finish()
    assert not reading.error


@pytest.mark.parametrize("total", ["none", "zero"])
def test_pages_that_were_counted_one_by_one_may_have_changed(total: str) -> None:
    source = source_of(range(0, 80, 10), total=total)
    reading = reading_of(source)
    answer(reading, 1, 2)
    source.delete(3)
    reading.finish()
    assert not reading.error


def test_a_window_without_its_known_row_is_read_again() -> None:
    source = Source()
    window = TimeWindow("W1", MIDNIGHT, MIDNIGHT + DAY, known=MIDNIGHT)
    reading = Reading(source, [window])
    answer(reading, 1, 1)
    source.insert(MIDNIGHT * 1000, 0)
    assert reading.wanted
    reading.finish()
    assert not reading.error


def test_pages_that_do_not_end_are_an_error() -> None:
    source = source_of(
        range(20), order=0, ties="per request", total="none", past_the_end="last page"
    )
    reading = Reading(source, [TimeWindow("W1", MIDNIGHT, MIDNIGHT + SECOND)])
    reading.finish()
    assert reading.error


def test_known_limit_a_deletion_hidden_by_an_insertion() -> None:
    source = source_of(range(0, 70, 10))
    reading = reading_of(source)
    answer(reading, 1, 4, 2)
    source.delete(3)  # Now the row at 40 is on page 2, which was read before,
    source.insert((MIDNIGHT + 55) * 1000, 0)  # and pages 1 and 4 are what they were.
    answer(reading, 3)
    with pytest.raises(Wrong, match=f"1 to 1 of .{(MIDNIGHT + 40) * 1000}"):
        reading.finish()


@pytest.mark.parametrize(("inclusive", "at"), [((False, False), 0), ((True, True), 999)])
def test_known_limit_bounds_rounded_down_to_days(inclusive: tuple[bool, bool], at: int) -> None:
    source = source_of([at], unit=DAY, floor=True, inclusive=inclusive)
    windows = [
        TimeWindow("W1", MIDNIGHT - DAY, MIDNIGHT + SECOND),
        TimeWindow("W1", MIDNIGHT + SECOND, MIDNIGHT + 2 * DAY),
    ]
    with pytest.raises(Wrong, match="1 to 1"):
        Reading(source, windows).finish()


def conversation(*pages: list[int]) -> Iterator[PageRequest]:
    """Answer with pages of rows, at milliseconds of a window of a day."""
    made = [as_page([Stored((MIDNIGHT + at) * 1000, 0, 0) for at in page], 2) for page in pages]
    sizes = PageSizes()
    sizes.pages = 9
    paginator = TotalPagesPaginator(TimeWindow("W1", MIDNIGHT, MIDNIGHT + DAY), sizes)
    for page in made:
        (request,) = paginator.current_value
        yield request
        paginator.advance([page])  # type: ignore[arg-type]
    if not paginator.finished:
        yield from paginator.current_value


def numbers(*pages: list[int]) -> list[int]:
    return [request.number for request in conversation(*pages)]


def test_no_page_is_longer_than_those_before() -> None:
    with pytest.raises(WindowInDoubt):
        numbers([0], [1, 2])


def test_pages_of_ranges_of_different_length_are_not_combined() -> None:
    with pytest.raises(WindowInDoubt):
        numbers([0], [], [1])


def test_pages_without_rows_of_the_window_show_no_change() -> None:
    assert numbers([0, 1, 2], [3, DAY], [3, DAY], [0, 1, 2]) == [1, 2, 2, 1]
    assert numbers([0, 1], [DAY], [0, 1]) == [1, 2, 1]
    assert numbers([-1, -1], [0], [0]) == [1, 2, 2]


def test_a_full_page_of_one_instant_may_not_be_all_of_it() -> None:
    *_, alone, again = conversation([0, 1], [1], [1, 1])
    assert alone.window == again.window == TimeWindow("W1", MIDNIGHT + 1, MIDNIGHT + 2)


def test_the_page_after_a_full_last_page_is_looked_at_again() -> None:
    assert numbers([0, 1], [2, 3], [], [], [2, 3], [], [0, 1]) == [1, 2, 3, 3, 2, 3, 1]
    with pytest.raises(WindowInDoubt):
        numbers([0, 1], [2, 3], [], [], [2, 3], [4])
