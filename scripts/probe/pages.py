"""Answers on pages, ranges and their limits."""

from __future__ import annotations

from typing import TYPE_CHECKING

from scripts.probe import bounds as hypotheses
from scripts.probe.plan import REFUSED, refused
from scripts.probe.questions import (
    Found,
    first,
    one_of,
    page,
    question,
    rejection,
    response,
)
from tap_unleash.api.time_window import EARLIEST

if TYPE_CHECKING:
    from scripts.probe.exchange import Exchange, Log, Page


@question(
    "Is a Tableau page an object or a bare array?",
    {
        "object": "The tap knows the number of pages in both formats.",
        "bare-array": "With `response_format: tableau`, the tap reads pages until one is "
        "empty.",
    },
)
def tableau_form(log: Log) -> Found:
    """Return the form."""
    exchange, tableau = page(log, "tableau")
    return Found(tableau.form, "the Tableau page of a small range", [exchange])


@question(
    "Do both formats hold the same rows?",
    {
        "True": "`response_format` changes no record.",
        "False": "`response_format` changes records: report it.",
    },
    compares=True,
)
def same_rows(log: Log) -> Found:
    """Compare a small range in both formats."""
    exchanges = [response(log, name) for name in ("small", "tableau")]
    (_, small), (_, tableau) = (page(log, name) for name in ("small", "tableau"))
    again = log.last("small-again")
    same = small.count() == tableau.count()
    if not same and (
        not again or not again.page or again.page.count() != small.count()
    ):
        return Found(None, "the rows of the range changed meanwhile", exchanges)
    return Found(same, f"{len(small.rows)} rows were compared", exchanges)


def _total(one: Page) -> str:
    if one.total in {None, "missing"}:
        return str(one.total or "null")
    return "present" if type(one.total) is int else "another type"


@question(
    "Does a page say how many pages there are (`total_num_pages`)?",
    {
        "present": "The tap requests pages concurrently.",
        "": "The tap reads pages until one is empty.",
        "another type": "The tap rejects such a page: report it.",
    },
)
def total(log: Log) -> Found:
    """Compare all size-optimized pages with rows."""
    found = [(e, p) for e, asked, p in log.pages() if not asked.tableau]
    if not found:
        first(log)
    exchanges = [exchange for exchange, _ in found]
    finding = one_of((_total(p) for _, p in found), exchanges)
    return Found(finding, f"{len(found)} pages with rows agree", exchanges)


@question(
    "What is `total_num_pages` of a range without rows?",
    "The tap requests page 1 either way.",
)
def empty_total(log: Log) -> Found:
    """Compare the ranges without rows."""
    if total(log).finding != "present":
        return Found(None, "pages with rows have no total either", [])
    empty = [e for e in log.of("empty", "scan") if e.empty]
    forms = [(_total(e.page), str(e.page.total)) for e in empty if e.page]
    totals = (number if form == "present" else form for form, number in forms)
    return Found(one_of(totals, empty), "all ranges without rows agree", empty)


@question(
    "Does a size-optimized page without rows have `keys`?",
    "The tap does not need them.",
)
def empty_form(log: Log) -> Found:
    """Compare the ranges without rows."""
    empty = [e for e in log.of("empty", "scan") if e.empty]
    forms = ("documented" if e.page and e.page.keys else "no-keys" for e in empty)
    return Found(one_of(forms, empty), "all ranges without rows agree", empty)


@question(
    "How many rows does a page hold?",
    "A time window of the tap holds up to 200 pages or 200,000 rows.",
    compares=True,
)
def page_size(log: Log) -> Found:
    """Count the rows of pages that another page follows."""
    exchange, _, one = first(log)
    second = log.second()
    several = isinstance(one.total, int) and one.total > 1
    if not several and not second:
        return Found(
            None,
            f"no range with several pages was found; one page holds {len(one.rows)} rows",
            [exchange],
        )
    full = [(exchange, one)]
    if second and isinstance(one.total, int) and one.total > 2:  # noqa: PLR2004
        full.append((second[0], second[2]))
    sizes = {len(p.rows) for _, p in full}
    exchanges = [e for e, _ in full]
    if len(sizes) > 1:
        return Found(None, "full pages hold different numbers of rows", exchanges)
    return Found(sizes.pop(), "pages that another page follows", exchanges)


