"""The options of the mock API: how it responds where the documentation is silent.

The command line and the tests share this list.
"""

from __future__ import annotations

from typing import Literal

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from mock_api.faults import Fault  # noqa: TC001 - pydantic reads the annotations

_ByTime = Literal["ascending", "descending", "ties-per-page", "descending-ties-per-page"]
_Random = Literal["shuffled", "reshuffled", "per-page"]
_Stable = Literal["stable-ties", "descending-stable-ties"]
_Right = Literal["present", "null", "missing", "first-page", "string", "float"]
_Wrong = Literal["floor", "low", "zero", "device"]


@dataclass(frozen=True, kw_only=True, config=ConfigDict(extra="forbid"))
class Options:
    """All options of the mock API, except for its data."""

    api_key: str = Field(default="mock", description="API key, or token (`ul_pat_…`)")
    page_size: int = Field(default=1000, ge=1, description="rows per page")
    bounds: Literal["closed", "open", "left-open", "right-open"] = Field(
        default="closed", description="included ends of a range"
    )
    round_bounds: Literal["none", "second", "day", "floor-second", "floor-day"] = Field(
        default="none", description="rounding outwards, or down (`floor`)"
    )
    order: Literal[_ByTime, "ties-per-request", _Random, _Stable] = Field(
        default="ascending", description="order of rows"
    )
    range_offset_hours: float = Field(
        default=0, description="hours added to timestamps when ranges are matched"
    )
    total: Literal[_Right, _Wrong] = Field(
        default="present", description="`total_num_pages`, or its form or error"
    )
    total_cache_seconds: float | None = Field(default=None, description="cache time of totals")
    empty_total: Literal["0", "1"] = Field(default="0", description="total without rows")
    empty_form: Literal["documented", "no-keys", "null-data", "204"] = Field(
        default="documented", description="page without rows"
    )
    past_end: Literal["empty", "404", "422", "repeat"] = Field(
        default="empty", description="response after the last page"
    )
    key_order: Literal["fixed", "shuffled"] = Field(default="fixed", description="order of columns")
    session_form: Literal["string", "null"] = Field(
        default="string", description="list of sessions"
    )
    expire_per_request: int = Field(default=0, description="oldest rows that expire per request")
    cache_seconds: float | None = Field(default=None, description="cache time of pages")
    seed: int = Field(default=0, description="seed of data, orders and faults")
    latency: float = Field(default=0, description="seconds before each response")
    serial_seconds: float = Field(default=0, description="seconds per request, one at a time")
    gateway_timeout: float | None = Field(
        default=None, gt=0, description="seconds until a waiting request gets 504"
    )
    rate_limit: int | None = Field(
        default=None, ge=0, description="requests per window; others get 429"
    )
    rate_window: float = Field(default=60, gt=0, description="seconds of the rate window")
    max_range_seconds: float | None = Field(default=None, description="seconds of a range")
    max_pages: int | None = Field(default=None, description="pages of a range")
    too_large: Literal["413", "400", "422", "504"] = Field(
        default="413", description="response for a range beyond these limits"
    )
    max_rows: int | None = Field(default=None, ge=1, description="rows served per range")
    max_rows_total: Literal["exact", "capped"] = Field(
        default="exact", description="total of all rows or those served"
    )
    beyond_max_rows: Literal["empty", "400", "404", "500", "502"] = Field(
        default="empty", description="response for pages after `max_rows`"
    )
    faults: tuple[Fault, ...] = Field(
        default=(), description="faults to inject; the first due is used"
    )
