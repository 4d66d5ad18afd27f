"""Reading ahead: slices are read whole by threads, and handed over in their order."""

from __future__ import annotations

import math
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tap_unleash.client import TapError, UnanswerableError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
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


@dataclass(eq=False)
class _Task:
    """A slice on its way.

    Attributes:
        part: The slice.
        begun: Whether its first page was asked for.
        first: Its first page, once it is there.
        held: Its number of rows, once there is room for them.
        pages: All its pages, or `None` if it was divided.
    """

    part: Slice
    begun: bool = False
    first: Page | None = None
    held: int = 0
    pages: Future[list[Page] | None] = field(default_factory=Future)

    @property
    def rows(self) -> int:
        """About how many rows it has, by its first page."""
        return len(self.first) * max(self.first.total or 1, 1) if self.first else 0


class Reader:
    """Reads slices with several requests in flight.

    First pages are read ahead. They tell how long a slice is: one that is too long is cut,
    and the rest of the others is read as soon as there is room, in their order.

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
        self._slice_threads = ThreadPoolExecutor(self._ahead, "slice")
        self._page_threads = ThreadPoolExecutor(concurrency, "page")
        self._lock = threading.Lock()
        self._tasks: list[_Task] = []
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
        source = iter(slices)
        try:
            while True:
                with self._lock:
                    while len(self._tasks) < self._ahead and (
                        part := next(source, None)
                    ):
                        self._tasks.append(_Task(part))
                    self._schedule()
                    if not self._tasks:
                        return
                    task = self._tasks[0]
                pages = task.pages.result()
                if pages is not None:
                    yield task.part, pages
                    with self._lock:
                        self._tasks.remove(task)
        finally:
            self.stop()

    def stop(self) -> None:
        """Stop, and wait for the requests in flight."""
        with self._lock:
            self._stopped = True
        self._gate.close()
        for threads in (self._slice_threads, self._page_threads):
            threads.shutdown(cancel_futures=True)

    def _schedule(self) -> None:
        """Start what may be started; the lock is held."""
        if self._stopped:
            return
        held = [task.held for task in self._tasks if task.held]
        looked_at = 0
        in_order = True
        for number, task in enumerate(self._tasks):
            if task.held:
                continue
            looked_at += 1
            if looked_at > self._ahead:
                return
            if not task.begun:
                task.begun = True
                self._slice_threads.submit(self._work, task, self._look)
            in_order = in_order and task.first is not None
            if in_order and (
                number == 0
                or len(held) < HELD_SLICES
                or sum(held) + task.rows <= self._most_rows
            ):
                task.held = max(task.rows, 1)
                held.append(task.held)
                self._slice_threads.submit(self._work, task, self._read)
            else:
                in_order = False

    def _work(self, task: _Task, step: Callable[[_Task], Iterable[Slice]]) -> None:
        """Take a step with a slice, which may give the parts that it must be divided into."""
        try:
            parts = list(map(_Task, step(task)))
        except UnanswerableError:
            parts = list(map(_Task, task.part.halves()))
        except BaseException as error:  # noqa: BLE001 - it is raised where the pages are waited for
            task.pages.set_exception(error)
            return
        with self._lock:
            if parts:
                place = self._tasks.index(task)
                self._tasks[place : place + 1] = parts
            self._schedule()
        if parts:
            task.pages.set_result(None)

    def _look(self, task: _Task) -> Iterable[Slice]:
        first = self._fetch(task.part, 1)
        if parts := self._cut(task.part, first):
            return parts
        task.first = first
        return ()

    def _read(self, task: _Task) -> Iterable[Slice]:
        part, first = task.part, task.first
        before: list[Page] = []
        for _ in range(2 if part.divisible else REREADS):
            if first is None:
                first = self._fetch(part, 1)
            if parts := self._cut(part, first):
                return parts
            pages, whole = self._pages(part, first)
            if whole or pages == before:
                task.pages.set_result([part.own(page) for page in pages])
                return ()
            before, first = pages, None
        if part.divisible:
            return part.halves()
        msg = (
            f"The rows of device {part.device_id!r} around {part.start} (epoch "
            "milliseconds) change whenever they are read. Run again later."
        )
        raise TapError(msg)

    def _cut(self, part: Slice, first: Page) -> Iterable[Slice]:
        """Cut a slice if it has too many pages, by what the first one says."""
        total, most = first.total or 1, _most_pages(first)
        if total <= most or not part.divisible:
            return ()
        last = self._fetch(part, total)
        parts = math.ceil(total / (most * FILL))
        return part.cut(parts, [*first.instants.values(), *last.instants.values()])

    def _pages(self, part: Slice, first: Page) -> tuple[list[Page], bool]:
        """Read all pages; say, too, whether they are known to be a whole."""
        total = first.total
        if total is None:
            return self._pages_untold(part, first)
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

    def _pages_untold(self, part: Slice, first: Page) -> tuple[list[Page], bool]:
        """Read pages until one is empty, or repeated for good: no total was given."""
        pages = [first]
        while len(pages[-1]):
            if part.divisible and len(pages) >= _most_pages(first):
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


def _most_pages(first: Page) -> int:
    return max(2, min(MAX_PAGES, MAX_ROWS // (len(first) or 1)))


def _share_rows(one: Page, other: Page) -> bool:
    if one.instants.keys().isdisjoint(other.instants):
        return False
    rows = set(zip(*one.columns.values(), strict=True))
    return not rows.isdisjoint(zip(*other.columns.values(), strict=True))
