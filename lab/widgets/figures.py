"""What the instruments' figures share."""

from __future__ import annotations

import plotly.graph_objects as go

# Readable on a light and on a dark page: plotly does not know JupyterLab's theme.
INK, GRID = "#7a7f87", "rgba(128, 128, 128, 0.25)"
BLUE, ORANGE, GREEN = "#3b82c4", "#d9822b", "#3a9a5b"


def new_figure(figure: go.Figure | None = None) -> go.FigureWidget:
    """A figure, empty or of what is given, as wide as its place: `static/panel.js` says when that
    changes, and a figure that is responsive listens."""
    widget = go.FigureWidget(figure)
    widget._config = widget._config | {"responsive": True, "displaylogo": False}
    return widget


def style(figure: go.FigureWidget, height: int) -> None:
    """Transparent ground, grey ink, a legend on top."""
    figure.update_layout(
        height=height,
        margin={"l": 55, "r": 15, "t": 50, "b": 45},
        paper_bgcolor="rgba(0, 0, 0, 0)",
        plot_bgcolor="rgba(0, 0, 0, 0)",
        font={"color": INK, "size": 13},
        legend={"orientation": "h", "y": 1.12, "x": 0, "yanchor": "bottom"},
        hovermode="x unified",
    )
    figure.update_xaxes(gridcolor=GRID, zeroline=False, rangemode="tozero")
    figure.update_yaxes(gridcolor=GRID, zerolinecolor=GRID)


def band(color: str) -> dict:
    """A line's colour, thin enough to lie under it as a band."""
    red, green, blue = (int(color[i : i + 2], 16) for i in (1, 3, 5))
    return {"fillcolor": f"rgba({red}, {green}, {blue}, 0.15)", "line": {"width": 0}}
