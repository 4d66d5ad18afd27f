"""The report, as a user writes it, and as browsers of two widths show it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections import defaultdict
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import duckdb
import pytest
from pages import PROGRAM, Browser, Page, browser
from programs import run

from demo.pipeline import ROOT
from mock_api import Account, MockAPI, history

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

REPORT = ROOT / "examples" / "report.py"
PROGRAMS = Path(sys.executable).parent
SYDNEY = ZoneInfo("Australia/Sydney")
START = datetime(2020, 4, 4, tzinfo=timezone.utc)
"""Clocks in Sydney are set back on the second day."""

METRICS = set(history._CROWD)
NONE = "\N{EN DASH}"
MIDNIGHT = "2020-04-04 00:00"
HOSTILE = "<script>document.title = 'owned'</script>&\"'\u2028"
FRAME = ("device_id", "session_id", "source_file_name", "frame_number", "timestamp", "class_name")


def write(folder: Path, lines: Iterable[Any]) -> Path:
    path = folder / "detections.jsonl"
    path.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    return path


def report(*args: str | Path) -> Page:
    path = Path(args[0]).with_suffix(".html")
    assert run(sys.executable, REPORT, *args, "--output", path) == f"{path}\n"
    return Page(path)


def record(day: float = 0, **values: object) -> dict[str, object]:
    when = START + timedelta(days=day)
    values = {"device_id": "W1", "class_name": "person", "count": 2} | values
    return {"record_id": f"{day} {values}", "timestamp": when.isoformat(), **values}


def wall(row: dict[str, Any]) -> datetime:
    moment = datetime.fromisoformat(row["timestamp"].replace("Z", "+00:00"))
    return moment.astimezone(SYDNEY).replace(tzinfo=None)


@pytest.fixture(scope="module")
def api() -> Iterator[MockAPI]:
    account = Account.generate(
        devices=8, rows=700, start=START, end=START + timedelta(days=2), daily=True
    )
    with MockAPI(account) as api:
        yield api


@pytest.fixture(scope="module")
def messages(api: MockAPI, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output of the tap, twice."""
    tap = PROGRAMS / "tap-unleash"
    output = run(tap, "--config=ENV", TAP_UNLEASH_API_URL=api.url, TAP_UNLEASH_API_KEY="mock")
    path = tmp_path_factory.mktemp("tap") / "detections.jsonl"
    path.write_text(output * 2)
    return path


@pytest.fixture(scope="module")
def page(messages: Path) -> Page:
    return report(messages, "--timezone", "Australia/Sydney")


def test_figures_are_those_of_the_account(api: MockAPI, page: Page) -> None:
    groups = defaultdict(list)
    sums: dict[tuple[str, ...], float] = defaultdict(float)
    for row in api.truth():
        groups[row["device_id"], row["class_name"]].append(row)
        sums[tuple(row[name] for name in FRAME)] += row["count"]
    hours: dict[tuple[str, str], dict[str, float]] = defaultdict(lambda: defaultdict(float))
    most: dict[tuple[str, str], list[float]] = defaultdict(list)
    for frame, count in sums.items():
        values = dict(zip(FRAME, frame, strict=True))
        place = (values["device_id"], values["class_name"])
        most[place].append(count)
        hour = f"{wall(values):%Y-%m-%d %H:00}: "
        hours[place][hour] = max(hours[place][hour], count)

    assert page.figures() == {
        place: [
            f"{len(rows):,}",
            f"{len(most[place]):,}",
            f"{max(most[place]):g}" if place[1] not in METRICS else "metric",
            f"{min(map(wall, rows)):%Y-%m-%d %H:%M}",
            f"{max(map(wall, rows)):%Y-%m-%d %H:%M}",
        ]
        for place, rows in groups.items()
    }
    objects = {place: cells for place, cells in hours.items() if place[1] not in METRICS}
    for device in {device for device, _ in objects}:
        assert page.marks(f"Most objects in one frame of {device},") == {
            name: [f"{hour}{count:g}" for hour, count in sorted(cells.items())]
            for (owner, name), cells in objects.items()
            if owner == device
        }


def test_devices_and_sessions_are_those_of_the_account(api: MockAPI, page: Page) -> None:
    listed = {}
    for device in api.account.devices:
        rows = api.truth(device)
        times = [f"{wall(row):%Y-%m-%d %H:%M}" for row in rows]
        sessions = len({row["session_id"] for row in rows})
        listed[device] = (
            f"{len(rows):,}",
            max(times, default=NONE),
            min(times, default=NONE),
            sessions,
        )
        bars = page.marks("Sessions").get(device, [])
        assert len(bars) == sessions
        assert all(bar.startswith("1 session, ") for bar in bars)
    assert {
        device: (records, last, first, int(sessions))
        for device, records, _, last, first, sessions in page.table("Devices")
    } == listed
    truth = len(api.truth())
    assert (
        f"Records {truth:,} {truth:,} duplicates dropped Devices with records 6 of 8" in page.text
    )


