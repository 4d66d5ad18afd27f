"""A model of the API's database, and a reader that drives paginators as the prefetcher does.

Both are pure, so that tests can run tens of thousands of them.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import Counter
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias

from tap_unleash.api import pagination
from tap_unleash.api.errors import UnleashError, WindowTooLarge
from tap_unleash.api.page import Page
from tap_unleash.api.pagination import PageRequest, TotalPagesPaginator
from tap_unleash.api.time_window import DAY, TimeWindow
from tap_unleash.api.timestamps import format_timestamp

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

MIDNIGHT = 18_000 * DAY
"""The rows lie around this instant."""

KINDS: list[tuple[str, float, dict[str, Any] | None]] = [
    ("person", 1, None),
    ("person", 2.5, None),
    ("person", 1, {"weather": "rain"}),
    ("truck", 1, None),
]
"""Class name, count and extra fields: rows of one kind and timestamp are identical."""

Key: TypeAlias = tuple[int, int]
"""The visible part of a row: its timestamp in microseconds, and its kind."""


class Row(NamedTuple):
    """A row, in the order of the database.

    Attributes:
        micros: Its timestamp, in epoch microseconds.
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
        with_total: Whether the API reports the number of pages.
        inclusive: Whether the range includes its start and its end.
        unit: The API rounds the bounds outward to this unit, in milliseconds.
        floor: The API rounds both bounds down.
        past_the_end: Its answer if there is no such page.
        empty_total: Its number of pages if there are no rows.
        longest: Longest range that it answers, in milliseconds.
        lapse: Of so many requests for a page beyond the first, it refuses about one, but
            none for the same page again.
        lapsed: The pages that it refused.
        answers: The last response to each request.
        log: All responses and changes.
    """

    page_size: int = 3
    order: int = 1
    ties: Literal["stable", "per URL", "per request"] = "stable"
    with_total: bool = True
    inclusive: tuple[bool, bool] = (True, True)
    unit: int = 1
    floor: bool = False
    past_the_end: Literal["empty", "refused", "last page"] = "empty"
    empty_total: int | None = 0
    longest: int | None = None
    lapse: int | None = None
    lapsed: set[PageRequest] = field(default_factory=set)
    rows: list[Row] = field(default_factory=list)
    counts: Counter[Key] = field(default_factory=Counter)
    watches: list[Watch] = field(default_factory=list)
    inserted: int = 0
    expired: int = 0
    requests: int = 0
    answers: dict[PageRequest, list[Row]] = field(default_factory=dict)
    log: list[object] = field(default_factory=list)

    def insert(self, micros: int, kind: int) -> None:
        """Add a row, unless it has expired already."""
        if micros // 1000 <= self.expired:
            return
        self.inserted += 1
        insort(self.rows, Row(micros, hash((self.inserted, 0)), kind))
        key = micros, kind
        self.counts[key] += 1
        for watch in self.watches:
            watch.low.setdefault(key, 0)
            watch.high[key] = max(watch.high.get(key, 0), self.counts[key])
        self.log.append(("insert", micros, kind))

    def delete(self, index: int) -> None:
        """Remove any row."""
        row = self.rows.pop(index)
        key = row.micros, row.kind
        self.counts[key] -= 1
        for watch in self.watches:
            watch.low[key] = min(watch.low[key], self.counts[key])
        self.log.append(("delete", *key))

    def expire(self) -> None:
        """Remove the rows of the oldest instant; none appears there afterwards."""
        self.expired = self.rows[0].micros // 1000
        while self.rows and self.rows[0].micros // 1000 == self.expired:
            self.delete(0)

    def bounds(self, window: TimeWindow) -> tuple[int, int]:
        """Return the range that the API reads for a window, in epoch microseconds.

        It is half-open.
        """
        low, high = window.bounds
        if self.unit > 1:
            low -= low % self.unit
            high -= high % self.unit if self.floor else -(-high % self.unit)
        return (
            low * 1000 + (not self.inclusive[0]),
            high * 1000 + self.inclusive[1],
        )

    def refuses(self, window: TimeWindow) -> bool:
        """Tell whether a window is too long."""
        return self.longest is not None and window.duration > self.longest

    def answer(self, request: PageRequest) -> Page | None:
        """Return a page; `None` if there is no such page."""
        window, number = request
        self.requests += 1
        if self._lapses(request):
            self.lapsed.add(request)
            self.log.append((request, "refused"))
            return None
        low, high = self.bounds(window)
        start, end = bisect_left(self.rows, (low,)), bisect_left(self.rows, (high,))
        end = max(start, end)
        total = -((start - end) // self.page_size)
        page: Page | None = None
        if number <= total or self.past_the_end != "refused" or number == 1:
            if number > total and self.past_the_end == "last page":
                number = max(total, 1)
            rows = self._page(start, end, window, number)
            page = as_page(
                rows, (total or self.empty_total) if self.with_total else None
            )
            self.answers[request] = rows
            self.log.append((request, total, rows))
        return page

    def _lapses(self, request: PageRequest) -> bool:
        return (
            self.lapse is not None
            and request.number > 1
            and request not in self.lapsed
            and hash((self.requests, 1)) % self.lapse == 0
        )

    def _page(self, start: int, end: int, window: TimeWindow, number: int) -> list[Row]:
        """Return the rows of a page, in any order."""
        salt = 0
        if self.ties == "per URL":
            salt = hash((window.start, window.end, number))
        elif self.ties == "per request":
            salt = self.requests

        def shuffled(first: int, last: int) -> list[Row]:
            return sorted(self.rows[first:last], key=lambda row: hash((row.rank, salt)))

        skipped = (number - 1) * self.page_size
        low = min(start + skipped, end)
        high = min(low + self.page_size, end)
        if not self.order:
            return shuffled(start, end)[low - start : high - start]
        if self.order < 0:
            low, high = start + end - high, start + end - low
        if self.ties == "stable" or low == high:
            return self.rows[low:high]
        page = []
        # The order matters only where a page ends between rows of one timestamp.
        if low > start and self.rows[low - 1].micros == self.rows[low].micros:
            first, last = self._tied(low)
            page = shuffled(first, last)[low - first : high - first]
            low = min(last, high)
        if (
            high < end
            and low < high
            and self.rows[high - 1].micros == self.rows[high].micros
        ):
            first, last = self._tied(high)
            page += [*self.rows[low:first], *shuffled(first, last)[: high - first]]
        else:
            page += self.rows[low:high]
        return page

    def _tied(self, index: int) -> tuple[int, int]:
        micros = self.rows[index].micros
        return bisect_left(self.rows, (micros,)), bisect_left(self.rows, (micros + 1,))


_MICROS: dict[str, int] = {}
_NUMBERS = {
    (name, count, extra is not None): n for n, (name, count, extra) in enumerate(KINDS)
}


@cache
def _stamp(micros: int) -> tuple[str, int]:
    at, rest = divmod(micros, 1000)
    text = format_timestamp(at)
    if rest:
        text = f"{text[:-1]}{rest:03}".rstrip("0") + "Z"
    _MICROS[text] = micros
    return text, at


def as_page(rows: list[Row], total: int | None = None) -> Page:
    stamps = [_stamp(row.micros) for row in rows]
    kinds = [KINDS[row.kind] for row in rows]
    nothing = [None] * len(rows)
    columns: dict[str, Any] = {
        "device_id": ["W1"] * len(rows),
        "session_id": nothing,
        "model_id": nothing,
        "source_file_name": nothing,
        "class_name": [name for name, _, _ in kinds],
        "count": [count for _, count, _ in kinds],
        "frame_number": nothing,
        "timestamp": [text for text, _ in stamps],
    }
    return Page(total, columns, [extra for _, _, extra in kinds], dict(stamps))


def keys(page: Page) -> Iterator[Key]:
    for text, name, count, extra in zip(
        page.columns["timestamp"],
        page.columns["class_name"],
        page.columns["count"],
        page.extras,
        strict=True,
    ):
        yield _MICROS[text], _NUMBERS[name, count, extra is not None]


class Wrong(AssertionError):
    """The rows that were read are not those of the source."""

    def __init__(self, source: Source, what: str) -> None:
        log = "\n".join(map(str, source.log[-60:]))
        super().__init__(f"{what}\n{source!r}\n{log}")


Paginator: TypeAlias = "Callable[[TimeWindow, int], TotalPagesPaginator]"


class Reading:
    """Reads windows of a source, one after the other, and compares each with the source.

    It does with errors and refused requests what the prefetcher does.

    The number of emitted copies of each row must lie between the fewest and the most that
    the source had at any moment while the row's window was being read. Without changes,
    both are the number of copies in the source, so that every row is read exactly once.

    If the API rounds bounds, a row can be emitted with several windows. Each emits all
    copies, as `record_ids` numbers copies per window: a target that upserts stores the
    most that any window has emitted. That number must lie between the fewest and the most
    copies during the whole reading. Rows outside of the range may be emitted, and rows
    within it are required only if the API returns them for the range as a whole.

    Attributes:
        windows: The windows that are left to read.
        error: Why the reading ended early, if it did.
        emitted: The emitted copies of each row.
    """

    def __init__(
        self,
        source: Source,
        windows: Iterable[TimeWindow],
        *,
        max_pages: int = pagination.MAX_PAGES,
        max_requests: int = 10_000,
        paginator: Paginator = TotalPagesPaginator,
    ) -> None:
        self.windows = list(windows)
        self.error: UnleashError | None = None
        self.emitted: Counter[Key] = Counter()
        self._source = source
        self._range = TimeWindow("W1", self.windows[0].start, self.windows[-1].end)
        self._max_pages = max_pages
        self._max_requests = max_requests
        self._new_paginator = paginator
        self._longest_page = 0
        self._all = Watch(source.counts)
        self._begin()

    @property
    def wanted(self) -> list[PageRequest]:
        """The requests that may be sent next; none at the end."""
        return [] if self.error or not self.windows else self._paginator.wanted

    @property
    def most(self) -> dict[Key, int]:
        """The most copies of each row that the source had since the reading began."""
        return self._all.high

    def answer(
        self, requests: Iterable[PageRequest], change: Callable[[], None] = lambda: None
    ) -> None:
        """Send requests, and pass the responses to the paginator together.

        Args:
            requests: Some of the wanted ones.
            change: Is called before each of them.
        """
        window = self.windows[0]
        pages: dict[PageRequest, Page | None] = {}
        for request in requests:
            change()
            if self._source.refuses(request.window):
                self._source.requests += 1
                if request.window != window or not window.splittable:
                    self.error = UnleashError("too long")
                else:
                    self.windows[:1] = window.bisect()
                    self._begin()
                return
            page = pages[request] = self._source.answer(request)
            if page is not None:
                self._longest_page = max(self._longest_page, len(page))
        if self._source.requests > self._max_requests:
            raise Wrong(self._source, f"more than {self._max_requests} requests")
        self._receive(window, pages)

    def _receive(
        self, window: TimeWindow, pages: dict[PageRequest, Page | None]
    ) -> None:
        default, pagination.MAX_PAGES = pagination.MAX_PAGES, self._max_pages
        try:
            self._paginator.receive(pages)
        except WindowTooLarge as error:
            self.windows[:1] = error.windows
            self._begin()
        except UnleashError as error:
            self.error = error
        finally:
            pagination.MAX_PAGES = default
        if self._paginator.pages is not None:
            self._finish(window, self._paginator.pages)

    def _begin(self) -> None:
        self._own = Watch(self._source.counts)
        self._source.watches = [self._all, self._own]
        if self.windows:
            self._paginator = self._new_paginator(self.windows[0], self._longest_page)

    def _finish(self, window: TimeWindow, pages: list[Page]) -> None:
        emitted = Counter(key for page in pages for key in keys(page))
        rounded = self._source.unit > 1
        if rounded:
            self.emitted |= emitted
        else:
            self._compare(emitted, self._own, window.start * 1000, window.end * 1000)
            self.emitted += emitted
        self.windows.pop(0)
        self._begin()
        if rounded and not self.windows:
            low, high = self._source.bounds(self._range)
            start, end = self._range.start * 1000, self._range.end * 1000
            self._compare(self.emitted, self._all, max(low, start), min(high, end))

    def _compare(
        self, emitted: Counter[Key], watch: Watch, low: int, high: int
    ) -> None:
        for key in emitted.keys() | watch.high.keys():
            inside = low <= key[0] < high
            fewest = watch.low.get(key, 0) if inside else 0
            most = watch.high.get(key, 0) if inside or self._source.unit > 1 else 0
            if not fewest <= emitted[key] <= most:
                what = f"{fewest} to {most} of {key}, not {emitted[key]}"
                raise Wrong(self._source, what)
