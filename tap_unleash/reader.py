"""Reads windows ahead, in order: the only threads of the tap."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Condition
from typing import TYPE_CHECKING

from tap_unleash.errors import UnleashError, WindowInDoubt, WindowTooLong
from tap_unleash.windows import LATEST, SECOND, PageRequest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from tap_unleash.page import Page
    from tap_unleash.pagination import TotalPagesPaginator
    from tap_unleash.windows import TimeWindow


@dataclass
class _Task:
    window: TimeWindow
    paginator: Future[TotalPagesPaginator] | None = None


class _Limit:
    """The longest window that the API answers; a longer one is tried now and then."""

    longest = LATEST
    _answered = 0
    _patience = 1
    _trial = False

    def accept(self, duration: int) -> None:
        if 2 * duration > self.longest:
            self._answered += 1
        if self._answered > self._patience:
            self._patience = 1 if self._trial else self._patience
            self.longest, self._answered, self._trial = 2 * self.longest, 0, True

    def refuse(self, duration: int) -> None:
        if duration <= self.longest:
            self._patience = 2 * self._patience if self._trial else self._patience
            self.longest, self._answered, self._trial = duration // 2, 0, False


class _Slots:
    """Lets requests through, at most so many at a time, those of earlier windows first.

    Without an order, all windows would be complete, and take memory, at the same time.
    """

    def __init__(self, free: int) -> None:
        self._free = free
        self._waiting: list[tuple[int, int]] = []
        self._changed = Condition()

    @contextmanager
    def take(self, place: tuple[int, int]) -> Iterator[None]:
        with self._changed:
            self._waiting.append(place)
            self._changed.wait_for(lambda: self._free and min(self._waiting) == place)
            self._waiting.remove(place)
            self._free -= 1
            self._changed.notify_all()
        try:
            yield
        finally:
            with self._changed:
                self._free += 1
                self._changed.notify_all()


class Reader:
    """Reads the ranges of several devices.

    One pool of threads reads windows, each by a paginator; the other sends their requests.
    """

    def __init__(
        self,
        fetch: Callable[[PageRequest], Page],
        new_paginator: Callable[[TimeWindow], TotalPagesPaginator],
        concurrency: int,
        ranges: Iterable[TimeWindow],
    ) -> None:
        """Start without any thread.

        Args:
            fetch: Requests a page; called by several threads.
            new_paginator: Returns the paginator of a window.
            concurrency: Maximum number of concurrent requests.
            ranges: The ranges that `read` will be called with, to read them ahead.
        """
        self._fetch = fetch
        self._new_paginator = new_paginator
        self._ahead = concurrency + 1
        self._upcoming = iter(ranges)
        self._tasks: list[_Task] = []
        self._limit = _Limit()
        self._windows = ThreadPoolExecutor(self._ahead)
        self._requests = ThreadPoolExecutor(concurrency)
        self._slots = _Slots(concurrency)
        self._order: dict[str, int] = {}

    def read(self, wanted: TimeWindow) -> Iterator[tuple[TimeWindow, TotalPagesPaginator]]:
        """Read the range of a device.

        Args:
            wanted: The range.

        Yields:
            The windows that it was split into, in order, with their finished paginators.

        Raises:
            UnleashError: If the device cannot be read.
        """
        self._fill()
        if not self._is_next(wanted):
            self._tasks.insert(0, _Task(wanted))
        try:
            while self._is_next(wanted):
                self._fill()
                read = self._tasks[0].paginator
                assert read  # noqa: S101 - by `_fill`
                if not self._divide(0, read):
                    yield self._tasks.pop(0).window, read.result()
        finally:  # nothing is left, unless the device cannot be read
            while self._is_next(wanted):
                if future := self._tasks.pop(0).paginator:
                    future.cancel()

    def close(self) -> None:
        """Stop without waiting for requests in flight."""
        self._windows.shutdown(wait=False, cancel_futures=True)
        self._requests.shutdown(wait=False, cancel_futures=True)

    def _is_next(self, wanted: TimeWindow) -> bool:
        return bool(self._tasks) and self._tasks[0].window.device_id == wanted.device_id

    def _fill(self) -> None:
        """Begin to read the next windows."""
        for place in range(self._ahead):
            if place == len(self._tasks):
                if not (upcoming := next(self._upcoming, None)):
                    return
                self._tasks.append(_Task(upcoming))
            read = self._tasks[place].paginator
            if read and read.done() and place <= self._ahead // 4:
                self._divide(place, read)  # of few, because their pages are held
            task = self._tasks[place]
            if task.paginator is None:
                task.window, *rest = task.window.limited_to(self._limit.longest)
                self._tasks[place + 1 : place + 1] = map(_Task, rest)
                task.paginator = self._windows.submit(self._read, task.window)

    def _divide(self, place: int, read: Future[TotalPagesPaginator]) -> bool:
        """Wait for a window, and replace it by its parts if it is in doubt."""
        doubt = read.exception()
        if divided := isinstance(doubt, WindowInDoubt):
            self._tasks[place : place + 1] = map(_Task, doubt.parts)
        return divided

    def _read(self, window: TimeWindow) -> TotalPagesPaginator:
        paginator = self._new_paginator(window)
        while not paginator.finished:
            try:
                pages = self._send(paginator.current_value)
            except WindowTooLong:
                if paginator.current_value[0].window != window:
                    raise
                # If its first second is not answered, either, its length is not the cause.
                self._send([PageRequest(window.limited_to(SECOND)[0], 1)])
                self._limit.refuse(window.duration)
                raise WindowInDoubt(window.bisect()) from None
            if not paginator.count:
                self._limit.accept(window.duration)
            paginator.advance(pages)  # type: ignore[arg-type]
        return paginator

    def _send(self, requests: Sequence[PageRequest]) -> list[Page]:
        if len(requests) == 1:
            return [self._send_one(*requests)]
        futures = [self._requests.submit(self._send_one, request) for request in requests]
        try:
            return [future.result() for future in futures]
        except UnleashError:
            for future in futures:
                future.cancel()
            raise

    def _send_one(self, request: PageRequest) -> Page:
        device_id, start = request.window.device_id, request.window.start
        with self._slots.take((self._order.setdefault(device_id, len(self._order)), start)):
            return self._fetch(request)
