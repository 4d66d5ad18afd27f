"""The questions, each with a function that answers it from the recorded exchanges."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

from scripts.probe.exchange import OK

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from typing import TypeAlias

    from scripts.probe.exchange import Exchange, Log, Page, Range

TOO_MANY = 429
REJECTED = {400, 401, 403, 404, 405, 410, 422}
"""Statuses that an API returns each time for the same request."""

SERVER_ERROR = 500


class Found(NamedTuple):
    """A finding, which is any JSON value, and its evidence."""

    finding: object
    evidence: str
    exchanges: Iterable[Exchange]


class Unknown(Exception):
    """The exchanges do not answer a question; the message says why."""

    def __init__(self, why: str, *exchanges: Exchange) -> None:
        """Name the reason and the exchanges that were tried."""
        super().__init__(why)
        self.exchanges = exchanges


Find: TypeAlias = "Callable[[Log], Found]"


@dataclass(frozen=True)
class Question:
    """A question about the API.

    Attributes:
        key: Name in the JSON report; an option of the mock API of that name takes the
            finding as its value.
        text: The question.
        meaning: The meaning of the answer for the tap. If it depends on the finding, by
            finding, with an empty one for all others.
        find: Answers the question.
        timing: Whether the answer differs each time.
        compares: Whether the answer is wrong if rows change meanwhile.
    """

    key: str
    text: str
    meaning: str | Mapping[str, str]
    find: Find
    timing: bool = False
    compares: bool = False


@dataclass(frozen=True)
class Answer:
    """An answer, with a finding of `None` if it was not found out."""

    question: Question
    finding: object
    evidence: str
    exchanges: tuple[Exchange, ...]

    @property
    def meaning(self) -> str:
        """The meaning for the tap; empty if nothing was found out."""
        meaning = self.question.meaning
        if self.finding is None or isinstance(meaning, str):
            return "" if self.finding is None else str(meaning)
        return meaning.get(str(self.finding), meaning.get("", ""))


QUESTIONS: list[Question] = []


def question(
    text: str, meaning: str | Mapping[str, str], **flags: bool
) -> Callable[[Find], Find]:
    """Register the function that answers a question; its name is the key."""

    def register(find: Find) -> Find:
        QUESTIONS.append(Question(find.__name__, text, meaning, find, **flags))
        return find

    return register


def answers(log: Log) -> list[Answer]:
    """Answer all questions."""
    found = [_answer(one, log) for one in QUESTIONS]
    if any(one.question.key == "changes" and one.finding for one in found):
        why = "rows changed during the probe"
        found = [
            replace(one, finding=None, evidence=why) if one.question.compares else one
            for one in found
        ]
    return found


def _answer(one: Question, log: Log) -> Answer:
    try:
        finding, evidence, exchanges = one.find(log)
    except Unknown as unknown:
        finding, evidence, exchanges = None, str(unknown), unknown.exchanges
    numbered = {exchange.number: exchange for exchange in exchanges}
    return Answer(one, finding, evidence, tuple(numbered.values()))


def response(log: Log, purpose: str) -> Exchange:
    """Return the response to the last request of a purpose."""
    exchange = log.last(purpose)
    if exchange is None:
        msg = "it was not asked"
        raise Unknown(msg)
    if exchange.status is None or exchange.status in {TOO_MANY, SERVER_ERROR, 503}:
        msg = f"the request failed ({exchange.outcome})"
        raise Unknown(msg, exchange)
    return exchange


def content(log: Log, purpose: str) -> tuple[Exchange, object]:
    """Return the JSON of a successful response."""
    exchange = response(log, purpose)
    if exchange.status != OK:
        msg = f"the request failed ({exchange.outcome})"
        raise Unknown(msg, exchange)
    return exchange, exchange.content


def first(log: Log) -> tuple[Exchange, Range, Page]:
    """Return the first page of the range that is examined."""
    found = log.first()
    if found is None:
        msg = "no rows were found"
        raise Unknown(msg, *log.of("scan"))
    return found


def page(log: Log, purpose: str) -> tuple[Exchange, Page]:
    """Return the page of a successful response."""
    exchange = response(log, purpose)
    if exchange.page is None:
        msg = f"the response is not a page ({exchange.outcome})"
        raise Unknown(msg, exchange)
    return exchange, exchange.page


def rejection(exchange: Exchange) -> str:
    """Return ``empty`` for a page without rows, or the status of an error."""
    if exchange.empty:
        return "empty"
    if exchange.status in REJECTED:
        return str(exchange.status)
    what = "has rows" if exchange.page else f"is no rejection ({exchange.outcome})"
    msg = f"the response {what}"
    raise Unknown(msg, exchange)


def one_of(values: Iterable[str], exchanges: Iterable[Exchange]) -> str:
    """Return the value that all responses agree on."""
    distinct = sorted(set(values))
    if len(distinct) != 1:
        several = f"the responses differ: {', '.join(distinct)}"
        raise Unknown(several if distinct else "no response shows it", *exchanges)
    return distinct[0]