@question(
    "What is the response past the last page?",
    "The tap requests such a page only without a total number of pages, and recognizes "
    "pages that are empty, repeated, or rejected.",
    compares=True,
)
def past_end(log: Log) -> Found:
    """Look at page 2 of a range that fits one page."""
    exchange, (_, small) = response(log, "past-end"), page(log, "small")
    if not small.rows:
        return Found(None, "no range with rows fits one page", [exchange])
    if exchange.page and exchange.page.rows:
        if exchange.page.count() != small.count():
            return Found(
                None, "page 2 of a range of one page has other rows", [exchange]
            )
        return Found("repeat", "page 2 repeats page 1", [exchange])
    return Found(rejection(exchange), "page 2 of a range of one page", [exchange])


@question("What is the response to page 0?", "The tap starts at page 1.")
def page_0(log: Log) -> Found:
    """Return the status, or whether it has rows."""
    exchange = response(log, "page-0")
    rows = exchange.page and exchange.page.rows
    return Found(
        "rows" if rows else rejection(exchange), "page 0 of a range", [exchange]
    )


def _bounds(log: Log, name: str) -> Found:
    first(log)
    left = hypotheses.remaining(log)
    exchanges = [exchange for exchange, _, _ in hypotheses.evidence(log)]
    if not left:
        return Found(
            None,
            "no combination of bounds and rounding explains all responses",
            exchanges,
        )
    values = sorted({str(vars(hypothesis)[name]) for hypothesis in left})
    if len(values) > 1:
        return Found(
            None, f"the rows do not distinguish {', '.join(values)}", exchanges
        )
    why = f"of {len(hypotheses.HYPOTHESES)} combinations of bounds and rounding, the "
    return Found(values[0], f"{why}responses refute all others", exchanges)


@question(
    "Does a range include its bounds?",
    "Time windows of the tap overlap by 1 ms at both ends, so no bounds lose a record.",
    compares=True,
)
def bounds(log: Log) -> Found:
    """Refute all other bounds."""
    return _bounds(log, "bounds")


@question(
    "Does the API round the bounds of a range?",
    {
        "none": "The tap can split a range down to 1 ms.",
        "": "The tap cannot split a range further than to this unit.",
    },
    compares=True,
)
def round_bounds(log: Log) -> Found:
    """Refute all other roundings."""
    return _bounds(log, "round_bounds")


@question(
    "In which unit are the bounds?", "The tap sends milliseconds, which have 13 digits."
)
def unit(log: Log) -> Found:
    """Send one range in seconds, milliseconds and nanoseconds."""
    exchange, _, _ = first(log)
    finding, exchanges = {"milliseconds": "rows"}, [exchange]
    for name, digits in (("seconds", 10), ("nanoseconds", 19)):
        other = response(log, f"digits-{digits}")
        rows = other.page and other.page.rows
        finding[name] = "rows" if rows else rejection(other)
        exchanges.append(other)
    return Found(finding, "the same range in three units", exchanges)


def _lengths(log: Log) -> tuple[dict[int, Exchange], dict[int, Exchange]]:
    """Return the ranges without rows that were answered or refused, by milliseconds."""
    lengths = [(e.asked.until - e.asked.since, e) for e in log.of("length") if e.asked]
    answered = {n: e for n, e in lengths if e.page}
    return answered, {n: e for n, e in lengths if refused(e) and n not in answered}


@question(
    "What is the longest range in seconds?",
    {
        "none": "The length of a range needs no splitting.",
        "": "The tap finds it by splitting ranges.",
    },
)
def max_range_seconds(log: Log) -> Found:
    """Find the shortest range without rows that is refused."""
    whole = [e for e in log.of("scan", "full") if e.asked and e.asked.since == EARLIEST]
    answered, too_long = _lengths(log)
    exchanges = [*answered.values(), *too_long.values()]
    if not exchanges and any(e.page for e in whole):
        return Found("none", "the range from 2001 to the end is answered", whole)
    longest, shortest = max(answered, default=0), min(too_long, default=None)
    if shortest is None:
        return Found(
            None,
            f"no range without rows was refused, up to {longest // 1000} s",
            exchanges,
        )
    if shortest != longest + 1:
        return Found(
            None,
            f"it is between {longest // 1000} and {shortest // 1000} s",
            exchanges,
        )
    why = f"{longest // 1000} s are answered, and one millisecond more is refused"
    return Found(longest // 1000, why, exchanges)


@question(
    "How is a range refused that is too long?",
    {
        **dict.fromkeys(map(str, REFUSED), "The tap splits a range after this status."),
        "": "The tap does not split a range after this response: report it.",
    },
)
def too_large(log: Log) -> Found:
    """Return the status."""
    if max_range_seconds(log).finding == "none":
        return Found(None, "no range was refused", [])
    exchanges = [*_lengths(log)[1].values()]
    statuses = [str(e.status or e.failure) for e in exchanges]
    return Found(one_of(statuses, exchanges), "ranges that were too long", exchanges)
