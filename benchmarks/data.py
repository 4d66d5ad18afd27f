"""The rows every program reads: always the same, shaped like the documented ones."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterator

PAGE_ROWS = 1_000

_FIRST_FLIGHT = datetime(2024, 1, 1, 9, tzinfo=timezone.utc)
_FLIGHT_SECONDS = 600
_FRAMES_PER_SECOND = 30
_METRICS = (
    "this_frame_persons_count",
    "total_count",
    "number_of_groups",
    "num_individuals",
    "group_pixel_size",
)


class Row(msgspec.Struct, frozen=True):
    """A row of the API."""

    class_name: str
    count: float
    device_id: str
    frame_number: int
    model_id: str
    session_id: str
    source_file_name: str
    timestamp: str


@dataclass(frozen=True)
class Shape:
    """The size of an account."""

    devices: int
    rows: int  # per device

    @property
    def device_ids(self) -> list[str]:
        """All devices."""
        first = 0xB8FABC31378C000
        return [f"W{first + n:015x}" for n in range(self.devices)]

    def scaled(self, divisor: int) -> Shape:
        """Return a shape with fewer rows per device."""
        return replace(self, rows=self.rows // divisor)

    def all_rows(self) -> Iterator[Row]:
        """Generate all rows of the account, device after device."""
        for device_id in self.device_ids:
            yield from self.device_rows(device_id)

    def device_rows(self, device_id: str) -> Iterator[Row]:
        """Generate the rows of one device in the order of their timestamps."""
        return _flight_rows(device_id, self.rows)


def _flight_rows(device_id: str, left: int) -> Iterator[Row]:
    """Generate a flight of ten minutes per day, with one frame per second.

    A frame has a row for each metric and one for each group of people; groups of the same
    size have identical rows.
    """
    chance = random.Random(device_id)
    flight = _FIRST_FLIGHT
    model = "sparse-crowd-density-alphapose"
    while True:
        session = str(round(flight.timestamp() * 1000))
        file = f"{device_id}-{session[:-3]}-{flight:%d-%b-%y-%H-%M-%S}.mp4"
        for second in range(_FLIGHT_SECONDS):
            time = f"{flight + timedelta(seconds=second):%Y-%m-%dT%H:%M:%S}.000Z"
            frame = 1 + second * _FRAMES_PER_SECOND
            groups = ("number_of_persons_in_group",) * chance.randint(1, 3)
            for name in _METRICS + groups:
                if not left:
                    return
                left -= 1
                count = chance.randint(1, 4)
                yield Row(name, count, device_id, frame, model, session, file, time)
        flight += timedelta(days=1)
