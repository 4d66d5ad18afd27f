"""The rows of one page: which range, in which order, how many pages.

The documentation leaves all of this open, so most of it depends on `mock_api.options`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import ceil, inf
from sys import maxsize
from typing import TYPE_CHECKING

from fastapi import HTTPException

from mock_api.faults import MESSAGES
from mock_api.history import SECOND

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mock_api.account import Values, View
    from mock_api.options import Options
    from mock_api.state import State


_HOUR = 3600 * SECOND


@dataclass(frozen=True)
class Asked:
    """The parameters of a request for a page, as the URL gives them."""

    device: str
    since: int
    until: int
    page: int


@dataclass(frozen=True)
class Selection:
    """The rows of one page, and the reported number of pages, if there is one."""

    page: int
    rows: list[Values]
    total: int | None


def select(state: State, asked: Asked) -> Selection:
    """Find the rows of a page (documentation: "Endpoints", "Variables").

    Raises:
        HTTPException: If the options refuse the request.
    """
    options = state.options
    visit = state.visit(asked.device)
    if not state.account.has(asked.device, visit):
        if options.unknown_device != "empty":
            raise _refusal(options.unknown_device)
        return _page(state, asked, None, visit)
    since, until = _bounds(options, asked)
    view = state.view(asked.device, visit, since=since, until=until)
    if options.expire_per_request:
        state.expire(asked.device, options.expire_per_request)
    _check_length(options, asked)
    if options.max_pages is not None and ceil(len(view) / options.page_size) > options.max_pages:
        raise _refusal(options.too_large)
    return _page(state, asked, view, visit)


def _check_length(options: Options, asked: Asked) -> None:
    longest = options.max_range_seconds
    if longest is not None and asked.until - asked.since > longest * 1000:
        raise _refusal(options.too_large)


def _refusal(status: str) -> HTTPException:
    return HTTPException(int(status), MESSAGES[int(status)])


def _bounds(options: Options, asked: Asked) -> tuple[int, int]:
    """Return the range in microseconds, its end excluded."""
    since, until = asked.since, asked.until
    if options.round_bounds != "none":
        unit = 86_400_000 if options.round_bounds.endswith("day") else 1000
        since = since // unit * unit
        until = (
            (until if options.round_bounds.startswith("floor") else until + unit - 1) // unit * unit
        )
    offset = round(options.range_offset_hours * _HOUR)
    return (
        since * 1000 - offset + (options.bounds in {"open", "left-open"}),
        until * 1000 - offset + (options.bounds in {"closed", "left-open"}),
    )


def _page(state: State, asked: Asked, view: View | None, visit: int) -> Selection:
    """Choose the rows of a page; without a view there are none."""
    options = state.options
    total = state.cached(
        ("total", asked.device, asked.since, asked.until),
        options.total_cache_seconds,
        lambda: _total(state, asked, view, visit),
    )
    if _start(options, asked) >= (options.max_rows or inf):
        if options.beyond_max_rows != "empty":
            raise _refusal(options.beyond_max_rows)
        return Selection(asked.page, [], total)
    last = max(ceil(len(view or ()) / options.page_size), 1)
    if asked.page > last:
        if options.past_end in {"404", "422"}:
            raise _refusal(options.past_end)
        if options.past_end == "repeat":
            asked = replace(asked, page=last)
    if view is None:
        return Selection(asked.page, [], total)
    ranks = _ranks(options, asked, view, visit)
    return Selection(asked.page, [view[rank] for rank in ranks], total)


def _total(state: State, asked: Asked, view: View | None, visit: int) -> int | None:
    """Count the pages of a range as the options say, right or wrong."""
    options = state.options
    counted = view
    if view is not None and options.total == "device":
        counted = state.view(asked.device, visit)
    rows = len(counted or ())
    if options.max_rows and options.max_rows_total == "capped":
        rows = min(rows, options.max_rows)
    pages = ceil(rows / options.page_size)
    if options.total == "zero":
        return 0
    if not rows:
        return None if options.empty_total == "null" else int(options.empty_total)
    if options.total == "floor":
        return rows // options.page_size
    return max(1, int(pages * 0.95)) if options.total == "low" else pages


def _start(options: Options, asked: Asked) -> int:
    return (asked.page - 1) * options.page_size


def _ranks(options: Options, asked: Asked, view: View, visit: int) -> Sequence[int]:
    """Choose the rows of a page by their ranks in the time order of the range.

    A database without a unique sort key may choose another plan for every query, so a
    random order can depend on the whole URL.
    """
    start = _start(options, asked)
    stop = min(start + options.page_size, options.max_rows or maxsize)
    url = f"{options.seed}/{asked.device}/{asked.since}/{asked.until}/{asked.page}"
    request = f"{options.seed}/{asked.device}/{visit}"
    if options.order == "ascending":
        return range(len(view))[start:stop]
    if options.order == "descending":
        return range(len(view))[::-1][start:stop]
    if options.order.endswith("stable-ties"):
        url = f"{options.seed}/{asked.device}"  # as if each row had a random ID
    if options.order == "shuffled":
        return view.shuffled(f"{options.seed}/{asked.device}/0")[start:stop]
    if options.order == "reshuffled":
        return view.shuffled(request)[start:stop]
    if options.order == "per-page":
        return view.shuffled(url)[start:stop]
    return view.ties_shuffled(
        request if options.order == "ties-per-request" else url,
        start,
        stop,
        descending=options.order.startswith("descending"),
    )
