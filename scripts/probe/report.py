"""The reports: JSON for programs, Markdown for people."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from scripts.probe import lists, pages, rows, transport
from scripts.probe.plan import DAY, LENGTHS
from scripts.probe.questions import answers
from tap_unleash.api.time_window import EARLIEST

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import TypeAlias

    from scripts.probe.exchange import Exchange, Log
    from scripts.probe.questions import Answer

    Report: TypeAlias = dict[str, Any]

SECTIONS = {
    "Version, lists and errors": lists,
    "Pages and ranges": pages,
    "Rows": rows,
    "HTTP": transport,
}
SOURCES = {
    True: "a server on this machine, such as the mock API; not the live API",
    False: "a server that is not on this machine",
}


def make(log: Log, *, loopback: bool, ended: str) -> Report:
    """Make the report."""
    labels: dict[str, str] = {}
    return {
        "report": "tap-unleash probe",
        "source": SOURCES[loopback],
        "ended_early": ended or None,
        "answers": {one.question.key: _answer(one) for one in answers(log)},
        "requests": [_request(exchange, labels) for exchange in log],
    }


def _answer(answer: Answer) -> Report:
    return {
        "question": answer.question.text,
        "finding": answer.finding,
        "evidence": answer.evidence,
        "requests": [exchange.number for exchange in answer.exchanges],
        "statuses": sorted({exchange.outcome for exchange in answer.exchanges}),
        "meaning": answer.meaning,
        "section": _section(answer),
        "timing": answer.question.timing,
    }


def _section(answer: Answer) -> str:
    module = answer.question.find.__module__
    return next(name for name, one in SECTIONS.items() if one.__name__ == module)


def _request(exchange: Exchange, labels: dict[str, str]) -> Report:
    asked, page = exchange.asked, exchange.page
    request: Report = {
        "number": exchange.number,
        "purpose": exchange.purpose,
        "outcome": exchange.outcome,
    }
    if asked:
        label = labels.setdefault(asked.device, f"device-{len(labels) + 1}")
        request["device"] = label
        request["range"] = _length(asked.since, asked.until)
        request["page"] = asked.page
        if page:
            request["rows"] = len(page.rows)
    return request


def _length(since: int, until: int) -> str:
    """Return the length of a range without its dates."""
    if not EARLIEST <= since <= until < 10 * EARLIEST:
        return f"{len(str(since))} digits"
    seconds = (until - since) / 1000
    if since == EARLIEST and seconds > LENGTHS[-1] + 1:
        return "2001 to the end"
    return f"{seconds:g} s" if seconds < DAY else f"{seconds / DAY:.1f} d"


def markdown(report: Report) -> str:
    """Write a report for people."""
    lines = [
        "# Report of `make probe`",
        "",
        f"Source: {report['source']}. Requests: {len(report['requests'])}.",
        "",
        "The report has no credential, ID, name or value of the account.",
    ]
    if report["ended_early"]:
        lines += ["", f"The probe ended early: {report['ended_early']}."]
    for section in SECTIONS:
        lines += ["", f"## {section}", ""]
        lines += ["| question | finding | evidence | meaning for the tap |"]
        lines += ["| --- | --- | --- | --- |"]
        lines += [
            _row(answer)
            for answer in report["answers"].values()
            if answer["section"] == section
        ]
    lines += ["", "## Requests", ""]
    head = ("number", "purpose", "device", "range", "page", "rows", "outcome")
    lines += [_cells(head), _cells(["---"] * len(head))]
    lines += [
        _cells([str(request.get(name, "")) for name in head])
        for request in report["requests"]
    ]
    return "\n".join(lines) + "\n"


def _row(answer: Report) -> str:
    finding = answer["finding"]
    shown = finding if isinstance(finding, str) else json.dumps(finding)
    numbers, statuses = _numbers(answer["requests"]), ", ".join(answer["statuses"])
    where = f" (request {numbers}: {statuses})" if numbers else ""
    return _cells(
        (
            answer["question"],
            "not found out" if finding is None else f"`{shown}`",
            f"{answer['evidence']}{where}",
            answer["meaning"],
        )
    )


def _cells(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _numbers(numbers: Sequence[int]) -> str:
    """Write numbers with ranges, such as ``3, 5-9``."""
    parts: list[list[int]] = []
    for number in sorted(numbers):
        if parts and number == parts[-1][-1] + 1:
            parts[-1].append(number)
        else:
            parts.append([number])
    return ", ".join(str(p[0]) if len(p) == 1 else f"{p[0]}-{p[-1]}" for p in parts)
