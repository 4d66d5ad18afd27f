"""Synthetic detections that look real."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any
from zlib import crc32

if TYPE_CHECKING:
    from collections.abc import Iterator

SECOND = 1_000_000

_CROWD = (
    *("total_count", "number_of_persons_in_group", "number_of_persons_in_group"),
    *("group_pixel_size", "number_of_groups", "num_individuals"),
    *("this_frame_persons_count", "number_of_persons_in_group"),
)
_TRAFFIC = ("person", "truck", "car", "bicycle", "bus", "van", "dog", "total_count")
_DEFECTS = ("corrosion", "crack", "pitting", "moss", "nest", "rust", "gap", "total_count")
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

_FRAME_SIZES = (1, 6, 3, 8, 2)
_CYCLE = [(frame, place) for frame, size in enumerate(_FRAME_SIZES) for place in range(size)]
_SESSION_ROWS = 12 * len(_CYCLE)
_SESSION_FRAMES = 12 * len(_FRAME_SIZES)


def detections(  # noqa: PLR0913 - each is independent of the others
    device_id: str,
    count: int,
    *,
    seed: int,
    start: datetime,
    end: datetime,
    non_ascii: bool = False,
    rows_per_second: int | None = None,
    daily: bool = False,
) -> Iterator[dict[str, Any]]:
    """Yield rows as the API sends them.

    Args:
        device_id: The device.
        count: The number of rows.
        seed: The seed of the data.
        start: The start of the first session.
        end: The end of the last session, exclusive.
        non_ascii: Whether some names of classes, models and files are not ASCII.
        rows_per_second: The number of rows in each second from the start on, whatever the
            end is; some of them are identical. By default, the rows are spread over the
            time.
        daily: Whether a device has one model, sessions last for hours, and counts follow
            the time of day.
    """
    salt = crc32(f"{seed}/{device_id}".encode())
    first = int(start.timestamp()) * SECOND
    sessions = -(-count // _SESSION_ROWS)
    slot = (int(end.timestamp()) * SECOND - first) // (sessions or 1)
    frame_time = min(SECOND, slot // 2 // _SESSION_FRAMES)
    if daily:
        frame_time = slot * 4 // 5 // _SESSION_FRAMES
    unit = SECOND if frame_time >= SECOND else 1000
    names = _NON_ASCII if non_ascii else {}
    for session in range(sessions):
        jitter = crc32(b"begin %d" % session, salt) * 1000
        begin = first + session * slot + jitter % max(slot - frame_time * _SESSION_FRAMES, 1)
        if rows_per_second:
            begin = first + session * _SESSION_ROWS // rows_per_second * SECOND
        begin = begin // 1000 * 1000
        noise = crc32(b"session %d" % session, salt)
        # Only the rows of groups can be identical.
        choice = crc32(device_id.encode()) >> 28 if daily else noise
        model_id, classes = _MODELS[0 if rows_per_second else choice % len(_MODELS)]
        recorded = datetime.fromtimestamp(begin // SECOND, timezone.utc)
        recording = f"{device_id}-{begin // SECOND}-{recorded:%d-%b-%y-%H-%M-%S}"
        files = (
            f"{recording}.mp4",
            f"{device_id}?token=sneaky-firefox-{noise % 1000}",
            None,
            f"{recording}{names.get('-bridge', '-bridge')}.mp4",
        )
        for row in range(session * _SESSION_ROWS, min((session + 1) * _SESSION_ROWS, count)):
            cycle, rest = divmod(row % _SESSION_ROWS, len(_CYCLE))
            frame, place = cycle * len(_FRAME_SIZES) + _CYCLE[rest][0], _CYCLE[rest][1]
            moment = (begin + frame * frame_time) // unit * unit
            if rows_per_second:
                moment = first + row // rows_per_second * SECOND
            frame_noise = crc32(b"%d/%d" % (session, frame), salt)
            # In every other frame all counts are equal, so that rows of groups are identical.
            number = 1 + (frame_noise >> (place if frame_noise & 1 else 0)) % 5
            if daily:
                hour = moment // SECOND // 3600 % 24
                number = 1 + number * max(0, 8 - abs(hour - 12)) // (1 + place)
            yield {
                "class_name": names.get(classes[place], classes[place]),
                "count": number * 12.5 if classes[place] == "group_pixel_size" else number,
                "device_id": device_id,
                "frame_number": (noise % 100_000 if session % 2 else 1) + 25 * frame,
                "model_id": names.get(model_id, model_id),
                "session_id": str(begin // 1000),
                "source_file_name": files[session % len(files)],
                "timestamp": _timestamp(moment),
            }


def _timestamp(instant: int) -> str:
    """Format an instant as the documentation does: UTC, three decimals, Z."""
    moment = datetime.fromtimestamp(instant // SECOND, timezone.utc)
    return f"{moment.isoformat()[:19]}.{instant % SECOND // 1000:03}Z"
