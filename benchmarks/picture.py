"""The results as a chart."""

from __future__ import annotations

from typing import TYPE_CHECKING

import altair as alt
import vl_convert

from benchmarks.programs import OURS

if TYPE_CHECKING:
    from benchmarks.report import Scenarios

_PANELS = {
    "No latency": "cpu",
    "100 ms per response, 16 concurrent requests if the program supports them": "network",
    "Whole pipelines into PostgreSQL, no latency": "pipeline",
}


def picture(scenarios: Scenarios) -> str:
    """Draw the rates of the most important scenarios, as SVG on one line."""
    panels = [
        _panel(title, {label: cost["rows_a_second"] for label, cost in programs.items()})
        for title, name in _PANELS.items()
        if (programs := scenarios.get(name, {}).get("programs"))
    ]
    chart = (
        alt.vconcat(*panels, title="Records/s by program (longer is better)", spacing=16)
        .configure(font="sans-serif", background="white", padding=16)
        .configure_axis(labelFontSize=14, labelPadding=8, minExtent=150)
        .configure_title(anchor="start", fontSize=14, offset=8)
        .configure_view(stroke=None)
    )
    return vl_convert.vegalite_to_svg(chart.to_dict()).replace("\n", " ") + "\n"


def _panel(title: str, rates: dict[str, float]) -> alt.LayerChart:
    rows = [
        {"program": label, "rate": rate, "ours": label.startswith((OURS, "meltano run"))}
        for label, rate in rates.items()
    ]
    ours = alt.datum.ours
    base = alt.Chart(alt.InlineData(values=rows), width=520, height=alt.Step(24)).encode(
        alt.X("rate:Q", axis=None),
        alt.Y("program:N", sort=None, title=None).axis(domain=False, ticks=False),
    )
    bars = base.mark_bar().encode(
        color=alt.when(ours).then(alt.value("#0b7a75")).otherwise(alt.value("#b2b2b2"))
    )
    figures = base.mark_text(align="left", dx=6, fontSize=14).encode(
        alt.Text("rate:Q", format=",.0f")
    )
    layers: alt.LayerChart = bars + figures
    return layers.properties(title=alt.Title(title, fontWeight="normal", frame="group"))
