"""The order of the rows of a range, by comparing the responses that share rows.

An order that looks regular by chance is no evidence, so the number of orders that the rows
could have had counts: an answer is found only beyond `CHANCE`.
"""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from math import lgamma, log
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from scripts.probe.exchange import Exchange, Log, Page, Range

CHANCE = log(1_000_000)
"""Logarithm of the odds against a coincidence that make an answer certain enough."""

PURPOSES = (
    *("scan", "again", "shifted", "second", "last", "small", "small-shifted"),
    *("small-again", "closing", "boundary", "bounds"),
)

NAMES = {
    ("ascending", "stable"): "ascending",
    ("descending", "stable"): "descending",
    ("ascending", "per URL"): "ties-per-page",
    ("descending", "per URL"): "descending-ties-per-page",
    ("ascending", "per request"): "ties-per-request",
    ("descending", "per request"): "descending-ties-per-request",
    ("none", "stable"): "shuffled",
    ("none", "per URL"): "per-page",
    ("none", "per request"): "reshuffled",
}
"""The values of the option `order` of the mock API, and one that it does not have."""


class Comparison(NamedTuple):
    """The order of rows, as far as it was found out.

    Attributes:
        order: One of the values of `NAMES`; `None` if it was not found out.
        why: The evidence, or the reason why there is too little.
        exchanges: The exchanges that were compared.
    """

    order: str | None
    why: str
    exchanges: list[Exchange]


def read(log: Log) -> Comparison:
    """Find out the order of the rows of a range."""
    pages = _pages(log)
    compared = [exchange for exchange, _, _ in pages]
    if not all(page.instants for _, _, page in log.pages(*PURPOSES)):
        return Comparison(None, "a timestamp cannot be read", compared)
    direction = _direction([page for _, _, page in pages])
    if direction is None:
        return Comparison(None, "too few timestamps differ to see an order", compared)
    first, second = log.first(), log.second()
    if first and second and direction != "none":
        ends, begins = first[2].instants[-1], second[2].instants[0]
        if (ends > begins) if direction == "ascending" else (ends < begins):
            return Comparison(None, "each page is sorted, but not the pages", compared)
    same, odds_same = _compare(pages, direction, same_url=True)
    other, odds_other = _compare(pages, direction, same_url=False)
    if not same:
        stability, why = "per request", "the same URL returned another order"
    elif odds_same < CHANCE:
        return Comparison(
            None, "too few rows to compare two responses of a URL", compared
        )
    elif not other:
        stability, why = "per URL", "two URLs ordered the same rows differently"
    elif odds_other < CHANCE:
        return Comparison(None, "too few rows to compare two URLs", compared)
    else:
        stability, why = "stable", "all responses ordered the same rows equally"
    return Comparison(NAMES[direction, stability], why, compared)


def _pages(log: Log) -> list[tuple[Exchange, Range, Page]]:
    """Return the pages of the device that is examined, without repetitions of a page."""
    found = log.first()
    return [
        (exchange, asked, page)
        for exchange, asked, page in log.pages(*PURPOSES)
        if found and asked.device == found[1].device
        if len(page.instants) == len(page.rows)
        if asked.page == 1 or page.differs(found[2])
    ]


def _direction(pages: Iterable[Page]) -> str | None:
    """Return ``ascending``, ``descending`` or ``none``; `None` if it is not certain."""
    possible = {"ascending", "descending"}
    certain = False
    for page in pages:
        steps = [*pairwise(page.instants)]
        falls = any(before > after for before, after in steps)
        rises = any(before < after for before, after in steps)
        if falls and rises:
            return "none"
        possible -= {"ascending"} if falls else {"descending"} if rises else set()
        certain = certain or _odds(page.instants) >= CHANCE
    return possible.pop() if certain and len(possible) == 1 else None


def _odds(values: Sequence[object]) -> float:
    """Return the logarithm of the number of different orders of values."""
    repeated = Counter(values).values()
    return lgamma(len(values) + 1) - sum(lgamma(count + 1) for count in repeated)


def _compare(
    pages: list[tuple[Exchange, Range, Page]], direction: str, *, same_url: bool
) -> tuple[bool, float]:
    """Compare the order of rows that two responses share."""
    shared = _unique if direction == "none" else _ties
    if direction == "none":
        # Of identical rows, a stable order has the same one first on each first page.
        pages = [found for found in pages if found[1].page == 1]
    odds: dict[tuple[int, int], float] = {}
    urls: set[Range] = set()
    for number, (_, asked, page) in enumerate(pages):
        if not same_url and asked in urls:
            continue  # a second response of a URL is no evidence on other URLs
        urls.add(asked)
        for _, other_asked, other in pages[:number]:
            if (asked == other_asked) != same_url:
                continue
            for instant, names, other_names in shared(page, other):
                if names != other_names:
                    return False, 0.0
                place = number, instant
                odds[place] = max(odds.get(place, 0.0), _odds(names))
    return True, sum(odds.values())


def _ties(page: Page, other: Page) -> Iterator[tuple[int, list[str], list[str]]]:
    """Yield the rows of each timestamp of which both pages have the same rows."""
    groups, others = page.groups(), other.groups()
    for instant in groups.keys() & others.keys():
        if Counter(groups[instant]) == Counter(others[instant]):
            yield instant, groups[instant], others[instant]


def _unique(page: Page, other: Page) -> Iterator[tuple[int, list[str], list[str]]]:
    """Yield the rows that both pages have once."""
    once, other_once = page.count(), other.count()
    shared = {n for n, c in once.items() if c == 1 and other_once.get(n) == 1}
    names, other_names = ([n for n in p.names if n in shared] for p in (page, other))
    yield 0, names, other_names
