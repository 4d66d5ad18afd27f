"""Reading ahead: slices are read whole by threads, and handed over in their order."""

from __future__ import annotations

import math
import threading
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from tap_unleash.client import TapError, UnanswerableError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from concurrent.futures import Future
    from typing import Protocol

    from tap_unleash.gate import Gate
    from tap_unleash.page import Page
    from tap_unleash.slices import Slice

    class PageFetcher(Protocol):
        """Asks for a page."""

        def __call__(self, part: Slice, page: int) -> Page:
            """Ask for a page of a slice; raise `UnanswerableError` if it is too large."""


MAX_PAGES = 100
"""Most pages of a slice: they are held until the slice is known to be whole."""

MAX_ROWS = 100_000
"""Most rows of a slice, where pages are large: a page's rows take about 150 bytes each."""

HELD_SLICES = 2
"""How many slices of many pages are held, so that one is read while another goes out."""

HELD_ROWS = 20_000
"""Up to how many rows for each request in flight more slices than these are held: a slice
takes four round trips or more, and then waits for those before it to go out."""

FILL = 2 / 3
"""How full of pages the parts of a slice that is cut should be: time is cut evenly, but
rows are not spread evenly."""

BEYOND = 1_000_000
"""Number of a page that no slice has."""

REREADS = 9
"""How often a second is read that changes meanwhile, before the run gives up."""


