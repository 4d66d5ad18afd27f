"""The rows every program is asked to read: always the same, shaped like the documented."""

from __future__ import annotations

import random
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterator

Row: TypeAlias = tuple[str, float, str, int, str, str, str, str]

KEYS = (
    "class_name",
    "count",
    "device_id",
    "frame_number",
    "model_id",
    "session_id",
    "source_file_name",
    "timestamp",
)
PAGE_ROWS = 1_000

_FIRST_FLIGHT = datetime(2024, 1, 1, 9, tzinfo=timezone.utc)
_FRAMES_A_FLIGHT = 600
_FRAMES_A_SECOND = 30
_METRICS = (
    "this_frame_persons_count",
    "total_count",
    "number_of_groups",
    "num_individuals",
    "group_pixel_size",
)


@dataclass(frozen=True)
class Shape:
    """The size of an account.

    Attributes:
        devices: How many devices have rows.
        rows: How many rows each of them has.
        quiet: How many further devices have none.
        distinct: Whether rows share next to no values: each has a timestamp of its own, and
            a page has several sessions and files.
    """

    devices: int
    rows: int
    quiet: int = 0
    distinct: bool = False

    @property
    def total(self) -> int:
        """All rows of the account."""
        return self.devices * self.rows

    @property
    def pages(self) -> int:
        """The least requests that read all rows of the account."""
        return self.devices * -(-self.rows // PAGE_ROWS)

    @property
    def device_ids(self) -> list[str]:
        """Every device of the account, those with rows first."""
        return [
            f"W{0xB8FABC31378C000 + number:015x}"
            for number in range(self.devices + self.quiet)
        ]


def device_rows(shape: Shape, device_id: str) -> Iterator[Row]:
    """Make the rows of one device: a flight of ten minutes per day, one frame per second.

    A frame has a row for each metric and one for each group of people; groups of the same
    size give identical rows.

    Args:
        shape: The size of the account.
        device_id: The device.

    Yields:
        The rows in the order of their timestamps.
    """
    if shape.distinct:
        yield from _distinct_rows(shape, device_id)
        return
    chance = random.Random(device_id)
    left = shape.rows
    flight = _FIRST_FLIGHT
    while True:
        session = str(round(flight.timestamp() * 1000))
        recording = f"{device_id}-{session[:-3]}-{flight:%d-%b-%y-%H-%M-%S}.mp4"
        for second in range(_FRAMES_A_FLIGHT):
            timestamp = f"{flight + timedelta(seconds=second):%Y-%m-%dT%H:%M:%S}.000Z"
            frame = 1 + second * _FRAMES_A_SECOND
            for name in _METRICS + ("number_of_persons_in_group",) * chance.randint(
                1, 3
            ):
                if not left:
                    return
                left -= 1
                count = chance.randint(1, 4)
                yield (
                    name,
                    count,
                    device_id,
                    frame,
                    "sparse-crowd-density-alphapose",
                    session,
                    recording,
                    timestamp,
                )
        flight += timedelta(days=1)


def _distinct_rows(shape: Shape, device_id: str) -> Iterator[Row]:
    chance = random.Random(device_id)
    moment = _FIRST_FLIGHT
    for number in range(shape.rows):
        moment += timedelta(milliseconds=chance.randint(1, 2_000))
        file = number // chance.randint(100, 120)
        yield (
            f"class-{chance.randint(1, 200)}",
            chance.randint(1, 1_000_000) / 8,
            device_id,
            number * 7,
            f"model-{chance.randint(1, 20)}",
            str(1_704_099_600_000 + file),
            f"{device_id}-{file}.mp4",
            f"{moment:%Y-%m-%dT%H:%M:%S}.{moment.microsecond // 1000:03}Z",
        )


def all_rows(shape: Shape) -> Iterator[Row]:
    """Make every row of the account.

    Args:
        shape: The size of the account.

    Yields:
        The rows, device after device.
    """
    for device_id in shape.device_ids[: shape.devices]:
        yield from device_rows(shape, device_id)
