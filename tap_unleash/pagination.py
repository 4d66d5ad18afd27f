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

from collections import Counter
from itertools import accumulate, chain
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from singer_sdk.pagination import BaseAPIPaginator
from typing_extensions import override

from tap_unleash import rules
from tap_unleash.errors import WindowInDoubt
from tap_unleash.page import EMPTY, Page, Row
from tap_unleash.windows import SECOND, PageRequest, TimeWindow

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tap_unleash.rules import Requests, Steps


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
        self._look = self._longest = 0
        self._pages: list[Page] = []
        self._instants: dict[str, int] = {}
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
                raise rules.failure(self._window, rules.OUTSIDE)
        try:
            return self._steps.send(response)
        except StopIteration as stop:
            self.rows = stop.value
            return None

    def _read_until_accepted(self) -> Steps[list[Row]]:
        reason, known = rules.CHANGING, self._window.known
        for attempt in range(rules.MAX_READS):
            self._look, self._instants = self._longest, {}
            try:
                rows = yield from self._read()
            except rules.Doubt as doubt:
                reason = str(doubt)
                if self._window.splittable:
                    seen = self._instants.values()
                    parts = rules.split(self._window, self._pages, seen, reason)
                    raise WindowInDoubt(parts) from None
            else:
                found = known in {None, *self._instants.values()}
                if found or attempt >= rules.MAX_REREADS:
                    self.missing = None if found else known
                    return sorted(self._without_margins(rows), key=attrgetter("timestamp"))
                reason = rules.CHANGING
            self._longest += 1
        raise rules.failure(self._window, reason)

    def _get(
        self, numbers: Iterable[int], window: TimeWindow | None = None, look: int | None = None
    ) -> Steps[list[Page]]:
        """Request pages; if one is empty, again, as a backend may swallow an error."""
        found: dict[int, Page] = dict.fromkeys(numbers, EMPTY)
        first, look_again = numbers == [1], look is not None
        look = self._look if look is None else look
        for again in (False, True):
            wanted = [number for number, page in found.items() if not page.rows]
            if not wanted:
                break
            pages = yield tuple(PageRequest(window or self._window, n, look) for n in wanted)
            found |= zip(wanted, pages, strict=True)
            if window is None:
                self._instants |= dict(chain(*(page.instants.items() for page in pages)))
            if again and not look_again and any(page.rows for page in pages):
                if not first:  # pages of ranges of different length do not fit together
                    raise rules.Doubt
                self._look = look
            if not all(page.rows for page in pages):
                look = self._longer()
        return [*found.values()]

    def _longer(self) -> int:
        """Return a look with another URL, which a cache does not know."""
        self._longest += 1
        return self._longest

    def _read(self) -> Steps[list[Row]]:
        pages = self._pages = yield from self._get([1])
        first = pages[0]
        claimed = first.total or 0  # 0 with rows tells nothing
        if not first.rows:
            if claimed > 1:
                raise rules.Doubt(rules.NO_TOTAL)
            return []
        if claimed > 1:
            (last,) = yield from self._get([claimed])
            if not last.rows:
                yield from self._follow(pages)  # to know where rows are
                raise rules.Doubt(rules.NO_TOTAL)
            self._sizes.followed(first, claimed)
            if self._window.splittable and claimed > rules.most_pages(first):
                raise rules.Doubt
            pages += yield from self._get(range(2, claimed))
            pages.append(last)
        if (yield from self._follow(pages)) and len(pages) == 1:
            return first.rows
        if len(pages) > max(claimed, 2):  # the middle was read before the last page
            pages[1:-1] = yield from self._get(range(2, len(pages)), look=self._longer())
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
            (page,) = yield from self._get([len(pages) + 1])
            if not page.rows:
                break
            if Counter(page.rows) == Counter(pages[-1].rows):
                (beyond,) = yield from self._get([len(pages) + rules.BEYOND])
                if Counter(page.rows) == Counter(beyond.rows):
                    break  # the API repeats the last page
            pages.append(page)
            self._sizes.followed(first, len(pages))
        if len(pages) >= self._sizes.pages > 1:  # an API may not serve later pages
            raise rules.Doubt(rules.CUT)
        if len(pages) == 1:
            self._sizes.last[len(first.rows)] += 1
        return False

    def _settle(self, pages: list[Page]) -> Steps[list[Row]]:
        """Read ambiguous instants alone, and look at the first and the last page again."""
        settled: dict[int, list[Row]] = {}
        ambiguous = rules.on_two_pages(pages)
        first = pages[0].at(pages[0].rows[0])
        while True:
            if len(ambiguous) >= len(pages):  # sorted pages have one at each seam at most
                raise rules.Doubt
            # The first instant comes last: no rows before it move the seams of its pages.
            new = sorted(ambiguous - settled.keys(), key=lambda at: at == first)
            look = self._longer()
            requests = tuple(PageRequest(self._around(at), 1, look) for at in new)
            alone = (yield requests) if requests else ()
            for at, page in zip(new, alone, strict=True):
                rows, number = page.within({at}), sum(len(p.within({at})) for p in pages)
                if len(rows) != number or not self._sizes.is_last(page):
                    rows = yield from self._read_alone(at, number)
                settled[at] = rows
                self._instants |= {row.timestamp: at for row in rows}
            ambiguous |= yield from self._look_again(pages)
            if ambiguous <= settled.keys():
                break
        rows = [*chain.from_iterable(settled.values())]
        for page in pages:
            rows += page.within(set(page.instants.values()) - settled.keys())
        return rows

    def _read_alone(self, at: int, number: int) -> Steps[list[Row]]:
        """Read an instant with longer and longer margins, until its rows are certain.

        Other rows around the instant move the seams of the pages inside of it. A row exists
        at least as often as on the page with most copies of it. If the order of many rows
        does not depend on the seams, the order of ties is stable, and nothing is hidden.

        Args:
            at: The instant.
            number: How many rows it has.

        Returns:
            The rows.

        Raises:
            Doubt: If there are other rows now.
            UnleashError: If the rows cannot be counted.
        """
        most: Counter[Row] = Counter()
        earlier: list[tuple[list[int], list[Row]]] = []
        for margin in rules.MARGINS:
            window = self._around(at, margin)
            alone = yield from self._get([1], window)
            most_pages = rules.MAX_MARGIN_PAGES + 1
            total = min(alone[0].total or 0, most_pages)
            alone += yield from self._get(range(2, total + 1), window)
            while not total and len(alone) < most_pages and not self._sizes.is_last(alone[-1]):
                alone += yield from self._get([len(alone) + 1], window)
            parts = [page.within({at}) for page in alone]
            for part in parts:
                most |= Counter(part)
            rows, seams = [*chain.from_iterable(parts)], [*accumulate(map(len, parts))]
            if len(rows) != number or most.total() > number:
                raise rules.Doubt
            if most.total() == number:
                return [*most.elements()]
            if len({*rows}) >= rules.MIN_DISTINCT:
                moved = (found for found, before in earlier if before == rows)
                self._sizes.stable |= any({*found} != {*seams} for found in moved)
            if self._sizes.stable:
                return rows
            earlier.append((seams, rows))
            if len(alone) > rules.MAX_MARGIN_PAGES:
                break
        raise rules.failure(self._around(at), rules.UNCOUNTABLE)

    def _around(self, at: int, margin: int = 0) -> TimeWindow:
        return TimeWindow(self._window.device_id, at - margin, at + margin + 1)

    def _look_again(self, pages: list[Page]) -> Steps[set[int]]:
        """Find out whether rows were inserted or deleted since the pages were read.

        Returns:
            The instants whose rows are in another order now.

        Raises:
            Doubt: If there are other rows now.
        """
        look = self._longer()
        # Pages with rows of adjacent windows alone would show no change of this one.
        inside = [n for n, page in enumerate(pages, 1) if self._is_inside(page)] or [1]
        # The first page comes last: if it shows that no row expired, the last page shows that
        # none was inserted.
        (last,) = yield from self._get(inside[-1:], look=look)
        if len(pages[-1].rows) == len(pages[0].rows):  # a new row may have no place on it
            (after,) = yield (PageRequest(self._window, len(pages) + 1, look),)
            self._instants |= after.instants
            if self._is_inside(after) and Counter(after.rows) != Counter(last.rows):
                raise rules.Doubt
        (first,) = (yield from self._get(inside[:1], look=look)) if inside[1:] else (last,)
        on_pages = Counter(chain.from_iterable(set(p.instants.values()) for p in pages))
        reordered: set[int] = set()
        for before, after in ((pages[inside[0] - 1], first), (pages[inside[-1] - 1], last)):
            was, now = Counter(before.rows), Counter(after.rows)
            lost, new = (self._count_instants(rows) for rows in (was - now, now - was))
            if lost != new or any(on_pages[at] == 1 for at in new):
                raise rules.Doubt
            reordered |= new.keys()
        return reordered

    def _count_instants(self, rows: Counter[Row]) -> Counter[int]:
        """Count the rows of each instant, but those that only a longer range has."""
        instants = (self._instants[row.timestamp] for row in rows.elements())
        return Counter(at for at in instants if not self._is_margin(at))

    def _is_margin(self, at: int) -> bool:
        start, end = self._window.start, self._window.end
        return at == start - 1 or end <= at <= end + self._longest

    def _is_inside(self, page: Page) -> bool:
        """Tell whether a page has rows that belong to the window."""
        return not all(map(self._is_margin, page.instants.values()))

    def _without_margins(self, rows: list[Row]) -> list[Row]:
        """Drop rows of adjacent windows, unless the API does not keep to the bounds."""
        outside = {t for t, at in self._instants.items() if not self._window.contains(at)}
        if not all(self._is_margin(self._instants[stamp]) for stamp in outside):
            return rows
        return [row for row in rows if row.timestamp not in outside] if outside else rows
