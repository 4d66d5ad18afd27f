"""The queries of docs/guides/query.md on a real PostgreSQL."""

from __future__ import annotations

import re
from collections import defaultdict
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

import pytest

from demo.pipeline import ROOT, Pipeline, instant
from demo.postgres import postgres
from mock_api import Account, MockAPI

if TYPE_CHECKING:
    from collections.abc import Iterator

QUERIES = re.findall(
    r"```sql\n(.+?)```", (ROOT / "docs" / "guides" / "query.md").read_text(), re.DOTALL
)
CROWD = "sparse-crowd-density-alphapose"

Truth = list[dict[str, Any]]


@pytest.fixture(scope="module")
def loaded(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[Pipeline, Truth]]:
    account = Account.generate(
        rows=4000,
        non_ascii=True,
        start=datetime(2024, 2, 28, 12, tzinfo=timezone.utc),
        end=datetime(2024, 3, 1, 12, tzinfo=timezone.utc),
    )
    with MockAPI(account) as api, postgres() as url:
        pipeline = Pipeline(
            tmp_path_factory.mktemp("project"),
            api.url,
            url,
            {"response_format": "tableau"},
        )
        pipeline.run()
        yield pipeline, api.truth()


def test_detections_per_device_class_and_hour(loaded: tuple[Pipeline, Truth]) -> None:
    pipeline, truth = loaded
    counts = defaultdict(list)
    for row in truth:
        hour = instant(row["timestamp"]).replace(minute=0, second=0, microsecond=0)
        counts[row["device_id"], row["class_name"], hour].append(row["count"])
    assert {tuple(row.values()) for row in pipeline.query(QUERIES[0])} == {
        (*key, sum(values), max(values)) for key, values in counts.items()
    }


def test_sessions_with_their_first_and_last_row(
    loaded: tuple[Pipeline, Truth],
) -> None:
    pipeline, truth = loaded
    times = defaultdict(list)
    for row in truth:
        times[row["session_id"], row["device_id"]].append(instant(row["timestamp"]))
    assert {tuple(row.values()) for row in pipeline.query(QUERIES[1])} == {
        (*key, min(of), max(of), len(of)) for key, of in times.items()
    }


def test_group_metrics_of_a_frame_side_by_side(
    loaded: tuple[Pipeline, Truth],
) -> None:
    pipeline, truth = loaded
    identity = ("device_id", "session_id", "source_file_name", "frame_number")
    names = {
        "total_count": "persons",
        "num_individuals": "individuals",
        "number_of_groups": "groups",
        "group_pixel_size": "group_pixel_size",
    }
    frames: dict[tuple[Any, ...], dict[str, Any]] = {}
    for row in truth:
        if row["model_id"] == CROWD:
            key = (*(row[name] for name in identity), instant(row["timestamp"]))
            frame = frames.setdefault(key, {})
            if name := names.get(row["class_name"]):
                frame[name] = row["count"]
            elif row["class_name"] == "number_of_persons_in_group":
                groups = [*frame.get("persons_in_groups", []), row["count"]]
                frame["persons_in_groups"] = sorted(groups, reverse=True)
    found = pipeline.query(QUERIES[2])
    assert {
        tuple(row.pop(name) for name in (*identity, "timestamp")): {
            name: value for name, value in row.items() if value is not None
        }
        for row in found
    } == frames
    assert any(len(frame.get("persons_in_groups", [])) > 1 for frame in frames.values())
