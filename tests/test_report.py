"""The report, as a user writes it, and as browsers of two widths show it."""

from __future__ import annotations

import csv
import json
import re
import subprocess
import sys
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

import duckdb
import pytest
from pages import BROWSER, Page, look
from programs import PROGRAMS, run

from demo.pipeline import ROOT
from mock_api import Account, MockAPI

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

REPORT = ROOT / "examples" / "report.py"
START = datetime(2020, 4, 4, tzinfo=timezone.utc)

with (ROOT / "dbt" / "seeds" / "unleash_metrics.csv").open() as seed:
    METRICS = [row["class_name"] for row in csv.DictReader(seed)]
NONE = "\N{EN DASH}"
HOSTILE = "</script><!--<script>document.title = 'owned'</script>&\"'\u2028"
SCHEMA = {"type": "SCHEMA", "stream": "analytics", "schema": {}, "key_properties": ["record_id"]}
STATE = {"type": "STATE", "value": {"bookmarks": {}}}


def write(folder: Path, lines: Iterable[Any]) -> Path:
    path = folder / "detections.jsonl"
    path.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    return path


def report(file: Path, *args: str) -> Page:
    path = file.with_suffix(".html")
    assert run(sys.executable, REPORT, file, *args, "--output", path) == f"{path}\n"
    return Page(path)


def record(day: float = 0, **values: object) -> dict[str, object]:
    when = START + timedelta(days=day)
    values = {"device_id": "W1", "class_name": "person", "count": 2} | values
    return {"record_id": f"{day} {values}", "timestamp": when.isoformat(), **values}


MANY = [
    record(day, device_id=f"{HOSTILE} {device:02} {'long' * 30}", class_name=f"{HOSTILE}{name}")
    for device in range(50)
    for name in range(40)
    for day in (0, 90)
]


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Page:
    """Of the output of the tap, twice."""
    account = Account.generate(
        devices=8, rows=700, start=START, end=START + timedelta(days=2), daily=True
    )
    with MockAPI(account) as api:
        key = {"TAP_UNLEASH_API_URL": api.url, "TAP_UNLEASH_API_KEY": "mock"}
        output = run(PROGRAMS / "tap-unleash", "--config=ENV", cwd=ROOT, **key)
    path = tmp_path_factory.mktemp("tap") / "detections.jsonl"
    path.write_text(output * 2)
    return report(path, "--timezone", "Australia/Sydney")


@pytest.fixture(scope="module")
def pages(page: Page, tmp_path_factory: pytest.TempPathFactory) -> list[Page]:
    """With the records of the account, and with very many, one and none."""
    examples: list[list[Any]]
    examples = [MANY, [record(session_id="1", count=2.5)], [SCHEMA, STATE, {"device_id": "W1"}]]
    return [page, *(report(write(tmp_path_factory.mktemp("x"), lines)) for lines in examples)]


