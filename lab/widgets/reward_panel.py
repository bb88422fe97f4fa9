"""The reward model's accuracy, moving as rankings come in."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import plotly.graph_objects as go

from .figures import BLUE, GREEN, INK, ORANGE, band, style
from .panel import Panel
from .status import StatusLine

if TYPE_CHECKING:
    from ..experiment import Experiment

KINDS = {  # kind: (name, colour)
    "prequential": ("predicted before each ranking", BLUE),
    "cv": ("cross-validated", ORANGE),
    "heldout": ("held-out prompts", GREEN),
}


class RewardPanel(Panel):
    """Accuracy over the number of rankings, each kind with its 95 % band; redrawn at each refit."""

    def __init__(self, study: Experiment) -> None:
        self.study = study
        self._lock = threading.RLock()
        self.figure = go.FigureWidget()
        for name, color in KINDS.values():
            self.figure.add_scatter(
                name=name, mode="lines+markers", line={"color": color}, legendgroup=name
            )
            self.figure.add_scatter(
                fill="toself",
                hoverinfo="skip",
                showlegend=False,
                legendgroup=name,
                mode="lines",
                **band(color),
            )
        self.figure.add_hline(0.5, line={"color": INK, "dash": "dot"}, annotation_text="chance")
        style(self.figure, 330)
        self.figure.update_yaxes(title_text="pair accuracy", range=[0, 1])
        self.figure.update_xaxes(title_text="rankings")
        self.status = StatusLine()
        super().__init__([self.status, self.figure], "reward panel")
        study.on_refit(self.draw)
        self.draw()

    def draw(self) -> None:
        """Show the reward model as it is now."""
        history = self.study.reward_history()
        with self._lock, self.figure.batch_update():
            for i, kind in enumerate(KINDS):
                rows = [(row["rankings"], *row[kind]) for row in history if kind in row]
                line, area = self.figure.data[2 * i], self.figure.data[2 * i + 1]
                line.x, line.y = [r[0] for r in rows], [r[1] for r in rows]
                line.visible = area.visible = bool(rows)
                area.x = [r[0] for r in rows] + [r[0] for r in reversed(rows)]
                area.y = [r[2] for r in rows] + [r[3] for r in reversed(rows)]
        self.status.say(self._summary(history))

    def _summary(self, history: list[dict]) -> str:
        if not history:
            return "No ranking yet: the reward model starts with the first one."
        row = history[-1]
        text = f"{row['rankings']} ranking{'s' * (row['rankings'] != 1)}."
        for kind, (name, _) in KINDS.items():
            if kind in row:
                value, low, high, count = row[kind]
                text += f" {name.capitalize()}: {value:.2f} [{low:.2f}, {high:.2f}], {count} pairs."
        if "prequential" not in row:
            text += " From the second ranking on, it predicts each one before it sees it."
        return text
