"""Reads time windows: ahead with several threads, or one by one; yields them in order."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar, cast

from tap_unleash.api.errors import (
    FatalError,
    RequestRejected,
    UnleashError,
    WindowTooLarge,
)
from tap_unleash.api.pagination import PageRequest, TotalPagesPaginator
from tap_unleash.api.range_limit import RangeLimit
from tap_unleash.api.time_window import SECOND

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from tap_unleash.api.page import Page
    from tap_unleash.api.time_window import TimeWindow

T = TypeVar("T")

WINDOWS_IN_MEMORY = 2
"""How many windows of several pages are read at a time: one, while another is emitted."""

ROWS_IN_MEMORY = 20_000
"""More windows than these are read while they have no more rows than this for each
concurrent request: a window takes four round trips or more."""


@dataclass(eq=False)
class _Range:
    """The range that is read of a device.

    Attributes:
        window: The whole range.
        limit: How long a window may be.
        probing: Held while a shortest window is requested, to see whether any can be read.
        unreadable: A window of which not even the shortest part can be read, and why.
    """

    window: TimeWindow
    limit: RangeLimit = field(default_factory=RangeLimit)
    probing: threading.Lock = field(default_factory=threading.Lock)
    unreadable: tuple[TimeWindow, UnleashError] | None = None


@dataclass(eq=False)
class _Task:
    """A window that is being read.

    Attributes:
        range: The range that it is part of.
        window: The window.
        paginator: Reads it, once it was begun.
        admitted: Whether there is memory for all of its pages.
        sent: The requests that were sent.
        error: Why it cannot be read.
    """

    range: _Range
    window: TimeWindow
    paginator: TotalPagesPaginator | None = None
    admitted: bool = False
    sent: set[PageRequest] = field(default_factory=set)
    error: UnleashError | None = None

    @property
    def pages(self) -> list[Page] | None:
        return self.paginator.pages if self.paginator else None

    @property
    def rows(self) -> int:
        """Estimated number of rows."""
        first = self.paginator.first if self.paginator else None
        return len(first) * max(first.total or 1, 1) if first else 0


class Prefetcher:
    """Reads the windows of several devices, in order, with concurrent requests.

    First pages are read ahead. They tell how large a window is; the rest of a window is
    requested once there is memory for it.
    """

    def __init__(
        self,
        fetch: Callable[[TimeWindow, int, bool], Page],
        concurrency: int,
        ranges: Iterable[TimeWindow] = (),
    ) -> None:
        """Start without any thread.

        Args:
            fetch: Requests a page; it is called, by several threads, with the window, the
                page number, and whether a shorter window can be requested instead.
            concurrency: Number of threads.
            ranges: The ranges that `read` will be called with, to read them ahead.
        """
        self._fetch = fetch
        self._concurrency = concurrency
        self._ahead = 2 * concurrency
        self._upcoming = iter(ranges)
        self._tasks: list[_Task] = []
        self._lock = threading.RLock()
        self._to_do = threading.Condition(self._lock)
        self._done = threading.Condition(self._lock)
        self._threads: list[threading.Thread] = []
        self._longest_window: int | None = None
        self._longest_page = 0
        self._fatal: Exception | None = None
        self._closed = False

    def read(self, wanted: TimeWindow) -> Iterator[tuple[TimeWindow, list[Page]]]:
        """Read a range.

        Args:
            wanted: The range of a device.

        Yields:
            The windows that it was split into, in order, with their pages.

        Raises:
            FatalError: If nothing can be read.
            UnleashError: If this range cannot be read.
        """
        with self._lock:
            self._look_ahead()
            if not self._tasks or self._tasks[0].range.window != wanted:
                self._tasks.insert(0, self._task(wanted))
            current = self._tasks[0].range
        self._start_threads()
        while True:
            with self._lock:
                self._to_do.notify_all()
                while not (
                    self._fatal
                    or self._tasks[0].error
                    or self._tasks[0].pages is not None
                ):
                    self._done.wait()
                task = self._tasks[0]
                if error := self._fatal or task.error:
                    self._tasks = [t for t in self._tasks if t.range is not current]
                    raise error
            yield task.window, task.pages or []
            with self._lock:
                self._tasks.pop(0)
                self._look_ahead()
                if not self._tasks or self._tasks[0].range is not current:
                    return

    def close(self) -> None:
        """Stop. The threads end when their requests in flight are answered."""
        with self._lock:
            self._closed = True
            self._to_do.notify_all()

    def _start_threads(self) -> None:
        try:
            while len(self._threads) < self._concurrency:
                thread = threading.Thread(target=self._work, daemon=True)
                thread.start()
                self._threads.append(thread)
        except RuntimeError as error:
            if not self._threads:
                msg = f"Cannot start a thread ({error}). Raise the process limit (ulimit -u)."
                raise FatalError(msg) from error

    def _task(self, window: TimeWindow) -> _Task:
        return _Task(_Range(window, RangeLimit(self._longest_window)), window)

    def _look_ahead(self) -> None:
        while len(self._tasks) < self._ahead and (window := next(self._upcoming, None)):
            self._tasks.append(self._task(window))

    def _work(self) -> None:
        while True:
            with self._lock:
                job = None
                while not (
                    self._closed or self._fatal or (job := self._next_request())
                ):
                    self._to_do.wait()
                if not job:
                    return
                task, request = job
                task.sent.add(request)
            page: Page | None = None
            error: Exception | None = None
            try:
                page = _fetch_page(self._fetch, task.range, request)
            except Exception as failure:  # noqa: BLE001 - raised where the page is awaited
                error = failure
            with self._lock:
                self._take(task, request, page, error)
                self._to_do.notify_all()
                if self._fatal or task.error or task.pages is not None:
                    self._done.notify()

    def _next_request(self) -> tuple[_Task, PageRequest] | None:
        """Choose the next request: of the first window that needs one."""
        self._admit()
        looked_at = 0
        for task in self._unfinished():
            if task.range.probing.locked():
                continue  # it is not known whether any request of this range succeeds
            if task.paginator is None:
                return task, self._begin(task)
            if task.admitted:
                for request in task.paginator.wanted:
                    if request not in task.sent:
                        return task, request
            else:
                looked_at += 1
                if looked_at >= self._ahead:
                    break
        return None

    def _unfinished(self) -> Iterator[_Task]:
        failed: set[_Range] = set()
        for task in self._tasks:
            if task.error:
                failed.add(task.range)
            elif task.range not in failed and task.pages is None:
                yield task

    def _admit(self) -> None:
        """Reserve memory for windows, in order, as far as their size is known."""
        held = [task.rows for task in self._tasks if task.admitted]
        for task in self._unfinished():
            if not task.admitted:
                if task.paginator is None or task.paginator.first is None:
                    return
                if (
                    task is not self._tasks[0]
                    and len(held) >= WINDOWS_IN_MEMORY
                    and sum(held) + task.rows > ROWS_IN_MEMORY * self._concurrency
                ):
                    return
                task.admitted = True
                held.append(task.rows)

    def _begin(self, task: _Task) -> PageRequest:
        task.window, *rest = task.range.limit.take(task.window)
        place = self._tasks.index(task) + 1
        self._tasks[place:place] = [_Task(task.range, window) for window in rest]
        task.paginator = TotalPagesPaginator(task.window, self._longest_page)
        return task.paginator.wanted[0]

    def _take(
        self,
        task: _Task,
        request: PageRequest,
        page: Page | None,
        error: Exception | None,
    ) -> None:
        """Take the outcome of a request; the lock is held."""
        if task not in self._tasks or task.error:
            return
        if request.window != task.window and isinstance(error, WindowTooLarge):
            error = UnleashError(str(error))
        error = error or self._receive(task, request, page)
        limit = task.range.limit
        windows = error.windows if isinstance(error, WindowTooLarge) else []
        if windows or task.pages is not None:
            limit.accept(task.window.duration)
            self._longest_window = limit.longest or self._longest_window
        if isinstance(error, WindowTooLarge):
            if not windows:
                limit.reject(task.window.duration)
            self._replace(task, windows or task.window.bisect())
        elif isinstance(error, UnleashError) and not isinstance(error, FatalError):
            task.error = error
        elif error:
            self._fatal = error

    def _receive(
        self, task: _Task, request: PageRequest, page: Page | None
    ) -> Exception | None:
        if page is not None:
            self._longest_page = max(self._longest_page, len(page))
        # The paginator may ask for a page again, to see whether it is still the same.
        task.sent.discard(request)
        try:
            cast("TotalPagesPaginator", task.paginator).receive({request: page})
        except Exception as failure:  # noqa: BLE001 - raised where the pages are awaited
            return failure
        return None

    def _replace(self, task: _Task, windows: Sequence[TimeWindow]) -> None:
        place = self._tasks.index(task)
        self._tasks[place : place + 1] = [
            _Task(task.range, window) for window in windows
        ]


def read_one_by_one(
    fetch: Callable[[TimeWindow, int, bool], T], wanted: TimeWindow
) -> Iterator[T]:
    """Read a range from an endpoint without pages.

    Args:
        fetch: Requests a window; it is called with the window, the page number 1, and
            whether a shorter window can be requested instead.
        wanted: The range.

    Yields:
        The responses for the windows that it was split into, in order.

    Raises:
        UnleashError: If the range cannot be read.
    """
    within, pending = _Range(wanted), [wanted]
    while pending:
        window, *rest = within.limit.take(pending.pop())
        pending += rest
        try:
            response = _fetch_page(fetch, within, PageRequest(window, 1))
        except WindowTooLarge:
            within.limit.reject(window.duration)
            pending += reversed(window.bisect())
        else:
            within.limit.accept(window.duration)
            if response is not None:
                yield response


def _fetch_page(
    fetch: Callable[[TimeWindow, int, bool], T], within: _Range, request: PageRequest
) -> T | None:
    """Request a page; find out whether a failure is due to the length of the window."""
    window, number = request
    try:
        return fetch(window, number, window.splittable)
    except RequestRejected as error:
        if number > 1 and error.status in {400, 404, 422}:
            return None  # there is no such page, or no longer
        if error.status not in {400, 422} or not window.splittable:
            raise
        failure: UnleashError = error
    except WindowTooLarge as error:
        failure = error
    if window.duration > SECOND:
        _probe(fetch, within, window)
    raise WindowTooLarge(str(failure)) from failure


def _probe(
    fetch: Callable[[TimeWindow, int, bool], T], within: _Range, window: TimeWindow
) -> None:
    """Request the shortest part of a window.

    Raises:
        UnleashError: If it cannot be read.
    """
    # In an outage, all requests of a range fail: one probe serves them all.
    with within.probing:
        if within.unreadable:
            probed, error = within.unreadable
            if probed.start <= window.start:
                raise error
        try:
            fetch(window.minimal, 1, False)  # noqa: FBT003 - not splittable
        except UnleashError as error:
            within.unreadable = window, error
            raise
