"""Into files of JSON lines, which have no key: a record that is read twice is there twice."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from demo.pipeline import compare
from mock_api import Account, MockAPI
from warehouses.pipeline import Project, program

if TYPE_CHECKING:
    from pathlib import Path


def test_lines_equal_the_truth(tmp_path: Path) -> None:
    project = Project(
        tmp_path,
        "warehouses/jsonl.yml",
        target_jsonl=program("target-jsonl", "target-jsonl"),
    )
    (output := tmp_path / "output").mkdir()

    def lines() -> list[dict[str, Any]]:
        return [
            json.loads(line)
            for file in output.glob("analytics*.jsonl")
            for line in file.read_text().splitlines()
        ]

    with MockAPI(Account.generate(rows=2000, non_ascii=True)) as api:
        env = {"TAP_UNLEASH_API_URL": api.url}
        project.meltano("run", "tap-unleash", "target-jsonl", **env)
        assert compare(api.truth(), lines()) == (0, 0)
        api.account.grow(500)
        project.meltano("run", "tap-unleash", "target-jsonl", **env)
        loaded = {line["record_id"]: line for line in lines()}
        assert compare(api.truth(), loaded.values()) == (0, 0)
        assert len(lines()) > len(loaded)
