"""Reads windows ahead, in order: the only threads of the tap."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from threading import RLock
from typing import TYPE_CHECKING, Any, TypeAlias

from tap_unleash.errors import WindowInDoubt, WindowTooLong
from tap_unleash.rules import MAX_ROWS
from tap_unleash.windows import LATEST, SECOND, PageRequest, TimeWindow

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator, Sequence

    from tap_unleash.page import Page
    from tap_unleash.pagination import TotalPagesPaginator

    Steps: TypeAlias = Generator[Sequence[PageRequest], Any, TotalPagesPaginator]


@dataclass(eq=False)
class _Task:
    """A window, and how far it is read; its outcome is `None` if parts take its place."""

    window: TimeWindow
    steps: Steps
    unsent: list[PageRequest] | None = None  # before the first step
    sent: list[Future[Page]] = field(default_factory=list)
    outcome: Future[TotalPagesPaginator | None] = field(default_factory=Future)
    rows: int = 0  # once it is read


class Reader:
    """Reads the ranges of several devices.

    The next request is that of the earliest window that has one. Without this order, all
    windows would be complete, and take memory, at the same time.
    """

    def __init__(
        self,
        fetch: Callable[[PageRequest], Page],
        new_paginator: Callable[[TimeWindow], TotalPagesPaginator],
        concurrency: int,
        ranges: Iterable[TimeWindow],
    ) -> None:
        """Prepare the tasks; nothing is sent.

        Args:
            fetch: Requests a page; called by several threads.
            new_paginator: Returns the paginator of a window.
            concurrency: Maximum number of concurrent requests.
            ranges: The ranges that `read` will be called with, to read them ahead.
        """
        self._fetch = fetch
        self._new_paginator = new_paginator
        self._idle = concurrency
        self._ahead = concurrency + 1
        self._longest = LATEST
        self._tasks = self._tasks_of(ranges)
        self._lock = RLock()
        self._pool = ThreadPoolExecutor(concurrency)

    def read(self, wanted: TimeWindow) -> Iterator[tuple[TimeWindow, TotalPagesPaginator]]:
        """Read the range of a device.

        Args:
            wanted: The range.

        Yields:
            The windows that it was split into, in order, with their finished paginators.

        Raises:
            UnleashError: If the device cannot be read.
        """
        with self._lock:
            if not self._is_next(wanted):
                self._tasks[:0] = self._tasks_of([wanted])
        self._send()
        try:
            while self._is_next(wanted):
                task = self._tasks[0]
                if paginator := task.outcome.result():
                    with self._lock:
                        self._tasks.pop(0)
                    self._send()
                    yield task.window, paginator
        finally:  # nothing is left, unless the device cannot be read
            with self._lock:
                while self._is_next(wanted):
                    self._tasks.pop(0)

    def close(self) -> None:
        """Stop without waiting for requests in flight."""
        with self._lock:
            self._tasks.clear()
            self._pool.shutdown(wait=False)

    def _is_next(self, wanted: TimeWindow) -> bool:
        return bool(self._tasks) and self._tasks[0].window.device_id == wanted.device_id

    def _tasks_of(self, windows: Iterable[TimeWindow]) -> list[_Task]:
        return [_Task(window, self._read(window)) for window in windows]

    def _send(self) -> None:
        """Send requests, those of earlier windows first, while there are idle threads."""
        place = rows = 0
        with self._lock:
            # Rows that wait to be emitted take memory.
            while self._idle and rows < MAX_ROWS and place < min(self._ahead, len(self._tasks)):
                task = self._tasks[place]
                if task.unsent is None:
                    task.unsent = []
                    self._advance(task, None)
                elif task.unsent:
                    self._idle -= 1
                    future = self._pool.submit(self._fetch, task.unsent.pop(0))
                    task.sent.append(future)
                    future.add_done_callback(partial(self._receive, task))
                else:
                    place += 1
                    rows += task.rows

    def _receive(self, task: _Task, page: Future[Page]) -> None:
        """Take a page; called by the thread that requested it."""
        pages: list[Future[Page]] = []
        with self._lock:
            self._idle += 1
            if page in task.sent:  # else another one failed
                if page.exception():
                    pages = [page]
                elif not task.unsent and all(map(Future.done, task.sent)):
                    pages = task.sent
            if pages:
                task.sent, task.unsent = [], []
        if pages:
            self._advance(task, pages)
        self._send()

    def _advance(self, task: _Task, pages: list[Future[Page]] | None) -> None:
        """Take pages, and go on to the next requests or the end."""
        try:
            task.unsent = [*task.steps.send(pages)]
        except StopIteration as stop:
            task.rows = len(stop.value.rows)
            task.outcome.set_result(stop.value)
        except WindowInDoubt as doubt:
            with self._lock:
                if task in self._tasks:
                    place = self._tasks.index(task)
                    self._tasks[place : place + 1] = self._tasks_of(doubt.parts)
            task.outcome.set_result(None)
        except Exception as error:  # noqa: BLE001 - `read` raises it
            task.outcome.set_exception(error)

    def _read(self, window: TimeWindow) -> Steps:
        if len(parts := window.limited_to(self._longest)) > 1:
            raise WindowInDoubt(parts)
        paginator = self._new_paginator(window)
        while not paginator.finished:
            try:
                pages = [page.result() for page in (yield paginator.current_value)]
            except WindowTooLong:
                if paginator.current_value[0].window != window:
                    raise
                # If its first second is not answered, either, its length is not the cause.
                first_second = yield [PageRequest(window.limited_to(SECOND)[0], 1)]
                first_second[0].result()
                self._longest = min(self._longest, window.duration // 2)
                raise WindowInDoubt(window.bisect()) from None
            if 2 * window.duration > self._longest and not paginator.count:
                # It may be a limit of rows, which the next windows do not reach.
                self._longest += self._longest // 16
            paginator.advance(pages)  # type: ignore[arg-type]
        return paginator
