"""The rules by which the paginator accepts the pages of a window."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import accumulate, chain
from typing import TYPE_CHECKING, TypeVar

from tap_unleash.page import TIMESTAMP
from tap_unleash.windows import DAY, SECOND, PageRequest, TimeWindow

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Sequence
    from typing import TypeAlias

    from tap_unleash.page import Page, Row

MAX_PAGES, MAX_ROWS = 50, 50_000
"""Most pages and rows of a window: they are held until the window is accepted."""

MAX_READS = 9
"""How often a window that cannot be split is read before its device fails."""

MARGINS = [0, *(SECOND * 4**n for n in range(12)), 100 * DAY]
"""How much longer, in milliseconds, than an instant the windows are in which it is read."""

MAX_MARGIN_PAGES = 20
"""Most pages that are read to count the rows of one instant."""

MIN_DISTINCT = 12
"""Distinct rows whose sequence is the same in two readings only if the order is stable."""

MIN_LAST = 5
"""Pages of one length that are the last one, until all of that length are taken for it."""

T = TypeVar("T")

if TYPE_CHECKING:
    Requests: TypeAlias = tuple[PageRequest, ...]
    Steps: TypeAlias = Generator[Requests, Sequence[Page], T]

OUTSIDE = (
    "has timestamps after the end of the requested range, so the bookmark would be wrong. "
    "Report it to Unleash live."
)
UNCOUNTABLE = (
    "has more rows at one instant than fit on a page, and their order differs from page to "
    "page, so they cannot be counted. Report it to Unleash live, or set a later 'start_date' "
    "to leave them out."
)
CHANGING = f"kept changing while it was being read ({MAX_READS} attempts). Retry later."
CUT = (
    "fills its last page, and no later page was ever seen, so rows may be cut off. Set a "
    "'start_date' or an 'end_date' to leave them out, and report it to Unleash live."
)
_NO_PARTS = "cannot be read in parts: the API does not keep to its {}. Report it to Unleash live."
NO_TOTAL, NO_BOUNDS = _NO_PARTS.format("number of pages"), _NO_PARTS.format("range")


class Doubt(Exception):
    """The pages of a window contradict each other."""


class Uncountable(Exception):
    """The order of the rows of an instant differs from page to page.

    Attributes:
        at: The instant.
    """

    def __init__(self, at: int) -> None:
        """Store the instant.

        Args:
            at: The instant.
        """
        super().__init__()
        self.at = at


class PageSizes:
    """Lengths of pages in a run, which tell whether a page that is alone is the last one.

    Attributes:
        full: Rows of the shortest page that another one followed.
        pages: The greatest number of a page that has rows.
    """

    full: int | None = None
    pages = 1

    def __init__(self) -> None:
        """Start without any page."""
        self._last: Counter[int] = Counter()

    def followed(self, page: Page, number: int) -> None:
        """Learn that another page followed one.

        Args:
            page: The page.
            number: The number of a later page.
        """
        self.full = min(len(page.rows), self.full or MAX_ROWS)
        self.pages = max(number, self.pages)

    def ended(self, page: Page) -> None:
        """Learn that no page followed one.

        Args:
            page: The page.
        """
        self._last[len(page.rows)] += 1

    def is_last(self, page: Page) -> bool:
        """Tell whether no page can follow.

        Args:
            page: The page.

        Returns:
            Whether it is too short for that.
        """
        rows = len(page.rows)
        if self.full is not None:
            return rows < self.full
        # A page can be full by chance, but not several of the same length.
        often = page.total == 1 and self._last[rows] >= MIN_LAST
        return often or rows < max(self._last, default=0)


class Readings:
    """What several readings show of the rows of a span whose pages have seams inside of it.

    Attributes:
        sequence: The rows in the order of the last reading.
    """

    def __init__(self, span: range, pages: list[Page]) -> None:
        """Start with a first reading.

        Args:
            span: Epoch milliseconds.
            pages: The pages of that reading.
        """
        self._span = span
        self._most: Counter[Row] = Counter()
        self._earlier: list[tuple[list[int], list[Row]]] = []
        self.take(pages)
        self._most.clear()  # rows may have been deleted since

    def take(self, pages: list[Page]) -> bool:
        """Take a reading.

        Args:
            pages: Its pages.

        Returns:
            Whether it shows that the order of ties is stable.
        """
        self._parts = [part for page in pages if (part := page.within(self._span))]
        for part in self._parts:
            self._most |= Counter(part)
        self.sequence = [*chain(*self._parts)]
        seams = [*accumulate(map(len, self._parts))][:-1]
        stable = any(
            self.sequence == sequence and any(map(self._is_among_many_ties, {*seams} ^ {*others}))
            for others, sequence in self._earlier
        )
        self._earlier.append((seams, self.sequence))
        return stable

    def _is_among_many_ties(self, seam: int) -> bool:
        """Tell whether a seam is between rows of an instant that has many distinct ones."""
        stamp = self.sequence[seam][TIMESTAMP]
        tied = {row for row in self.sequence if row[TIMESTAMP] == stamp}
        return self.sequence[seam - 1] in tied and len(tied) >= MIN_DISTINCT

    def settle(self, pages: list[Page]) -> list[Row] | None:
        """Take another reading.

        Args:
            pages: Its pages.

        Returns:
            The rows of the span, if they are certain.

        Raises:
            Doubt: If their number changed.
        """
        number = len(self.sequence)
        stable = self.take(pages)
        if len(self.sequence) != number:
            raise Doubt
        if len(self._parts) == 1 or stable:
            return self.sequence
        # A row exists at least as often as on the page with most copies of it.
        if self._most.total() > number:
            raise Doubt
        return [*self._most.elements()] if self._most.total() == number else None


def read_alone(
    device_id: str, pages: list[Page], instants: set[int], sizes: PageSizes
) -> Steps[dict[int, list[Row]]]:
    """Read instants alone, with longer and longer margins, until their rows are certain.

    Args:
        device_id: The device.
        pages: The pages of the window.
        instants: The instants.
        sizes: The lengths of pages.

    Returns:
        The rows of each instant.

    Raises:
        Doubt: If there are other rows now.
        Uncountable: If the rows of an instant cannot be counted.
    """
    found = {at: Readings(range(at, at + 1), pages) for at in instants}
    settled: dict[int, list[Row]] = {}
    descending = is_descending(pages)
    for margin in MARGINS:
        windows = {
            at: _around(device_id, at, margin, before=not descending)
            for at in instants - settled.keys()
        }
        answers = yield from _read_all(windows.values(), sizes)
        for at, window in windows.items():
            if rows := found[at].settle(answers[window]):
                settled[at] = rows
        if len(settled) == len(instants):
            return settled
        if any(len(alone) > MAX_MARGIN_PAGES for alone in answers.values()):
            break
    for at in instants - settled.keys():
        if not (yield from _is_stable_next_to(device_id, at, sizes, before=descending)):
            raise Uncountable(at)
        settled[at] = found[at].sequence
    return settled


def _is_stable_next_to(device_id: str, at: int, sizes: PageSizes, *, before: bool) -> Steps[bool]:
    """Find out whether ties have a stable order, if an instant is first in the listing.

    No other rows can move the seams of its pages, but it moves those of the next rows.
    """
    for margin in MARGINS[1:]:
        with_it = _around(device_id, at, margin, before=before)
        span = range(with_it.start, at - 1) if before else range(at + 2, with_it.end)
        without = replace(with_it, start=span.start, end=span.stop)
        answers = yield from _read_all([with_it, without], sizes)
        if Readings(span, answers[with_it]).take(answers[without]):
            return True
        if len(answers[with_it]) > MAX_MARGIN_PAGES:
            break
    return False


def _around(device_id: str, at: int, margin: int, *, before: bool) -> TimeWindow:
    start, end = (at - margin, at + 1) if before else (at, at + 1 + margin)
    return TimeWindow(device_id, start, end)


def _read_all(
    windows: Iterable[TimeWindow], sizes: PageSizes
) -> Steps[dict[TimeWindow, list[Page]]]:
    """Read the pages of windows, without finding out whether they agree."""
    answers: dict[TimeWindow, list[Page]] = {window: [] for window in windows}
    while requests := tuple(
        PageRequest(window, number)
        for window, pages in answers.items()
        for number in _next_numbers(pages, sizes)
    ):
        for request, page in zip(requests, (yield requests), strict=True):
            answers[request.window].append(page)
    return answers


def _next_numbers(pages: list[Page], sizes: PageSizes) -> Iterable[int]:
    if not pages:
        return [1]
    if len(pages) > MAX_MARGIN_PAGES or not pages[-1].rows:
        return []
    if len(pages) == 1 and (total := pages[0].total):
        return range(2, min(total, MAX_MARGIN_PAGES + 1) + 1)
    return [] if sizes.is_last(pages[-1]) else [len(pages) + 1]


def check_lengths(pages: list[Page]) -> None:
    """Check that no page is empty or longer, and none but the last shorter than the first.

    Args:
        pages: The pages.

    Raises:
        Doubt: If one is.
    """
    lengths = {len(page.rows) for page in pages[:-1]} or {len(pages[0].rows)}
    if len(lengths) > 1 or not 0 < len(pages[-1].rows) <= max(lengths):
        raise Doubt


def most_pages(first: Page) -> int:
    """Return how many pages a window may have.

    Args:
        first: Its first page.

    Returns:
        The number of pages.
    """
    return max(2, min(MAX_PAGES, MAX_ROWS // (len(first.rows) or 1)))


def is_descending(pages: Sequence[Page]) -> bool:
    """Tell whether a listing begins with the latest rows.

    Args:
        pages: Its first and its last page, or more.

    Returns:
        Whether it does.
    """
    first, last = pages[0], pages[-1]
    return first.at(first.rows[0]) > last.at(last.rows[-1])


def on_two_pages(pages: list[Page]) -> set[int]:
    """Find the instants that have identical rows on two pages.

    Args:
        pages: The pages.

    Returns:
        The instants.
    """
    counts = Counter(chain.from_iterable(page.instants for page in pages))
    shared = {stamp for stamp, count in counts.items() if count > 1}
    seen: set[Row] = set()
    found: set[int] = set()
    for page in pages:
        here = {row for row in page.rows if row[TIMESTAMP] in shared}
        found.update(page.at(row) for row in here & seen)
        seen |= here
    return found
