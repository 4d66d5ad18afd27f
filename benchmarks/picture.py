"""The results as a chart."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks.programs import OURS

if TYPE_CHECKING:
    from benchmarks.report import Scenarios

_PANELS = {
    "No latency": "cpu",
    "100 ms per response, 16 concurrent requests if the program supports them": "network",
    "Whole pipelines into PostgreSQL, no latency": "pipeline",
}
_LINE = 24
_BARS = 520
"""The length of the longest bar of a panel."""


def picture(scenarios: Scenarios) -> str:
    """Draw the rates of the most important scenarios, as SVG on one line."""
    lines = [_text(16, "Records/s by program (longer is better)", bold=True)]
    for title, name in _PANELS.items():
        if programs := scenarios.get(name, {}).get("programs"):
            rates = {label: cost["rows_a_second"] for label, cost in programs.items()}
            lines += ["", _text(150, title)]
            lines += [_bar(label, rate, max(rates.values())) for label, rate in rates.items()]
    height = _LINE * (len(lines) + 1)
    body = "".join(
        f'<g transform="translate(0 {_LINE * number})">{line}</g>'
        for number, line in enumerate(lines, 1)
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="768" viewBox="0 0 768 {height}" '
        f'font-family="sans-serif" font-size="14"><rect width="100%" height="100%" fill="#fff"/>'
        f"{body}</svg>\n"
    )


def _bar(label: str, rate: float, longest: float) -> str:
    ours = label.startswith((OURS, "meltano run"))
    length = round(_BARS * rate / longest)
    color = "#0b7a75" if ours else "#b2b2b2"
    return (
        f'{_text(142, label, anchor="end")}<rect x="150" y="-15" width="{length}" '
        f'height="20" fill="{color}"/>{_text(156 + length, f"{rate:,.0f}", bold=ours)}'
    )


def _text(x: int, text: str, *, anchor: str = "start", bold: bool = False) -> str:
    weight = ' font-weight="bold"' if bold else ""
    return f'<text x="{x}" text-anchor="{anchor}"{weight}>{text}</text>'