def test_files_of_a_target_give_the_same_report(messages: Path, page: Page) -> None:
    lines = [json.loads(line) for line in messages.read_text().splitlines()]
    records = [line["record"] for line in lines if line["type"] == "RECORD"]
    bare = report(write(messages.parent / "..", records), "--timezone", "Australia/Sydney")
    assert bare.path.read_text() == page.path.read_text()
    with messages.open() as file:
        done = subprocess.run(
            [sys.executable, REPORT, "-", "--output", bare.path],
            stdin=file,
            check=True,
            stdout=subprocess.DEVNULL,
        )
    assert done.returncode == 0
    assert Page(bare.path).table("Classes")[0] == page.table("Classes")[0]


def test_gaps_and_ages(tmp_path: Path) -> None:
    days = {"W1": [0, 0.25, 4, 8], "W2": [0, 6.5, 7], "W3": []}
    records = [record(day, device_id=device) for device in days for day in days[device]]
    page = report(write(tmp_path, [*records, {"device_id": "W3"}]), "--gap", "36")
    assert page.table("Devices") == [
        ["W1", "4", "0 min", "2020-04-12 00:00", "2020-04-04 00:00", "0"],
        ["W2", "3", "24.0 h", "2020-04-11 00:00", "2020-04-04 00:00", "0"],
        ["W3", "0", NONE, NONE, NONE, "0"],
    ]
    assert page.table("Gaps") == [
        ["W2", "6.5 days", "2020-04-04 00:00", "2020-04-10 12:00"],
        ["W1", "4.0 days", "2020-04-08 00:00", "2020-04-12 00:00"],
        ["W1", "3.8 days", "2020-04-04 06:00", "2020-04-08 00:00"],
    ]
    page = report(write(tmp_path, records), "--gap", "23")
    assert page.table("Gaps")[-1] == ["W2", "24.0 h", "2020-04-11 00:00", "open"]
    assert page.marks("Sessions")["W2"] == [
        "No records, 2020-04-04 00:00, 6.5 days",
        "No records, 2020-04-11 00:00, 24.0 h",
    ]
    assert "Gaps of more than 200 h There are none." in report(page.source, "--gap", "200").text


def test_of_duplicates_the_last_counts(tmp_path: Path) -> None:
    corrected = record() | {"count": 7}
    page = report(write(tmp_path, [record(), corrected]))
    assert page.table("Classes")[1][:4] == ["person", "1", "1", "7"]
    assert "Records 1 1 duplicate dropped Devices" in page.text


def test_counts_of_a_frame_are_added_up(tmp_path: Path) -> None:
    """A frame is of one device, session, file, number and time."""
    first = record(session_id="1", source_file_name="a.mp4", frame_number=1)
    changes: list[dict[str, object]]
    changes = [{"count": 3}, {"session_id": "2"}, {"source_file_name": "b"}, {"frame_number": 2}]
    others = [{**first, "count": 4, **change, "record_id": str(change)} for change in changes]
    page = report(write(tmp_path, [first, *others]))
    assert page.table("Classes")[1][:4] == ["person", "5", "4", "5"]
    assert page.marks("Most")["person"] == [f"{MIDNIGHT}: 5"]


SCHEMA = {"type": "SCHEMA", "stream": "analytics", "schema": {}, "key_properties": ["record_id"]}
STATE = {"type": "STATE", "value": {"bookmarks": {}}}
MANY = [
    record(day, device_id=f"{HOSTILE} {device:02} {'long' * 30}", class_name=f"{HOSTILE}{name}")
    for device in range(50)
    for name in range(40)
    for day in (0, 90)
]


@pytest.mark.parametrize("lines", [[], [SCHEMA, STATE], [SCHEMA, {"device_id": "W1"}]])
def test_without_records_it_says_so(lines: list[Any], tmp_path: Path) -> None:
    page = report(write(tmp_path, lines))
    assert "There are no records. Records 0 Devices" in page.text
    assert not [*page.root.iter("figure"), *page.root.iter("table")]


def test_one_record(tmp_path: Path) -> None:
    page = report(write(tmp_path, [record(session_id="1", count=2.5)]))
    assert page.table("Classes") == [["W1"], ["person", "1", "1", "2.50", *[MIDNIGHT] * 2]]
    assert page.marks("Most") == {"person": [f"{MIDNIGHT}: 2.50"]}
    assert page.marks("Sessions") == {"W1": [f"1 session, {MIDNIGHT}, 0 min"]}


