"""The recorded exchanges with the API, and the rows in their responses."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from tap_unleash.api.timestamps import parse_timestamp

if TYPE_CHECKING:
    from collections.abc import Mapping

OK = 200


@dataclass(frozen=True)
class Range:
    """A page of a device's rows; the bounds are sent as they are."""

    device: str
    since: int
    until: int
    page: int = 1
    tableau: bool = False

    @property
    def path(self) -> tuple[str, ...]:
        """The segments of the path after ``/analytics``."""
        numbers = map(str, (self.since, self.until, self.page))
        return (*(("tableau",) if self.tableau else ()), self.device, *numbers)


@dataclass(frozen=True)
class Page:
    """The rows of a response.

    Attributes:
        form: ``object`` or ``bare-array``.
        total: Number of pages of the range; ``missing`` if the response has none. Texts
            are of the server and not for the report.
        keys: The columns of a size-optimized page, if it names them.
        rows: The rows as objects.
        instants: Microseconds since 1970, one per row; empty if one cannot be read.
    """

    form: str
    total: int | str | None
    keys: tuple[str, ...] | None
    rows: list[dict[str, Any]]
    instants: list[int]

    @cached_property
    def names(self) -> list[str]:
        """A text per row that only identical rows share, in either response format."""
        return [
            json.dumps({k: v for k, v in row.items() if v is not None}, sort_keys=True)
            for row in self.rows
        ]

    def count(self) -> Counter[str]:
        """Count identical rows."""
        return Counter(self.names)

    def differs(self, other: Page) -> bool:
        """Return whether many rows are not on the other page, so that it is another one."""
        new = self.count() - other.count()
        return 4 * new.total() > len(self.rows)

    def groups(self) -> dict[int, list[str]]:
        """Group the rows of each timestamp, in their order."""
        groups: dict[int, list[str]] = {}
        for instant, name in zip(self.instants, self.names, strict=False):
            groups.setdefault(instant, []).append(name)
        return groups


@dataclass(frozen=True)
class Exchange:
    """A request and its response.

    Attributes:
        number: Number of the request, from 1.
        purpose: The question that the request belongs to.
        asked: The requested rows, if it requested any.
        status: The status; `None` without a complete response.
        headers: The headers of the response, with names in lower case.
        body: The decoded body.
        first_byte: Seconds until the headers of the response.
        failure: The reason if there is no complete response.
    """

    number: int
    purpose: str
    asked: Range | None
    status: int | None
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    first_byte: float = 0
    failure: str = ""

    @property
    def outcome(self) -> str:
        """The status or the failure in words."""
        return self.failure or f"HTTP {self.status}"

    @cached_property
    def content(self) -> Any:  # noqa: ANN401 - any JSON
        """The decoded JSON; `None` if it is not JSON."""
        try:
            return json.loads(self.body)
        except (ValueError, RecursionError):
            return None

    @cached_property
    def page(self) -> Page | None:
        """The rows, if the response is a page."""
        return _page(self.content) if self.asked and self.status == OK else None

    @property
    def empty(self) -> bool:
        """Whether the response is a page without rows."""
        return self.page is not None and not self.page.rows


def _page(content: Any) -> Page | None:  # noqa: ANN401 - any JSON
    total: Any = "missing"
    keys: Any = None
    data = content
    if isinstance(content, dict):
        total, keys = content.get("total_num_pages", "missing"), content.get("keys")
        data = content.get("data")
    if not isinstance(data, list):
        return None
    if isinstance(keys, list) and all(isinstance(key, str) for key in keys):
        if not all(isinstance(row, list) and len(row) == len(keys) for row in data):
            return None
        data = [dict(zip(keys, row, strict=True)) for row in data]
    elif keys is not None or not all(isinstance(row, dict) for row in data):
        return None
    if not isinstance(total, int | str | None):
        total = "another type"
    form = "object" if isinstance(content, dict) else "bare-array"
    return Page(form, total, keys and tuple(keys), data, _instants(data))


def _instants(rows: list[dict[str, Any]]) -> list[int]:
    try:
        return [_microseconds(row["timestamp"]) for row in rows]
    except (KeyError, TypeError, ValueError, OverflowError):
        return []


def _microseconds(timestamp: str) -> int:
    text, milliseconds = parse_timestamp(timestamp)
    decimals = text[:-1].partition(".")[2]
    return milliseconds * 1000 + int(decimals[3:6].ljust(3, "0"))


class Log(list[Exchange]):
    """The exchanges of a probe, in order."""

    def of(self, *purposes: str) -> list[Exchange]:
        """Return the exchanges of some purposes."""
        return [exchange for exchange in self if exchange.purpose in purposes]

    def last(self, purpose: str) -> Exchange | None:
        """Return the last exchange of a purpose, which is the one that was not refused."""
        return next(iter(self.of(purpose)[::-1]), None)

    def pages(self, *purposes: str) -> list[tuple[Exchange, Range, Page]]:
        """Return the exchanges of some purposes, or all, that have rows."""
        return [
            (exchange, exchange.asked, exchange.page)
            for exchange in self
            if exchange.asked and exchange.page and exchange.page.rows
            if not purposes or exchange.purpose in purposes
        ]

    def first(self) -> tuple[Exchange, Range, Page] | None:
        """Return page 1 of the range that is examined: the device with the most rows."""
        return max(self.pages("scan"), key=_size, default=None)

    def second(self) -> tuple[Exchange, Range, Page] | None:
        """Return page 2 of that range, unless it repeats page 1."""
        first = self.first()
        for found in self.pages("second"):
            if first and found[2].differs(first[2]):
                return found
        return None


def _size(found: tuple[Exchange, Range, Page]) -> tuple[int, int]:
    _, _, page = found
    return page.total if isinstance(page.total, int) else 1, len(page.rows)
