"""The data of the mock API: devices, their rows, and when each row can be seen."""

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

START = datetime(2020, 8, 3, tzinfo=timezone.utc)
END = datetime(2020, 8, 17, tzinfo=timezone.utc)

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_EVER = (-(2**63), 2**63)


@dataclass(frozen=True)
class Row:
    """A row as the API sends it, and the instant by which ranges find it.

    Attributes:
        values: The columns, sent as they are, a `msgspec.Raw` to the letter.
        instant: Microseconds since 1970; read off the `timestamp` column if not given.
        after_requests: It is seen only after this many requests for its device.
        after_time: It is seen only from this time on, in seconds since 1970.
    """

    values: Values
    instant: int | None = None
    after_requests: int = 0
    after_time: float = 0

    def seen(self, request: int) -> bool:
        """Whether the device's request of this number sees the row if it comes now."""
        return self.after_requests < request and self.after_time <= time.time()

    def place(self) -> int:
        """The row's place in time, in microseconds since 1970."""
        if self.instant is not None:
            return self.instant
        moment = datetime.fromisoformat(self.values["timestamp"].replace("Z", "+00:00"))
        return (
            moment.replace(tzinfo=moment.tzinfo or timezone.utc) - _EPOCH
        ) // timedelta(microseconds=1)


@dataclass(frozen=True)
class View:
    """The rows of a device in a range, in time order, built when asked for."""

    history: History
    span: range
    added: Sequence[Row]
    numbers: tuple[int, ...]
    ranks: tuple[int, ...]

    def __len__(self) -> int:
        """Count the rows."""
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
        """Build all rows, one after the other."""
        return map(self.__getitem__, range(len(self)))

    def shuffled(self, salt: str) -> Sequence[int]:
        """Give the ranks in a random order, which rows added later do not upset."""
        return _shuffled(self.span, self.ranks, self.numbers, salt)


@lru_cache(maxsize=64)
def _shuffled(
    span: range, ranks: tuple[int, ...], numbers: tuple[int, ...], salt: str
) -> Sequence[int]:
    added = dict(zip(ranks, numbers, strict=True))
    old = iter(span)
    seed = crc32(salt.encode())
    keys = [
        crc32(b"%d" % (-1 - added[rank] if rank in added else next(old)), seed)
        for rank in range(len(span) + len(ranks))
    ]
    return array("I", sorted(range(len(keys)), key=keys.__getitem__))


class Device:
    """One device: a generated history, maybe empty, and rows added to it."""

    def __init__(self, history: History) -> None:
        """Begin with the history alone."""
        self.history = history
        self._added: list[tuple[int, int, Row]] = []

    @property
    def additions(self) -> int:
        """How many rows were added."""
        return len(self._added)

    def add(self, row: Row) -> None:
        """Put a row in its place in time, after those of the same instant."""
        insort(self._added, (row.place(), len(self._added), row))

    def view(self, since: int, until: int, request: int) -> View:
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
        added = [entry for entry in self._added[low:high] if entry[2].seen(request)]
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
            ranks=tuple(ranks) if span else tuple(range(len(added))),
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
    """All that an account has: devices, their rows, and the list of sessions."""

    def __init__(
        self,
        devices: Mapping[str, Iterable[Row]] | None = None,
        *,
        sessions: Sequence[str] | None = None,
        listed: Sequence[str] | None = None,
        removed: Mapping[str, int] | None = None,
    ) -> None:
        """Make an account of explicit rows.

        Args:
            devices: The rows of each device, in any order.
            sessions: The list of sessions; those of the rows if not given.
            listed: The list of devices, where it differs: with a duplicate, say.
            removed: Devices that are gone after so many requests for their rows.
        """
        self.devices: dict[str, Device] = {}
        self._sessions = sessions
        self._listed = listed
        self._removed = removed or {}
        self._lock = Lock()
        for device_id, rows in (devices or {}).items():
            self.add(device_id, rows)

    @classmethod
    def generate(
        cls,
        *,
        devices: int = 4,
        rows: int = 1000,
        seed: int = 0,
        start: datetime = START,
        end: datetime = END,
    ) -> Account:
        """Make an account that looks real; the same for the same arguments.

        Args:
            devices: How many devices. Every fourth is silent.
            rows: How many rows each of the others has.
            seed: What the account is made from.
            start: Where its time begins.
            end: Where its time ends, itself not included.
        """
        account = cls()
        random = Random(seed)
        for number in range(devices):
            device_id = f"W{random.getrandbits(60):015x}"
            count = 0 if number % 4 == 3 else rows  # noqa: PLR2004
            account.devices[device_id] = Device(
                History(device_id, count, seed=seed, start=start, end=end)
            )
        return account

    def add(self, device_id: str, rows: Iterable[Row]) -> None:
        """Add rows to a device, new ones or late ones; the device may be new too."""
        with self._lock:
            device = self.devices.setdefault(device_id, _silent(device_id))
            for row in rows:
                device.add(row)

    def grow(self, count: int, *, late_minutes: int = 0) -> int:
        """Add generated rows to every device that has some; return how many in all.

        Args:
            count: How many rows a device gets.
            late_minutes: How far behind the newest row they begin; 0 is after it.
        """
        grown = 0
        for device_id, device in self.devices.items():
            newest = device.newest()
            if newest is None:
                continue
            start = _EPOCH + timedelta(seconds=newest // SECOND + 1 - 60 * late_minutes)
            end = start + timedelta(
                seconds=60 * late_minutes - 1 if late_minutes else count
            )
            history = History(
                device_id, count, seed=device.additions, start=start, end=end
            )
            self.add(
                device_id,
                [Row(history.row(n), history.instant(n)) for n in history.rows],
            )
            grown += count
        return grown

    def has(self, device_id: str, request: int) -> bool:
        """Whether the device is there for its request of this number."""
        return device_id in self.devices and request <= self._removed.get(
            device_id, request
        )

    def view(
        self,
        device_id: str,
        *,
        since: int = _EVER[0],
        until: int = _EVER[1],
        request: int,
    ) -> View:
        """Select rows, since <= instant < until in microseconds since 1970."""
        with self._lock:
            return self.devices[device_id].view(since, until, request)

    def listing(self, requests: Mapping[str, int]) -> list[str]:
        """List the devices there are after so many requests of each."""
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
                    chain.from_iterable(
                        device.session_ids() for device in self.devices.values()
                    )
                )
            )


def _silent(device_id: str) -> Device:
    return Device(History(device_id, 0, seed=0, start=START, end=END))
