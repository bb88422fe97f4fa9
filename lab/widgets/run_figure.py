"""The figure of a run: its metrics over updates, where it stands, and other runs beside it."""

from __future__ import annotations

import html
import textwrap
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from ..frontier import points
from ..plots import Plot
from .figures import BLUE, GREEN, INK, ORANGE, Figure, style

COLORS = (BLUE, GREEN, ORANGE, "#8f6bd1", "#2b9aa0", "#c25a8a")
BESIDE = ("#b0672a", "#7d63c4", "#4d8a3c", "#bf4f7a")  # of other runs, each with a dash of its own
DASHES = ("dash", "dot", "dashdot", "longdash")
AHEAD = 0.35  # opacity of what a rewound run will take again
POINTS_AT_MOST = 200  # above, lines without points
WIDTH, LONG = 60, 150  # characters of a line of a label, and of a text in it
PLOT_HEIGHT, GAP, FRAME = 165, 50, 110  # pixels


@dataclass
class Curves:
    """What is to be drawn.

    Attributes:
        rows: metrics of the run driven, its parents' before it joined on.
        samples: samples of these updates, shown on hover.
        now: the update that the run stands at.
        beside: metrics of other runs, by name.
        yardsticks: best-of-n by name, rows of `frontier.curve`.
    """

    rows: Sequence[dict] = ()
    samples: Sequence[dict] = ()
    now: int = 0
    beside: Mapping[str, Sequence[dict]] = field(default_factory=dict)
    yardsticks: Mapping[str, Sequence[dict]] = field(default_factory=dict)


class RunFigure:
    """Draws `Curves`; `widget` is the figure. Plots that are not on show cost nothing.

    Args:
        plots: all that may be drawn.
        on_pick: gets the update of a point that was clicked.
    """

    def __init__(self, plots: Sequence[Plot], on_pick: Callable[[int], None]) -> None:
        self._plots, self._on_pick = tuple(plots), on_pick
        self._lock = threading.RLock()
        self._drawn: tuple | None = None  # which plots and runs the figure has traces for
        self._updates: dict[str, list[int]] = {}  # of a trace's points, by its uid
        self.widget = Figure()

    def draw(self, curves: Curves, on_show: Sequence[int]) -> None:
        """Draw the plots with these numbers. Safe on any thread."""
        shape = (tuple(on_show), tuple(curves.beside), tuple(curves.yardsticks))
        texts = hover_texts(curves.samples)
        traces = [
            (row, trace)
            for row, number in enumerate(on_show, 1)
            for trace in self._traces(number, curves, texts, first=row == 1)
        ]
        with self._lock:
            if shape != self._drawn:
                self._rebuild(on_show, traces)
                self._drawn = shape
            updates = [trace.pop("updates") for _, trace in traces]
            with self.widget.batch_update():
                for old, (_, new) in zip(self.widget.data, traces, strict=True):
                    for name in ("x", "y", "text", "mode", "error_y"):
                        if name in new:
                            setattr(old, name, new[name])
                self.widget.layout.shapes = self._marks(curves.now, on_show)
            found = zip(self.widget.data, updates, strict=True)
            self._updates = {trace.uid: of for trace, of in found}

    def _name(self, plot: Plot, name: str) -> str:
        """A metric's name in the legend, which is one for all plots."""
        same = [n for p in self._plots for n in p.metrics.values()].count(name) > 1
        return f"{plot.word} {name}" if same else name

    def _traces(
        self, number: int, curves: Curves, texts_of: Mapping[int, str], first: bool
    ) -> list[dict[str, Any]]:
        """All traces of one plot. Those of the run driven come first, each metric twice: whole and
        faint, which answers to hover and click, and solid as far as the run stands."""
        plot, out = self._plots[number], []
        color = sum(len(p.metrics) for p in self._plots[:number])
        for j, (metric, name) in enumerate(plot.metrics.items()):
            line = {"color": COLORS[(color + j) % len(COLORS)], "width": 2}
            name = self._name(plot, name)
            whole = trace_of(plot, metric, curves.rows, name=name, line=line)
            whole |= {"opacity": AHEAD, "showlegend": False}
            if not j:  # the first metric's label shows a sample as well
                whole["text"] = [texts_of.get(k, " ") for k in whole["updates"]]
                whole["hovertemplate"] = hover_form(plot, name, "%{text}")
            done = [row for row in curves.rows if row["update"] <= curves.now]
            solid = trace_of(plot, metric, done, name=name, line=line)
            out += [whole, {**solid, "hovertemplate": None, "hoverinfo": "skip"}]
        metric = next(iter(plot.metrics))
        for i, (name, rows) in enumerate(curves.beside.items()):
            line = {"color": BESIDE[i % 4], "width": 1.3, "dash": DASHES[i % 4]}
            more = {"legendgroup": name, "showlegend": first, "mode": "lines"}
            out.append(trace_of(plot, metric, rows, name=name, line=line, **more))
        if plot.over_kl:
            out += [yardstick(name, rows) for name, rows in curves.yardsticks.items()]
        return out

    def _rebuild(self, on_show: Sequence[int], traces: Sequence[tuple[int, dict]]) -> None:
        """Other plots or other runs: the axes and traces anew, in the same widget."""
        count = max(1, len(on_show))
        height = FRAME + PLOT_HEIGHT * count + GAP * (count - 1)
        gap = GAP / (height - FRAME)
        figure = make_subplots(rows=count, cols=1, vertical_spacing=gap if count > 1 else 0)
        style(figure, height)
        figure.update_layout(
            hoverlabel={"align": "left", "bgcolor": "#ffffff", "font": {"color": "#1f2328"}},
            legend={"y": 1 + 12 / (height - FRAME)},
            uirevision="same",
        )
        figure.update_xaxes(showspikes=False)  # they would be white on a dark page
        plots = [self._plots[number] for number in on_show]
        over_updates = [row for row, plot in enumerate(plots, 1) if not plot.over_kl]
        for row, plot in enumerate(plots, 1):
            mode = "tozero" if plot.from_zero else "normal"
            figure.update_yaxes(title_text=plot.axis, rangemode=mode, row=row, col=1)
            if plot.over_kl:
                title = {"title_text": "√KL to the reference (√nats)", "title_standoff": 4}
                figure.update_xaxes(**title, row=row, col=1)
            elif row != over_updates[0]:
                first = over_updates[0]
                figure.update_xaxes(matches=f"x{first if first > 1 else ''}", row=row, col=1)
        if over_updates:
            title = {"title_text": "update", "title_standoff": 4}
            figure.update_xaxes(**title, row=over_updates[-1], col=1)
        for row, trace in traces:
            plain = {k: v for k, v in trace.items() if k != "updates"}
            figure.add_trace(go.Scatter(**plain), row=row, col=1)
        self.widget.data = ()
        self.widget.layout = figure.layout
        self.widget.add_traces(figure.data)
        for trace in self.widget.data:
            trace.on_click(self._clicked)

    def _marks(self, now: int, on_show: Sequence[int]) -> list[dict[str, Any]]:
        """A vertical line where the run stands."""
        line = {"color": INK, "width": 1.5, "dash": "dot"}
        return [
            {"type": "line", "x0": now, "x1": now, "y0": 0, "y1": 1, "line": line}
            | {"xref": f"x{axis}", "yref": f"y{axis} domain"}
            for axis, number in zip(["", *range(2, 99)], on_show, strict=False)
            if not self._plots[number].over_kl
        ]

    def _clicked(self, trace: Any, points: Any, _: Any) -> None:
        updates = self._updates.get(trace.uid, ())
        if points.point_inds and points.point_inds[0] < len(updates):
            self._on_pick(updates[points.point_inds[0]])


