"""Pictures for notebooks: titled, labelled, with intervals, readable on a light and a dark page."""

from __future__ import annotations

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

    from .widgets.figures import style

    figure = go.Figure()
    for i, (name, values) in enumerate(table.items()):
        numbers, bars_of = [number(v) for v in values.values()], whiskers([*values.values()])
        color = COLORS[i % len(COLORS)]
        figure.add_bar(x=list(values), y=numbers, name=name, marker_color=color, error_y=bars_of)
    style(figure, height)
    figure.update_layout(title=title, barmode="group", margin_t=90, hovermode="closest")
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

    from .widgets.figures import style

    figure = go.Figure()
    for i, (name, points) in enumerate(table.items()):
        values = [v for _, v in points]
        look = {"mode": "lines+markers", "line_color": COLORS[(i + 1) % len(COLORS)]}
        places, numbers = [place for place, _ in points], [number(v) for v in values]
        figure.add_scatter(x=places, y=numbers, name=name, error_y=whiskers(values), **look)
    style(figure, height)
    figure.update_layout(title=title, margin_t=90, hovermode="closest", showlegend=len(table) > 1)
    figure.update_yaxes(title_text=y)
    figure.update_xaxes(title_text=x)
    return figure


def whiskers(values: Sequence[Value]) -> dict:
    """Error bars of plotly, from intervals."""
    numbers, spans = [number(v) for v in values], [span(v) for v in values]
    return {
        "type": "data",
        "array": [high - n for n, (_, high) in zip(numbers, spans, strict=True)],
        "arrayminus": [n - low for n, (low, _) in zip(numbers, spans, strict=True)],
        "thickness": 1.2,
    }


def number(value: Value) -> float:
    return value if isinstance(value, (int, float)) else value.value


def span(value: Value) -> tuple[float, float]:
    """The interval of a value; a plain number has none."""
    return (value, value) if isinstance(value, (int, float)) else (value.low, value.high)
