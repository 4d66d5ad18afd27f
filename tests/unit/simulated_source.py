"""A model of the API's database, and a reader that drives paginators as the tap does.

Both are pure, so that tests can run tens of thousands of them.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import Counter
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias

from tap_unleash import rules
from tap_unleash.errors import UnleashError, WindowInDoubt
from tap_unleash.page import EMPTY, Page, Row
from tap_unleash.pagination import TotalPagesPaginator
from tap_unleash.rules import PageSizes
from tap_unleash.timestamps import format_timestamp
from tap_unleash.windows import DAY, SECOND, TimeWindow

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from tap_unleash.windows import PageRequest

MIDNIGHT = 18_000 * DAY
"""The rows lie around this instant."""

KINDS = [
    ("person", 1, b""),
    ("person", 2.5, b""),
    ("person", 1, b'{"weather":"rain"}'),
    *(("truck", count, b"") for count in range(60)),
]
"""Class name, count and extra fields: rows of one kind and timestamp are identical."""

Key: TypeAlias = tuple[int, int]
"""The visible part of a row: its timestamp in microseconds, and its kind."""


class Stored(NamedTuple):
    """A row of the database, in its order.

    Attributes:
        micros: Its timestamp as it is printed, in epoch microseconds.
        rank: A random number, which orders rows of one timestamp.
        kind: Its index in `KINDS`.
    """

    micros: int
    rank: int
    kind: int


class Watch:
    """The fewest and the most copies of each row since the watch began."""

    def __init__(self, now: Counter[Key]) -> None:
        self.low: dict[Key, int] = dict(now)
        self.high: dict[Key, int] = dict(now)


@dataclass
class Source:
    """The rows of a device, and how the API answers.

    Attributes:
        page_size: Number of rows of a page.
        order: ``1`` for ascending timestamps, ``-1`` for descending, ``0`` for none.
        ties: Whether the rows that `order` does not order have one order for all requests,
            one per URL, or one per request.
        total: The number of pages that the API reports. ``floor`` does not count a short
            last page, ``low`` is too low for some ranges, ``device`` ignores the range,
            and ``capped`` counts at most `cap` pages.
        empty_total: Its number of pages if there are no rows.
        cap: Number of pages to which the API limits its total, its pages, or both.
        beyond: Whether it answers requests for pages beyond `cap`.
        inclusive: Whether the range includes its start and its end.
        unit: The API rounds the bounds outward to this unit, in milliseconds.
        floor: The API rounds both bounds down.
        shift: Milliseconds by which printed timestamps are ahead of filtered ones.
        past_the_end: Its answer if there is no such page.
        longest: Longest range that it answers, in milliseconds.
        refused: Of so many requests for a page beyond the first, it refuses about one, but
            not the same page twice in a row.
        swallowed: Of so many requests, it answers about one with an empty page, but not
            for the same page and window twice in a row.
        cached: During so many requests, it repeats the response for a URL.
    """

    page_size: int = 3
    order: int = 1
    ties: Literal["stable", "per URL", "per request"] = "stable"
    total: Literal["exact", "none", "floor", "low", "zero", "device", "first page", "capped"] = (
        "exact"
    )
    empty_total: int | None = 0
    cap: int | None = None
    beyond: bool = True
    inclusive: tuple[bool, bool] = (True, True)
    unit: int = 1
    floor: bool = False
    shift: int = 0
    past_the_end: Literal["empty", "refused", "last page"] = "empty"
    longest: int | None = None
    refused: int | None = None
    swallowed: int | None = None
    cached: int = 0

    def __post_init__(self) -> None:
        self.rows: list[Stored] = []
        self.counts: Counter[Key] = Counter()
        self.watches: list[Watch] = []
        self.inserted = self.expired = self.requests = 0
        self.log: list[tuple[object, ...]] = []
        self._lost: set[object] = set()
        self._cache: dict[object, tuple[int, Page]] = {}

    @property
    def blurred(self) -> bool:
        """Whether the range that is read differs from the range that is requested."""
        return self.unit > 1 or self.shift != 0

    def insert(self, micros: int, kind: int) -> None:
        """Add a row, unless it has expired already or its second is full."""
        if micros // 1000 <= self.expired or self._full(micros):
            return
        self.inserted += 1
        insort(self.rows, Stored(micros, hash((self.inserted, 0)), kind))
        key = micros, kind
        self.counts[key] += 1
        for watch in self.watches:
            watch.low.setdefault(key, 0)
            watch.high[key] = max(watch.high.get(key, 0), self.counts[key])
        self.log.append(("insert", *key))

    def _full(self, micros: int) -> bool:
        """Tell whether a second has as many rows as the API returns of any range."""
        if self.cap is None or self.beyond:
            return False
        reach = (SECOND + 3) * 1000
        first, last = self._between(micros - reach, micros + reach)
        return last - first + 1 >= self.cap * self.page_size

    def delete(self, index: int) -> None:
        """Remove any row."""
        micros, _, kind = self.rows.pop(index)
        key = micros, kind
        self.counts[key] -= 1
        for watch in self.watches:
            watch.low[key] = min(watch.low[key], self.counts[key])
        self.log.append(("delete", *key))

    def expire(self) -> None:
        """Remove the rows of the oldest instant; none appears there afterwards."""
        self.expired = self.rows[0].micros // 1000
        while self.rows and self.rows[0].micros // 1000 == self.expired:
            self.delete(0)

    def range(self, window: TimeWindow, look: int = 0) -> tuple[int, int]:
        """Return the printed range that the API reads, half-open, in epoch microseconds."""
        low, high = window.bounds(look)
        low -= low % self.unit
        high -= high % self.unit if self.floor else -(-high % self.unit)
        return (
            (low + self.shift) * 1000 + (not self.inclusive[0]),
            (high + self.shift) * 1000 + self.inclusive[1],
        )

    def refuses(self, window: TimeWindow) -> bool:
        """Tell whether a window is too long."""
        return self.longest is not None and window.duration > self.longest

    def answer(self, request: PageRequest) -> Page:
        """Return a page; `EMPTY` if it is refused."""
        window, number, look = request.window, request.number, request.look
        self.requests += 1
        url = *window.bounds(look), number
        since, page = self._cache.get(url, (-self.cached, EMPTY))
        if self.requests > since + self.cached:
            page = self._fresh(window, number, look)
            self._cache[url] = self.requests, page
        return page

    def _fresh(self, window: TimeWindow, number: int, look: int) -> Page:
        one = window.bounds(), number
        if one in self._lost:
            self._lost.remove(one)
        elif self._is_one_in(self.swallowed):
            self._lost.add(one)
            self.log.append((*one, look, "swallowed"))
            return Page([], {}, 0)
        elif number > 1 and self._is_one_in(self.refused):
            self._lost.add(one)
            self.log.append((*one, look, "refused"))
            return EMPTY
        start, end = self._between(*self.range(window, look))
        last = -((start - end) // self.page_size)
        total = self._total(number, end - start, window)
        rows: list[Stored] = []
        if self.cap is None or self.beyond or number <= self.cap:
            if number > max(last, 1) and self.past_the_end == "refused":
                return EMPTY
            if number > last and self.past_the_end == "last page":
                number = max(last, 1)
            rows = self._page(start, end, number, (*window.bounds(look), number))
        elif self.past_the_end == "refused":
            return EMPTY
        self.log.append((*one, look, f"total {total}", rows))
        return as_page(rows, total)

    def _is_one_in(self, number: int | None) -> bool:
        return number is not None and hash((self.requests, number)) % number == 0

    def _total(self, number: int, rows: int, window: TimeWindow) -> int | None:
        pages = -(-rows // self.page_size)
        low = max(1, pages - 1 - pages // 20) if hash(window.bounds()) % 2 else pages
        totals = {
            "exact": pages,
            "none": None,
            "floor": rows // self.page_size,
            "low": low,
            "zero": 0,
            "device": -(-len(self.rows) // self.page_size),
            "first page": pages if number == 1 else None,
            "capped": min(pages, self.cap or pages),
        }
        total = totals[self.total]
        return total if rows or total is None else total or self.empty_total

    def _page(self, start: int, end: int, number: int, url: object) -> list[Stored]:
        salt = {"stable": 0, "per URL": hash(url), "per request": self.requests}
        key = salt[self.ties]
        found = sorted(
            self.rows[start:end],
            key=lambda row: (self.order * row.micros, hash((row.rank, key))),
        )
        return found[(number - 1) * self.page_size : number * self.page_size]

    def _between(self, low: int, high: int) -> tuple[int, int]:
        start = bisect_left(self.rows, (low,))
        return start, max(start, bisect_left(self.rows, (high,)))


_MICROS: dict[str, int] = {}
_NUMBERS: dict[tuple[object, ...], int] = {kind: n for n, kind in enumerate(KINDS)}


@cache
def _as_row(micros: int, kind: int) -> tuple[Row, int]:
    at, rest = divmod(micros, 1000)
    text = format_timestamp(at)
    if rest:
        text = f"{text[:-1]}{rest:03}".rstrip("0") + "Z"
    _MICROS[text] = micros
    name, count, extra = KINDS[kind]
    return Row("W1", None, None, None, None, name, text, count, extra), at


def as_page(rows: Iterable[Stored], total: int | None = None) -> Page:
    pairs = [_as_row(row.micros, row.kind) for row in rows]
    instants = {row.timestamp: at for row, at in pairs}
    return Page([row for row, _ in pairs], instants, total)


def as_key(row: Row) -> Key:
    return _MICROS[row.timestamp], _NUMBERS[row.class_name, row.count, row.extra]


class Wrong(AssertionError):
    """The rows that were read are not those of the source."""

    def __init__(self, source: Source, what: str) -> None:
        log = "\n".join(" ".join(map(str, entry)) for entry in source.log[-60:])
        super().__init__(f"{what}\n{source}\n{log}")


Paginator: TypeAlias = "Callable[[TimeWindow, PageSizes], TotalPagesPaginator]"


class Reading:
    """Reads windows of a source, one after the other, and compares each with the source.

    The number of emitted copies of each row must lie between the fewest and the most that
    the source had at any moment while the row's window was being read (with a cache: since
    the reading began). Without changes, both are the number of copies in the source, so
    that every row is read exactly once.

    If the API rounds bounds or filters by another clock, a row can be emitted with several
    windows. Each emits all copies, as `record_ids` numbers copies per window: a target that
    upserts stores the most that any window has emitted. That number must lie between the
    fewest and the most copies during the whole reading, for all rows that the API returns
    for the range as a whole. Rows next to a window, as far as any of its requests reached,
    can be missing then, if they are not returned for the window that holds their instant.
    No row is emitted with a window that ends more than a second before.

    Attributes:
        windows: The windows that are left to read.
        error: Why the reading ended early, if it did.
        wanted: The requests that are not answered yet; none at the end.
        requests: The number of requests for each window that was read.
    """

    def __init__(
        self,
        source: Source,
        windows: Iterable[TimeWindow],
        *,
        max_pages: int = rules.MAX_PAGES,
        max_requests: int = 30_000,
        paginator: Paginator = TotalPagesPaginator,
    ) -> None:
        self.windows = list(windows)
        self.error: UnleashError | None = None
        self.wanted: list[PageRequest] = []
        self._source = source
        self._range = TimeWindow("W1", self.windows[0].start, self.windows[-1].end)
        self._max_pages = max_pages
        self._max_requests = max_requests
        self._new_paginator = paginator
        self._sizes = PageSizes()
        self._emitted: Counter[Key] = Counter()
        self._margins: set[int] = set()
        self._all = Watch(source.counts)
        self._begin()

    @property
    def most(self) -> dict[Key, int]:
        """The most copies of each row that the source had since the reading began."""
        return self._all.high

    def answer(self, place: int = 0) -> None:
        """Answer a wanted request; the last answer of a group advances the paginator."""
        request = self.wanted.pop(place)
        window = self.windows[0]
        if self._source.requests >= self._max_requests:
            raise Wrong(self._source, f"more than {self._max_requests} requests")
        if self._source.refuses(request.window):
            if window.splittable:
                self.windows[:1] = window.bisect()
                self._begin()
            else:
                self.error = UnleashError("too long")
                self.wanted = []
            return
        self._answers[self._places.pop(place)] = self._source.answer(request)
        if not self.wanted:
            self._advance(window)

    def finish(self) -> None:
        while self.wanted:
            self.answer()

    def _begin(self) -> None:
        self.wanted = []
        self._places: list[int] = []
        self._reach = 0
        self._own = Watch(self._source.counts)
        self._source.watches = [self._all, self._own]
        if self.windows:
            self._paginator = self._new_paginator(self.windows[0], self._sizes)
            self._ask()

    def _ask(self) -> None:
        self.wanted = [*self._paginator.current_value]
        self._reach = max([self._reach, *(request.look for request in self.wanted)])
        self._places = [*range(len(self.wanted))]
        self._answers: dict[int, Page] = {}

    def _advance(self, window: TimeWindow) -> None:
        pages = [self._answers[place] for place in sorted(self._answers)]
        default, rules.MAX_PAGES = rules.MAX_PAGES, self._max_pages
        try:
            self._paginator.advance(pages)  # type: ignore[arg-type]
        except WindowInDoubt as doubt:
            self.windows[:1] = doubt.parts
            self._begin()
        except UnleashError as error:
            self.error = error
        else:
            if self._paginator.finished:
                self._finish(window, Counter(map(as_key, self._paginator.rows)))
            else:
                self._ask()
        finally:
            rules.MAX_PAGES = default

    def _finish(self, window: TimeWindow, emitted: Counter[Key]) -> None:
        if any(micros // 1000 > window.end + SECOND for micros, _ in emitted):
            raise Wrong(self._source, f"a row long after {window}")
        watch = self._all if self._source.cached else self._own
        if self._source.blurred:
            self._emitted |= emitted
            self._margins.update(range(window.start - 1 - self._reach, window.start))
            self._margins.update(range(window.end, window.end + self._reach + 1))
        else:
            self._compare(emitted, watch, window.start * 1000, window.end * 1000)
        self.windows.pop(0)
        self._begin()
        if self._source.blurred and not self.windows:
            self._compare(self._emitted, self._all, *self._source.range(self._range))

    def _compare(self, emitted: Counter[Key], watch: Watch, low: int, high: int) -> None:
        blurred = self._source.blurred
        for key in emitted.keys() | watch.high.keys():
            at = key[0] // 1000
            inside = low <= key[0] < high
            required = inside and not (
                at in self._margins and (self._source.shift or not self._range.contains(at))
            )
            fewest = watch.low.get(key, 0) if required else 0
            most = watch.high.get(key, 0) if inside or blurred else 0
            if not fewest <= emitted[key] <= most:
                what = f"{fewest} to {most} of {key}, not {emitted[key]}"
                raise Wrong(self._source, what)
