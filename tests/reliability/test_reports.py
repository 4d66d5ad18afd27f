"""The tap extracts every row of an API like that of a report of `make probe`.

`make test LIKE=report.json` adds a report, for example of an account.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from demo.pipeline import ROOT
from mock_api import Account, MockAPI, like
from reliability.runs import Table, assert_truth, expected, run

REPORTS = [ROOT / "examples" / "probe" / "report.json"]
if "LIKE" in os.environ:
    REPORTS.append(Path(os.environ["LIKE"]))


@pytest.mark.parametrize("report", REPORTS, ids=str)
@pytest.mark.parametrize("response_format", ["size_optimized", "tableau"])
def test_every_row_of_an_api_like_the_report_is_extracted(
    report: Path, response_format: str
) -> None:
    options, _ = like.read(report)
    rows = min(5 * options.get("page_size", 1000) // 2, 10_000)
    settings: dict[str, Any] = {"response_format": response_format}
    table, state = Table(), None
    with MockAPI(Account.generate(rows=rows), **options) as api:
        for _ in range(2):
            result = run(api, state=state, **settings)
            assert (result.code, result.err) == (0, "")
            table.load(result.messages)
            assert_truth(table, expected(api.truth()))
            state = result.state
            assert api.account.grow(7, late_minutes=30) == 21
