"""The results as a chart."""

from __future__ import annotations

from typing import TYPE_CHECKING

import altair as alt
import vl_convert

if TYPE_CHECKING:
    from benchmarks.scenarios import Results

_OURS = ("tap-unleash", "meltano run")


def picture(results: Results) -> str:
    """Draw the rates of the programs, one panel per scenario, as SVG on one line."""
    chart = (
        alt.vconcat(*(_panel(*result) for result in results.items()), spacing=16)
        .properties(title="Records/s by program (longer is better)")
        .configure(font="sans-serif", background="white", padding=16)
        .configure_axis(labelFontSize=14, labelPadding=8, minExtent=150)
        .configure_title(anchor="start", fontSize=14, offset=8)
        .configure_view(stroke=None)
    )
    return vl_convert.vegalite_to_svg(chart.to_dict()).replace("\n", " ") + "\n"


def _panel(title: str, programs: dict[str, dict[str, float]]) -> alt.LayerChart:
    rows = [
        {"program": name, "rate": cost["rows_a_second"], "ours": name.startswith(_OURS)}
        for name, cost in programs.items()
    ]
    base = alt.Chart(alt.InlineData(values=rows), width=520, height=alt.Step(24)).encode(
        alt.X("rate:Q", axis=None),
        alt.Y("program:N", sort=None, title=None).axis(domain=False, ticks=False),
    )
    bars = base.mark_bar().encode(
        color=alt.when(alt.datum.ours).then(alt.value("#0b7a75")).otherwise(alt.value("#b2b2b2"))
    )
    figures = base.mark_text(align="left", dx=6, fontSize=14).encode(
        alt.Text("rate:Q", format=",.0f")
    )
    layers: alt.LayerChart = bars + figures
    return layers.properties(title=alt.Title(title, fontWeight="normal", frame="group"))
