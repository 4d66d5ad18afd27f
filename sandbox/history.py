"""Made-up detections that look real: the rows of one device, each computed when it is asked for."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any
from zlib import crc32

SECOND = 1_000_000

_CROWD = (
    "total_count",
    "number_of_persons_in_group",
    "number_of_persons_in_group",
    "group_pixel_size",
    "number_of_groups",
    "num_individuals",
    "this_frame_persons_count",
    "number_of_persons_in_group",
)
_TRAFFIC = (
    "person",
    "truck",
    "car",
    "bicycle",
    "bus",
    "motorbike",
    "dog",
    "total_count",
)
_DEFECTS = (
    "corrosion",
    "crack",
    "Rost – Stütze",
    "vegetation",
    "nest",
    "insulator",
    "spalling",
    "total_count",
)
_MODELS = (
    ("sparse-crowd-density-alphapose", _CROWD),
    ("starter-ai", _TRAFFIC),
    ("asset-inspection-v2", _DEFECTS),
    ("contagem-de-veículos", _TRAFFIC),
)

# Frames hold a varying number of rows, in a cycle, so that the frame of a row is arithmetic and not a search.
_FRAME_SIZES = (1, 6, 3, 8, 2)
_CYCLE = tuple(
    (frame, place) for frame, size in enumerate(_FRAME_SIZES) for place in range(size)
)
_ROWS_PER_SESSION = 12 * len(_CYCLE)
_FRAMES_PER_SESSION = 12 * len(_FRAME_SIZES)


@dataclass(frozen=True, slots=True)
class _Session:
    """What the rows of one session share."""

    begin: int
    session_id: str
    model_id: str
    classes: tuple[str, ...]
    source_file_name: str | None
    first_frame: int


class History:
    """The rows of a device in time order, a pure function of the seed, the device and the index.

    Nothing is stored, so millions of rows take no memory and no time to start with.
    """

    def __init__(
        self, device_id: str, rows: int, *, seed: int, start: datetime, end: datetime
    ) -> None:
        """Spread `rows` rows over sessions in [start, end)."""
        self.device_id = device_id
        self.rows = range(rows)
        self._salt = crc32(f"{seed}/{device_id}".encode())
        self._start = int(start.timestamp()) * SECOND
        sessions = -(-rows // _ROWS_PER_SESSION) or 1
        self._slot = (int(end.timestamp()) * SECOND - self._start) // sessions
        self._frame_time = min(SECOND, self._slot // 2 // _FRAMES_PER_SESSION)
        self._last = (-1, self._session(0))

    def instant(self, index: int) -> int:
        """Microseconds since 1970 of a row; never less than the row before."""
        session, within = divmod(index, _ROWS_PER_SESSION)
        return self._instant(self._begin(session), within)

    def row(self, index: int) -> dict[str, Any]:
        """The row as the API gives it, columns in the order of its `keys`."""
        number, within = divmod(index, _ROWS_PER_SESSION)
        last, session = self._last
        if last != number:
            session = self._session(number)
            self._last = (number, session)
        cycle, rest = divmod(within, len(_CYCLE))
        frame, place = _CYCLE[rest]
        frame += cycle * len(_FRAME_SIZES)
        noise = crc32(b"%d/%d" % (number, frame), self._salt)
        # In every other frame all counts are one, so that rows of groups are equal to the letter.
        count: float = 1 + (noise >> (place if noise & 1 else 0)) % 5
        class_name = session.classes[place]
        if class_name == "group_pixel_size":
            count *= 12.5
        return {
            "class_name": class_name,
            "count": count,
            "device_id": self.device_id,
            "frame_number": session.first_frame + 25 * frame,
            "model_id": session.model_id,
            "session_id": session.session_id,
            "source_file_name": session.source_file_name,
            "timestamp": timestamp(self._instant(session.begin, within)),
        }

    def session_ids(self) -> list[str]:
        """The sessions which have a row."""
        numbers = range(-(-len(self.rows) // _ROWS_PER_SESSION))
        return [str(self._begin(number) // 1000) for number in numbers]

    def _begin(self, session: int) -> int:
        slack = self._slot - self._frame_time * _FRAMES_PER_SESSION
        jitter = crc32(b"begin %d" % session, self._salt) * 1000 % max(slack, 1)
        return (self._start + session * self._slot + jitter) // 1000 * 1000

    def _instant(self, begin: int, within: int) -> int:
        cycle, rest = divmod(within, len(_CYCLE))
        frame = cycle * len(_FRAME_SIZES) + _CYCLE[rest][0]
        unit = SECOND if self._frame_time == SECOND else 1000
        return (begin + frame * self._frame_time) // unit * unit

    def _session(self, number: int) -> _Session:
        begin = self._begin(number)
        noise = crc32(b"session %d" % number, self._salt)
        model_id, classes = _MODELS[noise % len(_MODELS)]
        recorded = datetime.fromtimestamp(begin // SECOND, timezone.utc)
        recording = f"{self.device_id}-{begin // SECOND}-{recorded:%d-%b-%y-%H-%M-%S}"
        live = number % 4 == 1
        return _Session(
            begin=begin,
            session_id=str(begin // 1000),
            model_id=model_id,
            classes=classes,
            source_file_name=(
                f"{recording}.mp4",
                f"{self.device_id}?token=sneaky-firefox-{noise % 1000}",
                None,
                f"{recording}-Brücke-港口.mp4",
            )[number % 4],
            first_frame=noise % 100_000 if live else 1,
        )


def timestamp(instant: int) -> str:
    """Write an instant as the documentation does: UTC, three decimals, `Z`."""
    moment = datetime.fromtimestamp(instant // SECOND, timezone.utc)
    return f"{moment.isoformat()[:19]}.{instant % SECOND // 1000:03}Z"
