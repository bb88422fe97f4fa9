"""The panel that steps a trainer and shows what each update did."""

from __future__ import annotations

import html
import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import ipywidgets as widgets
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from ..errors import LabError
from ..runner import NOW, TRAINING, Runner
from .figures import BLUE, GREEN, INK, ORANGE, style
from .panel import Panel
from .status import StatusLine, words_of

if TYPE_CHECKING:
    from ..settings import Settings
    from ..trainer import Plot, Trainer

COLORS = (BLUE, GREEN, ORANGE, INK)
SLIDERS: dict[str, dict] = {  # of the live settings that a hand may move
    "kl_coef": {"min": 0, "max": 1, "step": 0.01},
    "beta": {"min": 0, "max": 1, "step": 0.01},
    "cliprange": {"min": 0.05, "max": 1, "step": 0.05},
    "epsilon": {"min": 0.05, "max": 1, "step": 0.05},
    "temperature": {"min": 0.1, "max": 2, "step": 0.1},
}


class TrainingPanel(Panel):
    """Step, Run and Pause for a trainer; what it does over updates; samples of the last one.

    Updates run on the study's background thread, one job each, so that buttons answer at once.

    Args:
        opens: gives the trainer; called in the background, since it may have to sample first.
        plots: what is drawn of its history.
        settings: what the sliders show.
        runner: the background thread.
        compute: the lock held by whoever runs the model.
    """

    def __init__(
        self,
        opens: Callable[..., Trainer],
        plots: Sequence[Plot],
        settings: Settings,
        runner: Runner,
        compute: threading.RLock,
    ) -> None:
        self.trainer: Trainer | None = None
        self._opens, self._plots = opens, plots
        self._runner, self._compute = runner, compute
        self._lock = threading.RLock()
        self._to_go, self._at_work, self._showing = 0, False, False
        self.figure = self._make_figure()
        self.step_button = widgets.Button(description="Step", button_style="primary")
        self.run_button = widgets.Button(description="Run")
        self.pause_button = widgets.Button(description="Pause", disabled=True)
        self.updates = widgets.BoundedIntText(25, 1, 10_000, description="updates")
        self.updates.layout.width = "160px"
        self.progress = widgets.IntProgress(0, 0, 1, layout={"width": "140px"})
        self.status = StatusLine()
        self.samples = widgets.HTML()
        self.sliders = self._make_sliders(settings)
        self._show_settings(settings)
        self.step_button.on_click(lambda _: self.start(1))
        self.run_button.on_click(lambda _: self.start(self.updates.value))
        self.pause_button.on_click(lambda _: self.pause())
        buttons = [self.step_button, self.run_button, self.updates, self.pause_button]
        super().__init__(
            [
                widgets.HBox([*buttons, self.progress], layout={"flex_flow": "row wrap"}),
                self.status,
                self.figure,
                widgets.HBox(list(self.sliders.values()), layout={"flex_flow": "row wrap"}),
                self.samples,
            ],
            "training panel",
        )
        self.status.say("Getting ready…")
        runner.submit(self._open, NOW, self._stop)

    def _open(self) -> None:
        """First job of the background thread: the run itself."""
        self.trainer = self._opens(
            on_chunk=lambda n: self.status.say(f"The reference writes for comparison: {n} so far…")
        )
        self._show_settings(self.trainer.settings)
        self._draw()
        self.status.say(
            self._summary(self.trainer.history[-1])
            if self.trainer.history
            else "Press Step for one update: answers, their scores, and a small change."
        )

    def _show_settings(self, settings: Settings) -> None:
        """Sliders show a run's own settings, also those past the ends that they had."""
        self._showing = True
        try:
            for name, slider in self.sliders.items():
                value = getattr(settings, name)
                if isinstance(slider, widgets.FloatLogSlider):
                    value = max(value, 10**slider.min)
                else:
                    slider.min, slider.max = min(slider.min, value), max(slider.max, value)
                slider.value = value
        finally:
            self._showing = False

    def start(self, updates: int) -> None:
        """Take so many updates; more when already at work adds to them."""
        with self._lock:
            self._to_go += updates
            self.progress.max, self.progress.value = self._to_go, 0
            self.pause_button.disabled = False
            if self._at_work:
                return
            self._at_work = True
        self.status.say("The model is writing its answers…")
        self._runner.submit(self._update, TRAINING, self._stop)

    def pause(self) -> None:
        """Stop after the update under way."""
        with self._lock:
            self._to_go = min(self._to_go, 1) if self._at_work else 0
            self.pause_button.disabled = True
        self.status.say("Pausing after this update…")

    def _update(self) -> None:
        """One job of the background thread."""
        if self.trainer is None:  # opening it failed; what was missing may be there now
            self._open()
        with self._compute:
            metrics = self.trainer.step()
        self._draw()
        with self._lock:
            self._to_go -= 1
            self.progress.value = self.progress.max - self._to_go
            more = self._at_work = self._to_go > 0
            self.pause_button.disabled = not more or self.pause_button.disabled
        if more:
            left = self._to_go * metrics["seconds"]
            self.status.say(f"{self._summary(metrics)} · about {left:.0f} s to go")
            self._runner.submit(self._update, TRAINING, self._stop)
            return
        self.status.say(f"{self._summary(metrics)} · saving…")
        with self._compute:
            self.trainer.save()
        self.status.say(self._summary(metrics))

    def _stop(self, error: BaseException) -> None:
        with self._lock:
            self._to_go, self._at_work = 0, False
            self.pause_button.disabled = True
        self.status.say(words_of(error), alert=True)

    def _summary(self, metrics: dict) -> str:
        words = [
            f"{plot.word} {metrics[metric]:{plot.form}}"
            for plot in self._plots
            for metric in list(plot.metrics)[:1]
        ]
        return f"Update {metrics['update']}: {', '.join(words)}, {metrics['seconds']:.1f} s"

    def _draw(self) -> None:
        rows = list(self.trainer.history)
        with self._lock, self.figure.batch_update():
            metrics = [metric for plot in self._plots for metric in plot.metrics]
            for trace, metric in zip(self.figure.data, metrics, strict=True):
                trace.x = [row["update"] for row in rows if metric in row]
                trace.y = [row[metric] for row in rows if metric in row]
        self.samples.value = samples_html(self.trainer.last_samples)

    def _make_figure(self) -> go.FigureWidget:
        count, colors = len(self._plots), iter(COLORS)
        figure = go.FigureWidget(make_subplots(rows=count, cols=1, shared_xaxes=True))
        style(figure, 210 * count)
        for row, plot in enumerate(self._plots, 1):
            for name in plot.metrics.values():
                line = {"color": next(colors), "width": 2}
                figure.add_scatter(name=name, mode="lines+markers", line=line, row=row, col=1)
            mode = "tozero" if plot.from_zero else "normal"
            figure.update_yaxes(title_text=plot.axis, rangemode=mode, row=row, col=1)
        figure.update_xaxes(title_text="update", row=count, col=1)
        return figure

    def _make_sliders(self, settings: Settings) -> dict[str, widgets.Widget]:
        sliders: dict[str, widgets.Widget] = {
            name: widgets.FloatSlider(**SLIDERS[name])
            for name in settings.live()
            if name in SLIDERS
        }
        sliders["learning_rate"] = widgets.FloatLogSlider(min=-6, max=0, readout_format=".1e")
        for name, slider in sliders.items():
            slider.description, slider.continuous_update = name, False
            slider.style.description_width = "95px"
            slider.observe(lambda change, name=name: self._change(name, change["new"]), "value")
        return sliders

    def _change(self, name: str, value: float) -> None:
        if self._showing:
            return
        try:
            if self.trainer is None:
                raise LabError("The run is not open yet: a moment.")
            if value == getattr(self.trainer.settings, name):
                return
            self.trainer.change(**{name: value})
            self.status.say(f"{name} = {value:g} from the next update on.")
        except LabError as error:
            self.status.say(str(error), alert=True)


def samples_html(samples: list[dict], count: int = 4) -> str:
    """A table of an update's samples, prompts first; all text is escaped."""
    if not samples:
        return ""
    names = [name for name in samples[0] if name != "update"]
    cell = '<td style="text-align: left; padding: 4px 8px; white-space: pre-wrap">'
    rows = "".join(
        "<tr>" + "".join(f"{cell}{html.escape(in_words(s[name]))}</td>" for name in names) + "</tr>"
        for s in samples[:count]
    )
    head = "".join(f'<th style="text-align: left">{html.escape(name)}</th>' for name in names)
    title = "What the last update saw"
    return (
        f"<table><caption style='text-align: left'>{title}</caption><tr>{head}</tr>{rows}</table>"
    )


def in_words(value: str | float) -> str:
    return value if isinstance(value, str) else f"{value:+.2f}"
