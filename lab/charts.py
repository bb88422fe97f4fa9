"""Pictures for notebooks: titled, labelled, with intervals, readable on a light and a dark page."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from .perplexity import Perplexity
from .statistics import Estimate

if TYPE_CHECKING:
    import plotly.graph_objects as go

COLORS = ("#7a7f87", "#3b82c4", "#d9822b", "#3a9a5b", "#9b59b6", "#c0504d")
Value = Estimate | Perplexity | float


def bars(
    table: Mapping[str, Mapping[str, Value]], title: str, axis: str, height: int = 380
) -> go.Figure:
    """Groups of bars, whiskers where a value has an interval.

    Args:
        table: what is compared (a colour each), and of each its values by name (a group each).
        axis: what the values are, with their unit.
    """
    import plotly.graph_objects as go

    from .widgets.figures import INK

    figure = go.Figure()
    for i, (name, values) in enumerate(table.items()):
        numbers = [number(v) for v in values.values()]
        spans = whiskers([*values.values()]) | {"color": INK}
        look = {"color": COLORS[i % len(COLORS)], "opacity": 0.6}  # so that whiskers are seen on it
        figure.add_bar(x=list(values), y=numbers, name=name, marker=look, error_y=spans)
    set_out(figure, title, height)
    figure.update_layout(barmode="group")
    figure.update_yaxes(title_text=axis)
    figure.update_xaxes(rangemode=None)
    return figure


def lines(
    table: Mapping[str, Sequence[tuple[float, Value]]],
    title: str,
    x: str,
    y: str,
    height: int = 380,
) -> go.Figure:
    """Lines through points, whiskers where a point has an interval.

    Args:
        table: what is compared (a line each), and of each its points (place on the x axis, value).
        x, y: what the axes are, with their units.
    """
    import plotly.graph_objects as go

    figure = go.Figure()
    for i, (name, points) in enumerate(table.items()):
        values = [v for _, v in points]
        look = {"mode": "lines+markers", "line_color": COLORS[(i + 1) % len(COLORS)]}
        places, numbers = [place for place, _ in points], [number(v) for v in values]
        figure.add_scatter(x=places, y=numbers, name=name, error_y=whiskers(values), **look)
    set_out(figure, title, height)
    figure.update_layout(showlegend=len(table) > 1)
    figure.update_yaxes(title_text=y)
    figure.update_xaxes(title_text=x)
    return figure


def set_out(figure: go.Figure, title: str, height: int) -> None:
    """Title on top, names below: however many names there are, they grow away from the title."""
    from .widgets.figures import style

    style(figure, height)
    figure.update_layout(title={"text": title, "x": 0, "xref": "paper"}, hovermode="closest")
    figure.update_legends(y=-0.2, yanchor="top")


def whiskers(values: Sequence[Value]) -> dict:
    """Error bars of plotly, from intervals; none where there is no finite one."""
    spans = [(number(v), *span(v)) for v in values]
    finite = [math.isfinite(high - low) and high > low for _, low, high in spans]
    return {
        "type": "data",
        "array": [h - n if f else None for (n, _, h), f in zip(spans, finite, strict=True)],
        "arrayminus": [n - lo if f else None for (n, lo, _), f in zip(spans, finite, strict=True)],
        "thickness": 1.5,
    }


def number(value: Value) -> float:
    return value if isinstance(value, (int, float)) else value.value


def span(value: Value) -> tuple[float, float]:
    """The interval of a value; a plain number has none."""
    return (value, value) if isinstance(value, (int, float)) else (value.low, value.high)
