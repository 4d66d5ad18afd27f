"""Into files of JSON lines, which have no key: a record that is read twice is there twice."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from warehouses.pipeline import Rows, load_twice, program

if TYPE_CHECKING:
    from pathlib import Path


def test_lines_equal_the_truth(tmp_path: Path) -> None:
    loader = program("target-jsonl", "target-jsonl")

    def rows() -> Rows:
        files = tmp_path.glob("analytics*.jsonl")
        texts = (file.read_text() for file in files)
        return [json.loads(line) for text in texts for line in text.splitlines()]

    output = {"TARGET_JSONL_DESTINATION_PATH": str(tmp_path)}
    assert len(load_twice(tmp_path, loader, rows, output)) > 4200
