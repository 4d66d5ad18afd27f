"""The results as a picture: an SVG by hand, legible on light and on dark pages."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from benchmarks.environments import OURS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from benchmarks.verdicts import Scenarios

_WIDTH, _MARGIN, _LABELS, _VALUES = 760, 28, 190, 90
_BAR, _STEP, _TITLE, _GAP = 18, 25, 30, 22
_LIMIT = "bare script"
_SVG = """\
<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img"
  width="{width}" height="{height}" aria-label="Rows a second, by program">
<style>{style}</style>
<rect class="card" width="{width}" height="{height}" rx="8"/>
{body}
</svg>
"""
_STYLE = """
text { font: 13px system-ui, 'Segoe UI', Helvetica, Arial, sans-serif; fill: #1f2328 }
.title { font-weight: 600; font-size: 14px }
.note { fill: #59636e; font-size: 12px }
.card { fill: #ffffff; stroke: #d1d9e0 }
.bar { fill: #b1bac4 }
.limit { fill: none; stroke: #818b98; stroke-dasharray: 4 3 }
.ours { fill: #0b7a75 }
.strong { font-weight: 600 }
@media (prefers-color-scheme: dark) {
  text { fill: #f0f6fc }
  .note { fill: #9198a1 }
  .card { fill: #0d1117; stroke: #3d444d }
  .bar { fill: #4b545f }
  .limit { stroke: #9198a1 }
  .ours { fill: #2fb8ae }
}
"""
_PANELS = (
    (
        "cpu",
        "No latency: rows a second",
        ("SDK template", "dlt", "Airbyte CDK", "bare script", OURS),
    ),
    (
        "network",
        "100 ms a response, 16 requests in flight where the program can: rows a second",
        (
            "SDK template",
            "dlt, 16 workers",
            "Airbyte CDK, 16 workers",
            "bare script, 16 threads",
            OURS,
        ),
    ),
    (
        "devices",
        "1,000 devices of 10 rows: rows a second",
        tuple(
            f"{program}, 1,000 devices"
            for program in ("SDK template", "dlt", "bare script", OURS)
        ),
    ),
    (
        "pipeline",
        "End to end into PostgreSQL, where the loader sets the pace: rows a second",
        ("RECORD", "RECORD, loader tuned", "BATCH", "BATCH, loader tuned"),
    ),
)


def picture(scenarios: Scenarios) -> str:
    """Draw the rates of the scenarios that a reader asks for first.

    Args:
        scenarios: The results by scenario.

    Returns:
        The SVG.
    """
    top = _MARGIN
    body: list[str] = []
    for name, title, labels in _PANELS:
        programs = scenarios.get(name, {}).get("programs", {})
        rates = {
            label: programs[label]["rows_a_second"]
            for label in labels
            if label in programs
        }
        if rates:
            body += _panel(top, title, rates)
            top += _TITLE + _STEP * len(rates) + _GAP
    body.append(
        _text(
            _MARGIN,
            top,
            "Longer is better. Dashed: a script with no settings, no state and no retries.",
            "note",
        )
    )
    height = top + _MARGIN // 2
    return _SVG.format(width=_WIDTH, height=height, style=_STYLE, body="\n".join(body))


def _panel(top: int, title: str, rates: Mapping[str, float]) -> Iterator[str]:
    yield _text(_MARGIN, top + 10, title, "title")
    scale = (_WIDTH - 2 * _MARGIN - _LABELS - _VALUES) / max(rates.values())
    for number, (label, rate) in enumerate(rates.items()):
        y = top + _TITLE + number * _STEP
        x = _MARGIN + _LABELS
        length = max(2, rate * scale)
        ours = OURS in label or "RECORD" in label or "BATCH" in label
        kind = "ours" if ours else "limit" if _LIMIT in label else "bar"
        weight = "strong" if ours else ""
        yield _text(_MARGIN, y + 13, label.split(", 1,000")[0], weight)
        place = f'x="{x}" y="{y}" width="{length:.1f}" height="{_BAR}"'
        yield f'<rect class="{kind}" {place} rx="2"/>'
        yield _text(x + length + 8, y + 13, f"{rate:,.0f}", weight)


def _text(x: float, y: float, content: str, kind: str) -> str:
    return f'<text class="{kind}" x="{x:.1f}" y="{y}">{escape(content)}</text>'
