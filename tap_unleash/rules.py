"""The rules by which the paginator accepts the pages of a window."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import chain
from math import ceil
from typing import TYPE_CHECKING, TypeAlias, TypeVar

from tap_unleash.errors import UnleashError
from tap_unleash.timestamps import format_timestamp
from tap_unleash.windows import DAY, SECOND, PageRequest, TimeWindow

if TYPE_CHECKING:
    from collections.abc import Collection, Generator, Sequence

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

MIN_LAST = 8
"""Pages of one length that are the last one, until all of that length are taken for it."""

TARGET_FILL = 3 / 4
"""Share of a page, or of the largest window, that parts aim at: rows are spread unevenly."""

MAX_REREADS = 2
"""How often a window is read again because a row that is known to exist is missing."""

MAX_STALE = 3
"""Generations of parts that report as many pages as their parents before the device fails."""

BEYOND = 1_000
"""How many pages after the last one a page is surely none."""

T = TypeVar("T")

if TYPE_CHECKING:
    Requests: TypeAlias = tuple[PageRequest, ...]
    Steps: TypeAlias = Generator[Requests, Sequence[Page], T]

OUTSIDE = (
    "has timestamps after the end of the requested range, so the bookmark would be wrong. "
    "Report it to Unleash live."
)
UNCOUNTABLE = (
    "has more rows at one instant than fit on a page, in an order that changes. Leave them "
    "out with a later 'start_date', and report it to Unleash live."
)
CHANGING = f"kept changing while it was being read ({MAX_READS} attempts). Retry later."
CUT = (
    "fills its last page, so rows may be cut off. Leave them out with 'start_date' or "
    "'end_date', and report it to Unleash live."
)
_NO_PARTS = "cannot be read in parts: the API does not keep to its {}. Report it to Unleash live."
NO_TOTAL, NO_BOUNDS = _NO_PARTS.format("number of pages"), _NO_PARTS.format("range")


class Doubt(Exception):
    """The pages of a window contradict each other."""

    def __init__(self, reason: str = CHANGING) -> None:
        """Store the reason.

        Args:
            reason: Why the device cannot be read, if that goes on.
        """
        super().__init__(reason)


class PageSizes:
    """What the pages of a run have shown, such as whether one that is alone is the last one.

    Attributes:
        stable: Whether ties have the same order in every response.
        full: Rows of the shortest page that another one followed.
        last: How often a page of so many rows was shown to be alone.
        pages: The greatest number of a page that has rows.
    """

    stable = False
    full: int | None = None
    pages = 1

    def __init__(self) -> None:
        """Start without any page."""
        self.last: Counter[int] = Counter()

    def followed(self, page: Page, number: int) -> None:
        """Learn that another page followed one.

        Args:
            page: The page.
            number: The number of a later page.
        """
        self.full = min(len(page.rows), self.full or MAX_ROWS)
        self.pages = max(number, self.pages)

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
        often = page.total == 1 and self.last[rows] >= MIN_LAST
        return often or rows < max(self.last, default=0)


def failure(window: TimeWindow, what: str) -> UnleashError:
    """Return the error of a device.

    Args:
        window: The window that cannot be read.
        what: Why, and what to do.

    Returns:
        The error.
    """
    when = format_timestamp(window.start)
    return UnleashError(f"Data of device {window.device_id!r} at {when} {what}")


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
        here = {row for row in page.rows if row.timestamp in shared}
        found.update(page.at(row) for row in here & seen)
        seen |= here
    return found


def split(
    window: TimeWindow, pages: list[Page], instants: Collection[int], reason: str
) -> list[TimeWindow]:
    """Split a window that is in doubt.

    Args:
        window: The window.
        pages: The pages that were read of it.
        instants: The instants of their rows.
        reason: Why it is in doubt.

    Returns:
        Its parts.

    Raises:
        UnleashError: If parts do not help, because those before reported as many pages.
    """
    claimed = pages[0].total or 0
    reported = claimed or len(pages)
    broken = reason == NO_TOTAL
    outside = min(instants, default=window.start) < window.start - SECOND
    stale = 0
    if (broken or outside) and reported >= window.parent_pages > 0:
        stale = window.stale + 1
    if stale >= MAX_STALE:
        raise failure(window, NO_TOTAL if broken else NO_BOUNDS)
    most = most_pages(pages[0])
    count = len(pages) if broken or claimed <= most else claimed / most
    parts = window.split(ceil(count / TARGET_FILL), instants)
    return [replace(part, parent_pages=reported, stale=stale) for part in parts]
