"""The data of the mock API: devices, their rows, and when each row is visible."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from random import Random
from typing import Any, NamedTuple

from mock_api.history import SECOND, detections

START = datetime(2020, 8, 3, tzinfo=timezone.utc)
END = datetime(2020, 8, 17, tzinfo=timezone.utc)
Values = Mapping[str, Any]

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


@dataclass(frozen=True)
class Row:
    """A row as the API sends it.

    Attributes:
        values: The columns.
        after_requests: It is visible only after this many requests for its device.
    """

    values: Values
    after_requests: int = 0


class Held(NamedTuple):
    """A row of a device.

    Attributes:
        instant: Its time, in microseconds since 1970.
        number: The number of rows that its device had before it was added.
        row: The row.
    """

    instant: int
    number: int
    row: Row


class Account:
    """The contents of an account: devices and their rows, in time order."""

    def __init__(self, devices: Mapping[str, Iterable[Row]] | None = None) -> None:
        """Create an account of explicit rows, in any order."""
        # The rows of a device are replaced, never changed: another thread may read them.
        self.devices: dict[str, list[Held]] = {}
        # After so many requests, all rows of a device are visible.
        self.settled: dict[str, int] = {}
        self._form: dict[str, Any] = {}
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
        **form: Any,
    ) -> Account:
        """Create a realistic account, the same for the same arguments.

        Args:
            devices: The number of devices. Every fourth has no rows.
            rows: The number of rows of each other device.
            seed: The seed of the data.
            start: The start of the data, inclusive.
            end: The end of the data, exclusive.
            **form: The form of the data; see `mock_api.history.detections`.
        """
        account = cls()
        account._form = form
        random = Random(seed)
        for number in range(devices):
            device_id = f"W{random.getrandbits(60):015x}"
            count = 0 if number % 4 == 3 else rows  # noqa: PLR2004
            account._generate(device_id, count, seed=seed, start=start, end=end)
        return account

    def add(self, device_id: str, rows: Iterable[Row]) -> None:
        """Add rows to a device, which may be new."""
        old = self.devices.get(device_id, [])
        new = (
            Held(instant(row.values["timestamp"]), number, row)
            for number, row in enumerate(rows, len(old))
        )
        every = sorted([*old, *new])
        self.settled[device_id] = max((held.row.after_requests for held in every), default=0)
        self.devices[device_id] = every

    def grow(self, count: int, *, late_minutes: int = 0) -> None:
        """Add generated rows to every device that has some.

        Args:
            count: The number of new rows per device.
            late_minutes: How long before the newest row they start; 0 is after it.
        """
        for device_id, rows in list(self.devices.items()):
            if rows:
                newest = rows[-1].instant // SECOND
                start = _EPOCH + timedelta(seconds=newest + 1 - 60 * late_minutes)
                extent = 60 * late_minutes - 1 if late_minutes else count
                end = start + timedelta(seconds=extent)
                self._generate(device_id, count, seed=len(rows), start=start, end=end)

    def session_ids(self) -> list[str]:
        """List the sessions."""
        rows = (held.row for device in list(self.devices.values()) for held in device)
        found = dict.fromkeys(row.values.get("session_id") for row in rows)
        return [session for session in found if isinstance(session, str)]

    def _generate(self, device_id: str, count: int, **extent: Any) -> None:
        made = detections(device_id, count, **extent, **self._form)
        self.add(device_id, map(Row, made))


def instant(text: str) -> int:
    """Return the instant of a timestamp, in microseconds since 1970."""
    moment = datetime.fromisoformat(text.replace("Z", "+00:00"))
    moment = moment.replace(tzinfo=moment.tzinfo or timezone.utc)
    return (moment - _EPOCH) // timedelta(microseconds=1)
