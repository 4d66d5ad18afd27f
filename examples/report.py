# /// script
# requires-python = ">=3.11"
# dependencies = [ # the same as in constraints.txt
#   "altair==6.3.0", "duckdb==2.0.1", "jinja2==3.1.6", "psycopg[binary]==3.3.6",
#   "vl-convert-python==1.9.0.post1"
# ]
# ///
"""Write a report on detections, one HTML file, from tap-unleash's output or PostgreSQL."""

from __future__ import annotations

import argparse
import sys
from datetime import datetime, timedelta
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import altair as alt
import duckdb
import jinja2
import psycopg
import vl_convert

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    Row = dict[str, Any]
    Rows = Sequence[tuple[Any, ...]]

METRICS = (
    *("total_count", "num_individuals", "number_of_groups"),
    *("number_of_persons_in_group", "this_frame_persons_count", "group_pixel_size"),
)
"""Values of `class_name` that do not count objects."""

CHARTS, CLASSES, LINES, ROWS = 6, 15, 40, 500
"""The most devices with a heat map, classes in one, devices or gaps in a list, table rows."""

TIME = alt.Tooltip("utcyearmonthdatehoursminutes(start):T", title="start", format="%Y-%m-%d %H:%M")
NONE = "\N{EN DASH}"

NAMES = ("record_id", "device_id", "session_id", "source_file_name", "class_name", "timestamp")
FIELDS = {**dict.fromkeys(NAMES, "VARCHAR"), "count": "DOUBLE", "frame_number": "BIGINT"}
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
PREPARE = f"""
CREATE MACRO wall(utc) AS timezone(getvariable('zone'), timezone('UTC', utc));
CREATE TABLE records AS
SELECT DISTINCT ON (record_id) coalesce(device_id, '(none)') AS device, session_id AS session,
    source_file_name, frame_number, coalesce(class_name, '(none)') AS class, count,
    timezone('UTC', timestamp::TIMESTAMPTZ) AS utc
FROM lines WHERE record_id IS NOT NULL ORDER BY record_id, line DESC;
CREATE TABLE frames AS
SELECT device, class, utc, count(*) AS records,
    if(class IN {METRICS}, NULL, sum(count)) AS objects
FROM records GROUP BY device, session, source_file_name, frame_number, utc, class;
CREATE TABLE sessions AS
SELECT device, min(utc) AS first, max(utc) AS last FROM records
WHERE session IS NOT NULL GROUP BY device, session;
SET VARIABLE newest = (SELECT max(utc) FROM records);
SET VARIABLE days = (SELECT date_diff('day', min(utc), max(utc)) FROM records);
SET VARIABLE unit = (SELECT CASE WHEN getvariable('days') <= 7 THEN 'hour'
    WHEN getvariable('days') <= 170 THEN 'day' WHEN getvariable('days') <= 1200 THEN 'week'
    WHEN getvariable('days') <= 5000 THEN 'month' ELSE 'year' END);
CREATE MACRO cell(utc) AS date_trunc(getvariable('unit'), wall(utc));
CREATE MACRO after(cell) AS cell + ('1 ' || getvariable('unit'))::INTERVAL;
SET VARIABLE start = (SELECT min(cell(utc)) FROM records);
SET VARIABLE stop = (SELECT greatest(after(max(cell(utc))), getvariable('start') + INTERVAL 1 DAY)
    FROM records);
SET VARIABLE step = to_seconds(epoch(getvariable('stop') - getvariable('start')) / 400);
-- Vega gets the time on the clocks of the time zone, and shows it as UTC.
CREATE MACRO vega(wall) AS strftime(wall, '%Y-%m-%dT%H:%M:%SZ');
CREATE MACRO bar(device, kind, shows, first, length) AS {{
    'device': device, 'kind': kind, 'shows': shows, 'start': vega(wall(first)),
    'end': vega(wall(first) + greatest(length, getvariable('step'))),
    'hours': round(epoch(length) / 3600, 2) }};
"""  # noqa: S608 - the names above
FACTS = """
SELECT facts FROM (
    SELECT count(*) AS records, count(DISTINCT class) AS classes, wall(min(utc)) AS first,
        (SELECT count(*) FROM sessions) AS sessions, wall(max(utc)) AS last,
        (SELECT count(record_id) FROM lines) - count(*) AS duplicates,
        getvariable('unit') AS unit, getvariable('step') AS step,
        epoch_ms(getvariable('start')) AS start, epoch_ms(getvariable('stop')) AS stop
    FROM records
) AS facts
"""
DEVICES = """
SELECT device, count(utc), getvariable('newest') - max(utc), wall(max(utc)), wall(min(utc)),
    (SELECT count(*) FROM sessions WHERE sessions.device = known.device)
FROM (SELECT device FROM records UNION SELECT device_id FROM lines WHERE device_id IS NOT NULL)
    AS known LEFT JOIN records USING (device)
GROUP BY device ORDER BY count(utc) DESC, device
"""
GAPS = """
SELECT device, coalesce(next, getvariable('newest')) - utc AS gap, wall(utc),
    coalesce(strftime(wall(next), '%Y-%m-%d %H:%M'), 'open'), bar(device, ?, 'no records', utc, gap)
FROM (SELECT device, utc, lead(utc) OVER (PARTITION BY device ORDER BY utc) AS next FROM records)
WHERE gap > ? ORDER BY gap DESC, device, utc
"""
FIGURES = """
SELECT device, class, sum(records), count(*), max(objects), wall(min(utc)), wall(max(utc))
FROM frames GROUP BY device, class
ORDER BY sum(sum(records)) OVER (PARTITION BY device) DESC, device, sum(records) DESC, class
"""
CELLS = """
SELECT device, class, {'class': class, 'start': vega(cell(utc)), 'end': vega(after(cell(utc))),
    'objects': max(objects)}
FROM frames WHERE objects > 0 GROUP BY device, class, cell(utc) ORDER BY cell(utc), device, class
"""
BARS = """
SELECT bar(device, 'session', concat('sessions: ', count(*)), min(first), max(last) - min(first))
FROM sessions GROUP BY device, floor(epoch(first) / epoch(getvariable('step')))
ORDER BY min(first), device
"""

