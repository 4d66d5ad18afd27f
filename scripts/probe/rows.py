"""Answers on the rows: their order, their columns and their timestamps."""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING

from scripts.probe import order as comparison
from scripts.probe.bounds import complete
from scripts.probe.questions import Found, Unknown, first, page, question
from tap_unleash.api.page import COLUMNS

if TYPE_CHECKING:
    from scripts.probe.exchange import Exchange, Log, Page

DOCUMENTED = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
ENOUGH_TIMESTAMPS = 10
ENOUGH_KEYS = 5
TYPES = {
    "str": "string",
    "int": "integer",
    "float": "number",
    "bool": "boolean",
    "NoneType": "null",
    "list": "array",
    "dict": "object",
}
AGES = {
    60: "less than a minute",
    3600: "less than an hour",
    86_400: "less than a day",
    30 * 86_400: "less than 30 days",
}


@question(
    "In which order are the rows of a range?",
    {
        **dict.fromkeys(
            ("ascending", "descending", "shuffled"),
            "Rule 3 costs nothing here: rows of one timestamp have a stable order.",
        ),
        "": "Rule 3 is needed here: the tap reads the timestamps alone whose rows are "
        "repeated on two pages.",
        **dict.fromkeys(
            ("per-page", "reshuffled"),
            "Pages have no common order: the tap splits windows until they fit one page.",
        ),
    },
    compares=True,
)
def order(log: Log) -> Found:
    """Compare responses that share rows."""
    first(log)
    found, why, exchanges = comparison.read(log)
    if found is None:
        raise Unknown(why, *exchanges)
    return Found(found, why, exchanges)


@question(
    "Do two pages show the rows of a timestamp that they share once each?",
    {
        "True": "Rule 3 cost nothing at this place.",
        "False": "Rule 3 is needed: a page boundary repeats some rows and omits others.",
    },
    compares=True,
)
def ties_across_pages(log: Log) -> Found:
    """Read the timestamp alone at which page 1 ends and page 2 starts."""
    (exchange, _, one), second = first(log), log.second()
    if second is None or not log.of("boundary"):
        return Found(None, "no timestamp is known to be on two pages", [])
    boundary, alone = page(log, "boundary")
    exchanges = [exchange, second[0], boundary]
    groups = one.groups(), second[2].groups(), alone.groups()
    instant = one.instants[-1]
    if not complete(boundary, log) or len(groups[1]) == 1:
        return Found(None, "the rows of the timestamp exceed a page", exchanges)
    paged = Counter(groups[0][instant] + groups[1].get(instant, []))
    same = paged == Counter(groups[2].get(instant, []))
    return Found(same, "rows of one timestamp on pages 1 and 2, and alone", exchanges)


@question(
    "Are there identical rows?",
    "The tap keeps them apart by an occurrence index in `record_id`.",
)
def identical_rows(log: Log) -> Found:
    """Look for rows of a page whose values are all equal."""
    first(log)
    pages = log.pages()
    repeated = [e for e, _, p in pages if max(p.count().values()) > 1]
    most = max(len(p.rows) for _, _, p in pages)
    why = f"pages of up to {most} rows"
    return Found(bool(repeated), why, repeated or [e for e, _, _ in pages])


@question(
    "Did rows change during the probe?",
    {
        "False": "Answers that compare responses are not affected.",
        "True": "The tap detects changes at both ends of a window and reads it again.",
    },
)
def changes(log: Log) -> Found:
    """Compare a small range and the first page before and after the other requests."""
    exchange, _, one = first(log)
    (before, small), (after, again) = page(log, "small"), page(log, "small-again")
    last, closing = page(log, "closing")
    exchanges = [exchange, before, last, after]
    if small.count() != again.count() or len(one.rows) != len(closing.rows):
        return Found(True, "not the same rows before and after", exchanges)  # noqa: FBT003
    if one.count() != closing.count():
        return Found(
            None, "a small range did not change, but the first page did", exchanges
        )
    return Found(False, "the same rows before and after", exchanges)  # noqa: FBT003


