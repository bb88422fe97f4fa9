"""The panel that steps a trainer and shows what each update did."""

from __future__ import annotations

import html
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

import ipywidgets as widgets
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from ..errors import LabError
from ..runner import NOW, TRAINING, Runner
from .figures import BLUE, GREEN, ORANGE, style
from .status import StatusLine, words_of

if TYPE_CHECKING:
    from ..ppo import PPO
    from ..settings import PPOSettings

TRACES = (  # metric, name, colour, row
    ("objective/scores", "score of the reward model", BLUE, 1),
    ("objective/rlhf_reward", "score less the KL penalty", GREEN, 1),
    ("objective/kl", "KL to the reference", ORANGE, 2),
)


class TrainingPanel(widgets.VBox):
    """Step, Run and Pause for a trainer; reward and KL over updates; samples of the last one.

    Updates run on the study's background thread, one job each, so that buttons answer at once.

    Args:
        opens: gives the trainer, which has `step()`, `history`, `change()` and `save()`; called
            in the background, since it may have to sample first.
        settings: what the sliders show.
        runner: the background thread.
        compute: the lock held by whoever runs the model.
    """

    def __init__(
        self,
        opens: Callable[..., PPO],
        settings: PPOSettings,
        runner: Runner,
        compute: threading.RLock,
    ) -> None:
        self.trainer: PPO | None = None
        self._opens = opens
        self._runner, self._compute = runner, compute
        self._lock = threading.RLock()
        self._to_go, self._at_work = 0, False
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
            ]
        )
        self.status.say("Getting ready…")
        runner.submit(self._open, NOW, self._stop)

    def _open(self) -> None:
        """First job of the background thread: the run itself."""
        self.trainer = self._opens(
            on_chunk=lambda n: self.status.say(f"The reference writes for comparison: {n} so far…")
        )
        for name, slider in self.sliders.items():  # a run that goes on has settings of its own
            slider.value = getattr(self.trainer.settings, name)
        self._draw()
        self.status.say(
            self._summary(self.trainer.history[-1])
            if self.trainer.history
            else "Press Step for one update: answers, their scores, and a small change."
        )

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

    @staticmethod
    def _summary(metrics: dict) -> str:
        return (
            f"Update {metrics['update']}: score {metrics['objective/scores']:+.2f}, "
            f"KL {metrics['objective/kl']:.1f}, {metrics['seconds']:.1f} s"
        )

    def _draw(self) -> None:
        rows = list(self.trainer.history)
        with self._lock, self.figure.batch_update():
            for trace, (metric, *_) in zip(self.figure.data, TRACES, strict=True):
                trace.x = [row["update"] for row in rows]
                trace.y = [row[metric] for row in rows]
        self.samples.value = samples_html(self.trainer.last_samples)

    def _make_figure(self) -> go.FigureWidget:
        figure = go.FigureWidget(make_subplots(rows=2, cols=1, shared_xaxes=True))
        for _, name, color, row in TRACES:
            line = {"color": color, "width": 2}
            figure.add_scatter(name=name, mode="lines+markers", line=line, row=row, col=1)
        style(figure, 420)
        figure.update_yaxes(title_text="reward", row=1, col=1)
        figure.update_yaxes(title_text="KL (nats)", rangemode="tozero", row=2, col=1)
        figure.update_xaxes(title_text="update", row=2, col=1)
        return figure

    def _make_sliders(self, settings: PPOSettings) -> dict[str, widgets.Widget]:
        log = widgets.FloatLogSlider
        sliders = {
            "kl_coef": widgets.FloatSlider(settings.kl_coef, min=0, max=1, step=0.01),
            "learning_rate": log(settings.learning_rate, min=-6, max=-2, readout_format=".1e"),
            "cliprange": widgets.FloatSlider(settings.cliprange, min=0.05, max=1, step=0.05),
            "temperature": widgets.FloatSlider(settings.temperature, min=0.1, max=2, step=0.1),
        }
        for name, slider in sliders.items():
            slider.description, slider.continuous_update = name, False
            slider.style.description_width = "95px"
            slider.observe(lambda change, name=name: self._change(name, change["new"]), "value")
        return sliders

    def _change(self, name: str, value: float) -> None:
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
    """A table of prompts, completions and scores; model text is escaped."""
    if not samples:
        return ""
    cell = '<td style="text-align: left; padding: 4px 8px; white-space: pre-wrap">'
    rows = "".join(
        f"<tr>{cell}{html.escape(s['prompt'])}</td>{cell}{html.escape(s['completion'])}</td>"
        f"{cell}{s['score']:+.2f}</td></tr>"
        for s in samples[:count]
    )
    head = '<tr><th style="text-align: left">prompt</th><th style="text-align: left">'
    head += 'sampled in the last update</th><th style="text-align: left">score</th></tr>'
    return f"<table>{head}{rows}</table>"
