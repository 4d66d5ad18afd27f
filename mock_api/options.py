"""The options of the mock API: how it responds where the documentation is silent.

The command line, the tests and the table in `docs/guides/fault-injection.md` share this list.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, ConfigDict, Field
from pydantic.dataclasses import dataclass

from mock_api.faults import Fault  # noqa: TC001 - pydantic reads the annotations


@dataclass(frozen=True, kw_only=True, config=ConfigDict(extra="forbid"))
class Options:
    """All options of the mock API, except for its data."""

    api_key: str = Field(
        default="mock",
        description="credential, for x-api-key; if it starts with ul_pat_, also for Bearer",
    )
    page_size: int = Field(default=1000, ge=1, description="rows per page")
    bounds: Literal["closed", "open", "left-open", "right-open"] = Field(
        default="closed", description="whether a range includes its two ends"
    )
    round_bounds: Literal["none", "second", "day", "floor-second", "floor-day"] = Field(
        default="none",
        description="rounding of the ends of a range: the start down and the end up, or "
        "both down (floor)",
    )
    order: Literal[
        "ascending",
        "descending",
        "ties-per-page",
        "descending-ties-per-page",
        "ties-per-request",
        "shuffled",
        "reshuffled",
        "per-page",
        "stable-ties",
        "descending-stable-ties",
    ] = Field(
        default="ascending",
        description="order of the rows of a range",
    )
    range_offset_hours: float = Field(
        default=0,
        description="hours from the timestamp of a row to the time by which ranges find it",
    )
    total: Literal[
        "present",
        "null",
        "missing",
        "floor",
        "low",
        "zero",
        "device",
        "first-page",
        "string",
        "float",
    ] = Field(default="present", description="form or error of total_num_pages")
    total_cache_seconds: float | None = Field(
        default=None,
        ge=0,
        description="seconds for which total_num_pages of a device and range is cached",
    )
    empty_total: Annotated[Literal["0", "1", "null"], BeforeValidator(str)] = Field(
        default="0", description="total_num_pages of a range without rows"
    )
    empty_form: Literal["documented", "no-keys", "null-data", "204"] = Field(
        default="documented",
        description="form of a page without rows: as documented, size-optimized without "
        "keys, with null as data, or no body with status 204",
    )
    past_end: Literal["empty", "404", "422", "repeat"] = Field(
        default="empty",
        description="response for a page number past the last page: a page without "
        "rows, an error, or the last page again",
    )
    key_order: Literal["fixed", "shuffled"] = Field(
        default="fixed",
        description="order of the columns: as documented, or different on each page",
    )
    version_form: Literal["braces", "string", "bare", "object"] = Field(
        default="braces",
        description="form of the version: in braces as documented, a JSON string, bare "
        "digits, or an object",
    )
    session_form: Literal["string", "number", "null"] = Field(
        default="string",
        description="form of the list of sessions: IDs as strings, IDs as JSON numbers, "
        "or null instead of the list",
    )
    tableau_form: Literal["object", "bare-array"] = Field(
        default="object",
        description="form of a Tableau page: as documented, or an array of rows",
    )
    unknown_device: Literal["404", "403", "empty"] = Field(
        default="404", description="response for a device that does not exist"
    )
    expire_per_request: int = Field(
        default=0,
        ge=0,
        description="oldest rows of a device that expire with each request for its rows",
    )
    cache_seconds: float | None = Field(
        default=None,
        ge=0,
        description="seconds for which the page of a URL is cached",
    )
    seed: int = Field(default=0, description="seed of the data, the random orders and the faults")
    latency: float = Field(default=0, ge=0, description="seconds before each response")
    serial_seconds: float | None = Field(
        default=None,
        ge=0,
        description="seconds per request of a backend that answers only one request at "
        "a time; the others wait",
    )
    gateway_timeout: float | None = Field(
        default=None,
        gt=0,
        description="seconds after which a request that is still waiting gets 504",
    )
    rate_limit: int | None = Field(
        default=None,
        ge=0,
        description="requests per rate window; the others get 429",
    )
    rate_window: float = Field(default=60, gt=0, description="seconds of the rate window")
    retry_after: Literal["none", "seconds", "date"] = Field(
        default="none", description="form of Retry-After with 429 of the rate limit"
    )
    max_range_seconds: float | None = Field(
        default=None, ge=0, description="longest range that is answered"
    )
    max_pages: int | None = Field(
        default=None, ge=0, description="greatest number of pages that is answered"
    )
    too_large: Literal["400", "413", "422", "502", "504"] = Field(
        default="413", description="response for a range beyond these limits"
    )
    max_rows: int | None = Field(
        default=None,
        ge=1,
        description="number of rows of a range that are served, the first in its order",
    )
    max_rows_total: Literal["exact", "capped"] = Field(
        default="exact",
        description="total_num_pages with max_rows: of all rows, or of the served ones",
    )
    beyond_max_rows: Literal["empty", "400", "404", "500", "502"] = Field(
        default="empty",
        description="response for a page that starts after max_rows rows: a page without "
        "rows, or an error",
    )
    max_body: int | None = Field(
        default=None,
        ge=0,
        description="bytes of the largest body; a larger one is replaced by 502",
    )
    faults: tuple[Fault, ...] = Field(
        default=(), description="faults to inject; the first that is due is used"
    )
