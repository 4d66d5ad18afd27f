"""Answers on HTTP: sizes, times, connections and rate limits."""

from __future__ import annotations

from email.utils import parsedate_to_datetime
from statistics import median
from typing import TYPE_CHECKING

from scripts.probe.exchange import OK
from scripts.probe.questions import TOO_MANY, Found, Unknown, first, one_of, question

if TYPE_CHECKING:
    from scripts.probe.exchange import Exchange, Log

ENCODINGS = {"br", "deflate", "gzip", "identity", "zstd"}
LIMITS = (
    "ratelimit",
    "ratelimit-limit",
    "ratelimit-policy",
    "ratelimit-remaining",
    "ratelimit-reset",
    "retry-after",
    "x-rate-limit-limit",
    "x-rate-limit-remaining",
    "x-rate-limit-reset",
    "x-ratelimit-limit",
    "x-ratelimit-remaining",
    "x-ratelimit-reset",
)
"""Headers of which the names are reported; the names of others could be private."""

MESSAGES = ("Too Many Requests", "Limit Exceeded")
"""Both messages of AWS API Gateway with HTTP 429: of a rate and of a quota."""


@question("How large are responses?", "The tap accepts up to 64 MiB per response.")
def response_size(log: Log) -> Found:
    """Measure the largest page."""
    first(log)
    largest, _, one = max(log.pages(), key=lambda found: len(found[0].body))
    size = len(largest.body)
    finding = {"largest_page_bytes": size, "bytes_per_row": size // len(one.rows)}
    return Found(finding, f"a page of {len(one.rows)} rows", [largest])


@question("Are responses compressed?", "The tap accepts gzip and deflate.")
def compression(log: Log) -> Found:
    """Compare the headers of pages."""
    first(log)
    pages = [e for e, _, _ in log.pages()]
    values = [e.headers.get("content-encoding", "none").lower() for e in pages]
    known = (v if v in {"none", *ENCODINGS} else "another encoding" for v in values)
    return Found(one_of(known, pages), "`Content-Encoding` of pages", pages)


@question(
    "How long does it take until the first byte?",
    "The tap requests up to `concurrency` pages meanwhile.",
    timing=True,
)
def first_byte(log: Log) -> Found:
    """Return the median and the maximum."""
    seconds = [e.first_byte for e in log if e.status == OK]
    if not seconds:
        return Found(None, "no request was answered", [])
    finding = {
        "median_ms": round(1000 * median(seconds)),
        "longest_ms": round(1000 * max(seconds)),
    }
    return Found(finding, f"{len(seconds)} responses with status 200", [])


@question(
    "Are connections kept open?",
    {"True": "The tap reuses connections.", "False": "Each request needs a handshake."},
)
def keep_alive(log: Log) -> Found:
    """Look for responses that announce the end of the connection."""
    closing = [e for e in log if e.headers.get("connection", "").lower() == "close"]
    why = f"{len(closing)} of {len(log)} responses have `Connection: close`"
    return Found(not closing, why, closing)


@question(
    "Are there headers about a rate limit?",
    "The tap honors `Retry-After` and estimates the rate otherwise.",
)
def rate_limit_headers(log: Log) -> Found:
    """List the known ones that occur, without values."""
    names = {name for e in log for name in e.headers if name in LIMITS}
    found = [e for e in log if names & e.headers.keys()]
    return Found(sorted(names), "names of headers in all responses", found)


def _throttled(log: Log) -> list[Exchange]:
    found = [exchange for exchange in log if exchange.status == TOO_MANY]
    if not found:
        msg = f"HTTP 429 did not happen in {len(log)} requests"
        raise Unknown(msg)
    return found


@question(
    "Which form has `Retry-After` with HTTP 429?",
    {
        "none": "The tap chooses the pause itself.",
        "": "The tap waits as long as asked.",
    },
)
def retry_after(log: Log) -> Found:
    """Return ``none``, ``seconds`` or ``date``."""
    found = _throttled(log)
    forms = [_form(e.headers.get("retry-after")) for e in found]
    return Found(one_of(forms, found), "all responses with HTTP 429", found)


def _form(value: str | None) -> str:
    if value is None:
        return "none"
    if value.strip().isdecimal():
        return "seconds"
    try:
        parsedate_to_datetime(value)
    except (TypeError, ValueError):
        return "another form"
    return "date"


@question("How does HTTP 429 look?", "The tap distinguishes a rate from a quota.")
def throttling(log: Log) -> Found:
    """Describe the body, and when it came first."""
    found = _throttled(log)
    bodies = [e.content if isinstance(e.content, dict) else {} for e in found]
    said = [body.get("message") for body in bodies]
    texts = [text if text in MESSAGES else "another body" for text in said]
    finding = {"answered_before": found[0].number - 1, "body": one_of(texts, found)}
    return Found(finding, "all responses with HTTP 429", found)
