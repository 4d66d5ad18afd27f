"""The rows of one page: which range, in which order, how many pages.

The documentation leaves all of this open, so most of it depends on `mock_api.options`.
"""

from __future__ import annotations

from math import ceil, inf
from typing import TYPE_CHECKING, NamedTuple
from zlib import crc32

from starlette.exceptions import HTTPException

if TYPE_CHECKING:
    from mock_api.account import Held, Values
    from mock_api.options import Options
    from mock_api.state import State

_HOUR = 3_600_000_000


class Asked(NamedTuple):
    """The parameters of a request for a page, as the URL gives them."""

    device: str
    since: int
    until: int
    page: int


class Selection(NamedTuple):
    """The rows of one page, and the reported number of pages."""

    page: int
    rows: list[Values]
    total: int


def select(state: State, asked: Asked) -> Selection:
    """Find the rows of a page (documentation: "Endpoints", "Variables").

    Raises:
        HTTPException: If the options refuse the request.
    """
    options = state.options
    if asked.device not in state.account.devices:
        raise HTTPException(404)
    since, until = _bounds(options, asked)
    view = state.view(asked.device, since, until)
    state.visits[asked.device] += 1
    state.expire(asked.device, options.expire_per_request)
    pages = ceil(len(view) / options.page_size)
    seconds = (asked.until - asked.since) / 1000
    if seconds > (options.max_range_seconds or inf) or pages > (options.max_pages or inf):
        raise HTTPException(int(options.too_large))
    total = state.cached(
        ("total", asked.device, asked.since, asked.until),
        options.total_cache_seconds,
        lambda: _total(state, asked, view),
    )
    start = (asked.page - 1) * options.page_size
    if start >= (options.max_rows or inf):
        if options.beyond_max_rows != "empty":
            raise HTTPException(int(options.beyond_max_rows))
        return Selection(asked.page, [], total)
    if asked.page > max(pages, 1):
        if options.past_end.isdigit():
            raise HTTPException(int(options.past_end))
        if options.past_end == "repeat":
            asked = asked._replace(page=max(pages, 1))
            start = (asked.page - 1) * options.page_size
    served = _ordered(state, asked, view)[: options.max_rows]
    rows = [held.row.values for held in served[start : start + options.page_size]]
    return Selection(asked.page, rows, total)


def _bounds(options: Options, asked: Asked) -> tuple[int, int]:
    """Return the range in microseconds, its end excluded."""
    since, until = asked.since, asked.until
    if options.round_bounds != "none":
        unit = 86_400_000 if options.round_bounds.endswith("day") else 1000
        up = 0 if options.round_bounds.startswith("floor") else unit - 1
        since, until = since // unit * unit, (until + up) // unit * unit
    offset = round(options.range_offset_hours * _HOUR)
    return (
        since * 1000 - offset + (options.bounds in {"open", "left-open"}),
        until * 1000 - offset + (options.bounds in {"closed", "left-open"}),
    )


def _total(state: State, asked: Asked, view: list[Held]) -> int:
    """Count the pages of a range as the options say, right or wrong."""
    options = state.options
    if options.total == "device":
        view = state.view(asked.device)
    rows = len(view)
    if options.max_rows and options.max_rows_total == "capped":
        rows = min(rows, options.max_rows)
    pages = ceil(rows / options.page_size)
    wrong = {"zero": 0, "floor": rows // options.page_size, "low": max(1, int(pages * 0.95))}
    return wrong.get(options.total, pages) if rows else int(options.empty_total)


def _ordered(state: State, asked: Asked, view: list[Held]) -> list[Held]:
    """Sort the rows of a range.

    A database without a unique sort key may choose another plan for every query, so a
    random order can depend on the whole URL.
    """
    order, device = state.options.order, f"{state.options.seed}/{asked.device}"
    salt = f"{device}/{asked.since}/{asked.until}/{asked.page}"
    if order in {"ties-per-request", "reshuffled"}:
        salt = f"{device}/{state.visits[asked.device]}"
    elif order == "shuffled" or order.endswith("stable-ties"):
        salt = device  # as if each row had a random ID
    seed = crc32(salt.encode())

    def place(held: Held) -> tuple[int, int]:
        # Python hashes a tuple of integers in the same way in every process. The hashes of
        # one tuple are so regular that the orders of two seeds would be alike.
        chance = hash((hash((seed, held.number)), seed, held.number))
        return held.instant * ("ties" in order), chance

    if order not in {"ascending", "descending"}:
        view = sorted(view, key=place)
    return view[::-1] if order.startswith("descending") else view
