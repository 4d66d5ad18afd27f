"""A chart of the loaded detections per hour and class, as one SVG file."""

from __future__ import annotations

from datetime import datetime, timedelta
from math import sqrt
from typing import TYPE_CHECKING, Any
from xml.etree.ElementTree import Element, ElementTree, SubElement, indent

if TYPE_CHECKING:
    from pathlib import Path

    from psycopg import Connection

QUERY = """
SELECT class_name, date_trunc('hour', "timestamp"), sum("count")::float8
FROM unleash.analytics
WHERE class_name IS NOT NULL AND "timestamp" IS NOT NULL
GROUP BY 1, 2
"""

SHADES = ("#eaf3fb", "#c3dcf0", "#8fbfe3", "#559bd0", "#2273b4", "#0c4a86", "#062c57")
"""From few to many."""

LABELS, CHART, TOTALS = 230, 960, 100
"""Widths of the class names, the hours and the sums."""

TOP, ROW = 96, 22
"""Heights above the chart, and of a class."""

LABEL = 48
"""Width that the label of an hour needs."""

TICKS = (1, 3, 6, 12, 24, 48, 168, 672)
"""Hours between two labels: the least that leaves them room."""

EPOCH, HOUR = datetime(1970, 1, 1), timedelta(hours=1)  # noqa: DTZ001 - as in the table

STYLE = """
text { font: 13px system-ui, 'Segoe UI', Roboto, 'DejaVu Sans', sans-serif; fill: #333 }
.title { font-size: 21px; font-weight: 600; fill: #111 }
.faint { fill: #666; font-size: 12px }
.right { text-anchor: end }
.middle { text-anchor: middle }
line { stroke: #ddd }
"""


def draw(connection: Connection[Any], path: Path) -> None:
    """Write the picture of the rows in a database.

    Args:
        connection: A connection to the database.
        path: The SVG file to write.
    """
    cells = {(name, hour): n for name, hour, n in connection.execute(QUERY)}
    totals: dict[str, float] = {}
    for (name, _), detections in cells.items():
        totals[name] = totals.get(name, 0) + detections
    names = sorted(totals, key=lambda name: (-totals[name], name))
    hours = _hours({hour for _, hour in cells})
    width, height = LABELS + CHART + TOTALS, TOP + ROW * len(names) + 70
    svg = Element(
        "svg",
        xmlns="http://www.w3.org/2000/svg",
        viewBox=f"0 0 {width} {height}",
        width=str(width),
        role="img",
    )
    SubElement(svg, "style").text = STYLE
    SubElement(svg, "rect", width="100%", height="100%", fill="white")
    _text(svg, 24, 38, "Detections per hour and class", "title")
    extent = f"{_day(hours[0])} to {_day(hours[-1])}" if hours else "No rows"
    note = "in UTC, summed over all devices, metrics of models among the classes"
    _text(svg, 24, 60, f"{extent}, {note}", "faint")
    _text(svg, width - 20, TOP - 10, "sum", "faint right")
    most = max(cells.values(), default=1)
    step = CHART / max(len(hours), 1)
    columns = {hour: LABELS + step * number for number, hour in enumerate(hours)}
    _axis(svg, columns, step, TOP + ROW * len(names))
    for number, name in enumerate(names):
        y = TOP + ROW * number
        _text(svg, LABELS - 10, y + 15, name, "right")
        _text(svg, width - 20, y + 15, f"{totals[name]:,.0f}", "right")
        for hour, x in columns.items():
            if detections := cells.get((name, hour)):
                cell = _cell(svg, x, y, step, _shade(detections, most))
                title = f"{name}, {hour:%d %b %H:00}: {detections:,.0f}"
                SubElement(cell, "title").text = title
    _legend(svg, height - 24, most)
    indent(svg)
    ElementTree(svg).write(path, encoding="utf-8", xml_declaration=True)


def _hours(seen: set[datetime]) -> list[datetime]:
    if not seen:
        return []
    first, last = min(seen), max(seen)
    return [first + HOUR * number for number in range((last - first) // HOUR + 1)]


def _day(moment: datetime) -> str:
    return f"{moment.day} {moment:%B %Y}"


def _shade(detections: float, most: float) -> str:
    """Scale by the square root, so that small values are visible next to large ones."""
    share = sqrt(detections / most)
    return SHADES[min(int(share * len(SHADES)), len(SHADES) - 1)]


def _axis(
    svg: Element, columns: dict[datetime, float], step: float, bottom: int
) -> None:
    every = next(n for n in TICKS if n * step >= LABEL or n == TICKS[-1])
    for hour, x in columns.items():
        if (hour - EPOCH) // HOUR % every == 0:
            attributes = {"x1": f"{x:.1f}", "x2": f"{x:.1f}"}
            SubElement(svg, "line", attributes, y1=str(TOP - 4), y2=str(bottom + 4))
            text = f"{hour:%H:%M}" if hour.hour else f"{hour:%d %b}"
            _text(svg, x, bottom + 20, text, "faint middle")


def _legend(svg: Element, y: int, most: float) -> None:
    _text(svg, LABELS, y, "few", "faint")
    for number, shade in enumerate(SHADES):
        _cell(svg, LABELS + 30 + 26 * number, y - 14, 26, shade)
    end = LABELS + 38 + 26 * len(SHADES)
    _text(
        svg, end, y, f"up to {most:,.0f} in an hour, shaded by the square root", "faint"
    )


def _cell(svg: Element, x: float, y: float, width: float, shade: str) -> Element:
    gap = min(1, width / 8)
    return SubElement(
        svg,
        "rect",
        x=f"{x:.2f}",
        y=f"{y + 1:.0f}",
        width=f"{width - gap:.2f}",
        height=str(ROW - 2),
        fill=shade,
    )


def _text(svg: Element, x: float, y: float, text: str, style: str) -> None:
    place = {"x": f"{x:.1f}", "y": f"{y:.0f}", "class": style}
    SubElement(svg, "text", place).text = text