class Reader:
    """Reads slices with several requests in flight.

    The pages of a slice are a whole only if nothing was inserted while they were read:
    then a row would have been pushed from one page to the next, and be seen twice or not
    at all. A twin that is equal to the letter is no sign of that, as the API has such
    rows. The last page is one: with every row inserted it changes. So it is read before
    the others and again after them.
    """

    def __init__(self, fetch: PageFetcher, gate: Gate, concurrency: int) -> None:
        """Start with nothing to read.

        Args:
            fetch: Asks for a page; it is called by several threads.
            gate: What limits its requests.
            concurrency: How many requests may be in flight.
        """
        self._fetch = fetch
        self._gate = gate
        self._ahead = 2 * concurrency
        self._most_rows = HELD_ROWS * concurrency
        # Some may wait for room, and must not keep the parts of a slice before them waiting.
        self._slice_threads = ThreadPoolExecutor(self._ahead + HELD_SLICES, "slice")
        self._page_threads = ThreadPoolExecutor(concurrency, "page")
        self._room = threading.Condition()
        self._ranks: dict[Slice, tuple[int, ...]] = {}
        self._undecided: set[Slice] = set()
        self._rows: dict[Slice, int] = {}
        self._wanted: Slice | None = None
        self._stopped = False

    def read(self, slices: Iterable[Slice]) -> Iterator[tuple[Slice, list[Page]]]:
        """Read slices ahead of the caller.

        Args:
            slices: What to read, in order.

        Yields:
            Each slice, or the parts that it was divided into, with its pages.

        Raises:
            TapError: If there is no answer, or none that stays the same.
        """
        source = enumerate(slices)
        queue: deque[tuple[Slice, Future[list[Page] | _Parts]]] = deque()

        def start(part: Slice, *rank: int) -> tuple[Slice, Future[list[Page] | _Parts]]:
            with self._room:
                self._ranks[part] = rank
            return part, self._slice_threads.submit(self._read, part)

        try:
            while True:
                while len(queue) < self._ahead and (following := next(source, None)):
                    number, part = following
                    queue.append(start(part, number))
                if not queue:
                    return
                part, future = queue.popleft()
                with self._room:
                    self._wanted = part
                    self._room.notify_all()
                # Not begun: threads that wait for room may be all there are.
                result = self._read(part) if future.cancel() else future.result()
                if isinstance(result, _Parts):
                    rank = self._ranks[part]
                    parts = [start(p, *rank, n) for n, p in enumerate(result)]
                    queue.extendleft(reversed(parts))
                else:
                    yield part, result
                with self._room:
                    del self._ranks[part]
                    self._rows.pop(part, None)
                    self._room.notify_all()
        finally:
            self.stop()

    def stop(self) -> None:
        """Stop, and wait for the requests in flight."""
        with self._room:
            self._stopped = True
            self._room.notify_all()
        self._gate.close()
        for threads in (self._slice_threads, self._page_threads):
            threads.shutdown(cancel_futures=True)

    def _read(self, part: Slice) -> list[Page] | _Parts:
        with self._room:
            self._undecided.add(part)
        try:
            return self._read_or_divide(part)
        finally:
            with self._room:
                self._undecided.discard(part)
                self._room.notify_all()

    def _read_or_divide(self, part: Slice) -> list[Page] | _Parts:
        try:
            before: list[Page] = []
            for _ in range(2 if part.divisible else REREADS):
                first = self._fetch(part, 1)
                most = max(2, min(MAX_PAGES, MAX_ROWS // (len(first) or 1)))
                if part.divisible and (first.total or 0) > most:
                    return self._cut(part, first, most)
                pages, whole = self._pages(part, first, most)
                if whole or pages == before:
                    return [part.own(page) for page in pages]
                before = pages
        except UnanswerableError:
            return _Parts(part.halves())
        if part.divisible:
            return _Parts(part.halves())
        msg = (
            f"The rows of device {part.device_id!r} around {part.start} (epoch "
            "milliseconds) change whenever they are read. Run again later."
        )
        raise TapError(msg)

    def _cut(self, part: Slice, first: Page, most: int) -> _Parts:
        total = first.total or 1
        last = self._fetch(part, total)
        parts = math.ceil(total / (most * FILL))
        return _Parts(
            part.cut(parts, [*first.instants.values(), *last.instants.values()])
        )

    def _pages(self, part: Slice, first: Page, most: int) -> tuple[list[Page], bool]:
        """Read all pages; say, too, whether they are known to be a whole."""
        total = first.total
        self._hold(part, len(first) * max(total or 1, 1))
        if total is None:
            return self._pages_untold(part, first, most)
        if total <= 1:
            return [first], True
        last = again = self._fetch(part, total)
        middle: list[Page] = []
        if total > 2:  # noqa: PLR2004
            numbers = range(2, total)
            middle = list(
                self._page_threads.map(lambda n: self._fetch(part, n), numbers)
            )
            again = self._fetch(part, total)
        pages = [first, *middle, last]
        whole = again == last and all(p.total == total for p in pages)
        # The first page was read before the last one was looked at.
        if whole and any(_share_rows(first, page) for page in pages[1:]):
            whole = self._fetch(part, 1) == first
        return pages, whole

    def _pages_untold(
        self, part: Slice, first: Page, most: int
    ) -> tuple[list[Page], bool]:
        """Read pages until one is empty, or repeated for good: no total was given."""
        pages = [first]
        while len(pages[-1]):
            if part.divisible and len(pages) >= most:
                raise UnanswerableError
            page = self._fetch(part, len(pages) + 1)
            if page == pages[-1] == self._fetch(part, BEYOND):
                break  # the server repeats its last page behind the end
            pages.append(page)
        whole = not any(
            _share_rows(one, other)
            for i, one in enumerate(pages)
            for other in pages[i + 1 :]
        )
        return pages, whole

    def _hold(self, part: Slice, rows: int) -> None:
        """Wait for room for a slice's rows, unless it is the one wanted next.

        What goes out first is let in first, however soon others are there; and what was let
        in does not take the room of what goes out before it.
        """
        rank = self._ranks[part]

        def fits() -> bool:
            if self._stopped or part is self._wanted:
                return True
            if any(self._ranks[other] < rank for other in self._undecided):
                return False
            held = [n for other, n in self._rows.items() if self._ranks[other] < rank]
            return len(held) < HELD_SLICES or sum(held) + rows <= self._most_rows

        with self._room:
            self._room.wait_for(fits)
            self._undecided.discard(part)
            self._rows[part] = rows
            self._room.notify_all()


class _Parts(list["Slice"]):
    """What a slice was divided into."""


def _share_rows(one: Page, other: Page) -> bool:
    if one.instants.keys().isdisjoint(other.instants):
        return False
    rows = set(zip(*one.columns.values(), strict=True))
    return not rows.isdisjoint(zip(*other.columns.values(), strict=True))
