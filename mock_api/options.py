"""The options of the mock API: how it responds where the documentation is silent.

The command line, the tests and the table in `docs/guides/fault-injection.md` share this list.
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

    api_key: str = Field(
        default="mock", description="API key, or token if it starts with `ul_pat_`"
    )
    page_size: int = Field(default=1000, ge=1, description="rows per page")
    bounds: Literal["closed", "open", "left-open", "right-open"] = Field(
        default="closed", description="whether a range includes its two ends"
    )
    round_bounds: Literal["none", "second", "day", "floor-second", "floor-day"] = Field(
        default="none", description="rounding of a range: outwards, or both ends down (`floor`)"
    )
    order: Literal[_ByTime, "ties-per-request", _Random, _Stable] = Field(
        default="ascending",
        description="order of a range; a random one depends on the URL (`per-page`), on the "
        "request (`per-request`, `reshuffled`) or on neither",
    )
    range_offset_hours: float = Field(
        default=0,
        description="hours from the timestamp of a row to the time by which ranges find it",
    )
    total: Literal[_Right, _Wrong] = Field(
        default="present",
        description="form of `total_num_pages`, or its error: rounded down, 5 % too low, always "
        "0, or that of all rows of the device",
    )
    total_cache_seconds: float | None = Field(
        default=None, description="seconds for which the total of a range is cached"
    )
    empty_total: Literal["0", "1"] = Field(
        default="0", description="`total_num_pages` of a range without rows"
    )
    empty_form: Literal["documented", "no-keys", "null-data", "204"] = Field(
        default="documented", description="form of a page without rows"
    )
    past_end: Literal["empty", "404", "422", "repeat"] = Field(
        default="empty",
        description="response for a page after the last one; `repeat` is the last one",
    )
    key_order: Literal["fixed", "shuffled"] = Field(
        default="fixed",
        description="order of the columns: as documented, or different on each page",
    )
    session_form: Literal["string", "null"] = Field(
        default="string", description="form of the list of sessions: as documented, or null"
    )
    tableau_form: Literal["object", "bare-array"] = Field(
        default="object", description="form of a Tableau page: as documented, or an array of rows"
    )
    expire_per_request: int = Field(
        default=0, description="oldest rows of a device that expire with each request for its rows"
    )
    cache_seconds: float | None = Field(
        default=None, description="seconds for which the page of a URL is cached"
    )
    seed: int = Field(default=0, description="seed of the data, the random orders and the faults")
    latency: float = Field(default=0, description="seconds before each response")
    serial_seconds: float | None = Field(
        default=None,
        description="seconds per request of a backend that answers one request at a time",
    )
    gateway_timeout: float | None = Field(
        default=None,
        gt=0,
        description="seconds after which a request that is still waiting gets 504",
    )
    rate_limit: int | None = Field(
        default=None, ge=0, description="requests per rate window; the others get 429"
    )
    rate_window: float = Field(default=60, gt=0, description="seconds of the rate window")
    max_range_seconds: float | None = Field(
        default=None, description="longest range that is answered; a longer one gets 413"
    )
    max_pages: int | None = Field(
        default=None, description="most pages of a range that is answered; a larger one gets 413"
    )
    max_rows: int | None = Field(
        default=None, ge=1, description="rows of a range that are served, the first in its order"
    )
    max_rows_total: Literal["exact", "capped"] = Field(
        default="exact",
        description="`total_num_pages` with `max_rows`: of all rows, or of those served",
    )
    beyond_max_rows: Literal["empty", "400", "404", "500", "502"] = Field(
        default="empty", description="response for a page that starts after `max_rows` rows"
    )
    faults: tuple[Fault, ...] = Field(
        default=(), description="faults to inject; the first due is used"
    )
