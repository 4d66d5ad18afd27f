"""The results as a chart."""

from __future__ import annotations

from typing import TYPE_CHECKING

from matplotlib.figure import Figure

from benchmarks.programs import OURS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from benchmarks.report import Scenarios

_PANELS = {
    "No latency": "cpu",
    "100 ms per response, 16 concurrent requests if the program supports them": "network",
    "Whole pipelines into PostgreSQL, no latency": "pipeline",
}


def picture(scenarios: Scenarios) -> Figure:
    """Draw the rates of the most important scenarios."""
    panels: dict[str, dict[str, float]] = {}
    for title, name in _PANELS.items():
        if programs := scenarios.get(name, {}).get("programs"):
            panels[title] = {label: cost["rows_a_second"] for label, cost in programs.items()}
    sizes = [len(rates) for rates in panels.values()]
    figure = Figure(figsize=(8, 1 + sum(sizes) * 0.3 + len(sizes) * 0.4))
    figure.set_layout_engine("constrained", h_pad=0.08, w_pad=0.1)
    figure.suptitle("Records/s by program (longer is better)", fontweight="bold")
    if panels:
        axes = figure.subplot_mosaic([[title] for title in panels], height_ratios=sizes)
        for title, rates in panels.items():
            _draw(axes[title], title, rates)
    return figure


def _draw(axes: Axes, title: str, rates: dict[str, float]) -> None:
    axes.set_title(title, loc="left", fontsize="medium")
    for label, rate in rates.items():
        ours = label.startswith((OURS, "meltano run"))
        bar = axes.barh(
            label,
            rate,
            color="#0b7a75" if ours else "0.7",
        )
        weight = "bold" if ours else "normal"
        axes.bar_label(bar, fmt="{:,.0f}", padding=4, fontweight=weight)
    axes.invert_yaxis()
    axes.margins(x=0.12)
    axes.xaxis.set_visible(False)
    axes.tick_params(left=False)
    axes.spines[:].set_visible(False)
