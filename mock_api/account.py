"""The data of the mock API: devices, their rows, and when each row is visible."""

from __future__ import annotations

import time
from array import array
from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from functools import lru_cache
from itertools import chain
from random import Random
from threading import Lock
from typing import Any
from zlib import crc32

from mock_api.history import SECOND, History

Values = Mapping[str, Any]
Expired = tuple[int, int]
"""The last expired row of a device, by its instant and its number."""

START = datetime(2020, 8, 3, tzinfo=timezone.utc)
END = datetime(2020, 8, 17, tzinfo=timezone.utc)

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_EVER = (-(2**63), 2**63)
_ADDED = 2**40  # numbers of added rows start here; no history is that long


def instant(text: str) -> int:
    """Return the instant of a timestamp, in microseconds since 1970."""
    moment = datetime.fromisoformat(text.replace("Z", "+00:00"))
    return (moment.replace(tzinfo=moment.tzinfo or timezone.utc) - _EPOCH) // timedelta(
        microseconds=1
    )


@dataclass(frozen=True)
class Row:
    """A row as the API sends it, and the instant by which ranges find it.

    Attributes:
        values: The columns. A `msgspec.Raw` is sent byte for byte, even if it is not
            valid JSON.
        instant: Microseconds since 1970; taken from the `timestamp` column by default.
        after_requests: It is visible only after this many requests for its device.
        after_time: It is visible only from this time on, in seconds since 1970.
        until_requests: It is visible to this many requests for its device only.
    """

    values: Values
    instant: int | None = None
    after_requests: int = 0
    after_time: float = 0
    until_requests: int | None = None

    def visible(self, request: int) -> bool:
        """Return whether the device's request of this number, made now, has the row."""
        return (
            self.after_requests < request
            and (self.until_requests is None or request <= self.until_requests)
            and self.after_time <= time.time()
        )

    def place(self) -> int:
        """Return the instant of the row, in microseconds since 1970."""
        if self.instant is not None:
            return self.instant
        return instant(self.values["timestamp"])


@dataclass(frozen=True)
class View:
    """The rows of a device in a range, in time order, built on demand."""

    history: History
    span: range
    added: Sequence[Row]
    numbers: tuple[int, ...]
    instants: tuple[int, ...]
    ranks: tuple[int, ...]

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.span) + len(self.added)

    def __getitem__(self, rank: int) -> Values:
        """Build the row of this rank."""
        if not self.ranks:
            return self.history.row(self.span[rank])
        before = bisect_left(self.ranks, rank)
        if self.ranks[before : before + 1] == (rank,):
            return self.added[before].values
        return self.history.row(self.span[rank - before])

    def __iter__(self) -> Iterator[Values]:
        """Build all rows, one by one."""
        return map(self.__getitem__, range(len(self)))

    def instant(self, rank: int) -> int:
        """Return the instant of the row of this rank, without building the row."""
        number = self._number(rank)
        if number >= _ADDED:
            return self.instants[bisect_left(self.ranks, rank)]
        return self.history.instant(number)

    def shuffled(self, salt: str) -> Sequence[int]:
        """Return all ranks in a random order, which rows added later do not change."""
        return _shuffled(self.span, self.ranks, self.numbers, salt)

    def ties_shuffled(
        self, salt: str, start: int, stop: int, *, descending: bool = False
    ) -> Sequence[int]:
        """Return some ranks of the time order, those of equal instants shuffled.

        Args:
            salt: The seed of the random order.
            start: The first position.
            stop: The position after the last one.
            descending: Whether the latest row comes first.
        """
        total = len(self)
        stop = min(stop, total)
        if start >= stop:
            return ()
        if descending:
            start, stop = total - stop, total - start
        # Rows that share an instant with either end may replace them.
        every = range(total)
        first = bisect_left(every, self.instant(start), key=self.instant)
        last = bisect_right(every, self.instant(stop - 1), key=self.instant)
        seed = _seed(salt)
        chosen = sorted(
            range(first, last),
            key=lambda rank: (self.instant(rank), _place(seed, self._number(rank))),
        )[start - first : stop - first]
        return chosen[::-1] if descending else chosen

    def _number(self, rank: int) -> int:
        """Return the number of a row, which does not depend on the other rows."""
        before = bisect_left(self.ranks, rank)
        if self.ranks[before : before + 1] == (rank,):
            return _ADDED + self.numbers[before]
        return self.span[rank - before]


