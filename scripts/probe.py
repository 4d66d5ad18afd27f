"""Ask the API questions that its documentation leaves open, and print the answers as Markdown.

The settings are those of the tap, as environment variables. Answers consist of counts, HTTP
statuses and types: no credential, no ID and no value of a row.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
from collections import Counter, defaultdict
from dataclasses import dataclass
from itertools import pairwise
from math import lgamma, log
from typing import TYPE_CHECKING, Any

from singer_sdk.streams.rest import PageContext

from tap_unleash.errors import FatalError, UnleashError
from tap_unleash.page import COLUMNS, EMPTY, InvalidResponse, Page, decode_page
from tap_unleash.session import Unavailable
from tap_unleash.streams import Analytics, ApiVersion, Devices
from tap_unleash.tap import API_URL, TapUnleash
from tap_unleash.windows import DAY, EARLIEST, SECOND, PageRequest, TimeWindow

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tap_unleash.page import Row

MAX_REQUESTS = 39
MAX_DEVICES = 4
"""Most devices that are searched for rows."""

LENGTHS = [366 * DAY, 31 * DAY, DAY]
"""Ranges to try if the API rejects the complete history."""

CERTAIN = log(1000)
"""Logarithm of the odds against a coincidence that make an order certain enough."""

UNKNOWN = "not found out"
LATE, LOST = "no response within 'request_timeout'", "connection lost"
OVERLOAD = {"HTTP 502", "HTTP 504", LATE}
TOO_LONG = OVERLOAD | {"HTTP 400", "HTTP 413", "HTTP 422"}
TRANSIENT = {"HTTP 500", "HTTP 503", LOST}
NAMES = {"NoneType": "null", "bool": "boolean", "int": "integer", "float": "number"}
NAMES |= {"str": "string", "list": "array", "dict": "object"}


@dataclass(frozen=True)
class Reply:
    """The outcome of a request in words; its page and its JSON, if it is a page."""

    outcome: str
    page: Page = EMPTY
    body: Any = None

    @property
    def instants(self) -> list[int]:
        """The epoch milliseconds of each row."""
        return [self.page.at(row) for row in self.page.rows]

    @property
    def counts(self) -> Counter[Row]:
        """The rows, whatever their order is."""
        return Counter(self.page.rows)

    def describe(self, *names: str) -> str:
        """Describe the outcome and the types of members of the JSON object."""
        words = [self.outcome]
        for name in names if isinstance(self.body, dict) else ():
            value = self.body.get(name)
            kind = NAMES[type(value).__name__] if name in self.body else "absent"
            number = f" {value}" if isinstance(value, int | float) else ""
            words.append(f"`{name}` {kind}{number}")
        return ", ".join(words + ["array"] * isinstance(self.body, list))


class Probe:
    """Questions to the API, asked with the client of the tap."""

    def __init__(self, device: str | None = None) -> None:
        """Read the settings; nothing is sent."""
        self.tap = TapUnleash(parse_env_config=True)
        self.stream = Analytics(self.tap)
        self.device = device or ""
        self.since, end = self.tap.time_range
        self.until = end - 1
        self.types: defaultdict[str, set[str]] = defaultdict(set)
        self.sent = 0
        self.tap.session.hooks["response"].append(self._count)

    def _count(self, *_: object, **__: object) -> None:
        self.sent += 1

    def ask(self, since: int, until: int, number: int = 1) -> Reply:
        """Request a page of exactly this range, and again after a transient error."""
        request = PageRequest(TimeWindow(self.device, since + 1, until), number)
        url = self.stream.get_http_request(page=PageContext({}, request)).url
        reply = self._send(url)
        return self._send(url) if reply.outcome in TRANSIENT else reply

    def _send(self, url: str) -> Reply:
        if self.sent >= MAX_REQUESTS:
            msg = f"The probe ends after {MAX_REQUESTS} requests."
            raise FatalError(msg)
        prepared = self.stream.build_prepared_request(method="GET", url=url)
        try:
            response = self.tap.session.send(
                prepared, timeout=self.stream.timeout, allow_redirects=False
            )
        except Unavailable as error:
            self._count()
            return Reply(LATE if error.status else LOST)
        outcome = f"HTTP {response.status_code}"
        if response.status_code != 200:  # noqa: PLR2004
            return Reply(outcome)
        try:
            page = decode_page(response.content, device_id=self.device)
        except (InvalidResponse, UnleashError):
            return Reply(f"{outcome}, but the tap cannot read the page")
        body = json.loads(response.content)
        for row in body if isinstance(body, list) else body["data"] or []:
            named = dict(row if isinstance(row, dict) else zip(body["keys"], row))  # noqa: B905
            for name, value in named.items():
                self.types[name].add(NAMES[type(value).__name__])
        return Reply(outcome, page, body)

    def answers(self) -> Iterator[tuple[str, str]]:
        """Yield each question and its answer."""
        first, statuses = self._choose_device()
        yield "Responses for long ranges", statuses
        if not self.device:
            return
        empty = self.ask(EARLIEST, EARLIEST + SECOND)
        form = empty.describe("total_num_pages", "keys", "data")
        yield "Range without rows", UNKNOWN if empty.page.rows else form
        if not first.page.rows:
            yield "Device", f"{UNKNOWN}: no rows"
            return
        second, total = self.ask(self.since, self.until, 2), first.page.total or 0
        known = {0: Reply(UNKNOWN), 1: first, 2: second}
        last = known.get(total) or self.ask(self.since, self.until, total)
        after = known.get(total + 1) or self.ask(self.since, self.until, total + 1)
        pages = [first]
        for reply in (second, last):
            if reply.page.rows and reply.counts != pages[-1].counts:
                pages.append(reply)
        yield "Rows on a page", page_size(pages)
        order = order_of([page.instants for page in pages])
        yield "Order of rows", order
        for question, until in [
            ("Page 1, requested again", self.until),
            ("Page 1 of a range that is 1 ms shorter", self.until - 1),
        ]:
            again = self.ask(self.since, until)
            yield question, same_order(first, again, by_time=order.endswith("cending"))
        bounds, small, past = self._ask_bounds(pages)
        yield "Bounds of a range", bounds
        if not small.page.rows:
            small, past = last, after
        repeats = bool(past.page.rows) and past.counts == small.counts
        form = UNKNOWN if past.page.rows else past.describe("total_num_pages", "data")
        yield "Page after the last one", "the last page again" if repeats else form
        one = small.page.total if small is not last else 1
        verdict = total_verdict(first, last, after, one=one, repeats=repeats)
        yield "`total_num_pages`", verdict
        for name in COLUMNS:
            yield f"Type of `{name}`", ", ".join(sorted(self.types[name])) or "absent"
        yield "Undocumented columns", str(len(self.types.keys() - {*COLUMNS}))

    def _choose_device(self) -> tuple[Reply, str]:
        """Request the longest range that is answered, of a device with several pages."""
        devices = [self.device] if self.device else Devices(self.tap).values
        history = self.until - self.since
        lengths = [history, *(length for length in LENGTHS if length < history)]
        best, chosen = Reply(UNKNOWN), self.device
        statuses: dict[str, None] = {}
        for device in devices[:MAX_DEVICES]:
            self.device = device
            for number, length in enumerate(lengths):
                reply = self.ask(self.until - length, self.until)
                statuses[f"{length // DAY} days: {reply.outcome}"] = None
                if reply.outcome not in TOO_LONG:
                    lengths = lengths[number:]
                    break
            if len(reply.page.rows) > len(best.page.rows):
                best, chosen, self.since = reply, device, self.until - length
            if reply.outcome in OVERLOAD or (reply.page.rows and reply.page.total != 1):
                break
        self.device = chosen or self.device
        return best, "; ".join(statuses) or f"{UNKNOWN}: no devices"

    def _ask_bounds(self, pages: Sequence[Reply]) -> tuple[str, Reply, Reply]:
        """Request a range between two known instants, a longer and a shorter one.

        Returns:
            The answer, and the replies for the only page of a range and for the next page.
        """
        none = Reply(UNKNOWN)
        instants = sorted({instant for page in pages for instant in page.instants})
        gaps = [(two - one, one, two) for one, two in pairwise(instants)]
        if not (gaps := [gap for gap in gaps if gap[0] > 2]):  # noqa: PLR2004
            return f"{UNKNOWN}: too few timestamps", none, none
        _, low, high = min(gaps)
        replies = [self.ask(low - more, high + more) for more in (0, 1, -1)]
        if failed := {reply.outcome for reply in replies} - {"HTTP 200", "HTTP 204"}:
            return f"{UNKNOWN}: {', '.join(sorted(failed))}", none, none
        most = max(len(page.page.rows) for page in pages)
        if not all(r.page.total == 1 or len(r.page.rows) < most for r in replies):
            return f"{UNKNOWN}: more than one page", none, none
        exact, around, between = ({low, high} & {*r.instants} for r in replies)
        past = self.ask(low - 1, high + 1, 2) if replies[1].page.rows else none
        if between or around != {low, high}:
            return "rounded or shifted, not exact to the millisecond", replies[1], past
        start, end = ("in" if one in exact else "ex" for one in (low, high))
        return f"start {start}clusive, end {end}clusive", replies[1], past


def page_size(pages: Sequence[Reply]) -> str:
    """Compare the lengths of the pages that another one follows."""
    lengths = {len(page.page.rows) for page in pages[:-1]}
    if len(lengths) > 1:
        return "differs"
    return str(*lengths) if lengths else f"{len(pages[0].page.rows)} or more"


def total_verdict(
    first: Reply, last: Reply, after: Reply, *, one: int | None, repeats: bool
) -> str:
    """Check the total against the last page and the next, and that of a range of one page."""
    if not first.page.total:
        return "not reported" if first.page.total is None else "wrong: 0"
    if not last.page.rows:
        return f"too high: {last.outcome} and no rows on the last page"
    if after.page.rows and not (repeats and after.counts == last.counts):
        return UNKNOWN if repeats else "too low: another page follows"
    return "right" if one == 1 else "wrong for a range of one page"


def surprise(values: Sequence[object]) -> float:
    """Return the logarithm of the number of different orders of values."""
    counts = Counter(values).values()
    return lgamma(len(values) + 1) - sum(lgamma(count + 1) for count in counts)


def order_of(pages: Sequence[list[int]]) -> str:
    """Find the order of rows from the instants on successive pages."""
    for name, sign in (("ascending", 1), ("descending", -1)):
        ordered = [sorted(page, key=lambda one: sign * one) for page in pages]
        if ordered == [*pages]:
            if sum(map(surprise, pages)) < CERTAIN:
                return f"{UNKNOWN}: too few timestamps"
            across = all(sign * a[-1] <= sign * b[0] for a, b in pairwise(pages))
            return name if across else f"each page is {name}, but pages overlap"
    return "not sorted by time"


def same_order(first: Reply, again: Reply, *, by_time: bool) -> str:
    """Compare the order of rows of one timestamp, or of all rows if they are not sorted."""
    if not again.page.rows:
        return f"{UNKNOWN}: {again.outcome}"
    one, two = (defaultdict[int, "list[Row]"](list) for _ in range(2))
    for groups, reply in ((one, first), (two, again)):
        for row, instant in zip(reply.page.rows, reply.instants, strict=True):
            groups[instant * by_time].append(row)
    evidence = 0.0
    for instant, rows in one.items():
        if Counter(rows) == Counter(two[instant]):
            if rows != two[instant]:
                return "another order"
            evidence += surprise(rows)
        elif not by_time:
            return "other rows"
    return "the same order" if evidence > CERTAIN else f"{UNKNOWN}: too few rows"


def main(arguments: Sequence[str] | None = None) -> None:
    """Probe the API and print the report."""
    parser = argparse.ArgumentParser("python -m scripts.probe", description=__doc__)
    parser.add_argument("--device", help="device to examine; by default, one with rows")
    try:
        probe = Probe(parser.parse_args(arguments).device)
        # The handler of the tap would write a STATE message.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        _ = ApiVersion(probe.tap).values  # fails if the credential is wrong
        live = probe.tap.config["api_url"].rstrip("/") == API_URL
        print(f"Probe of {'the live API' if live else 'another server'}\n")
        print("| question | answer |\n| --- | --- |")
        for question, answer in probe.answers():
            print(f"| {question} | {answer} |", flush=True)
        print(f"| Requests | {probe.sent} |")
    except UnleashError as error:
        sys.exit(f"probe: {error}")


if __name__ == "__main__":
    main()
