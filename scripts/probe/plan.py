"""What to ask: the requests of a probe, in the order of how much depends on them."""

from __future__ import annotations

import re
from dataclasses import replace
from itertools import product
from typing import TYPE_CHECKING

from scripts.probe import bounds
from scripts.probe.asker import TIME_OUT
from scripts.probe.exchange import OK, Range
from tap_unleash.api.time_window import EARLIEST

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from scripts.probe.asker import Asker
    from scripts.probe.exchange import Exchange, Log

MAX_DEVICES = 6
"""Most devices that are searched for rows."""

MAX_SCANS = 14
"""Most ranges that are searched for rows if the complete range is refused."""

MAX_BOUNDS = 12
"""Most requests for the bounds."""

MAX_CLOSING = 3
"""Most requests for the first page after those for the bounds."""

REFUSED = {400, 413, 422, 502, 504}
"""Statuses by which an API can refuse a long range."""

HOUR, DAY = 3600, 86_400
LENGTHS = [
    *(1, 60, 600, 900, 1800, HOUR, 2 * HOUR, 6 * HOUR, 12 * HOUR),
    *(DAY * days for days in (1, 2, 3, 5, 7, 10, 14, 15, 28, 30, 31, 60, 90, 92)),
    *(DAY * days for days in (100, 180, 183, 184, 365, 366, 730, 731, 1095, 1096)),
    *(DAY * days for days in (1825, 1826, 3650, 3653)),
]
"""Likely limits of the length of a range, in seconds."""

SHORTER = (30 * DAY, DAY, HOUR, 60)
"""Ranges in which to look for rows if a limit depends on the amount of data."""

UNKNOWN_DEVICE = "W000000000000000"


def probe(ask: Asker, device: str | None, since: int, until: int) -> None:
    """Send the requests."""
    listed = ids(ask.get("devices", "devices"))
    sessions = ids(ask.get("sessions", "sessions"))
    ask.get("wrong-key", "version", right_key=False)
    devices = [device] if device else listed
    if not devices:
        return
    _find_rows(ask, devices, sessions, since, until)
    found = ask.log.first()
    device = found[1].device if found else devices[0]
    ask.rows("empty", Range(device, EARLIEST, EARLIEST + 1000))
    if found:
        asked = found[1]
        _read_pages(ask, asked)
        _read_small_range(ask)
        _read_bounds(ask, asked)
        _read_boundary(ask)
        start, end = asked.since // 1000, asked.until // 1000 + 1
        ask.rows("digits-10", Range(device, start, end))
        ask.rows("digits-19", Range(device, start * 10**9, end * 10**9))
        ask.rows("page-0", Range(device, asked.since, asked.until, 0))
    if UNKNOWN_DEVICE not in {*devices, *listed}:
        ask.rows("unknown-device", Range(UNKNOWN_DEVICE, EARLIEST, EARLIEST + 1000))
    if not ask.log.of("length"):
        _find_limit(ask, device, until)


def ids(exchange: Exchange) -> list[str]:
    """Return the IDs of a list."""
    content = exchange.content if exchange.status == OK else None
    if not isinstance(content, list):
        return []
    return [str(one) for one in content if isinstance(one, str | int)]


def refused(exchange: Exchange) -> bool:
    """Return whether a range may be too long."""
    return exchange.status in REFUSED or exchange.failure == TIME_OUT


def _find_rows(
    ask: Asker, devices: Sequence[str], sessions: list[str], since: int, until: int
) -> None:
    """Request the range of some devices until one has several pages and one has no rows."""
    too_long = 0
    for device in devices[:MAX_DEVICES]:
        too_long += refused(ask.rows("scan", Range(device, since, until)))
        found = ask.log.first()
        total = found and found[2].total
        several = isinstance(total, int) and total > 1
        no_rows = any(scan.empty for scan in ask.log.of("scan"))
        if (several and no_rows) or (too_long > 1 and not found):
            break
    if too_long and not ask.log.first():
        longest = _find_limit(ask, devices[0], until)
        lengths = [n for n in SHORTER if longest is None or n < longest]
        lengths = [longest, *lengths] if longest else lengths
        _scan_windows(ask, product(_starts(sessions, since, until), devices), lengths)


