"""The pictures of the demo, as SVG files."""

from __future__ import annotations

import re
from datetime import timedelta
from io import StringIO
from math import nan
from typing import TYPE_CHECKING, Any

from matplotlib import rc_context
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.figure import Figure

if TYPE_CHECKING:
    from pathlib import Path

    from psycopg import Connection

QUERY = """
SELECT class_name, date_trunc('hour', "timestamp"), max(objects)::float8
FROM (
    SELECT class_name, "timestamp", sum("count") AS objects
    FROM unleash.analytics
    WHERE class_name NOT IN (
        'total_count', 'num_individuals', 'number_of_groups',
        'number_of_persons_in_group', 'this_frame_persons_count', 'group_pixel_size'
    )
    GROUP BY device_id, source_file_name, frame_number, "timestamp", class_name
) AS frames
GROUP BY 1, 2
ORDER BY max(max(objects)) OVER (PARTITION BY class_name), 1
"""
"""The classes that are not listed here are objects; these are metrics of a frame."""

HOUR = timedelta(hours=1)


def chart(connection: Connection[Any]) -> Figure:
    """Draw how many objects were found in one frame.

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
    axes.set_title(f"Most objects in one frame, per class and hour, {extent}", loc="left")
    locator = AutoDateLocator()
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator, show_offset=False))
    axes.spines[:].set_visible(False)
    figure.colorbar(mesh, label="most in one frame")
    return figure


def save(figure: Figure, path: Path) -> None:
    """Write a chart, the same for the same data, with its text as text.

    Args:
        figure: The chart.
        path: The SVG file to write.
    """
    svg = StringIO()
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": path.stem}):
        metadata = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        figure.savefig(svg, format="svg", metadata=metadata)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(compact(svg.getvalue()), encoding="utf-8")


def compact(svg: str) -> str:
    """Put a picture on one line, and remove the fonts that it would load from a server.

    Args:
        svg: The picture.

    Returns:
        The same picture, with a newline at its end.
    """
    return re.sub(r"\s*\n\s*", " ", re.sub(r"@font-face \{.*?\}", "", svg, flags=re.DOTALL)) + "\n"
