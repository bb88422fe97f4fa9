"""The reward model in one figure: accuracy, margins, calibration."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from ..calibration import FEWEST, Bin, Predictions
from ..insight import WIDTH, margin_histogram
from .figures import BLUE, GREEN, INK, ORANGE, Figure, band, style

KINDS = {  # kind: (name, colour, dash, symbol)
    "prequential": ("predicted before each ranking", BLUE, "solid", "circle"),
    "cv": ("cross-validated", ORANGE, "dash", "square"),
    "heldout": ("held-out prompts", GREEN, "dot", "diamond"),
}
MOST = 500  # points of a line: more would cost tenths of a second at each refit
MARGIN = "difference of the scores, std"
TITLES = ("", "Margins: how far apart it had them", "Calibration: how sure, how often right")


class RewardFigure:
    """Draws into one FigureWidget: each brings 5 MB of JavaScript.

    Args:
        on_point: gets the number of rankings of a point that was clicked.
        on_bar: gets the bin of a bar that was clicked, and whether it counts right pairs.
    """

    def __init__(
        self, on_point: Callable[[int], None], on_bar: Callable[[int, bool], None]
    ) -> None:
        self._lock = threading.RLock()
        self.widget = Figure(
            make_subplots(
                rows=2,
                cols=2,
                specs=[[{"colspan": 2}, None], [{}, {}]],
                subplot_titles=TITLES,
                vertical_spacing=0.22,
                horizontal_spacing=0.11,
            )
        )
        self.lines = {kind: self._add_line(*KINDS[kind]) for kind in KINDS}
        self.bars = {right: self._add_bars(right) for right in (True, False)}
        self.diagonal = self._add_diagonal()
        self.dots = self._add_dots()
        self._lay_out()
        for line, _ in self.lines.values():
            line.on_click(lambda _, at, __: [on_point(int(x)) for x in at.xs[:1]])
        for right, bars in self.bars.items():
            bars.on_click(
                lambda _, at, __, right=right: [on_bar(i, right) for i in at.point_inds[:1]]
            )

    def draw(
        self, history: Sequence[dict], predictions: Predictions, temperature: float | None
    ) -> None:
        """Show accuracies over rankings, and what was predicted so far."""
        histogram = margin_histogram(predictions)
        bins = predictions.reliability(temperature) if temperature else []
        with self._lock, self.widget.batch_update():
            for kind, (line, area) in self.lines.items():
                draw_line(line, area, [r for r in history if kind in r], kind)
            for right, bars in self.bars.items():
                bars.y = (histogram.right if right else histogram.wrong).tolist()
                bars.visible = bool(predictions.margins)
            equal = f" ({histogram.equal} equal pairs left out)" if histogram.equal else ""
            self.widget.layout.xaxis2.title.text = MARGIN + equal
            self._draw_dots(bins)
            self._note("margins", "" if predictions.margins else "no pair predicted yet")
            few = f"not enough yet: {len(predictions.margins)} of {FEWEST} predicted pairs"
            self._note("calibration", "" if bins else few)

    def _draw_dots(self, bins: Sequence[Bin]) -> None:
        seen = [b.observed for b in bins]
        self.dots.x = [b.predicted for b in bins]
        self.dots.y = [o.value for o in seen]
        self.dots.error_y.array = [o.high - o.value for o in seen]
        self.dots.error_y.arrayminus = [o.value - o.low for o in seen]
        self.dots.customdata = [[o.low, o.high, o.count] for o in seen]
        self.dots.visible = bool(bins)

    def _note(self, name: str, text: str) -> None:
        note = next(a for a in self.widget.layout.annotations if a.name == name)
        note.text, note.visible = text, bool(text)

    def _add_line(self, name: str, color: str, dash: str, symbol: str) -> tuple:
        line = {"color": color, "dash": dash}
        place = {"legendgroup": name, "row": 1, "col": 1}
        self.widget.add_scatter(
            name=name,
            mode="lines+markers",
            line=line,
            marker={"symbol": symbol},
            hovertemplate="%{x} rankings: %{y:.2f} [%{customdata[0]:.2f}, %{customdata[1]:.2f}], "
            "%{customdata[2]} pairs",
            **place,
        )
        self.widget.add_scatter(
            fill="toself", hoverinfo="skip", showlegend=False, mode="lines", **band(color), **place
        )
        return self.widget.data[-2:]

    def _add_bars(self, right: bool) -> go.Bar:
        name, color = ("ordered rightly", BLUE) if right else ("the wrong way round", ORANGE)
        start = margin_histogram(Predictions()).start.tolist()
        ends = [f"{s:g} to {s + WIDTH:g}" for s in start[:-1]] + [f"{start[-1]:g} or more"]
        self.widget.add_bar(
            x0=WIDTH / 2,
            dx=WIDTH,
            width=WIDTH * 0.92,
            name=name,
            customdata=ends,
            marker={"color": color, "pattern": {"shape": "" if right else "/"}},
            hovertemplate=f"margin %{{customdata}}: %{{y}} pairs {name}<extra></extra>",
            legend="legend2",
            row=2,
            col=1,
        )
        return self.widget.data[-1]

    def _add_diagonal(self) -> go.Scatter:
        self.widget.add_scatter(
            x=[0.5, 1],
            y=[0.5, 1],
            mode="lines",
            line={"color": INK, "dash": "dot"},
            hoverinfo="skip",
            showlegend=False,
            row=2,
            col=2,
        )
        return self.widget.data[-1]

    def _add_dots(self) -> go.Scatter:
        self.widget.add_scatter(
            mode="markers",
            marker={"color": BLUE, "size": 9},
            error_y={"type": "data", "symmetric": False, "color": BLUE},
            hovertemplate="says %{x:.0%}, right %{y:.0%} [%{customdata[0]:.0%}, "
            "%{customdata[1]:.0%}], %{customdata[2]} pairs<extra></extra>",
            showlegend=False,
            row=2,
            col=2,
        )
        return self.widget.data[-1]

    def _lay_out(self) -> None:
        figure = self.widget
        figure.add_hline(
            0.5, line={"color": INK, "dash": "dot"}, annotation_text="chance", row=1, col=1
        )
        style(figure, 620)
        middle = {"x": 0.5, "y": 0.5, "showarrow": False, "text": "", "visible": False}
        for name, axis in (("margins", "2"), ("calibration", "3")):
            figure.add_annotation(
                name=name, xref=f"x{axis} domain", yref=f"y{axis} domain", **middle
            )
        figure.update_layout(
            hovermode="closest",
            barmode="stack",
            legend={"y": 1.03},
            legend2={
                "x": 0.445,
                "y": 0.38,
                "xanchor": "right",
                "yanchor": "top",
                "bgcolor": "rgba(0, 0, 0, 0)",
            },
        )
        figure.update_annotations(font={"size": 13})
        figure.update_yaxes(title_text="pair accuracy", range=[0, 1], row=1, col=1)
        figure.update_xaxes(title_text="rankings", row=1, col=1)
        figure.update_yaxes(title_text="pairs", rangemode="tozero", row=2, col=1)
        figure.update_xaxes(title_text=MARGIN, row=2, col=1)
        figure.update_yaxes(
            title_text="it was right", range=[0, 1.05], tickformat=".0%", row=2, col=2
        )
        figure.update_xaxes(
            title_text="it said", range=[0.48, 1.02], tickformat=".0%", row=2, col=2
        )


def draw_line(line: go.Scatter, area: go.Scatter, rows: Sequence[dict], kind: str) -> None:
    """A kind's accuracies and their band: the newest, and evenly before it MOST points or fewer."""
    rows = rows[:: -(1 + len(rows) // MOST)][::-1]
    x = [row["rankings"] for row in rows]
    value, low, high, _ = zip(*(row[kind] for row in rows), strict=True) if rows else ((),) * 4
    line.x, line.y = x, value
    line.customdata = [row[kind][1:] for row in rows]
    line.visible = area.visible = bool(rows)
    area.x, area.y = x + x[::-1], low + high[::-1]
