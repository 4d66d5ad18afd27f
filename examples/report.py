# /// script
# requires-python = ">=3.11"
# dependencies = ["duckdb==2.0.1", "psycopg[binary]==3.3.6"] # the same as in constraints.txt
# ///
"""Write a report on detections, one HTML file, from tap-unleash's output or PostgreSQL."""

from __future__ import annotations

import argparse
import sys
from bisect import bisect_right
from dataclasses import dataclass
from datetime import datetime, timedelta
from html import escape
from itertools import groupby, islice
from operator import itemgetter
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import duckdb
import psycopg

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    Rows = Sequence[tuple[Any, ...]]

METRICS = (
    *("total_count", "num_individuals", "number_of_groups"),
    *("number_of_persons_in_group", "this_frame_persons_count", "group_pixel_size"),
)
"""Values of `class_name` that do not count objects."""

CHARTS, CLASSES, LINES, ROWS = 6, 15, 40, 500
"""The most devices with a heat map, classes in one, devices or gaps in a list, table rows."""

NONE = "&#8211;"
HOUR = timedelta(hours=1)
YEAR = 365 * 24
CELLS = {1: "hour", 24: "day", 7 * 24: "7 days", 30 * 24: "30 days", YEAR: "365 days"}
LAST_LABEL, LAST_LABEL_OF_A_PHONE = 0.93, 0.8
"""Where on an axis a label still fits."""

