"""The buttons of a training panel: forward, until something is reached, back, and aside."""

from __future__ import annotations

from collections.abc import Sequence

import ipywidgets as widgets

from ..until import SIGNS

WRAP = {"flex_flow": "row wrap", "align_items": "center"}
AUTO = {"width": "auto"}


class RunControls(widgets.VBox):
    """Step, Run and Pause; Run until; Rewind and Branch. What they do is up to who listens.

    Args:
        metrics: what a run may go on until.
    """

    def __init__(self, metrics: Sequence[str]) -> None:
        self.step = widgets.Button(
            description="Step",
            button_style="primary",
            tooltip="One update",
            layout={"width": "90px"},
        )
        self.run = widgets.Button(description="Run", layout={"width": "90px"})
        self.updates = widgets.BoundedIntText(25, 1, 10_000, description="updates")
        self.updates.layout.width, self.updates.style.description_width = "140px", "55px"
        self.pause = widgets.Button(
            description="Pause",
            disabled=True,
            tooltip="After this update",
            layout={"width": "90px"},
        )
        self.progress = widgets.IntProgress(0, 0, 1, layout={"width": "120px"})
        self.until = widgets.Button(description="Run until", layout={"width": "90px"})
        first = "objective/kl" if "objective/kl" in metrics else "update"
        self.metric = widgets.Dropdown(
            options=metrics, value=first, description="metric", layout={"width": "210px"}
        )
        self.sign = widgets.Dropdown(
            options=[("≥", SIGNS[0]), ("≤", SIGNS[1])], description="sign", layout={"width": "55px"}
        )
        self.value = widgets.FloatText(
            8.0 if first == "objective/kl" else 50.0, description="value", layout={"width": "80px"}
        )
        for widget in (self.metric, self.sign, self.value):
            widget.add_class("lab-label-unseen")
        self.update = widgets.IntSlider(
            0, 0, 0, description="update", continuous_update=False, layout={"width": "330px"}
        )
        self.update.style.description_width = "55px"
        self.rewind = widgets.Button(description="Rewind", layout={"width": "90px"})
        self.branch = widgets.Button(
            description="Branch from here",
            tooltip="A run of its own from where this one stands, with the settings of the sliders",
            layout=AUTO,
        )
        forward = [self.step, self.run, self.updates, self.pause, self.progress]
        goal = [self.until, self.metric, self.sign, self.value]
        back = [self.rewind, self.update, self.branch]
        super().__init__([widgets.HBox(part, layout=WRAP) for part in (forward, goal, back)])

    @property
    def goal(self) -> str:
        """What a run goes on until, as `Trainer.train` takes it."""
        return f"{self.metric.value} {self.sign.value} {self.value.value!r}"

    def show(self, first: int, now: int, last: int) -> None:
        """The slider spans a run's updates and stands where the run does."""
        slider = self.update
        if first > slider.max:
            slider.max, slider.min = last, first
        else:
            slider.min, slider.max = first, last
        slider.value = now
        slider.disabled = self.rewind.disabled = first == last

    def progressed(self, to_go: int, total: int, pausing: bool, at_work: bool) -> None:
        """How far a run of updates has come, and whether Pause has something to do."""
        self.progress.max, self.progress.value = max(total, 1), total - to_go
        self.pause.disabled = pausing or not at_work