def test_says_how_much_is_left_out(tmp_path: Path) -> None:
    page = report(write(tmp_path, MANY))
    assert page.text.count("15 of 40 classes") == 6
    for count in ("44 more devices", "10 more devices", "10 more gaps", "1,500 more rows"):
        assert f"Not shown: {count}." in page.text
    assert len(page.table("Classes")) == 500 + 13
    assert page.table("Classes")[0] == [MANY[0]["device_id"]]
    assert not [*page.root.iter("script")]


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
    assert "per class and 7 days" in page.text
    assert page.path.stat().st_size < 3_000_000


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("time,count\n1,2\n", "Malformed JSON"),
        ('{"level": "info"}\n', "Line 1 is neither a message nor a record of tap-unleash."),
        (f"{json.dumps(STATE)}\n" + '{"type": "BATCH"}\n', "Line 2 is neither"),
        ('{"record_id": "1"}\n', "Line 1 is neither"),
        ('{"record_id": "1", "timestamp": "soon"}\n', "invalid timestamp field format"),
        ('{"record_id": "1", "timestamp": null, "count": "many"}\n', "Failed to cast"),
    ],
)
def test_another_file_is_refused(text: str, reason: str, tmp_path: Path) -> None:
    (tmp_path / "other.jsonl").write_text(text)
    done = subprocess.run(
        [sys.executable, REPORT, "other.jsonl"],
        cwd=tmp_path,
        capture_output=True,
        check=False,
        text=True,
    )
    assert done.returncode == 1
    assert done.stderr.startswith("report.py: other.jsonl: ")
    assert reason in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "report.html").exists()


def test_the_script_has_the_versions_of_the_project() -> None:
    (pins,) = re.findall(r"^# dependencies = (\[.+\]) #", REPORT.read_text(), re.MULTILINE)
    constraints = (ROOT / "constraints.txt").read_text()
    for pin in json.loads(pins):
        assert re.search(rf"^{re.escape(pin.replace('[binary]', ''))}\b", constraints, re.MULTILINE)


@pytest.fixture(scope="module")
def pages(page: Page, tmp_path_factory: pytest.TempPathFactory) -> list[Page]:
    """With the records of the account, and with very many, one and none."""
    examples = [MANY, [record(session_id="1")], []]
    return [page, *(report(write(tmp_path_factory.mktemp("x"), lines)) for lines in examples)]


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    if not PROGRAM:
        pytest.skip("Chromium is not installed")
    with browser(tmp_path_factory.mktemp("profile")) as chromium:
        yield chromium


TOO_WIDE = """[...document.querySelectorAll("body :not(.scroll *)")].filter(
    element => element.getBoundingClientRect().right > document.documentElement.clientWidth
).map(element => element.outerHTML)"""
SCROLLS = "document.documentElement.scrollWidth > document.documentElement.clientWidth"
VISIBLE_MARKS = """[...document.querySelectorAll("figure")].map(figure =>
    [...figure.querySelectorAll("rect, path")].filter(mark => mark.getBoundingClientRect().width)
    .length)"""
COLORS = """["body", "h1", "p", "dt", "dd", "footer", "td", "th", "li"].flatMap(
    name => [...document.querySelectorAll(name)].slice(0, 1)
).map(element => getComputedStyle(element).color)"""
BACKGROUND = "getComputedStyle(document.body).backgroundColor"


def luminance(color: str) -> float:
    """As WCAG defines it."""
    parts = [int(part) / 255 for part in re.findall(r"\d+", color)[:3]]
    linear = [
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
    ]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_fits_the_window(pages: list[Page], chromium: Browser, width: int, scheme: str) -> None:
    for page in pages:
        chromium.open(page.path, width, scheme)
        assert chromium.evaluate("innerWidth") == width
        assert chromium.evaluate(SCROLLS) is False
        assert chromium.evaluate(TOO_WIDE) == []
        marks = chromium.evaluate(VISIBLE_MARKS)
        assert len(marks) == len([*page.root.iter("figure")])
        assert all(marks)
        background = luminance(chromium.evaluate(BACKGROUND))
        assert (background < 0.5) == (scheme == "dark")
        for color in chromium.evaluate(COLORS):
            low, high = sorted((background, luminance(color)))
            assert (high + 0.05) / (low + 0.05) >= 4.5
        assert chromium.evaluate("document.title") == "Detections of Unleash live"
        # It is complete without a network, and does not even ask.
        assert chromium.requests == [page.path.as_uri()]
        assert chromium.errors == []