TICKS = (1, 2, 3, 6, 12, *(24 * days for days in (1, 2, 7, 14, 30)), YEAR // 4, YEAR, 10 * YEAR)

FIELDS = {
    "record_id": "VARCHAR",
    "device_id": "VARCHAR",
    "session_id": "VARCHAR",
    "source_file_name": "VARCHAR",
    "class_name": "VARCHAR",
    "count": "DOUBLE",
    "frame_number": "BIGINT",
    "timestamp": "VARCHAR",
}
RECORD = ", ".join(f'"{name}" {kind}' for name, kind in FIELDS.items())
COLUMNS = {"type": "VARCHAR", "version": "VARCHAR", "record": f"STRUCT({RECORD})", **FIELDS}
VALUES = ", ".join(f'coalesce(record."{name}", "{name}") AS "{name}"' for name in FIELDS)

READ = f"""
CREATE TABLE lines AS SELECT type, version, row_number() OVER () AS line, {VALUES}
FROM read_json(?, format = 'newline_delimited', columns = {COLUMNS})
"""  # noqa: S608 - the names above
FOREIGN = """
SELECT min(line) FROM lines WHERE (record_id IS NULL) <> (timestamp IS NULL) OR coalesce(
    type NOT IN ('RECORD', 'SCHEMA', 'STATE'),
    coalesce(record_id, device_id, session_id, version) IS NULL
)
"""
PREPARE = """
CREATE MACRO wall(utc) AS timezone(getvariable('zone'), timezone('UTC', utc));
CREATE MACRO hours(first, last) AS date_diff('millisecond', first, last) / 3600000;
CREATE TABLE records AS
SELECT DISTINCT ON (record_id) coalesce(device_id, '(none)') AS device, session_id AS session,
    source_file_name, frame_number, coalesce(class_name, '(none)') AS class, count,
    timezone('UTC', timestamp::TIMESTAMPTZ) AS utc
FROM lines WHERE record_id IS NOT NULL ORDER BY record_id, line DESC;
CREATE TABLE frames AS
SELECT device, class, utc, count(*) AS records, sum(count) AS objects
FROM records GROUP BY device, session, source_file_name, frame_number, utc, class;
CREATE TABLE sessions AS
SELECT device, min(utc) AS first, max(utc) AS last FROM records
WHERE session IS NOT NULL GROUP BY device, session;
SET VARIABLE newest = (SELECT max(utc) FROM records);
"""
DEVICES = """
SELECT device, count(utc), (SELECT count(*) FROM sessions WHERE sessions.device = known.device),
    wall(min(utc)), wall(max(utc)), hours(max(utc), getvariable('newest'))
FROM (SELECT device FROM records UNION SELECT device_id FROM lines WHERE device_id IS NOT NULL)
    AS known LEFT JOIN records USING (device)
GROUP BY device ORDER BY count(utc) DESC, device
"""
GAPS = """
SELECT device, wall(utc), wall(next), hours(utc, coalesce(next, getvariable('newest'))) AS hours
FROM (SELECT device, utc, lead(utc) OVER (PARTITION BY device ORDER BY utc) AS next FROM records)
WHERE hours > ? ORDER BY hours DESC, device, utc
"""
FIGURES = """
SELECT device, class, sum(records)::BIGINT, count(*), max(objects), wall(min(utc)), wall(max(utc))
FROM frames GROUP BY device, class
ORDER BY sum(sum(records)) OVER (PARTITION BY device) DESC, device, sum(records) DESC, class
"""
MOST = """
SELECT device, class, floor(hours(?, wall(utc)) / ?)::BIGINT AS cell, max(objects)
FROM frames WHERE objects > 0 GROUP BY ALL ORDER BY cell
"""
BARS = """
SELECT device, wall(min(first)), hours(min(first), max(last)), count(*)
FROM sessions GROUP BY device, floor(hours(?, wall(first)) / ?) ORDER BY 2
"""

STYLE = """
:root { color-scheme: light dark; --page: #fff; --text: #18282a; --soft: #55676a; --rule: #dce5e5;
  --band: #f2f6f6; --bar: #0b7a75; --gap: #b45309;
  --q0: #b0dad5; --q1: #6fbab3; --q2: #2f9790; --q3: #0b6e69; --q4: #053f3c; }
@media (prefers-color-scheme: dark) { :root { --page: #0f1718; --text: #e4eded; --soft: #9db1b3;
  --rule: #2a383a; --band: #172324; --bar: #4dbab1; --gap: #f0a040;
  --q0: #1f5451; --q1: #257a75; --q2: #34a099; --q3: #66cbc3; --q4: #c0f3ee; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 2rem 1.25rem; max-width: 74rem; background: var(--page);
  color: var(--text); font: 15px/1.5 system-ui, sans-serif; }
h1, h2, h3, p, tr > :first-child { overflow-wrap: anywhere; }
h1 { margin: 0; font-size: 1.75rem; line-height: 1.2; }
h2 { margin: 3rem 0 0; font-size: 1.25rem; }
h3 { margin: 1.5rem 0 .4rem; font-size: 1rem; }
h3 small { margin-left: .5rem; font-weight: normal; }
p { margin: .3rem 0; max-width: 46rem; }
p, small, dt, thead th, footer { color: var(--soft); }
dl { display: grid; grid-template-columns: repeat(4, 1fr); gap: 1rem; margin: 1.25rem 0 0;
  padding: 1rem 0; border: solid var(--rule); border-width: 1px 0; }
dd { margin: 0; font-size: 1.5rem; font-weight: 600; line-height: 1.3; }
dt, dd small, .key, footer { font-size: .85rem; }
dd small { margin-left: .5rem; font-weight: normal; }
.key { display: flex; flex-wrap: wrap; gap: .3rem 1.1rem; margin-top: .8rem; }
.key svg { width: 24px; height: 12px; margin-right: .4rem; }
figure { --label: 10.5rem; position: relative; margin: .5rem 0 0; padding-bottom: 1.5rem; }
figure div { position: relative; display: flex; align-items: center; margin-bottom: 2px; }
figure span { flex: none; width: var(--label); padding-right: .75rem; overflow: hidden;
  text-overflow: ellipsis; white-space: nowrap; font-size: .85rem; }
figure svg { flex: 1; min-width: 0; height: 18px; }
figure ol { position: absolute; inset: 0 0 0 var(--label); margin: 0; padding: 0; list-style: none;
  background: linear-gradient(var(--band) 0 0) 0 0 / 100% calc(100% - 1.5rem) no-repeat; }
figure li { position: absolute; top: 0; bottom: 0; display: flex; align-items: end;
  padding-left: .3rem; border-left: 1px solid var(--rule); font-size: .8rem; color: var(--soft);
  white-space: nowrap; }
.q0 { fill: var(--q0); } .q1 { fill: var(--q1); } .q2 { fill: var(--q2); }
.q3 { fill: var(--q3); } .q4 { fill: var(--q4); }
.bar, .gap { stroke-width: 2px; vector-effect: non-scaling-stroke; }
.bar { fill: var(--bar); stroke: var(--bar); }
.gap { stroke: var(--gap); stroke-dasharray: 2 4; }
.scroll { margin-top: 1rem; overflow-x: auto; }
table { width: 100%; border-collapse: collapse; font-size: .9rem;
  font-variant-numeric: tabular-nums; }
th, td { padding: .3rem 0 .3rem 1rem; border-bottom: 1px solid var(--rule); text-align: right;
  vertical-align: top; font-weight: normal; }
thead th { vertical-align: bottom; }
td { white-space: nowrap; }
tr > :first-child { min-width: 9rem; padding-left: 0; text-align: left; }
th[colspan] { padding-top: 1.2rem; font-weight: 600; }
footer { margin-top: 3rem; }
@media (max-width: 40rem) {
  body { padding: 1.25rem 1rem; }
  dl { grid-template-columns: 1fr 1fr; }
  figure { --label: 6.5rem; }
  figure li:nth-child(even), figure .late { font-size: 0; }
  table { font-size: .85rem; } }
"""


class ReportError(Exception):
    """No report can be written; with the reason."""


@dataclass(frozen=True)
class Axis:
    """The hours that all charts show.

    Attributes:
        start: The left end, by the clocks of the time zone.
        cell: The hours of a cell of a heat map.
        hours: From the left end to the right.
    """

    start: datetime
    cell: int
    hours: int

    @classmethod
    def over(cls, first: datetime, last: datetime) -> Axis:
        """Show a period in at most about 170 cells, and at least a day."""
        cell = next((c for c in CELLS if (last - first) / HOUR <= 7 * 24 * c), YEAR)
        start = first.replace(minute=0, second=0, microsecond=0)
        start = start if cell == 1 else start.replace(hour=0)
        return cls(start, cell, max(24, ((last - start) // HOUR // cell + 1) * cell))

    def x(self, moment: datetime) -> str:
        """Return a place on the axis."""
        return f"{(moment - self.start) / HOUR:.3f}"

    def chart(self, name: str, rows: Iterable[tuple[str, str]]) -> str:
        """Draw labeled rows of marks, whose unit is an hour."""
        lines = "".join(
            f'<div><span title="{escape(label)}">{escape(label)}</span>'
            f'<svg viewBox="0 0 {self.hours} 1" preserveAspectRatio="none">{marks}</svg></div>\n'
            for label, marks in rows
        )
        step = next((hours for hours in TICKS if self.hours <= 8 * hours), self.hours)
        form = "%b %d" if step < YEAR // 4 else "%Y-%m-%d"
        ticks, moment = "", self.start.replace(hour=0)
        while (place := (moment - self.start) / HOUR / self.hours) < LAST_LABEL:
            if place >= 0:
                text = format(moment, "%H:%M" if moment.hour else form)
                late = ' class="late"' if place > LAST_LABEL_OF_A_PHONE else ""
                ticks += f'<li{late} style="left:{place:.2%}">{text}</li>'
            moment += step * HOUR
        return f'<figure role="img" aria-label="{escape(name)}"><ol>{ticks}</ol>{lines}</figure>\n'


def main() -> None:
    """Write the report; exit with 1 if that is impossible."""
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("files", nargs="*", help="output of tap-unleash or target-jsonl; - for standard input")
    add("--database", metavar="URL", help="PostgreSQL with the schema `unleash`, instead of files")
    add("-o", "--output", type=Path, default="report.html", help="default: report.html")
    add("--timezone", default="UTC", help="such as Australia/Sydney (default: UTC)")
    add("--gap", type=float, default=24, metavar="HOURS", help="shortest gap (default: 24)")
    arguments = parser.parse_args()
    if bool(arguments.files) == bool(arguments.database):
        parser.error("give files or --database")
    files = ["/dev/stdin" if file == "-" else file for file in arguments.files]
    source = "PostgreSQL" if arguments.database else ", ".join(Path(file).name for file in files)
    try:
        with TemporaryDirectory() as folder, duckdb.connect() as database:
            if arguments.database:
                files = [export(arguments.database, Path(folder))]
            load(database, files, arguments.timezone)
            text = page(database, source, arguments.timezone, arguments.gap)
        arguments.output.write_text(text, encoding="utf-8")
    except (ReportError, duckdb.Error, psycopg.Error, OSError) as error:
        sys.exit(f"report.py: {source}: {str(error).splitlines()[0]}")
    print(arguments.output)


def export(url: str, folder: Path) -> str:
    """Write the tables of PostgreSQL into a file, one object per line."""
    path = folder / "records.jsonl"
    with (
        psycopg.connect(url.replace("+psycopg", "")) as connection,
        path.open("w", encoding="utf-8") as file,
    ):
        tables = "SELECT table_name FROM information_schema.tables WHERE table_schema = 'unleash'"
        others = {"devices"}.intersection(name for (name,) in connection.execute(tables))
        for table in ("analytics", *others):
            query = f"COPY (SELECT row_to_json(t) FROM unleash.{table} AS t) TO STDOUT"  # noqa: S608
            with connection.cursor().copy(query.encode()) as copy:
                file.writelines(f"{row}\n" for (row,) in copy.rows())
    return str(path)


def load(database: duckdb.DuckDBPyConnection, files: Sequence[str], zone: str) -> None:
    """Read, check and deduplicate the records."""
    database.execute("SET TimeZone = 'UTC'")
    database.execute("SET VARIABLE zone = ?", [zone])
    database.execute(READ, [files])
    [(line,)] = database.execute(FOREIGN).fetchall()
    if line:
        msg = f"Line {line} is neither a message nor a record of tap-unleash."
        raise ReportError(msg)
    database.execute(PREPARE)


def page(database: duckdb.DuckDBPyConnection, source: str, zone: str, gap: float) -> str:
    """Write the report as HTML."""

    def query(sql: str, *parameters: object) -> Rows:
        return database.execute(sql, parameters).fetchall()

    devices, figures = query(DEVICES), query(FIGURES)
    active = [row for row in devices if row[1]]
    [(lines,)] = query("SELECT count(record_id) FROM lines")
    period = "There are no records."
    parts: list[str] = []
    if active:
        first, last = min(row[3] for row in active), max(row[4] for row in active)
        period = f"{time(first)} to {time(last)} ({escape(zone)})"
        axis, gaps = Axis.over(first, last), query(GAPS, gap)
        parts += heat_maps(axis, figures, query(MOST, axis.start, axis.cell))
        parts += timeline(axis, active, query(BARS, axis.start, axis.hours / 400), gaps, gap)
        parts += device_table(devices, gaps, last, gap)
        parts += class_table(figures)
    policy = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
    return f"""<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"/><title>Detections of Unleash live</title>
<meta name="viewport" content="width=device-width"/>
<meta http-equiv="Content-Security-Policy" content="{policy}"/>
<link rel="icon" href="data:,"/><style>{STYLE}</style></head><body><main>
<h1>Detections of Unleash live</h1><p>{period}</p>
{headline(devices, figures, lines)}{"".join(parts)}</main>
<footer>Source: {escape(source)}. Times: {escape(zone)}. Made with tap-unleash.</footer>
</body></html>
"""


def headline(devices: Rows, figures: Rows, lines: int) -> str:
    """Say how much there is."""
    records = sum(row[1] for row in devices)
    duplicates = f"{plural(lines - records, 'duplicate')} dropped" if lines > records else ""
    facts = (
        ("Records", records, duplicates),
        ("Devices with records", sum(row[1] > 0 for row in devices), f"of {len(devices):,}"),
        ("Sessions", sum(row[2] for row in devices), ""),
        ("Classes and metrics", len({row[1] for row in figures}), ""),
    )
    items = (
        f"<div><dt>{name}</dt><dd>{value:,}<small>{note}</small></dd></div>"
        for name, value, note in facts
    )
    return f"<dl>{''.join(items)}</dl>"


def heat_maps(axis: Axis, figures: Rows, most: Rows) -> Iterator[str]:
    """Draw the most objects in one frame, one chart per device."""
    classes: dict[str, list[str]] = {}
    for device, name, *_ in figures:
        if name not in METRICS:
            classes.setdefault(device, []).append(name)
    charts = dict(islice(classes.items(), CHARTS))
    marks = {(device, name): "" for device in charts for name in charts[device][:CLASSES]}
    cells = [row for row in most if row[:2] in marks]
    highest = max((value for *_, value in cells), default=0)
    steps = sorted({round(highest ** (fifth / 5)) for fifth in range(1, 5)} - {0, 1})
    colors = [f"q{4 * step // max(len(steps), 1)}" for step in range(len(steps) + 1)]
    for device, name, cell, value in cells:
        color, x = colors[bisect_right(steps, value)], cell * axis.cell
        marks[device, name] += (
            f'<rect class="{color}" x="{x}" width="{axis.cell}" height="1">'
            f"<title>{time(axis.start + x * HOUR)}: {number(value)}</title></rect>"
        )
    unit = CELLS[axis.cell]
    yield f"""<h2>Most objects in one frame, per class and {unit}</h2>
<p>The counts of a class in one frame are added up. A cell shows the highest sum of its {unit}.
Metrics of a model, such as total_count, are not objects.</p>
"""
    if cells:
        ends = [*(step - 1 for step in steps), highest]
        yield key(
            (
                f'<rect class="{color}" width="24" height="12"/>',
                number(low) if low >= high else f"{number(low)}&#8211;{number(high)}",
            )
            for color, low, high in zip(colors, (1, *steps), ends, strict=True)
        )
    for device, names in charts.items():
        some = f"{CLASSES} of " if len(names) > CLASSES else ""
        yield f"<h3>{escape(device)}<small>{some}{plural(len(names), 'class', 'es')}</small></h3>"
        rows = [(name, marks[device, name]) for name in names[:CLASSES]]
        yield axis.chart(f"Most objects in one frame of {device}, per class and {unit}", rows)
    yield left_out(len(classes) - CHARTS, "more device")
    yield left_out(len({row[0] for row in figures}) - len(classes), "device", " with metrics only")


def timeline(axis: Axis, active: Rows, bars: Rows, gaps: Rows, gap: float) -> Iterator[str]:
    """Draw the sessions, and the gaps on top."""
    marks = {row[0]: "" for row in active[:LINES]}
    for device, first, hours, sessions in bars:
        if device in marks:
            length = max(hours, 0.001)  # 0 would not be drawn
            marks[device] += (
                f'<rect class="bar" x="{axis.x(first)}" width="{length:.3f}" y=".2" height=".6">'
                f"<title>{plural(sessions, 'session')}, {time(first)}, {duration(hours)}</title>"
                "</rect>"
            )
    for device, first, _, hours in gaps:
        if device in marks:
            marks[device] += (
                f'<path class="gap" d="M{axis.x(first)} .5h{hours:.3f}">'
                f"<title>No records, {time(first)}, {duration(hours)}</title></path>"
            )
    shared = any(sessions > 1 for *_, sessions in bars)
    minutes = f" Sessions that start within {duration(axis.hours / 400)} share a bar."
    yield f"""<h2>Sessions, per device</h2>
<p>A bar lasts from the first record of a session to its last.{minutes if shared else ""}</p>
"""
    yield key(
        (
            ('<rect class="bar" x="2" y="2" width="20" height="8"/>', "session"),
            ('<path class="gap" d="M0 6h24"/>', f"more than {gap:g} h without records"),
        )
    )
    yield axis.chart("Sessions and gaps, per device", marks.items())
    yield left_out(len(active) - LINES, "more device")


def device_table(devices: Rows, gaps: Rows, newest: datetime, gap: float) -> Iterator[str]:
    """List the devices with the age of their last records, and the gaps."""
    yield f"""<h2>Devices</h2>
<p>The age of a device's last record is relative to the newest record of all devices,
{time(newest)}.</p>
"""
    yield table(
        "Devices",
        ("Device", "Records", "Age", "Last record", "First record", "Sessions"),
        (
            (device, number(records), duration(age), time(last), time(first), number(sessions))
            for device, records, sessions, first, last, age in devices[:LINES]
        ),
    )
    yield left_out(len(devices) - LINES, "more device")
    yield f"<h2>Gaps of more than {gap:g} h</h2>\n"
    if gaps:
        yield "<p>A gap that lasts until the newest record of all devices is open.</p>\n"
        yield table(
            "Gaps",
            ("Device", "Duration", "Last record before", "First record after"),
            (
                (device, duration(hours), time(first), time(last) if last else "open")
                for device, first, last, hours in gaps[:LINES]
            ),
        )
        yield left_out(len(gaps) - LINES, "more gap")
    else:
        yield "<p>There are none.</p>\n"


def class_table(figures: Rows) -> Iterator[str]:
    """List the figures per device and class."""
    yield """<h2>Records, per device and class</h2>
<p>Frames are those with a record of the class.</p>
"""
    rows: list[tuple[str, ...]] = []
    for device, group in groupby(figures[:ROWS], key=itemgetter(0)):
        rows.append((device,))
        for _, name, records, frames, most, first, last in group:
            objects = "metric" if name in METRICS else number(most)
            rows.append((name, number(records), number(frames), objects, time(first), time(last)))
    yield table(
        "Classes",
        ("Class", "Records", "Frames", "Most in one frame", "First record", "Last record"),
        rows,
    )
    yield left_out(len(figures) - ROWS, "more row")


def key(entries: Iterable[tuple[str, str]]) -> str:
    """Explain the marks of a chart."""
    spans = (f"<span><svg>{mark}</svg>{text}</span>" for mark, text in entries)
    return f'<div class="key">{"".join(spans)}</div>\n'


def table(name: str, head: Iterable[str], rows: Iterable[Sequence[str]]) -> str:
    """Lay out rows; one of a single cell is the head of a group."""
    text = "".join(f'<th scope="col">{cell}</th>' for cell in head)
    text = f"<table><thead><tr>{text}</tr></thead><tbody>\n"
    for first, *others in rows:
        scope = 'scope="row"' if others else 'scope="rowgroup" colspan="6"'
        cells = "".join(f"<td>{cell}</td>" for cell in others)
        text += "" if others else "</tbody><tbody>"
        text += f"<tr><th {scope}>{escape(first)}</th>{cells}</tr>\n"
    # Scrolls by itself, also by keys, where the page is narrow.
    region = f'<div class="scroll" tabindex="0" role="region" aria-label="{name}">'
    return f"{region}{text}</tbody></table></div>\n"


def left_out(count: int, thing: str, which: str = "") -> str:
    """Say how many things are not shown."""
    return f"<p>Not shown: {plural(count, thing)}{which}.</p>\n" if count > 0 else ""


def plural(count: int, thing: str, ending: str = "s") -> str:
    """Count things."""
    return f"{count:,} {thing}{'' if count == 1 else ending}"


def number(value: float | None) -> str:
    """Format a number, without decimals if it is whole."""
    return NONE if value is None else f"{value:,.2f}".removesuffix(".00")


def time(moment: datetime | None) -> str:
    """Format a time to the minute."""
    return format(moment, "%Y-%m-%d %H:%M") if moment else NONE


def duration(hours: float | None) -> str:
    """Format a duration in a fitting unit."""
    if hours is None:
        return NONE
    if hours < 1:
        return f"{hours * 60:.0f} min"
    return f"{hours:.1f} h" if hours < 2 * 24 else f"{hours / 24:.1f} days"


if __name__ == "__main__":
    main()