def _starts(sessions: list[str], since: int, until: int) -> list[int]:
    """Return instants at which there may be rows.

    A session ID reads as the instant of the session's start, although nobody documents it.
    """
    instants = [int(one) for one in sessions if re.fullmatch("[1-9][0-9]{12}", one)]
    starts = sorted((instant - 1000 for instant in instants), reverse=True)
    given = [since] if since != EARLIEST else []
    return [*given, *[start for start in starts if since <= start < until][:3]]


def _scan_windows(
    ask: Asker, windows: Iterable[tuple[int, str]], lengths: Sequence[int]
) -> None:
    """Look for rows from some instants on, in shorter and shorter ranges."""
    for start, device in windows:
        for length in lengths:
            if len(ask.log.of("scan")) > MAX_SCANS:
                return
            exchange = ask.rows("scan", Range(device, start, start + 1000 * length))
            if not refused(exchange):
                break
        if ask.log.first():
            return


def _find_limit(ask: Asker, device: str, until: int) -> int | None:
    """Search for the longest range that is answered, where there are no rows."""
    everything = Range(device, EARLIEST, until)
    asked = [exchange for exchange in ask.log if exchange.asked == everything]
    if not refused(asked[-1] if asked else ask.rows("full", everything)):
        return None
    low, high = -1, len(LENGTHS)
    while high - low > 1:
        middle = (low + high) // 2
        end = EARLIEST + 1000 * LENGTHS[middle]
        answered = ask.rows("length", Range(device, EARLIEST, end)).page
        low, high = (middle, high) if answered else (low, middle)
    if low < 0:
        return None
    end = EARLIEST + 1000 * LENGTHS[low] + 1
    for _ in range(2):  # once could be a transient error
        ask.rows("length", Range(device, EARLIEST, end))
    return LENGTHS[low]


def _read_pages(ask: Asker, asked: Range) -> None:
    """Read the first page twice, by another URL, and the next and the last one."""
    ask.rows("again", asked)
    ask.rows("shifted", Range(asked.device, asked.since, asked.until - 1))
    found = ask.log.first()
    total = found[2].total if found else None
    if not isinstance(total, int) or total > 1:
        ask.rows("second", Range(asked.device, asked.since, asked.until, 2))
    if isinstance(total, int) and total > 2:  # noqa: PLR2004
        ask.rows("last", Range(asked.device, asked.since, asked.until, total))


def _read_small_range(ask: Asker) -> None:
    """Read a range that fits one page: in both formats, by another URL, past its end."""
    for small in _small_ranges(ask.log):
        exchange = ask.rows("small", small)
        if bounds.complete(exchange, ask.log) and not exchange.empty:
            ask.rows("small-shifted", replace(small, until=small.until + 1))
            ask.rows("tableau", replace(small, tableau=True))
            ask.rows("past-end", replace(small, page=2))
            return


def _small_ranges(log: Log) -> Iterator[Range]:
    """Yield ranges around the middle rows of the first page, the longest first."""
    found = log.first()
    if found is None or not found[2].instants:
        return
    instants = sorted(found[2].instants)
    middle = len(instants) // 2
    for reach in (len(instants) // 16 + 1, len(instants) // 64, 0):
        first, *_, last = [*instants[max(middle - reach, 0) : middle + reach + 1]] * 2
        small = Range(found[1].device, first // 1000 - 1, -(-last // 1000) + 1)
        yield small
        if log[-1].empty:  # bounds that are rounded can exclude all rows
            day = 86_400_000
            yield replace(small, since=small.since - day, until=small.until + day)


def _read_bounds(ask: Asker, asked: Range) -> None:
    """Request ranges that start and end at rows, until one hypothesis is left."""
    for _ in range(MAX_BOUNDS):
        query = bounds.next_query(ask.log)
        if query is None:
            break
        ask.rows("bounds", Range(asked.device, *query))
    # Only rows that are seen before and after these requests are evidence. If each response
    # has another order, several show more of them.
    for _ in range(MAX_CLOSING):
        ask.rows("closing", asked)
        if len(bounds.remaining(ask.log)) < 2:  # noqa: PLR2004
            break
    small = ask.log.last("small")
    if small and small.asked:
        ask.rows("small-again", small.asked)


def _read_boundary(ask: Asker) -> None:
    """Read the timestamp alone that the first two pages share, if they do."""
    first, second = ask.log.first(), ask.log.second()
    if not first or not second:
        return
    for instant in {*first[2].instants[-1:]} & {*second[2].instants[:1]}:
        since, until = instant // 1000 - 1, -(-instant // 1000) + 1
        ask.rows("boundary", Range(first[1].device, since, until))