def test_figures(tmp_path: Path) -> None:
    """Of the records from which the dbt models are made, too, and older copies of them.

    A frame is of one device, session, file, number and time; clocks are set back at three.
    """
    with (ROOT / "tests/warehouses/models/stg_unleash__analytics.csv").open() as file:
        _, *rows = csv.DictReader(file)
    records = [
        {name: text or None for name, text in row.items()} | {"record_id": str(number)}
        for number, row in enumerate(rows)
    ]
    older = [{**row, "count": 99} for row in records]
    path = write(tmp_path, [*older, *records, {"device_id": "Wdead00000000000"}])
    page = report(path, "--timezone", "Australia/Sydney")
    summary = "duplicates dropped: 26 Devices with records 2 of 3 Sessions 3 Classes and metrics 11"
    assert f"Records 26 {summary}" in page.text
    gate, other = "W629f6fbd82c07cd", "Wc0ffee000000000"
    two, three, four, ten = (f"2020-04-05 {time}" for time in ("02:59", "03:00", "04:00", "10:00"))
    metric = [NONE, ten, ten]
    assert page.table("Classes") == [
        [gate, "person", "8", "6", "16,777,217", two, three],
        [gate, "number_of_persons_in_group", "4", "2", *metric],
        [gate, "group_pixel_size", "2", "1", *metric],
        [gate, "(none)", "1", "1", "1", four, four],
        [gate, "car", "1", "1", NONE, three, three],
        [gate, "dog", "1", "1", "0", four, four],
        [gate, "num_individuals", "1", "1", *metric],
        [gate, "number_of_groups", "1", "1", *metric],
        [gate, "this_frame_persons_count", "1", "1", *metric],
        [gate, "total_count", "1", "1", *metric],
        [other, "Fußgänger", "4", "3", "4", "2020-04-05 04:20", "2020-04-07 10:10"],
        [other, "total_count", "1", "1", *metric],
    ]
    assert page.table("Devices") == [
        [gate, "21", "2.0 days", ten, two, "2"],
        [other, "5", "0 min", "2020-04-07 10:10", "2020-04-05 04:20", "1"],
        ["Wdead00000000000", "0", NONE, NONE, NONE, "0"],
    ]
    first, second, _ = page.charts.values()
    assert [(cell["class"], cell["start"][8:13], cell["objects"]) for cell in first + second] == [
        ("person", "05T02", 5),
        ("person", "05T03", 16777217),
        ("(none)", "05T04", 1),
        ("Fußgänger", "05T04", 4),
        ("Fußgänger", "07T10", 2.5),
    ]


def test_files_of_a_target_give_the_same_report(page: Page) -> None:
    lines = page.path.with_suffix(".jsonl").read_text().splitlines()
    records = [json.loads(line).get("record") for line in lines]
    path = page.path.with_name("bare.html")
    subprocess.run(
        [sys.executable, REPORT, "-", "--timezone", "Australia/Sydney", "--output", path],
        check=True,
        input="".join(f"{json.dumps(record)}\n" for record in records if record),
        stdout=subprocess.DEVNULL,
        text=True,
    )
    same = path.read_text().replace("Source: stdin.", "Source: detections.jsonl.")
    assert same == page.path.read_text()
    assert "Records 4,200 duplicates dropped: 4,200 Devices with records 6 of 8" in page.text


def test_gaps_and_ages(tmp_path: Path) -> None:
    days = {"W1": [0, 0.25, 4, 8], "W2": [0, 6.5, 7], "W3": []}
    records = [record(day, device_id=device) for device in days for day in days[device]]
    path = write(tmp_path, [*records, {"device_id": "W3"}])
    page = report(path, "--gap", "23")
    assert page.table("Devices") == [
        ["W1", "4", "0 min", "2020-04-12 00:00", "2020-04-04 00:00", "0"],
        ["W2", "3", "24.0 h", "2020-04-11 00:00", "2020-04-04 00:00", "0"],
        ["W3", "0", NONE, NONE, NONE, "0"],
    ]
    assert page.table("Gaps") == [
        ["W2", "6.5 days", "2020-04-04 00:00", "2020-04-10 12:00"],
        ["W1", "4.0 days", "2020-04-08 00:00", "2020-04-12 00:00"],
        ["W1", "3.8 days", "2020-04-04 06:00", "2020-04-08 00:00"],
        ["W2", "24.0 h", "2020-04-11 00:00", "open"],
    ]
    bars = page.charts["Sessions and gaps, per device"]
    assert [(bar["device"], bar["hours"]) for bar in bars] == [
        *(("W2", 156), ("W1", 96), ("W1", 90), ("W2", 24))
    ]
    assert "Gaps of more than 200 h There are none." in report(path, "--gap", "200").text


def test_without_records_it_says_so(pages: list[Page], tmp_path: Path) -> None:
    for page in (pages[3], report(write(tmp_path, []))):
        assert "There are no records. Records 0 Devices" in page.text
        assert not [*page.root.iter("figure"), *page.root.iter("table")]


def test_one_record(pages: list[Page]) -> None:
    one = pages[2]
    midnight = "2020-04-04 00:00"
    assert one.table("Classes") == [["W1", "person", "1", "1", "2.50", midnight, midnight]]
    assert [len(rows) for rows in one.charts.values()] == [1, 1]