def _seed(salt: str) -> int:
    return crc32(salt.encode())


def _place(seed: int, number: int) -> int:
    """Return the place of a row in a random order."""
    # Python hashes a tuple of integers in the same way in every process. The hashes of one
    # tuple are so regular that the orders of two seeds would be alike.
    return hash((hash((seed, number)), seed, number))


@lru_cache(maxsize=64)
def _shuffled(
    span: range, ranks: tuple[int, ...], numbers: tuple[int, ...], salt: str
) -> Sequence[int]:
    added = dict(zip(ranks, numbers, strict=True))
    old = iter(span)
    seed = _seed(salt)
    keys = [
        _place(seed, _ADDED + added[rank] if rank in added else next(old))
        for rank in range(len(span) + len(ranks))
    ]
    return array("I", sorted(range(len(keys)), key=keys.__getitem__))


class Device:
    """One device: a generated history, possibly empty, and rows added to it."""

    def __init__(self, history: History) -> None:
        """Start with the history alone."""
        self.history = history
        self._added: list[tuple[int, int, Row]] = []

    @property
    def additions(self) -> int:
        """The number of added rows."""
        return len(self._added)

    def add(self, row: Row) -> None:
        """Insert a row in time order, after those of the same instant."""
        insort(self._added, (row.place(), len(self._added), row))

    def view(self, since: int, until: int, request: int, expired: Expired | None = None) -> View:
        """Select since <= instant < until, as the request of this number sees it."""
        old = self.history.rows
        span = range(
            bisect_left(old, since, key=self.history.instant),
            bisect_left(old, until, key=self.history.instant),
        )
        low, high = (
            bisect_left(self._added, (since,)),
            bisect_left(self._added, (until,)),
        )
        if expired:
            first, lowest = self._retained(expired)
            span = range(max(span.start, first), max(span.stop, first))
            low = max(low, lowest)
        added = [entry for entry in self._added[low:high] if entry[2].visible(request)]
        ranks = (
            bisect_right(old, instant, span.start, span.stop, key=self.history.instant)
            - span.start
            + rank
            for rank, (instant, _, _) in enumerate(added)
        )
        return View(
            history=self.history,
            span=span,
            added=[row for _, _, row in added],
            numbers=tuple(number for _, number, _ in added),
            instants=tuple(instant for instant, _, _ in added),
            ranks=tuple(ranks) if span else tuple(range(len(added))),
        )

    def expire(self, count: int, expired: Expired | None = None) -> Expired | None:
        """Return the last expired row after so many more of the oldest rows expire."""
        index, place = self._retained(expired) if expired else (0, 0)
        for _ in range(count):
            old = self.history.instant(index) if index in self.history.rows else None
            added = self._added[place][:2] if place < len(self._added) else None
            if added and (old is None or added[0] < old):
                expired = (added[0], _ADDED + added[1])
                place += 1
            elif old is not None:
                expired = (old, index)
                index += 1
        return expired

    def _retained(self, expired: Expired) -> tuple[int, int]:
        """Return the index of the first retained row of the history, and of the added."""
        instant, number = expired
        if number < _ADDED:
            return number + 1, bisect_left(self._added, (instant,))
        return (
            bisect_right(self.history.rows, instant, key=self.history.instant),
            bisect_left(self._added, (instant, number - _ADDED + 1)),
        )

    def newest(self) -> int | None:
        """The instant of the newest row."""
        instants = [instant for instant, _, _ in self._added[-1:]]
        if self.history.rows:
            instants.append(self.history.instant(self.history.rows[-1]))
        return max(instants, default=None)

    def session_ids(self) -> Iterable[str]:
        """The sessions of all its rows."""
        added = (row.values.get("session_id") for _, _, row in self._added)
        return chain(
            self.history.session_ids(),
            (value for value in added if isinstance(value, str)),
        )


