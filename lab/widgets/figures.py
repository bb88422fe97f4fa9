"""What the instruments' figures share."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import plotly.graph_objects as go

# Readable on a light and on a dark page: plotly does not know JupyterLab's theme.
INK, GRID = "#7a7f87", "rgba(128, 128, 128, 0.25)"
BLUE, ORANGE, GREEN = "#3b82c4", "#d9822b", "#3a9a5b"


class Figure(go.FigureWidget):
    """A figure as wide as its place: `static/panel.js` says when that changes, and a figure that is
    responsive listens.

    A page that is opened again asks for the state of its widgets. plotly's would be that of the
    beginning, since what comes later is sent to the pages that are open then; this one's is that
    of now."""

    def __init__(self, figure: go.Figure | None = None) -> None:
        super().__init__(figure)
        self._config = self._config | {"responsive": True, "displaylogo": False}

    def get_state(self, key: Any = None, drop_defaults: bool = False) -> dict[str, Any]:
        """The state that a page starts from; see ipywidgets."""
        if key is None and hasattr(self, "_config") and "_widget_data" in self._trait_values:
            self._trait_values["_widget_data"] = deepcopy(self._data)
            self._trait_values["_widget_layout"] = deepcopy(self._layout_obj._props)
        return super().get_state(key, drop_defaults)


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