def trace_of(plot: Plot, metric: str, rows: Sequence[dict], **more: Any) -> dict[str, Any]:
    """A metric over updates, or over √KL; `updates` are those of its points."""
    rows = [row for row in rows if metric in row]
    updates = [row["update"] for row in rows]
    x, y = points(rows, metric) if plot.over_kl else (updates, [row[metric] for row in rows])
    mode = "lines+markers" if len(rows) <= POINTS_AT_MOST else "lines"
    data = {"x": np.asarray(x, float), "y": np.asarray(y, float), "updates": updates}
    return {"mode": mode, "hovertemplate": hover_form(plot, more["name"]), **data, **more}


def hover_form(plot: Plot, name: str, more: str = "") -> str:
    """plotly's template for the label of a point."""
    place = "√KL %{x:.2f}, " if plot.over_kl else ""
    return f"{name}: {place}%{{y:.3~f}}{more}<extra></extra>"


def yardstick(name: str, rows: Sequence[dict]) -> dict[str, Any]:
    """Best-of-n, with its 95 % interval where there is one."""
    spread = [[(r[end] or r["score"]) - r["score"] for r in rows] for end in ("high", "low")]
    up, down = spread[0], [-low for low in spread[1]]
    return {
        "x": np.sqrt([row["kl"] for row in rows]),
        "y": np.array([row["score"] for row in rows]),
        "error_y": {"type": "data", "array": up, "arrayminus": down, "thickness": 1},
        "text": [f" best of {row['n']} ({row['prompts']} prompts)" for row in rows],
        "hovertemplate": "%{x:.2f}, %{y:.2f}%{text}",
        "name": name,
        "mode": "lines+markers",
        "marker": {"symbol": "diamond-open" if "stored" in name else "square-open", "size": 8},
        "line": {"color": INK, "width": 1, "dash": "dot"},
        "updates": [],
    }


def hover_texts(samples: Sequence[dict]) -> dict[int, str]:
    """For each update its first sample, as plotly's labels take it."""
    firsts: dict[int, dict] = {}
    for row in samples:
        firsts.setdefault(row["update"], row)
    return {
        update: hover_text(
            row.get("prompt", ""), row.get("completion", row.get("chosen", "")), row.get("score")
        )
        for update, row in firsts.items()
    }


@lru_cache(maxsize=10_000)  # each draw shows all updates again
def hover_text(prompt: str, answer: str, score: float | None = None) -> str:
    """Prompt, answer and score on lines of their own. plotly reads pseudo-HTML: it is escaped."""
    lines = []
    for mark, text in (("", prompt), ("→ ", answer)):
        clean = " ".join(text[:1000].encode("utf-8", "replace").decode().split())
        cut = mark + (clean if len(clean) <= LONG else clean[: LONG - 1] + "…")
        lines += [html.escape(line, quote=False) for line in textwrap.wrap(cut, WIDTH)]
    if score is not None:
        lines.append(f"score {score:+.2f}")
    return "<br>" + "<br>".join(lines)
