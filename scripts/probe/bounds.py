"""The bounds of a range: inclusive or exclusive, and rounded to a unit or not.

Each combination is a hypothesis that predicts which known rows a range returns. Ranges are
chosen such that the remaining hypotheses predict different rows, and a hypothesis is refuted
by one wrong prediction. An answer is found if all remaining hypotheses share it.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from itertools import pairwise, product
from typing import TYPE_CHECKING

from scripts.probe.exchange import Range

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from scripts.probe.exchange import Exchange, Log, Page

SECOND, DAY = 1_000_000, 86_400_000_000
MARGINS = (0, 1, -1, 500, 1000, -1000, 86_400_000)
"""Milliseconds between a row and a bound."""


@dataclass(frozen=True)
class Hypothesis:
    """One combination of bounds and rounding, named as the options of the mock API."""

    bounds: str
    round_bounds: str

    def select(self, instants: Sequence[int], asked: Range) -> slice:
        """Return which of the sorted instants (microseconds) the range includes."""
        since, until = asked.since * 1000, asked.until * 1000
        if self.round_bounds != "none":
            unit = DAY if self.round_bounds.endswith("day") else SECOND
            since = since // unit * unit
            up = not self.round_bounds.startswith("floor")
            until = -(-until // unit) * unit if up else until // unit * unit
        low = bisect_right if self.bounds in {"open", "left-open"} else bisect_left
        high = bisect_right if self.bounds in {"closed", "left-open"} else bisect_left
        start, stop = low(instants, since), high(instants, until)
        return slice(start, stop) if start < stop else slice(0, 0)


HYPOTHESES = [
    Hypothesis(*names)
    for names in product(
        ("closed", "open", "left-open", "right-open"),
        ("none", "second", "day", "floor-second", "floor-day"),
    )
]


def complete(exchange: Exchange, log: Log) -> bool:
    """Return whether a response holds all rows of its range."""
    page = exchange.page
    if page is None or not exchange.asked or exchange.asked.page != 1:
        return False
    if isinstance(page.total, int) and page.rows:
        return page.total == 1
    fuller = any(len(page.rows) < len(other.rows) for _, _, other in log.pages())
    return not page.rows or fuller


def remaining(log: Log, *, ahead: bool = False) -> list[Hypothesis]:
    """Return the hypotheses that no response refutes.

    Only rows are evidence that are known to exist at the time of a request: they were seen
    before or then, and then or later.

    Args:
        log: The exchanges.
        ahead: Whether to assume that the rows of the first page will be seen again.
    """
    seen = _seen(log, ahead=ahead)
    left = HYPOTHESES
    for exchange, asked, page in evidence(log):
        number = exchange.number
        instants = sorted(at for at, (a, b) in seen.items() if a <= number <= b)
        got = set(page.instants)
        exact = complete(exchange, log)
        left = [
            hypothesis
            for hypothesis in left
            if got <= (predicted := {*instants[hypothesis.select(instants, asked)]})
            and (predicted <= got or not exact)
        ]
    return left


def evidence(log: Log) -> Iterator[tuple[Exchange, Range, Page]]:
    """Yield the exchanges that show which rows a range returns."""
    for exchange, asked, page in _pages(log):
        if (
            asked.page == 1
            and not asked.tableau
            and len(page.instants) == len(page.rows)
            and not exchange.purpose.startswith("digits")
        ):
            yield exchange, asked, page


def _pages(log: Log) -> Iterator[tuple[Exchange, Range, Page]]:
    """Yield the pages of the device that is examined, also those without rows."""
    found = log.first()
    for exchange in log:
        asked, page = exchange.asked, exchange.page
        if found and asked and page and asked.device == found[1].device:
            yield exchange, asked, page


def _seen(log: Log, *, ahead: bool) -> dict[int, tuple[int, int]]:
    """Return the first and the last request that returned each instant."""
    seen: dict[int, tuple[int, int]] = {}
    for exchange, _, page in _pages(log):
        for instant in page.instants:
            first, _ = seen.get(instant, (exchange.number, 0))
            seen[instant] = (first, exchange.number)
    found = log.first()
    if ahead and found:
        seen |= {at: (seen[at][0], len(log) + 1) for at in found[2].instants}
    return seen


def next_query(log: Log) -> tuple[int, int] | None:
    """Choose the range whose response refutes most hypotheses."""
    found = log.first()
    left = remaining(log, ahead=True)
    if not found or len(left) < 2 or not found[2].instants:  # noqa: PLR2004
        return None
    instants = sorted(set(found[2].instants))
    before = {(e.asked.since, e.asked.until) for e in log if e.asked}
    refused = [
        exchange.asked.until - exchange.asked.since
        for exchange in log.of("scan", "length", "bounds")
        if exchange.asked and not exchange.page
    ]
    longest = min(refused, default=2 * DAY)
    rows = len(found[2].rows) / len(instants)
    best: tuple[tuple[int, float], tuple[int, int]] | None = None
    for query in _queries(instants):
        if query in before or query[1] - query[0] >= longest:
            continue
        asked = Range("", *query)
        slices = [hypothesis.select(instants, asked) for hypothesis in left]
        parts = len({(part.start, part.stop) for part in slices})
        size = max(part.stop - part.start for part in slices) * rows
        fits = size < len(found[2].rows)
        score = (parts if fits else 1 + (parts > 1), -size)
        if parts > 1 and (best is None or score > best[0]):
            best = score, query
    return best and best[1]


def _queries(instants: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Yield ranges whose bounds are at, or close to, known rows."""
    nights = [instant for instant in instants if instant % DAY == 0]
    close = sorted(pairwise(instants), key=lambda pair: pair[1] - pair[0])
    middle = len(instants) // 2
    anchors = [*nights[:2], *(one for pair in close[:3] for one in pair)]
    anchors += instants[middle : middle + 2]
    points = sorted(
        {instant // 1000 + margin for instant in anchors for margin in MARGINS}
    )
    for since, until in product(points, points):
        if since <= until <= since + 2 * DAY // 1000:
            yield since, until