class Account:
    """The contents of an account: devices, their rows, and the list of sessions."""

    def __init__(
        self,
        devices: Mapping[str, Iterable[Row]] | None = None,
        *,
        sessions: Sequence[str] | None = None,
        listed: Sequence[str] | None = None,
        removed: Mapping[str, int] | None = None,
    ) -> None:
        """Create an account of explicit rows.

        Args:
            devices: The rows of each device, in any order.
            sessions: The list of sessions; by default, those of the rows.
            listed: The list of devices if it differs, for example with a duplicate.
            removed: Devices that disappear after so many requests for their rows.
        """
        self.devices: dict[str, Device] = {}
        self._sessions = sessions
        self._listed = listed
        self._removed = removed or {}
        self._lock = Lock()
        for device_id, rows in (devices or {}).items():
            self.add(device_id, rows)

    @classmethod
    def generate(  # noqa: PLR0913 - each has a default
        cls,
        *,
        devices: int = 4,
        rows: int = 1000,
        seed: int = 0,
        start: datetime = START,
        end: datetime = END,
        non_ascii: bool = False,
        rows_per_second: int | None = None,
    ) -> Account:
        """Create a realistic account, the same for the same arguments.

        Args:
            devices: The number of devices. Every fourth has no rows.
            rows: The number of rows of each other device.
            seed: The seed of the data.
            start: The start of the data, inclusive.
            end: The end of the data, exclusive.
            non_ascii: Whether some names of classes, models and files are not ASCII.
            rows_per_second: The number of rows in each second from the start on, whatever
                the end is; some of them are identical. By default, the rows are spread
                over the time.
        """
        account = cls()
        random = Random(seed)
        for number in range(devices):
            device_id = f"W{random.getrandbits(60):015x}"
            count = 0 if number % 4 == 3 else rows  # noqa: PLR2004
            account.devices[device_id] = Device(
                History(
                    device_id,
                    count,
                    seed=seed,
                    start=start,
                    end=end,
                    non_ascii=non_ascii,
                    rows_per_second=rows_per_second,
                )
            )
        return account

    def add(self, device_id: str, rows: Iterable[Row]) -> None:
        """Add rows to a device, which may be new."""
        with self._lock:
            device = self.devices.setdefault(device_id, _silent(device_id))
            for row in rows:
                device.add(row)

    def grow(self, count: int, *, late_minutes: int = 0) -> int:
        """Add generated rows to every device that has some, and return the total.

        Args:
            count: The number of new rows per device.
            late_minutes: How long before the newest row they start; 0 is after it.
        """
        grown = 0
        for device_id, device in self.devices.items():
            newest = device.newest()
            if newest is None:
                continue
            start = _EPOCH + timedelta(seconds=newest // SECOND + 1 - 60 * late_minutes)
            end = start + timedelta(seconds=60 * late_minutes - 1 if late_minutes else count)
            history = History(
                device_id,
                count,
                seed=device.additions,
                start=start,
                end=end,
                non_ascii=device.history.non_ascii,
                rows_per_second=device.history.rows_per_second,
            )
            self.add(
                device_id,
                [Row(history.row(n), history.instant(n)) for n in history.rows],
            )
            grown += count
        return grown

    def has(self, device_id: str, request: int) -> bool:
        """Return whether the device exists for its request of this number."""
        return device_id in self.devices and request <= self._removed.get(device_id, request)

    def view(
        self,
        device_id: str,
        *,
        since: int = _EVER[0],
        until: int = _EVER[1],
        request: int,
        expired: Expired | None = None,
    ) -> View:
        """Select rows, since <= instant < until in microseconds since 1970."""
        with self._lock:
            return self.devices[device_id].view(since, until, request, expired)

    def expire(self, device_id: str, count: int, expired: Expired | None) -> Expired | None:
        """Return the last expired row of a device after so many more rows expire."""
        with self._lock:
            return self.devices[device_id].expire(count, expired)

    def listing(self, requests: Mapping[str, int]) -> list[str]:
        """List the devices that exist after so many requests for each."""
        listed = self.devices if self._listed is None else self._listed
        return [
            name
            for name in listed
            if self.has(name, requests.get(name, 0) + 1) or name not in self.devices
        ]

    def session_ids(self) -> list[str]:
        """List the sessions."""
        if self._sessions is not None:
            return list(self._sessions)
        with self._lock:
            return list(
                dict.fromkeys(
                    chain.from_iterable(device.session_ids() for device in self.devices.values())
                )
            )


def _silent(device_id: str) -> Device:
    return Device(History(device_id, 0, seed=0, start=START, end=END))
