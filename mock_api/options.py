"""How a mock API answers where the documentation leaves it open.

One list, for the command line and for tests.
"""

from __future__ import annotations

from typing import Literal

from pydantic import ConfigDict, Field
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
    order: Literal["ascending", "descending", "shuffled", "reshuffled"] = Field(
        default="ascending",
        description="of a range's rows: in time, or random, or anew in each answer",
    )
    empty_total: int = Field(
        default=0, ge=0, le=1, description="total_num_pages of a range without rows"
    )
    key_order: Literal["fixed", "shuffled"] = Field(
        default="fixed",
        description="of columns: as documented, or another on each page",
    )
    version_form: Literal["braces", "string", "bare"] = Field(
        default="braces", description='of the version: {"1.0.1"}, "1.0.1" or 1.0.1'
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
    latency: float = Field(default=0, ge=0, description="seconds before each answer")
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
    too_large: Literal["413", "504"] = Field(
        default="413", description="the answer about a range beyond these"
    )
    max_body: int | None = Field(
        default=None,
        ge=0,
        description="bytes of the largest body; 502 instead of a larger one",
    )
    faults: tuple[Fault, ...] = Field(
        default=(), description="what goes wrong; the first that is due does"
    )
