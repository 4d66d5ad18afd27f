"""The results as a chart."""

from __future__ import annotations

from typing import TYPE_CHECKING

from matplotlib.figure import Figure

from benchmarks.environments import OURS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from benchmarks.verdicts import Scenarios

_LIMIT = "bare script"
_PANELS = {
    "cpu": (
        "No latency",
        ("SDK template", "dlt", "Airbyte CDK", "bare script", OURS),
    ),
    "network": (
        "100 ms per response, 16 concurrent requests if the program supports them",
        (
            "SDK template",
            "dlt, 16 workers",
            "Airbyte CDK, 16 workers",
            "bare script, 16 threads",
            OURS,
        ),
    ),
    "devices": (
        "1,000 devices with 10 records each",
        tuple(
            f"{program}, 1,000 devices"
            for program in ("SDK template", "dlt", "bare script", OURS)
        ),
    ),
    "pipeline": (
        "Whole pipelines into PostgreSQL, no latency",
        (
            "dlt merge",
            "dlt merge, Arrow",
            "bare script",
            "meltano run",
            "meltano run, BATCH",
        ),
    ),
}
_NOTE = "Dashed: a script without settings, state and retries."


def picture(scenarios: Scenarios) -> Figure:
    """Draw the rates of the most important scenarios.

    Args:
        scenarios: The results by scenario.

    Returns:
        The chart.
    """
    panels: dict[str, dict[str, float]] = {}
    for name, (title, labels) in _PANELS.items():
        programs = scenarios.get(name, {}).get("programs", {})
        panels[title] = {
            label: programs[label]["rows_a_second"]
            for label in labels
            if label in programs
        }
    panels = {title: rates for title, rates in panels.items() if rates}
    sizes = [len(rates) for rates in panels.values()]
    figure = Figure(figsize=(8, 1 + sum(sizes) * 0.3 + len(sizes) * 0.4))
    figure.set_layout_engine("constrained", h_pad=0.08, w_pad=0.1)
    figure.suptitle("Records/s by program (longer is better)", fontweight="bold")
    figure.supxlabel(_NOTE, fontsize="small", color="0.4")
    if panels:
        axes = figure.subplot_mosaic([[title] for title in panels], height_ratios=sizes)
        for title, rates in panels.items():
            _panel(axes[title], title, rates)
    return figure


def _panel(axes: Axes, title: str, rates: dict[str, float]) -> None:
    axes.set_title(title, loc="left", fontsize="medium")
    for label, rate in rates.items():
        ours = OURS in label or "meltano run" in label
        weight = "bold" if ours else "normal"
        limit = _LIMIT in label
        bar = axes.barh(
            label.split(", 1,000")[0],
            rate,
            color="white" if limit else "#0b7a75" if ours else "0.7",
            edgecolor="0.5" if limit else "none",
            linestyle="--",
        )
        axes.bar_label(bar, fmt="{:,.0f}", padding=4, fontweight=weight)
    axes.invert_yaxis()
    axes.margins(x=0.12)
    axes.xaxis.set_visible(False)
    axes.tick_params(left=False)
    axes.spines[:].set_visible(False)
