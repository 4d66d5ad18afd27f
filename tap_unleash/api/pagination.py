"""Which pages of a time window to request, and whether together they are consistent.

The API offers no snapshot, no row ID and no documented order, and its pages are numbered.
The paginator assumes a database that runs a query with ``LIMIT`` and ``OFFSET`` afresh for
every page, and that may order the rows of one timestamp differently each time. Hence:

- Insertions and deletions change the first or the last page, so both are read before the
  other pages and again after them.
- If a row is missing because pages order ties differently, then by the pigeonhole principle
  identical rows are on two pages. Their instant is read alone.
- A window that is inconsistent all the same is split until its parts fit one page.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from math import ceil
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from tap_unleash.api.errors import UnleashError, WindowChanged, WindowTooLarge
from tap_unleash.api.page import Page, empty_page
from tap_unleash.api.time_window import TimeWindow  # noqa: TC001 - a NamedTuple evaluates it
from tap_unleash.api.timestamps import format_timestamp

if TYPE_CHECKING:
    from collections.abc import Generator, Hashable, Iterable, Mapping
    from typing import TypeAlias

MAX_PAGES = 200
"""Most pages of a window: they are held until the window is known to be consistent."""

MAX_ROWS = 200_000
"""Most rows of a window, if pages are large: a row takes about 150 bytes."""

TARGET_FILL = 3 / 4
"""Share of these limits that the parts of a split window aim at, as rows are not spread
evenly over time."""

MAX_READS = 9
"""How often a window that cannot be split is read before its device fails."""

MAX_READS_PER_INSTANT = 6
"""How often an instant that exceeds a page is read, each time with other rows around it, to
see its identical rows on one page."""


_ENDLESS = "came on pages that do not end. Report it to Unleash live."


class PageRequest(NamedTuple):
    """A page of a time window."""

    window: TimeWindow
    number: int


T = TypeVar("T")

if TYPE_CHECKING:
    Requests: TypeAlias = Generator[list[PageRequest], dict[PageRequest, Page], T]
    Located: TypeAlias = dict[Hashable, list[tuple[Page, int]]]


class TotalPagesPaginator:
    """Reads one window: a state machine without I/O.

    Send the requests in `wanted`, concurrently if you like, and pass the responses to
    `receive`, until `pages` is set.

    Attributes:
        window: The window.
        first: Its first page, once it was received.
        pages: Its pages without overlap, once they are complete and consistent.
    """

    def __init__(self, window: TimeWindow, longest_page: int = 0) -> None:
        """Start with the first page.

        Args:
            window: The window.
            longest_page: Number of rows of the longest page that the API ever sent.
        """
        self.window = window
        self.first: Page | None = None
        self.pages: list[Page] | None = None
        self._longest_page = longest_page
        self._seen: list[Page] = []
        self._received: dict[PageRequest, Page] = {}
        self._reading = self._read_until_consistent()
        self._pending = dict.fromkeys(next(self._reading))

    @property
    def wanted(self) -> list[PageRequest]:
        """The requests whose responses are needed next."""
        return list(self._pending)

    def receive(self, pages: Mapping[PageRequest, Page | None]) -> None:
        """Take responses.

        Args:
            pages: Some or all of the wanted pages; ``None`` where the API answered that
                there is no such page.

        Raises:
            WindowTooLarge: If the window must be split.
            WindowChanged: If the data kept changing and the window cannot be split.
            UnleashError: If splitting the window does not help.
        """
        for request, page in pages.items():
            self._received[request] = empty_page() if page is None else page
            self._pending.pop(request, None)
        while self.pages is None and not self._pending:
            received, self._received = self._received, {}
            try:
                self._pending = dict.fromkeys(self._reading.send(received))
            except StopIteration as stop:
                self.pages = self.window.drop_overlap(stop.value)

    def _read_until_consistent(self) -> Requests[list[Page]]:
        for _ in range(2 if self.window.splittable else MAX_READS):
            try:
                pages = yield from self._read()
                yield from self._check_bounds(pages)
            except WindowChanged:
                continue
            return pages
        msg = f"kept changing while it was being read ({MAX_READS} attempts). Retry later."
        raise self._inconsistent(msg, WindowChanged)

    def _check_bounds(self, pages: list[Page]) -> Requests[None]:
        """Find out whether a known row is missing, or only from this answer."""
        known = self.window.known
        if known is not None and not _counts(pages, {known}):
            wider = self.window.around(known, 1)
            answers = yield from self._read_alone([wider])
            if _counts(answers[wider], {known}):
                raise self._not_divisible()

    def _get(self, numbers: Iterable[int]) -> Requests[list[Page]]:
        requests = [PageRequest(self.window, number) for number in numbers]
        if not requests:
            return []
        received = yield requests
        return [received[request] for request in requests]

    def _read(self) -> Requests[list[Page]]:
        (first,) = self._seen = yield from self._get([1])
        self.first = first
        past_end: Page | None = None
        if first.total is None and len(first):
            past_end = yield from self._count_pages(first)
            total, last = len(self._seen), self._seen[-1]
        elif (total := first.total or 1) == 1:
            return [first]
        else:
            (last,) = yield from self._get([total])
            self._seen = [first, last]
            if total > _most_pages(first) and self.window.splittable:
                raise self._too_large(ceil(total / _most_pages(first) / TARGET_FILL))
        middle = yield from self._get(range(2, total))
        pages = self._seen = [first, *middle, *([last] if total > 1 else [])]
        shared = _on_several_pages(pages)
        unsettled = _on_two_pages(pages, shared)
        settled: dict[int, list[Page]] = {}
        while True:
            if len(unsettled) >= total:
                # Sorted pages have at most one such instant at each seam.
                msg = (
                    "came in a different order on each page. Report it to Unleash live."
                )
                raise self._inconsistent(msg)
            settled |= yield from self._settle(unsettled - settled.keys())
            # If the second of two pages was read last, only the first can be outdated.
            both = bool(settled) or total > (2 if past_end is None else 1)
            unsettled |= yield from self._look_again(shared, past_end, both=both)
            if unsettled == settled.keys():
                break
        kept = [page.without(settled.keys()) for page in pages]
        return [*kept, *(page for parts in settled.values() for page in parts)]

    def _look_again(
        self, shared: set[int], past_end: Page | None, *, both: bool
    ) -> Requests[set[int]]:
        """Find out whether rows were inserted or deleted since the pages were read.

        Args:
            shared: The instants that have rows on several pages.
            past_end: The response for the page after the last one, if it was requested.
            both: Whether the last page can be outdated.

        Returns:
            The instants whose rows are in another order now.
        """
        pages = self._seen
        ends = [1, len(pages)] if both else [1]
        beyond = [] if past_end is None else [len(pages) + 1]
        # The first page comes last. If it shows that no rows expired, the number of rows
        # on the last page shows that none was inserted.
        others = yield from self._get([*ends[1:], *beyond])
        again = [*(yield from self._get([1])), *others]
        if any(page.total != pages[0].total for page in [*pages, *again[: len(ends)]]):
            raise WindowChanged
        # The API can refuse a page by chance, as if there was none.
        if past_end is not None and (
            not all(map(len, pages))
            or (len(again[-1]) and (not past_end or _different(again[-1], pages[-1])))
        ):
            raise WindowChanged
        reordered = set()
        for number, page in zip(ends, again, strict=False):
            different = _different(pages[number - 1], page)
            if not different <= shared or (
                _counts([page], different) != _counts([pages[number - 1]], different)
            ):
                raise WindowChanged
            reordered |= different
        return reordered

    def _count_pages(self, first: Page) -> Requests[Page]:
        """Read all pages where the API does not say how many there are.

        Returns:
            The response for the page after the last one.
        """
        pages = self._seen = [first]
        while True:
            self._longest_page = max(self._longest_page, len(pages[-1]))
            (page,) = yield from self._get([len(pages) + 1])
            if not len(page):
                return page
            if not _different(pages[-1], page):
                if len(page) < self._longest_page:
                    return page  # it is the last page again
                raise self._inconsistent(_ENDLESS)
            pages.append(page)
            if len(pages) > _most_pages(first):
                if self.window.splittable:
                    raise self._too_large(2)
                raise self._inconsistent(_ENDLESS)

    def _settle(self, instants: set[int]) -> Requests[dict[int, list[Page]]]:
        """Read instants alone that have identical rows on two pages.

        A page holds a row at most once. So the largest number of identical rows on one page
        is a lower bound of how many there are, and if these bounds add up to the number of
        all rows of the instant, they are exact.
        """
        counts = _counts(self._seen, instants)
        found: dict[int, Located] = {at: {} for at in instants}
        settled: dict[int, list[Page]] = {}
        for seconds in range(MAX_READS_PER_INSTANT):
            pending = {
                self.window.around(at, seconds): at for at in instants - settled.keys()
            }
            answers = yield from self._read_alone(pending)
            for window, at in pending.items():
                pages = answers[window]
                if _counts(pages, {at})[at] != counts[at]:
                    raise WindowChanged
                here = _most_on_one_page(pages, {at})[at]
                if len([page for page in pages if len(page)]) == 1:
                    found[at] = here
                else:
                    found[at] |= {
                        key: rows
                        for key, rows in here.items()
                        if len(rows) > len(found[at].get(key, ()))
                    }
                if sum(map(len, found[at].values())) == counts[at]:
                    settled[at] = _take(found[at])
            if len(settled) == len(instants):
                return settled
        msg = (
            "has more identical records than fit one page, so they cannot be counted. "
            "Report it to Unleash live."
        )
        raise self._inconsistent(msg)

    def _read_alone(
        self, windows: Iterable[TimeWindow]
    ) -> Requests[dict[TimeWindow, list[Page]]]:
        """Read windows without finding out whether their pages are consistent."""
        answers: dict[TimeWindow, list[Page]] = {window: [] for window in windows}
        while requests := [
            PageRequest(window, number)
            for window, pages in answers.items()
            for number in _missing(pages)
        ]:
            received = yield requests
            for request in requests:
                answers[request.window].append(received[request])
        return answers

    def _inconsistent(
        self, what: str, error: type[UnleashError] = UnleashError
    ) -> UnleashError:
        if self.window.splittable:
            return self._too_large(2 * len(self._seen))
        when = format_timestamp(self.window.start)
        return error(f"Data of device {self.window.device_id!r} at {when} {what}")

    def _too_large(self, parts: int) -> UnleashError:
        """Return what splits the window, or says why that does not help."""
        window, pages = self.window, self._seen[0].total or len(self._seen)
        instants = [at for page in self._seen for at in page.instants.values()]
        low, high = window.bounds
        if (
            window.parent_pages is not None
            and pages >= window.parent_pages
            and not all(low <= at <= high for at in instants)
        ):
            return self._not_divisible()
        windows = window.split(parts, instants, pages)
        return WindowTooLarge(f"{len(windows)} windows instead of one", windows)

    def _not_divisible(self) -> UnleashError:
        msg = (
            f"Data of device {self.window.device_id!r} at "
            f"{format_timestamp(self.window.start)} cannot be requested in smaller parts: "
            "the API rounds the bounds of a time range. Report it to Unleash live."
        )
        return UnleashError(msg)


def _most_pages(first: Page) -> int:
    return max(2, min(MAX_PAGES, MAX_ROWS // (len(first) or 1)))


def _missing(pages: list[Page]) -> Iterable[int]:
    """Return the numbers of the pages that follow those of a time range."""
    if not pages:
        return [1]
    if (total := pages[0].total) is not None:
        return range(len(pages) + 1, total + 1)
    if len(pages) > MAX_PAGES:
        raise WindowChanged
    if len(pages) > 1 and not _different(*pages[-2:]):
        pages[-1] = empty_page()  # the last page again
    return [len(pages) + 1] if len(pages[-1]) else []


def _on_several_pages(pages: list[Page]) -> set[int]:
    """Return the instants that have rows on two pages or more."""
    seen: set[int] = set()
    shared: set[int] = set()
    for page in pages:
        here = set(page.instants.values())
        shared |= seen & here
        seen |= here
    return shared


def _on_two_pages(pages: list[Page], shared: set[int]) -> set[int]:
    """Return the shared instants that have identical rows on two pages."""
    seen: set[tuple[int, Hashable]] = set()
    found: set[int] = set()
    for page in pages:
        here = {(at, key) for at, _, key in page.rows_at(shared)}
        found.update(at for at, _ in here & seen)
        seen |= here
    return found


def _counts(pages: Iterable[Page], instants: set[int]) -> Counter[int]:
    return Counter(at for page in pages for at, *_ in page.rows_at(instants))


def _different(before: Page, after: Page) -> set[int]:
    """Return the instants at which two responses for one page have different rows."""
    if before == after:
        return set()
    rows = [
        Counter((at, key) for at, _, key in page.rows_at({*page.instants.values()}))
        for page in (before, after)
    ]
    return {at for at, _ in (rows[0] - rows[1]) + (rows[1] - rows[0])}


def _most_on_one_page(pages: Iterable[Page], instants: set[int]) -> dict[int, Located]:
    """Find, for each distinct row of the instants, the page with most copies of it."""
    most: dict[int, Located] = {at: {} for at in instants}
    for page in pages:
        here: defaultdict[tuple[int, Hashable], list[tuple[Page, int]]] = defaultdict(
            list
        )
        for at, row, key in page.rows_at(instants):
            here[at, key].append((page, row))
        for (at, key), rows in here.items():
            if len(rows) > len(most[at].get(key, ())):
                most[at][key] = rows
    return most


def _take(found: Located) -> list[Page]:
    """Return these rows as pages."""
    by_page: defaultdict[int, list[tuple[Page, int]]] = defaultdict(list)
    for rows in found.values():
        for page, row in rows:
            by_page[id(page)].append((page, row))
    return [rows[0][0].take([row for _, row in rows]) for rows in by_page.values()]
