"""The queries of docs/guides/query.md, as they stand there, on a real PostgreSQL."""

from __future__ import annotations

import re
from collections import defaultdict
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from matplotlib.collections import QuadMesh
from matplotlib.dates import num2date
from matplotlib.figure import Figure
from numpy import asarray

from demo.picture import chart, save
from demo.pipeline import ROOT, Pipeline, instant
from demo.postgres import postgres
from mock_api import Account, MockAPI

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

QUERIES = re.findall(
    r"```sql\n(.+?)```", (ROOT / "docs" / "guides" / "query.md").read_text(), re.DOTALL
)
CROWD = "sparse-crowd-density-alphapose"

Truth = list[dict[str, Any]]


@pytest.fixture(scope="module")
def account() -> Account:
    return Account.generate(
        rows=4000,
        non_ascii=True,
        start=datetime(2024, 2, 28, 12, tzinfo=timezone.utc),
        end=datetime(2024, 3, 1, 12, tzinfo=timezone.utc),
    )


@pytest.fixture(scope="module")
def loaded(
    account: Account, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Pipeline, Truth]]:
    with MockAPI(account) as api, postgres() as url:
        streams = {"_select": '["analytics.*", "sessions.*", "flight_logs.*"]'}
        pipeline = Pipeline(tmp_path_factory.mktemp("project"), api.url, url, streams)
        pipeline.run()
        yield pipeline, api.truth()


def hour(row: dict[str, Any]) -> datetime:
    return instant(row["timestamp"]).replace(minute=0, second=0, microsecond=0)


def test_detections_per_device_class_and_hour(loaded: tuple[Pipeline, Truth]) -> None:
    pipeline, truth = loaded
    counts = defaultdict(list)
    for row in truth:
        counts[row["device_id"], row["class_name"], hour(row)].append(row["count"])
    found = pipeline.query(QUERIES[0])
    assert {
        (row["device_id"], row["class_name"], row["hour"]): (
            row["detections"],
            row["most_in_a_frame"],
        )
        for row in found
    } == {key: (sum(values), max(values)) for key, values in counts.items()}
    assert len(found) == len(counts)


def test_sessions_with_their_first_and_last_row(
    loaded: tuple[Pipeline, Truth],
) -> None:
    pipeline, truth = loaded
    times = defaultdict(list)
    for row in truth:
        times[row["session_id"], row["device_id"]].append(instant(row["timestamp"]))
    found = pipeline.query(QUERIES[1])
    assert {
        (row["session_id"], row["device_id"]): (
            row["first_row"],
            row["last_row"],
            row["rows"],
        )
        for row in found
    } == {key: (min(of), max(of), len(of)) for key, of in times.items()}
    assert len(found) == len(times)


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
    assert len(found) == len(frames)
    assert any(len(frame.get("persons_in_groups", [])) > 1 for frame in frames.values())


def test_detections_during_a_flight(
    loaded: tuple[Pipeline, Truth], account: Account
) -> None:
    pipeline, truth = loaded
    counts = defaultdict(list)
    for flight in account.flights():
        start, end = (instant(flight[f"flight{at}Date"]) for at in ("Start", "End"))
        for row in truth:
            if (
                row["device_id"] == flight["deviceId"]
                and start <= instant(row["timestamp"]) <= end
            ):
                counts[flight["id"], start, row["class_name"]].append(row["count"])
    found = pipeline.query(QUERIES[3])
    assert {
        (row["flight_id"], row["flight_start"], row["class_name"]): (
            row["records"],
            row["most_in_a_frame"],
        )
        for row in found
    } == {key: (len(values), max(values)) for key, values in counts.items()}
    assert len(found) == len(counts)
    # Each row was recorded during a flight.
    assert sum(map(len, counts.values())) == len(truth)


def test_chart_shows_the_detections_of_every_hour_and_class(
    loaded: tuple[Pipeline, Truth],
) -> None:
    pipeline, truth = loaded
    sums: dict[tuple[str, datetime], float] = defaultdict(float)
    for row in truth:
        if row["model_id"] != CROWD and row["class_name"] != "total_count":
            sums[row["class_name"], hour(row)] += row["count"]
    with psycopg.connect(pipeline.database) as connection:
        axes, _ = chart(connection).axes
    (mesh,) = axes.collections
    assert isinstance(mesh, QuadMesh)
    names = [label.get_text() for label in axes.get_yticklabels()]
    edges = asarray(mesh.get_coordinates())[0, :, 0]
    middles = [num2date(x) for x in (edges[:-1] + edges[1:]) / 2]
    values = mesh.get_array()
    assert values is not None
    shown = {
        (name, middle.replace(minute=0, second=0, microsecond=0, tzinfo=None)): value
        for name, line in zip(names, values.tolist(), strict=True)
        for middle, value in zip(middles, line, strict=True)
        if value is not None
    }
    assert shown == sums


def test_chart_is_the_same_file_for_the_same_data(tmp_path: Path) -> None:
    for name in ("first", "second"):
        figure = Figure()
        figure.subplots().plot([1, 2])
        (tmp_path / name).mkdir()
        save(figure, tmp_path / name / "chart.svg")
    first, second = (
        (tmp_path / name / "chart.svg").read_text() for name in ("first", "second")
    )
    assert first == second
    assert "</text>" in first
