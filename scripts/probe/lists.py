"""Answers on the version, the lists, and requests that the API rejects."""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING

from scripts.probe.exchange import OK
from scripts.probe.questions import Found, content, question, response
from scripts.probe.questions import rejection as name_rejection

if TYPE_CHECKING:
    from scripts.probe.exchange import Exchange, Log

VERSION = r"\d{1,4}(?:\.\d{1,4}){0,3}"
VERSIONS = {
    "braces": rf'\{{"{VERSION}"\}}',
    "string": f'"{VERSION}"',
    "bare": VERSION,
    "object": rf'\{{\s*"version":\s*"{VERSION}"\s*\}}',
}
FORMS = {
    "W and 15 hexadecimal digits": "W[0-9a-f]{15}",
    "13 digits": r"\d{13}",
    "a UUID": "[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}",
}


@question(
    "In which form is the version?",
    {
        "": "The tap reads this form.",
        "another form": "The tap cannot read this form: report it.",
    },
)
def version_form(log: Log) -> Found:
    """Compare with the forms that the tap reads."""
    exchange, _ = content(log, "version")
    text = exchange.body.decode(errors="replace").strip()
    for name, pattern in VERSIONS.items():
        if re.fullmatch(pattern, text):
            return Found(name, f"the body has the form `{name}`", [exchange])
    return Found("another form", "the body has none of the known forms", [exchange])


def _forms(log: Log, purpose: str) -> Found:
    exchange, listed = content(log, purpose)
    if not isinstance(listed, list):
        return Found(None, "the response is not a list", [exchange])
    forms = Counter(
        next((f for f, p in FORMS.items() if re.fullmatch(p, str(one))), "another form")
        for one in listed
    )
    finding = {"count": len(listed), "forms": dict(forms.most_common())}
    return Found(finding, f"the list has {len(listed)} entries", [exchange])


@question(
    "How many devices are listed, and in which form?",
    "Each takes at least one request.",
)
def devices(log: Log) -> Found:
    """Describe the list of devices."""
    return _forms(log, "devices")


@question(
    "How many sessions are listed, and in which form?", "The list takes one request."
)
def sessions(log: Log) -> Found:
    """Describe the list of sessions."""
    return _forms(log, "sessions")


@question("Are session IDs strings or numbers?", "The tap emits strings either way.")
def session_form(log: Log) -> Found:
    """Compare the types in the list."""
    exchange, listed = content(log, "sessions")
    if not isinstance(listed, list) or not listed:
        return Found(None, "no session is listed", [exchange])
    names = {"str": "string", "int": "number"}
    kinds = {names.get(type(one).__name__, "another type") for one in listed}
    finding = kinds.pop() if len(kinds) == 1 else "mixed"
    return Found(finding, "all entries were compared", [exchange])


@question(
    "How is a wrong key rejected?",
    {
        "403": "The tap ends with a line about the key.",
        "401": "The tap ends with a line about the key.",
        "": "The tap does not recognize a wrong key by this status: report it.",
    },
)
def wrong_key(log: Log) -> Found:
    """Return the status."""
    exchange = response(log, "wrong-key")
    return Found(str(exchange.status), "the version with a wrong key", [exchange])


@question(
    "How is an unknown device rejected?",
    {
        "": "The tap fails the device and syncs the others.",
        "403": "For the tap, a device that was deleted meanwhile looks like a wrong key.",
        "401": "For the tap, a device that was deleted meanwhile looks like a wrong key.",
        "empty": "For the tap, a device that was deleted meanwhile has no records.",
    },
)
def unknown_device(log: Log) -> Found:
    """Return the status, or ``empty``."""
    exchange = response(log, "unknown-device")
    finding = name_rejection(exchange)
    return Found(finding, "rows of a device ID that is not listed", [exchange])


@question(
    "What is the response for a device without rows?",
    {"empty": "Such a device costs one request.", "": "The tap fails such a device."},
)
def device_without_rows(log: Log) -> Found:
    """Return the status, or ``empty``, of a listed device whose range has no rows."""
    found = [e for e in log.of("scan") if e.empty or e.status in {403, 404}]
    if not found:
        return Found(None, "all devices that were tried have rows", [*log.of("scan")])
    return Found(name_rejection(found[0]), "a listed device returned no rows", found)


@question(
    "How does an error look?",
    {
        "message": "The tap shows the message of the API.",
        "": "The tap shows the status only.",
    },
)
def error_body(log: Log) -> Found:
    """Describe the bodies of errors, without their texts."""
    errors = [e for e in log if e.status is not None and e.status != OK]
    if not errors:
        return Found(None, "no request was rejected", [])
    forms = sorted({_error_form(exchange) for exchange in errors})
    return Found(" and ".join(forms), "bodies of all errors", errors)


def _error_form(exchange: Exchange) -> str:
    body = exchange.content
    if isinstance(body, dict):
        return "message" if "message" in body else "another object"
    return "empty" if not exchange.body else "not a JSON object"
