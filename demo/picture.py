"""The pictures of the demo, as SVG files."""

from __future__ import annotations

from datetime import timedelta
from math import nan
from typing import TYPE_CHECKING, Any

from matplotlib import rc_context
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.figure import Figure

if TYPE_CHECKING:
    from pathlib import Path

    from psycopg import Connection

QUERY = """
SELECT class_name, date_trunc('hour', "timestamp"), sum("count")::float8
FROM unleash.analytics
WHERE class_name NOT IN (
    'total_count', 'num_individuals', 'number_of_groups',
    'number_of_persons_in_group', 'this_frame_persons_count', 'group_pixel_size'
)
GROUP BY 1, 2
ORDER BY sum(sum("count")) OVER (PARTITION BY class_name), 1
"""
"""The classes that are not listed here are detections; these are metrics of a frame."""

HOUR = timedelta(hours=1)

TERMINAL = """\
<svg viewBox="0 0 {width} {height}" xmlns="http://www.w3.org/2000/svg">
<style>
.{unique_id}-matrix {{ font: {char_height}px/{line_height}px monospace }}
.{unique_id}-title {{ font: bold 18px sans-serif }}
{styles}
</style>
<defs>
<clipPath id="{unique_id}-clip-terminal">
<rect width="{terminal_width}" height="{terminal_height}"/>
</clipPath>
{lines}
</defs>
{chrome}
<g transform="translate({terminal_x}, {terminal_y})"
  clip-path="url(#{unique_id}-clip-terminal)">
{backgrounds}
<g class="{unique_id}-matrix">
{matrix}
</g>
</g>
</svg>
"""
"""Rich's template for SVG files, without the fonts that it loads from a server."""


def chart(connection: Connection[Any]) -> Figure:
    """Draw the detections in a database.

    Args:
        connection: A connection to the database.

    Returns:
        A grid of hours and classes.
    """
    cells = {(name, hour): n for name, hour, n in connection.execute(QUERY)}
    names = list(dict.fromkeys(name for name, _ in cells))
    first, last = (pick(hour for _, hour in cells) for pick in (min, max))
    hours = [first + HOUR * number for number in range((last - first) // HOUR + 1)]
    figure = Figure(figsize=(10, 5), layout="constrained")
    axes = figure.subplots()
    mesh = axes.pcolormesh(
        [hour + HOUR / 2 for hour in hours],
        names,
        [[cells.get((name, hour), nan) for hour in hours] for name in names],
        cmap="viridis_r",
    )
    extent = f"{first:%b %d, %Y} to {last:%b %d, %Y} (UTC)"
    axes.set_title(f"Detections per class and hour, {extent}", loc="left")
    locator = AutoDateLocator()
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator, show_offset=False))
    axes.set_axisbelow(True)
    axes.grid(axis="x", color="0.9")
    axes.spines[:].set_visible(False)
    figure.colorbar(mesh, label="detections")
    return figure


def save(figure: Figure, path: Path) -> None:
    """Write a chart, the same for the same data, with its text as text.

    Args:
        figure: The chart.
        path: The SVG file to write.
    """
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": path.stem}):
        figure.savefig(
            path,
            format="svg",
            metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")),
        )