def test_says_how_much_is_left_out(pages: list[Page]) -> None:
    many = pages[1]
    assert many.text.count("15 of 40 classes") == 6
    for limit in ("more devices (44)", "more devices (10)", "more gaps (10)", "more rows (1,500)"):
        assert f"Not shown: {limit}." in many.text
    assert len(many.table("Classes")) == 500
    assert many.table("Classes")[0][:2] == [MANY[0]["device_id"], MANY[0]["class_name"]]


MILLION = """
COPY (
    SELECT n::VARCHAR AS record_id, 'W' || n % 9 AS device_id, (n // 1000)::VARCHAR AS session_id,
        'class ' || n % 20 AS class_name, 1 AS count, n // 10 AS frame_number,
        TIMESTAMP '2020-01-01' + to_seconds(n * 30) AS timestamp
    FROM range(1_000_000) AS numbers(n)
) TO 'detections.jsonl' (FORMAT json)
"""


def test_a_million_records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    duckdb.execute(MILLION)
    page = report(tmp_path / "detections.jsonl")
    assert sum(int(row[1].replace(",", "")) for row in page.table("Devices")) == 1_000_000
    assert "per class and week" in page.text
    bars = page.charts["Sessions and gaps, per device"]
    sessions = [int(bar["shows"].removeprefix("sessions: ")) for bar in bars]
    assert len(sessions) < sum(sessions) == 9000
    assert page.path.stat().st_size < 3_000_000


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("time,count\n1,2\n", "Malformed JSON"),
        ('{"level": "info"}\n', "Line 1 is neither a message nor a record of tap-unleash."),
        (f"{json.dumps(STATE)}\n" + '{"type": "BATCH"}\n', "Line 2 is neither"),
        ('{"record_id": "1"}\n', "Line 1 is neither"),
        ('{"record_id": "1", "timestamp": "soon"}\n', "invalid timestamp field format"),
    ],
)
def test_another_file_is_refused(text: str, reason: str, tmp_path: Path) -> None:
    (tmp_path / "other.jsonl").write_text(text)
    command = [sys.executable, str(REPORT), "other.jsonl"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, check=False, text=True)
    assert done.returncode == 1
    assert done.stderr.startswith("report.py: other.jsonl: ")
    assert reason in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "report.html").exists()


def test_versions_and_metrics_are_those_of_the_project() -> None:
    script = REPORT.read_text()
    [pins] = re.findall(r"^# dependencies = (\[.+?^# \])", script, re.MULTILINE | re.DOTALL)
    constraints = (ROOT / "constraints.txt").read_text()
    for name, version in re.findall(r'"([\w-]+)(?:\[binary\])?==([^"]+)"', pins):
        assert re.search(rf"^{name}=={re.escape(version)}( ;|$)", constraints, re.MULTILINE)
    [metrics] = re.findall(r"^METRICS = (\(.+?^\))", script, re.MULTILINE | re.DOTALL)
    assert set(re.findall(r'"(\w+)"', metrics)) == {*METRICS}


@pytest.mark.skipif(not BROWSER, reason="Chromium is not installed")
@pytest.mark.parametrize("scheme", ["dark", "light"])
def test_fits_the_window(pages: list[Page], scheme: str, tmp_path: Path) -> None:
    seen, log = look(pages, scheme, tmp_path)
    # It is complete without a network, and does not even ask.
    assert log == ""
    for number, shown in enumerate(seen):
        assert shown["width"] == (1280, 390)[number % 2]
        assert shown["title"] == "Detections of Unleash live"
        assert (shown["scrolls"], shown["wide"], shown["requests"]) == (False, [], [])
        assert shown["marks"] == [len(rows) for rows in pages[number // 2].charts.values()]
        colors = (shown["background"], *shown["texts"])
        dark = [sum(map(int, re.findall(r"\d+", color)[:3])) < 3 * 128 for color in colors]
        assert dark == ([True, False, False] if scheme == "dark" else [False, True, True])
