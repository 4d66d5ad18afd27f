"""Synthetic detections that look real, each computed when it is requested."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timezone
from functools import lru_cache
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
_TRAFFIC = ("person", "truck", "car", "bicycle", "bus", "van", "dog", "total_count")
_DEFECTS = (
    "corrosion",
    "crack",
    "pitting",
    "moss",
    "nest",
    "rust",
    "gap",
    "total_count",
)
_MODELS = (
    ("sparse-crowd-density-alphapose", _CROWD),
    ("starter-ai", _TRAFFIC),
    ("asset-inspection-v2", _DEFECTS),
    ("traffic-counter", _TRAFFIC),
)
_NON_ASCII = {
    "pitting": "Rostfraß",
    "rust": "锈",
    "traffic-counter": "contagem-de-veículos",
    "-bridge": "-Brücke-港口",
}

# Frames hold a varying number of rows, in a cycle, so that the frame of a row can be
# computed without a search.
_FRAME_SIZES = (1, 6, 3, 8, 2)
_CYCLE = [(frame, place) for frame, size in enumerate(_FRAME_SIZES) for place in range(size)]
_SESSION_ROWS = 12 * len(_CYCLE)
_SESSION_FRAMES = 12 * len(_FRAME_SIZES)


@dataclass(frozen=True)
class _Session:
    """The values that all rows of a session share."""

    begin: int
    session_id: str
    model_id: str
    classes: tuple[str, ...]
    source_file_name: str | None
    first_frame: int


@dataclass(frozen=True)
class _Frame:
    """The values that all rows of a frame share."""

    session: _Session
    timestamp: str
    noise: int


class History:
    """The rows of a device, a pure function of the seed, the device and the index.

    Nothing is stored, so millions of rows cost neither memory nor time to start with.
    """

    def __init__(  # noqa: PLR0913 - those of Account.generate
        self,
        device_id: str,
        rows: int,
        *,
        seed: int,
        start: datetime,
        end: datetime,
        non_ascii: bool = False,
        rows_per_second: int | None = None,
    ) -> None:
        """Distribute so many rows over sessions within [start, end).

        With `rows_per_second`, each second from the start on has that many rows instead.
        """
        self.device_id = device_id
        self.non_ascii = non_ascii
        self.rows_per_second = rows_per_second
        self.rows = range(rows)
        self._salt = crc32(f"{seed}/{device_id}".encode())
        self._start = int(start.timestamp()) * SECOND
        extent = int(end.timestamp()) * SECOND - self._start
        self._slot = extent // (-(-rows // _SESSION_ROWS) or 1)
        self._frame_time = min(SECOND, self._slot // 2 // _SESSION_FRAMES)
        self._session = lru_cache(maxsize=256)(self._make_session)
        self._frame = lru_cache(maxsize=4096)(self._make_frame)

    def instant(self, index: int) -> int:
        """Return the instant of a row in microseconds since 1970; rows are in order."""
        if self.rows_per_second:
            return self._start + index // self.rows_per_second * SECOND
        session, within = divmod(index, _SESSION_ROWS)
        cycle, rest = divmod(within, len(_CYCLE))
        return self._time(self._begin(session), cycle * len(_FRAME_SIZES) + _CYCLE[rest][0])

    def row(self, index: int) -> dict[str, Any]:
        """Return the row as the API sends it, columns in the documented order."""
        number, within = divmod(index, _SESSION_ROWS)
        cycle, rest = divmod(within, len(_CYCLE))
        place = _CYCLE[rest][1]
        frame_number = cycle * len(_FRAME_SIZES) + _CYCLE[rest][0]
        frame = self._frame(number, frame_number)
        session = frame.session
        class_name = session.classes[place]
        # In every other frame all counts are equal, so that rows of groups are
        # identical.
        count = 1 + (frame.noise >> (place if frame.noise & 1 else 0)) % 5
        return {
            "class_name": class_name,
            "count": count * 12.5 if class_name == "group_pixel_size" else count,
            "device_id": self.device_id,
            "frame_number": session.first_frame + 25 * frame_number,
            "model_id": session.model_id,
            "session_id": session.session_id,
            "source_file_name": session.source_file_name,
            "timestamp": timestamp(self.instant(index))
            if self.rows_per_second
            else frame.timestamp,
        }

    def session_ids(self) -> list[str]:
        """Return the IDs of the sessions that have rows."""
        numbers = range(-(-len(self.rows) // _SESSION_ROWS))
        return [str(self._begin(number) // 1000) for number in numbers]

    def _begin(self, session: int) -> int:
        if self.rows_per_second:
            return self.instant(session * _SESSION_ROWS)
        slack = self._slot - self._frame_time * _SESSION_FRAMES
        jitter = crc32(b"begin %d" % session, self._salt) * 1000 % max(slack, 1)
        return (self._start + session * self._slot + jitter) // 1000 * 1000

    def _time(self, begin: int, frame: int) -> int:
        unit = SECOND if self._frame_time == SECOND else 1000
        return (begin + frame * self._frame_time) // unit * unit

    def _make_session(self, number: int) -> _Session:
        begin = self._begin(number)
        noise = crc32(b"session %d" % number, self._salt)
        # Only the rows of groups can be identical.
        model_id, classes = _MODELS[0 if self.rows_per_second else noise % len(_MODELS)]
        names = _NON_ASCII if self.non_ascii else {}
        recorded = datetime.fromtimestamp(begin // SECOND, timezone.utc)
        recording = f"{self.device_id}-{begin // SECOND}-{recorded:%d-%b-%y-%H-%M-%S}.mp4"
        files = (
            recording,
            f"{self.device_id}?token=sneaky-firefox-{noise % 1000}",
            None,
            recording.replace(".mp4", f"{names.get('-bridge', '-bridge')}.mp4"),
        )
        return _Session(
            begin=begin,
            session_id=str(begin // 1000),
            model_id=names.get(model_id, model_id),
            classes=tuple(names.get(name, name) for name in classes),
            source_file_name=files[number % len(files)],
            first_frame=1 if number % 2 == 0 else noise % 100_000,
        )

    def _make_frame(self, session: int, number: int) -> _Frame:
        shared = self._session(session)
        return _Frame(
            session=shared,
            timestamp=timestamp(self._time(shared.begin, number)),
            noise=crc32(b"%d/%d" % (session, number), self._salt),
        )


def timestamp(instant: int) -> str:
    """Format an instant as the documentation does: UTC, three decimals, Z."""
    moment = datetime.fromtimestamp(instant // SECOND, timezone.utc)
    return f"{moment.isoformat()[:19]}.{instant % SECOND // 1000:03}Z"