@question(
    "Which resolution and form have timestamps?",
    "The tap converts ISO 8601 timestamps to UTC and keeps all decimals.",
)
def timestamps(log: Log) -> Found:
    """Find the coarsest unit of which all timestamps are multiples."""
    first(log)
    exchanges = [e for e, _, _ in log.pages()]
    instants = {instant for _, _, p in log.pages() for instant in p.instants}
    units = {"1 s": 1_000_000, "1 ms": 1000, "1 µs or less": 1}
    name = next(n for n, u in units.items() if all(i % u == 0 for i in instants))
    if len(instants) < ENOUGH_TIMESTAMPS:
        return Found(
            None, f"only {len(instants)} timestamps could be compared", exchanges
        )
    texts = (str(row.get("timestamp")) for _, _, p in log.pages() for row in p.rows)
    form = "documented" if all(map(DOCUMENTED.fullmatch, texts)) else "another"
    why = f"{len(instants)} different timestamps"
    return Found({"resolution": name, "form": form}, why, exchanges)


@question(
    "How far is the newest row from the end of the range?",
    "`lookback_minutes` must exceed the delay with which rows arrive.",
)
def newest_row(log: Log) -> Found:
    """Look at the end of the range at which the newest rows are."""
    exchange, asked, one = first(log)
    ordered = comparison.read(log).order or ""
    if one.total != 1 and not ordered.startswith("descending"):
        if not ordered.startswith(("ascending", "ties")):
            return Found(None, "the rows are not sorted", [exchange])
        last = log.pages("last")
        end = last[0] if last else log.second() if one.total == 2 else None  # noqa: PLR2004
        if end is None:
            return Found(None, "the last page is not known", [exchange])
        exchange, _, one = end
    if not one.instants:
        return Found(None, "a timestamp cannot be read", [exchange])
    seconds = asked.until / 1000 - max(one.instants) / 1_000_000
    age = next((name for n, name in AGES.items() if seconds < n), "30 days or more")
    return Found(age, "the newest row of the device", [exchange])


@question(
    "Is the order of the columns (`keys`) the same on all pages?",
    "The tap reads `keys` on each page.",
    compares=True,
)
def key_order(log: Log) -> Found:
    """Compare pages of different numbers."""
    found = first(log)
    pages: list[tuple[Exchange, Page]] = [(found[0], found[2])]
    second = log.second()
    pages += [(second[0], second[2])] if second else []
    pages += [(e, p) for e, _, p in log.pages("last") if p.differs(found[2])]
    # Past the end, a server that repeats its last page repeats its keys, too. A page without
    # rows can also be the first one, if its rows expired.
    pages += [(e, e.page) for e in log.of("past-end", "second") if e.empty and e.page]
    keys = [(e, p.keys) for e, p in pages if p.keys]
    exchanges = [e for e, _ in keys]
    shared = set.intersection(*(set(k) for _, k in keys)) if len(keys) > 1 else set()
    if len(shared) < ENOUGH_KEYS:
        return Found(None, "only one page has keys", exchanges)
    orders = {tuple(key for key in k if key in shared) for _, k in keys}
    with_rows = [e for e, p in pages if p.keys and p.rows]
    if len(orders) == 1 and not with_rows[1:]:
        return Found(None, "only one page has rows", exchanges)
    finding = "fixed" if len(orders) == 1 else "shuffled"
    return Found(finding, f"{len(keys)} pages were compared", exchanges)


@question(
    "Which types have the columns, and are there unknown ones?",
    "Unknown columns and unexpected types are stored in `extra_fields`.",
)
def columns(log: Log) -> Found:
    """Collect the types of the documented columns, and of others without their names."""
    first(log)
    types: dict[str, set[str]] = {}
    for _, _, one in log.pages():
        for row in one.rows:
            for name, value in row.items():
                types.setdefault(name, set()).add(TYPES[type(value).__name__])
    finding = {
        "documented": {name: sorted(types.get(name, ())) for name in sorted(COLUMNS)},
        # The names of unknown columns can be those of a customer's own metrics.
        "unknown": sorted(sorted(types[name]) for name in types.keys() - COLUMNS),
    }
    return Found(finding, "all rows", [e for e, _, _ in log.pages()])