PAGE = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"/><title>Detections of Unleash live</title>
<meta name="viewport" content="width=device-width"/>
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:;
  style-src 'unsafe-inline'; script-src 'unsafe-inline' 'unsafe-eval'"/>
<link rel="icon" href="data:,"/><style>
:root { color-scheme: light dark; --page: #fff; --text: #18282a; --soft: #55676a; --rule: #dce5e5;
  --band: #f2f6f6; --bar: #0b7a75; --gap: #b45309;
  --q0: #b0dad5; --q1: #6fbab3; --q2: #2f9790; --q3: #0b6e69; --q4: #053f3c; }
@media (prefers-color-scheme: dark) { :root { --page: #0f1718; --text: #e4eded; --soft: #9db1b3;
  --rule: #2a383a; --band: #172324; --bar: #4dbab1; --gap: #f0a040;
  --q0: #1f5451; --q1: #257a75; --q2: #34a099; --q3: #66cbc3; --q4: #c0f3ee; } }
body { margin: 0 auto; padding: 2rem 1.25rem; max-width: 74rem; background: var(--page);
  color: var(--text); font: 15px/1.5 system-ui, sans-serif; }
h1 { margin: 0; font-size: 1.75rem; line-height: 1.2; }
h2 { margin: 3rem 0 0; font-size: 1.25rem; }
h3 { margin: 1.5rem 0 0; font-size: 1rem; }
h3, p, tr > :first-child { overflow-wrap: anywhere; }
p { margin: .3rem 0; max-width: 46rem; }
p, small, dt, thead th, footer { color: var(--soft); }
small { margin-left: .5rem; font-size: .85rem; font-weight: normal; }
dl { display: grid; grid-template-columns: repeat(auto-fit, minmax(9rem, 1fr)); gap: 1rem;
  padding: 1rem 0; border: solid var(--rule); border-width: 1px 0; }
dd { margin: 0; font-size: 1.5rem; font-weight: 600; line-height: 1.3; }
dt, footer { font-size: .85rem; }
figure { margin: .5rem 0; }
footer { margin-top: 3rem; }
.scroll { margin-top: 1rem; overflow-x: auto; }
.scroll table { width: 100%; border-collapse: collapse; font-size: .9rem;
  font-variant-numeric: tabular-nums; }
.scroll :is(th, td) { padding: .3rem 0 .3rem 1rem; border-bottom: 1px solid var(--rule);
  text-align: right; vertical-align: bottom; font-weight: normal; }
.scroll td { white-space: nowrap; }
[aria-label="Classes"] :nth-child(2) { text-align: left; }
.scroll tr > :first-child { min-width: 10.5rem; padding-left: 0; text-align: left; }
body #vg-tooltip-element { border-color: var(--rule); background: var(--page);
  color: var(--text); }
</style></head><body><main>
{%- macro left_out(all, limit, things) %}
{% if all > limit %}<p>Not shown: {{ things }} ({{ all - limit }}).</p>{% endif %}
{% endmacro %}
{% macro table(name, head, rows) %}
<div class="scroll" tabindex="0" role="region" aria-label="{{ name }}"><table><thead><tr>
{% for cell in head %}<th scope="col">{{ cell }}</th>{% endfor %}</tr></thead><tbody>
{% for row in rows %}
<tr><th scope="row">{{ row[0] }}</th>{% for cell in row[1:] %}<td>{{ cell }}</td>{% endfor %}</tr>
{% endfor %}
</tbody></table></div>
{% endmacro %}
<h1>Detections of Unleash live</h1>
{% if not records %}<p>There are no records.</p>
{% else %}<p>{{ first }} to {{ last }} ({{ zone }})</p>{% endif %}
<dl><div><dt>Records</dt><dd>{{ records }}{% if duplicates %}
<small>duplicates dropped: {{ duplicates }}</small>{% endif %}</dd></div>
<div><dt>Devices with records</dt><dd>{{ active }}<small>of {{ devices|length }}</small></dd></div>
<div><dt>Sessions</dt><dd>{{ sessions }}</dd></div>
<div><dt>Classes and metrics</dt><dd>{{ classes }}</dd></div></dl>
{% if records %}
<h2>Most objects in one frame, per class and {{ unit }}</h2>
<p>The counts of a class in one frame are added up. A cell shows the highest sum of its {{ unit }}.
Metrics of a model, such as total_count, are not objects.</p>
{% for device, names in maps[:CHARTS] %}
<h3>{{ device }}{% if names|length > CLASSES %}
<small>{{ CLASSES }} of {{ names|length }} classes</small>{% endif %}</h3><figure></figure>
{% endfor %}
{{ left_out(maps|length, CHARTS, "more devices") }}
{{ left_out(active, maps|length, "devices with metrics only") }}
<h2>Sessions, per device</h2>
<p>A bar lasts from the first record to the last of the sessions that start within
{{ step }}.</p><figure></figure>
{{ left_out(active, LINES, "more devices") }}
<h2>Devices</h2>
<p>The age of a device's last record is relative to the newest record of all devices,
{{ last }}.</p>
{{ table("Devices", ("Device", "Records", "Age", "Last record", "First record", "Sessions"),
devices[:LINES]) }}
{{ left_out(devices|length, LINES, "more devices") }}
<h2>Gaps of more than {{ gap }} h</h2>
{% if not gaps %}<p>There are none.</p>{% else %}
<p>A gap that lasts until the newest record of all devices is open.</p>
{{ table("Gaps", ("Device", "Duration", "Last record before", "First record after"),
gaps[:LINES]) }}{% endif %}
{{ left_out(gaps|length, LINES, "more gaps") }}
<h2>Records, per device and class</h2>
<p>Frames are those with a record of the class.</p>
{{ table("Classes", ("Device", "Class", "Records", "Frames", "Most in one frame", "First record",
"Last record"), figures[:ROWS]) }}
{{ left_out(figures|length, ROWS, "more rows") }}
<script>{{ library|safe }}</script>
<script>
const phone = innerWidth < 640, labels = phone ? 104 : 168;
const style = getComputedStyle(document.documentElement);
const ramp = [0, 1, 2, 3, 4].map(color => style.getPropertyValue(`--q${color}`));
const config = {
  background: "transparent", font: "system-ui, sans-serif", padding: { bottom: 4 },
  view: { fill: "var(--band)", stroke: null }, range: { ramp },
  scale: { bandPaddingInner: 0.15, bandPaddingOuter: 0.075 },
  axis: { domain: false, labelAlign: "left", labelFontSize: 13, title: null },
  axisX: { grid: true, gridColor: "var(--rule)", labelBound: true, labelColor: "var(--soft)",
    labelOffset: 4, labelPadding: -12, tickColor: "var(--rule)", tickCount: phone ? 3 : 8,
    tickSize: 20, labelExpr: `utcFormat(datum.value, utchours(datum.value) ? "%H:%M"
      : utcdayofyear(datum.value) > 1 ? "%b %d" : "%Y")` },
  axisY: { ticks: false, labelColor: "var(--text)", labelPadding: labels, labelLimit: labels - 10,
    minExtent: labels, maxExtent: labels },
  legend: { orient: "top", offset: 8, columns: phone ? 1 : 0, title: null, labelLimit: 300,
    labelColor: "var(--text)", labelFontSize: 13, symbolType: "square", symbolSize: 200,
    symbolStrokeWidth: 0 } };
const figures = document.querySelectorAll("figure");
{{ charts|tojson }}.forEach((chart, number) => vegaEmbed(
  figures[number], chart, { actions: false, config, defaultStyle: false, renderer: "svg" }));
matchMedia("(prefers-color-scheme: dark)").onchange = () => location.reload();
</script>
{% endif %}
</main><footer>Source: {{ source }}. Times: {{ zone }}. Made with tap-unleash.</footer>
</body></html>
"""


class ReportError(Exception):
    """No report can be written; with the reason."""


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

    [(facts,)], devices, figures = query(FACTS), query(DEVICES), query(FIGURES)
    silence = f"more than {gap:g} h without records"
    gaps = query(GAPS, silence, timedelta(hours=gap))
    active = [row[0] for row in devices if row[1]]
    maps: dict[str, list[str]] = {}
    for device, name, *_, most, _, _ in figures:
        if most is not None:
            maps.setdefault(device, []).append(name)
    if facts["records"]:
        x = alt.X("start:T").scale(type="utc", domainMin=facts["start"], domainMax=facts["stop"])
        bars = [bar for (bar,) in query(BARS)] + [row[-1] for row in gaps]
        facts["charts"] = [*heat_maps(x, maps, query(CELLS))]
        facts["charts"].append(timeline(x, active[:LINES], bars, silence))
        facts["library"] = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed")
    environment = jinja2.Environment(autoescape=True, finalize=text, trim_blocks=True)
    facts |= {"source": source, "zone": zone, "gap": gap, "devices": devices}
    facts |= {"gaps": [row[:4] for row in gaps], "active": len(active), "figures": figures}
    facts["maps"] = [*maps.items()]
    return environment.from_string(PAGE, globals()).render(facts)


def heat_maps(x: alt.X, maps: dict[str, list[str]], cells: Rows) -> Iterator[Row]:
    """Draw the most objects in one frame, one chart per device."""
    shown = {device: names[:CLASSES] for device, names in islice(maps.items(), CHARTS)}
    cells = [row for row in cells if row[1] in shown.get(row[0], ())]
    highest = max((cell["objects"] for *_, cell in cells), default=1)
    color = alt.Color("objects:Q").scale(type="log", domain=[1, max(highest, 2)], clamp=True)
    for device, names in shown.items():
        y = alt.Y("class:N").scale(domain=names)
        rows = [cell for owner, _, cell in cells if owner == device]
        tips = ["class:N", TIME, "objects:Q"]
        yield chart(f"Most objects in one frame of {device}", rows, x, y, color, tooltip=tips)
        color = color.legend(None)  # the first one's is that of all


def timeline(x: alt.X, devices: list[str], bars: list[Row], silence: str) -> Row:
    """Draw the sessions, and thin bars for the gaps."""
    y = alt.Y("device:N").scale(domain=devices)
    rows = [bar for bar in bars if bar["device"] in devices]
    colors = {"session": "var(--bar)", silence: "var(--gap)"}
    color = alt.Color("kind:N").scale(domain=[*colors], range=[*colors.values()])
    size = alt.when(alt.datum.kind == silence).then(alt.value(2)).otherwise(alt.value(13))
    tips = ["device:N", "shows:N", TIME, "hours:Q"]
    return chart("Sessions and gaps, per device", rows, x, y, color, size=size, tooltip=tips)


def chart(name: str, rows: list[Row], *encodings: alt.SchemaBase, **others: object) -> Row:
    """Draw bars along the time axis, as wide as the page."""
    bars = alt.Chart(alt.NamedData("rows"), description=name, width="container")
    # Labels for screen readers would have ends in the time zone of the browser.
    spec = bars.mark_bar(aria=False).encode(*encodings, alt.X2("end"), **others).to_dict()
    height = 22 * len(spec["encoding"]["y"]["scale"]["domain"])
    return {**spec, "height": height, "datasets": {"rows": rows}}  # Altair would check each row


def text(value: object) -> object:
    """Format a value for readers."""
    if value is None:
        return NONE
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M}"
    if isinstance(value, timedelta):
        hours = value / timedelta(hours=1)
        if hours < 1:
            return f"{hours * 60:.0f} min"
        return f"{hours:.1f} h" if hours < 2 * 24 else f"{hours / 24:.1f} days"
    if isinstance(value, int | float):
        return f"{value:,.2f}".removesuffix(".00")
    return value


if __name__ == "__main__":
    main()
