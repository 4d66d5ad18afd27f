"""How the sandbox answers where the documentation leaves it open: one list for the command line and for tests."""

from __future__ import annotations

from typing import Literal

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from sandbox.faults import Fault


@dataclass(frozen=True, kw_only=True, config=ConfigDict(extra="forbid"))
class Options:
    """What to choose about a sandbox, its data apart."""

    api_key: str = Field(
        "sandbox",
        description="the credential; one that begins with ul_pat_ is taken as Bearer too",
    )
    page_size: int = Field(1000, ge=1, description="rows of a page")
    bounds: Literal["closed", "open", "left-open", "right-open"] = Field(
        "closed",
        description="which ends of a range lack their rows: none, both, its from, its to",
    )
    order: Literal["ascending", "descending", "shuffled", "reshuffled"] = Field(
        "ascending",
        description="of the rows of a range: in time, at random, at random anew in each answer",
    )
    empty_total: int = Field(
        0, ge=0, le=1, description="total_num_pages of a range without rows"
    )
    key_order: Literal["fixed", "shuffled"] = Field(
        "fixed", description="columns as documented, or in another order on each page"
    )
    version_form: Literal["braces", "string", "bare"] = Field(
        "braces", description='how the version is written: {"1.0.1"}, "1.0.1" or 1.0.1'
    )
    tableau_form: Literal["object", "bare-array"] = Field(
        "object",
        description="the Tableau answer as documented, or its list of rows alone",
    )
    unknown_device: Literal["404", "403", "empty"] = Field(
        "404", description="the answer about an unknown device"
    )
    seed: int = Field(
        0, description="of the data, the random orders and the random faults"
    )
    latency: float = Field(0, ge=0, description="seconds before each answer")
    rate_limit: int | None = Field(
        None, ge=0, description="requests allowed in a window; 429 beyond"
    )
    rate_window: float = Field(60, gt=0, description="seconds of that window")
    retry_after: Literal["none", "seconds", "date"] = Field(
        "none", description="form of Retry-After in those 429"
    )
    max_range_seconds: float | None = Field(
        None, ge=0, description="the longest range that is answered"
    )
    max_pages: int | None = Field(
        None, ge=0, description="the most pages of a range that is answered"
    )
    too_large: Literal["413", "504"] = Field(
        "413", description="the answer about a range beyond these"
    )
    max_body: int | None = Field(
        None, ge=0, description="bytes of the largest body; 502 beyond"
    )
    faults: tuple[Fault, ...] = Field(
        (), description="faults, the first that is due is used"
    )
