"""The probe finds out the options of a mock API, and never reports another value.

`SOAK=1000 python -m pytest tests/reliability -m soak` tries that many more sets of options.
"""

from __future__ import annotations

import os
from functools import cache
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mock_api import Account, Fault, MockAPI, Options, Row
from reliability.probes import probe
from reliability.runs import choices, row
from scripts.probe.plan import LENGTHS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from scripts.probe.report import Report

SOAK = int(os.environ.get("SOAK", "0"))
QUICK = settings(
    database=None,
    deadline=None,
    derandomize=True,
)

CHOICES = (
    *("bounds", "round_bounds", "order", "total", "empty_form", "past_end"),
    *("key_order", "version_form", "session_form", "tableau_form", "unknown_device"),
)
OPTIONS = {
    **{name: st.sampled_from(choices(name)) for name in CHOICES},
    "empty_total": st.sampled_from(["0", "1", "null"]),
    "seed": st.integers(0, 2**32),
    "too_large": st.sampled_from(choices("too_large")),
}


FAULTS = (
    *("status_204", "status_429", "status_500", "status_503", "quota"),
    *("errors_in_200", "redirect", "html", "empty", "malformed", "no_data"),
    *("short_row", "drop", "reset_before", "reset_amid", "cut"),
)
"""Faults that hit at random and leave no valid response of another form.

Errors such as 404, 422 and 504 are not among them: at random, they look like a rejection.
"""


def findings(made: Report) -> dict[str, Any]:
    """The findings that are options of the mock API."""
    return {
        name: answer["finding"]
        for name, answer in made["answers"].items()
        if name in vars(Options)["__pydantic_fields__"]
    }


@cache
def account() -> Account:
    """Two devices; one has 30 rows on each of eight days, at seconds and between them.

    On whole seconds alone, some bounds do not show: those that are excluded and rounded to
    the next second exclude what those do that are not rounded.
    """
    seconds = (0, 3600, 3601, 3601.25, 50_000.5, 86_399)
    rows = [
        row("Wbusy", day * 86_400 + second, class_name=name)
        for day in range(8)
        for second in seconds
        for name in ("person", "truck", "person", "car", "total_count")
    ]
    return Account({"Wbusy": map(Row, rows), "Wsilent": []})


def visible(options: Mapping[str, Any]) -> dict[str, Any]:
    """The findings on the account above: only these do not show."""
    limit = options["max_range_seconds"]
    return {
        **{name: options[name] for name in (*CHOICES, "page_size")},
        "empty_total": options["empty_total"]
        if options["total"] == "present"
        else None,
        "max_range_seconds": "none" if limit is None else limit,
        "too_large": None if limit is None else options["too_large"],
        "retry_after": None,
    }


ALL_VISIBLE = st.fixed_dictionaries(
    OPTIONS
    | {
        "page_size": st.integers(70, 110),
        # Shorter ranges would hold less than two pages.
        "max_range_seconds": st.none()
        | st.sampled_from([n for n in LENGTHS if n > 10**6]),
    }
)


def check_found(options: dict[str, Any]) -> None:
    with MockAPI(account(), **options) as api:
        made = probe(api)
    assert findings(made) == visible(options)
    assert made["ended_early"] is None


ANYTHING = st.fixed_dictionaries(
    OPTIONS | {"page_size": st.integers(1, 300)},
    optional={
        "expire_per_request": st.integers(1, 9),
        "max_range_seconds": st.sampled_from(LENGTHS) | st.integers(1, 10**8),
        "max_pages": st.integers(0, 5),
        "max_body": st.integers(1000, 100_000),
        "rate_limit": st.integers(1, 40),
        "retry_after": st.sampled_from(choices("retry_after")),
        "faults": st.lists(
            st.builds(
                Fault,
                kind=st.sampled_from(FAULTS),
                rate=st.floats(0, 0.5),
                start=st.integers(2, 40),
            )
        ),
    },
)
ACCOUNTS = st.builds(
    Account.generate,
    devices=st.integers(0, 6),
    rows=st.integers(0, 1000),
    seed=st.integers(0, 99),
)


def check_never_wrong(options: dict[str, Any], data: Account) -> None:
    with MockAPI(data, **options) as api:
        made = probe(api)
    actual = vars(Options(**options))
    if actual["max_range_seconds"] is None:
        actual["max_range_seconds"] = "none"
    found = findings(made)
    if actual["faults"]:
        found.pop("retry_after")  # some replace headers, too
    for name, finding in found.items():
        assert finding in {None, actual[name]}, name


@settings(QUICK, max_examples=40)
@given(ANYTHING, ACCOUNTS)
def test_no_finding_is_wrong(options: dict[str, Any], data: Account) -> None:
    check_never_wrong(options, data)


@settings(QUICK, max_examples=24)
@given(ALL_VISIBLE)
def test_exactly_the_options_are_found_out(options: dict[str, Any]) -> None:
    check_found(options)


@pytest.mark.soak
@pytest.mark.skipif(not SOAK, reason="SOAK is the number of sets of options")
@pytest.mark.timeout(0)
@settings(QUICK, max_examples=max(SOAK, 1), derandomize=False)
@given(ALL_VISIBLE)
def test_soak_found(options: dict[str, Any]) -> None:
    check_found(options)


@pytest.mark.soak
@pytest.mark.skipif(not SOAK, reason="SOAK is the number of sets of options")
@pytest.mark.timeout(0)
@settings(QUICK, max_examples=max(SOAK, 1), derandomize=False)
@given(ANYTHING, ACCOUNTS)
def test_soak_never_wrong(options: dict[str, Any], data: Account) -> None:
    check_never_wrong(options, data)
