"""Which pages of a window to request, driven by ``total_num_pages``.

The paginator requests page 1, then the last page that ``total_num_pages`` claims, then the
others, then page 1 and the last page once more. It does not believe the claim: the API offers
no snapshot, no row ID and no documented order, so a window is accepted only if its pages agree
with each other, and is split into shorter ones otherwise.

The rules assume a database that runs a query with ``LIMIT`` and ``OFFSET`` for every page:

- Insertions and deletions change the first or the last page, so both are requested again.
- If a row is missing because pages order ties differently, then by the pigeonhole principle
  identical rows are on two pages. Their instant is read alone.
- A page that is shorter than others is the last one; a page that is alone is right by itself.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import replace
from itertools import chain
from math import ceil
from operator import itemgetter
from typing import TYPE_CHECKING, Any

from singer_sdk.pagination import BaseAPIPaginator
from typing_extensions import override

from tap_unleash import rules
from tap_unleash.errors import UnleashError, WindowInDoubt
from tap_unleash.page import TIMESTAMP
from tap_unleash.timestamps import format_timestamp
from tap_unleash.windows import SECOND, PageRequest, TimeWindow

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tap_unleash.page import Page, Row
    from tap_unleash.rules import Requests, Steps

TARGET_FILL = 3 / 4
"""Share of a page, or of the largest window, that parts aim at: rows are spread unevenly."""

MAX_REREADS = 2
"""How often a window is read again because a row that is known to exist is missing."""

MAX_STALE = 3
"""Generations of parts that report as many pages as their parents before the device fails."""

BEYOND = 1_000
"""How many pages after the last one a page is surely none."""


class TotalPagesPaginator(BaseAPIPaginator["Requests"]):
    """Reads one window: a state machine without I/O.

    `current_value` has the requests whose pages `advance` takes next, all of them together
    and in their order. A page beyond the first that the API refuses is an empty page.

    Attributes:
        rows: The rows of the window in order of time, once `finished`.
        missing: An instant that had rows and has none any more.
    """

    def __init__(self, window: TimeWindow, sizes: rules.PageSizes | None = None) -> None:
        """Start with page 1.

        Args:
            window: The window.
            sizes: Shared by all windows of a run.
        """
        self.rows: list[Row] = []
        self.missing: int | None = None
        self._window = window
        self._sizes = sizes or rules.PageSizes()
        self._look = self._looks = 0
        self._seen: list[Page] = []
        self._instants: dict[str, int] = {}
        self._last: Page | None = None
        self._steps = self._read_until_accepted()
        super().__init__(next(self._steps))

    @override
    def get_next(self, response: Any) -> Requests | None:
        """Take pages, and return the next requests.

        Args:
            response: The pages.

        Returns:
            The requests; `None` if the window is accepted.

        Raises:
            WindowInDoubt: If the window is to be split.
            UnleashError: If the device cannot be read.
        """
        for request, page in zip(self.current_value, response, strict=True):
            if max(page.instants.values(), default=0) > request.window.end + SECOND:
                raise self._error(rules.OUTSIDE)
        try:
            return self._steps.send(response)
        except StopIteration as stop:
            self.rows = stop.value
            return None

    def _read_until_accepted(self) -> Steps[list[Row]]:
        for attempt in range(rules.MAX_READS):
            self._seen, self._last, self._instants = [], None, {}
            try:
                rows = yield from self._read()
            except rules.Uncountable as error:
                raise self._error(rules.UNCOUNTABLE, error.at) from None
            except rules.Doubt:
                if self._window.splittable:
                    raise self._split() from None
            else:
                known, instants = self._window.known, self._instants
                found = known is None or any(instants[r[TIMESTAMP]] == known for r in rows)
                if found or attempt >= MAX_REREADS:
                    self.missing = None if found else known
                    rows = self._without_margins(rows)
                    return sorted(rows, key=itemgetter(TIMESTAMP))
            self._look = self._longer(*[page for page in self._seen if page.rows][:1])
        raise self._error(rules.NO_TOTAL if self._last and not self._last.rows else rules.CHANGING)

    def _get(self, numbers: Iterable[int], look: int | None = None) -> Steps[list[Page]]:
        look = self._look if look is None else look
        requests = tuple(PageRequest(self._window, n, look) for n in numbers)
        pages = list((yield requests) if requests else ())
        self._seen += pages
        for page in pages:
            self._instants |= page.instants
        return pages

    def _get_twice(self, numbers: Iterable[int], first: Page) -> Steps[list[Page]]:
        """Request pages; if one is empty, again, as a backend may swallow an error."""
        found = dict(zip(numbers, (yield from self._get(numbers)), strict=True))
        empty = [number for number, page in found.items() if not page.rows]
        if empty:
            again = yield from self._get(empty, self._longer(first))
            found |= zip(empty, again, strict=True)
        return [*found.values()]

    def _longer(self, *pages: Page) -> int:
        """Return a look with another URL, which a cache does not know.

        Args:
            pages: The first pages, if their number of rows must stay the same: the range is
                longer where the listing ends.
        """
        self._looks += 1
        return -self._looks if pages and rules.is_descending(pages) else self._looks

    def _get_first(self) -> Steps[Page]:
        """Request page 1; if it is empty, again, as a backend may swallow an error."""
        (first,) = yield from self._get([1])
        for _ in range(2 if self._window.parent_pages else 1):
            if not first.rows:
                self._look = self._longer()
                (first,) = yield from self._get([1])
        if self._look > 0 and first.rows and rules.is_descending([first]):
            self._look = self._longer(first)  # longer at the other end
            (first,) = yield from self._get([1])
            if not first.rows:
                raise rules.Doubt
        return first

    def _read(self) -> Steps[list[Row]]:
        first = yield from self._get_first()
        claimed = first.total or 0  # 0 with rows tells nothing
        if not first.rows:
            if claimed > 1:
                self._last = first
                raise rules.Doubt
            return []
        pages = [first]
        if claimed > 1:
            (self._last,) = yield from self._get_twice([claimed], first)
            if not self._last.rows:
                yield from self._follow(pages)  # to know where rows are
                raise rules.Doubt
            self._sizes.followed(first, claimed)
            if self._window.splittable and claimed > rules.most_pages(first):
                raise rules.Doubt
            middle = yield from self._get_twice(range(2, claimed), first)
            pages += [*middle, self._last]
        if (yield from self._follow(pages)) and len(pages) == 1:
            return first.rows
        if len(pages) > max(claimed, 2):  # the middle was read before the last page
            numbers = range(2, len(pages))
            pages[1:-1] = yield from self._get(numbers, self._longer(*pages))
            rules.check_lengths(pages)
        return (yield from self._settle(pages))

    def _follow(self, pages: list[Page]) -> Steps[bool]:
        """Check that pages are equally long, and read more until one can only be the last.

        Args:
            pages: The pages that the total claims; those that follow are appended.

        Returns:
            Whether the last page shows by its length that it is the last one.
        """
        first, claimed = pages[0], len(pages)
        while True:
            rules.check_lengths(pages)
            if len(pages[-1].rows) < len(first.rows) or (
                len(pages) == 1 and self._sizes.is_last(first)
            ):
                return True
            if len(pages) > claimed + rules.most_pages(first):
                raise rules.Doubt
            (page,) = yield from self._get_twice([len(pages) + 1], first)
            if not page.rows:
                break
            if Counter(page.rows) == Counter(pages[-1].rows):
                (beyond,) = yield from self._get([len(pages) + BEYOND])
                if Counter(page.rows) == Counter(beyond.rows):
                    break  # the API repeats the last page
            pages.append(page)
            self._sizes.followed(first, len(pages))
        if len(pages) >= self._sizes.pages > 1:  # an API may not serve later pages
            if self._window.splittable:
                raise rules.Doubt
            raise self._error(rules.CUT)
        if len(pages) == 1:
            self._sizes.ended(first)
        return False

    def _settle(self, pages: list[Page]) -> Steps[list[Row]]:
        """Read ambiguous instants alone, and look at the first and the last page again."""
        settled: dict[int, list[Row]] = {}
        ambiguous = rules.on_two_pages(pages)
        while True:
            if len(ambiguous) >= len(pages):  # sorted pages have one at each seam at most
                raise rules.Doubt
            settled |= yield from rules.read_alone(
                self._window.device_id, pages, ambiguous - settled.keys(), self._sizes
            )
            reordered = yield from self._look_again(pages)
            if reordered <= settled.keys():
                break
            ambiguous |= reordered
        rows = [*chain.from_iterable(settled.values())]
        self._instants |= {row[TIMESTAMP]: at for at in settled for row in settled[at]}
        for page in pages:
            rows += page.within(set(page.instants.values()) - settled.keys())
        return rows

    def _look_again(self, pages: list[Page]) -> Steps[set[int]]:
        """Find out whether rows were inserted or deleted since the pages were read.

        Returns:
            The instants whose rows are in another order now.

        Raises:
            Doubt: If there are other rows now.
        """
        again: list[Page] = []
        look = self._longer(*pages)
        # Page 1 comes last: if it shows that no row expired, the last page shows that none
        # was inserted.
        for number in sorted({1, len(pages)}, reverse=True):
            again += yield from self._get([number], look)
        on_pages = Counter(chain.from_iterable(set(p.instants.values()) for p in pages))
        reordered: set[int] = set()
        for before, after in ((pages[0], again[-1]), (pages[-1], again[0])):
            if before.rows == after.rows:
                continue
            was, now = map(self._rows_by_instant, (before, after))
            for at in was.keys() | now.keys():
                if was.get(at) != now.get(at):
                    if on_pages[at] == 1 or was[at].total() != now[at].total():
                        raise rules.Doubt
                    reordered.add(at)
        return reordered

    def _rows_by_instant(self, page: Page) -> dict[int, Counter[Row]]:
        """Count the rows of a page, but those that only a longer range has."""
        found: defaultdict[int, Counter[Row]] = defaultdict(Counter)
        for row in page.rows:
            if not self._is_margin(at := page.at(row)):
                found[at][row] += 1
        return found

    def _is_margin(self, at: int) -> bool:
        window, longer = self._window, self._looks + 1
        return not window.contains(at) and (window.start - longer <= at < window.end + longer)

    def _without_margins(self, rows: list[Row]) -> list[Row]:
        """Drop rows of adjacent windows, unless the API does not keep to the bounds."""
        outside = {t for t, at in self._instants.items() if not self._window.contains(at)}
        if not outside or not all(self._is_margin(self._instants[t]) for t in outside):
            return rows
        return [row for row in rows if row[TIMESTAMP] not in outside]

    def _split(self) -> UnleashError:
        """Return what splits the window, or says why that does not help."""
        window, seen = self._window, [page for page in self._seen if page.rows]
        instants = [page.at(row) for page in seen for row in page.rows]
        claimed = self._seen[0].total or 0
        reported = claimed or len(self._seen)
        reached = self._last is not None and bool(self._last.rows)
        broken = self._last is not None and not reached
        outside = min(instants, default=window.start) < window.start - SECOND
        stale = 0
        if (broken or outside) and reported >= window.parent_pages > 0:
            stale = window.stale + 1
        if stale >= MAX_STALE:
            return self._error(rules.NO_TOTAL if broken else rules.NO_BOUNDS)
        most = rules.most_pages(self._seen[0])
        too_large = reached and claimed > most
        pages = claimed / most if too_large else claimed if reached else len(seen)
        count, by_rows, at_ends = ceil(pages / TARGET_FILL), not too_large, not reached
        parts = window.split(count, instants, by_rows=by_rows, at_ends=at_ends)
        parts = [replace(p, parent_pages=reported, stale=stale) for p in parts]
        return WindowInDoubt(parts)

    def _error(self, what: str, at: int | None = None) -> UnleashError:
        when = format_timestamp(self._window.start if at is None else at)
        return UnleashError(f"Data of device {self._window.device_id!r} at {when} {what}")
