"""How a mock API answers where the documentation leaves it open.

One list, for the command line and for tests.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, ConfigDict, Field
from pydantic.dataclasses import dataclass

from mock_api.faults import Fault  # noqa: TC001 - pydantic reads the annotations


@dataclass(frozen=True, kw_only=True, config=ConfigDict(extra="forbid"))
class Options:
    """What to choose about a mock API, its data apart."""

    api_key: str = Field(
        default="mock",
        description="the credential, for x-api-key; for Bearer too if it is ul_pat_...",
    )
    page_size: int = Field(default=1000, ge=1, description="rows of a page")
    bounds: Literal["closed", "open", "left-open", "right-open"] = Field(
        default="closed", description="whether a range includes its two ends"
    )
    round_bounds: Literal["none", "second", "day", "floor-second", "floor-day"] = Field(
        default="none",
        description="rounding of the ends of a range: outward to a unit, or both down",
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
    ] = Field(
        default="ascending",
        description="order of the rows of a range: by timestamp; by timestamp, with "
        "rows of one timestamp in a random order per page or per request; or random, "
        "with one order per range (shuffled), request (reshuffled) or page (per-page)",
    )
    total: Literal["present", "null", "missing"] = Field(
        default="present", description="form of total_num_pages"
    )
    empty_total: Annotated[Literal["0", "1", "null"], BeforeValidator(str)] = Field(
        default="0", description="total_num_pages of a range without rows"
    )
    empty_form: Literal["documented", "no-keys"] = Field(
        default="documented",
        description="form of a size-optimized page without rows: with or without keys",
    )
    past_end: Literal["empty", "404", "422", "repeat"] = Field(
        default="empty",
        description="response to a page number past the last page: no rows, an error "
        "or the last page again",
    )
    key_order: Literal["fixed", "shuffled"] = Field(
        default="fixed",
        description="of columns: as documented, or another on each page",
    )
    version_form: Literal["braces", "string", "bare", "object"] = Field(
        default="braces",
        description='form of the version: {"1.0.1"}, "1.0.1", 1.0.1 or '
        '{"version": "1.0.1"}',
    )
    session_form: Literal["string", "number"] = Field(
        default="string",
        description="form of the IDs in the list of sessions: strings or JSON numbers",
    )
    tableau_form: Literal["object", "bare-array"] = Field(
        default="object",
        description="of a Tableau page: as documented, or the rows alone",
    )
    unknown_device: Literal["404", "403", "empty"] = Field(
        default="404", description="the answer about a device that is not there"
    )
    seed: int = Field(
        default=0, description="of the data, the random orders and the faults"
    )
    latency: float = Field(default=0, ge=0, description="seconds before each response")
    serial_seconds: float | None = Field(
        default=None,
        ge=0,
        description="seconds that each request takes, if the backend answers only one "
        "at a time; the others wait for their turn",
    )
    gateway_timeout: float | None = Field(
        default=None,
        gt=0,
        description="seconds after which a request gets 504 that is waiting or being "
        "answered still",
    )
    rate_limit: int | None = Field(
        default=None,
        ge=0,
        description="requests let through in a window; 429 to the others",
    )
    rate_window: float = Field(default=60, gt=0, description="seconds of that window")
    retry_after: Literal["none", "seconds", "date"] = Field(
        default="none", description="form of Retry-After with those 429"
    )
    max_range_seconds: float | None = Field(
        default=None, ge=0, description="the longest range that is answered"
    )
    max_pages: int | None = Field(
        default=None, ge=0, description="the most pages of a range that is answered"
    )
    too_large: Literal["400", "413", "422", "502", "504"] = Field(
        default="413", description="response to a range beyond these limits"
    )
    expire_per_request: int = Field(
        default=0,
        ge=0,
        description="oldest rows of a device that expire with each request for its rows",
    )
    max_body: int | None = Field(
        default=None,
        ge=0,
        description="bytes of the largest body; 502 instead of a larger one",
    )
    faults: tuple[Fault, ...] = Field(
        default=(), description="what goes wrong; the first that is due does"
    )
