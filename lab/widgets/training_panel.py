"""The panel that steps a trainer, goes back, branches off, and shows what each update did."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import ipywidgets as widgets

from .. import frontier
from ..errors import LabError
from ..health import health
from .panel import Panel
from .run_controls import RunControls
from .run_driver import ENOUGH, RunDriver
from .run_figure import Curves, RunFigure
from .run_table import RunTable
from .run_words import health_html, samples_html, standing
from .setting_sliders import SettingSliders
from .status import StatusLine
from .token_lens import TokenLens
from .yardstick import YardstickButton

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from ..experiment import Experiment
    from ..plots import Plot
    from ..settings import Settings
    from ..trainer import Trainer

ON_SHOW = 2  # plots that are drawn at first
DRAW_EVERY = 0.5  # seconds, at most, while updates follow each other: drawing takes a tenth of one


class TrainingPanel(Panel):
    """Drives a run of any kind: Step, Run, Run until, Pause, Rewind, Branch; its metrics over
    updates beside those of other runs; its health in words; samples of the last update.

    Updates run on the study's background thread, one job each, so that buttons answer at once.

    Args:
        study: where the run lives.
        kind: the kind of the run.
        opens: gives the trainer; called in the background, since it may have to sample first.
        plots: what may be drawn of its history.
        settings: what the sliders show at first.
        run: the name of the run, where there is one already: its curves are drawn at once.
    """

    def __init__(
        self,
        study: Experiment,
        kind: str,
        opens: Callable[..., Trainer],
        plots: Sequence[Plot],
        settings: Settings,
        run: str | None = None,
    ) -> None:
        self.study, self.kind, self._plots, self._name = study, kind, plots, run
        self._showing, self._drawing = False, threading.RLock()
        self._drawn_at = 0.0
        self._sticks: dict[str, dict[str, list[dict]]] = {}  # best-of-n, by run
        self._figure = RunFigure(plots, self._picked)
        metrics = dict.fromkeys(metric for plot in plots for metric in plot.metrics)
        self.controls = RunControls([*metrics, "update"])
        self.status = StatusLine()
        self.health = widgets.HTML()
        self.samples = widgets.HTML()
        self.chooser = widgets.Dropdown(description="run", layout={"width": "200px"})
        self.chooser.style.description_width = "30px"
        self.on_show = [
            widgets.Checkbox(
                i < ON_SHOW, description=p.word, indent=False, layout={"width": "auto"}
            )
            for i, p in enumerate(plots)
        ]
        self.table = RunTable(self.draw)
        self._settings = SettingSliders(settings, self._change)
        self.lens = TokenLens(study.runner)
        self._fold: widgets.Accordion | None = None  # closed, it costs nothing
        self.yardstick = YardstickButton(study, lambda: self._name, self.status.say, self._measured)
        self.driver = RunDriver(study, opens, self.status.say, self._show, self._tell)
        super().__init__(self._parts(), "training panel")
        self.status.say("Getting ready…")
        self._show_runs()
        self.draw()
        self._listen()
        self.driver.open()

    def _parts(self) -> list[widgets.Widget]:
        wrap = {"flex_flow": "row wrap", "align_items": "center"}
        frontier_plot = any(plot.over_kl for plot in self._plots)
        choices = [widgets.HTML("On show:"), *self.on_show]
        choices += [self.yardstick] if frontier_plot else []
        parts = [
            self.controls,
            self.status,
            self.health,
            widgets.HBox([self.chooser, *choices], layout=wrap),
            self._figure.widget,
            self._settings,
            self.table,
            self.samples,
        ]
        if frontier_plot:  # those that sample and score
            self._fold = widgets.Accordion([self.lens], titles=["Token lens"])
            self._fold.observe(lambda _: self._show_lens(), "selected_index")
            parts.append(self._fold)
        return parts

    def _listen(self) -> None:
        controls, driver = self.controls, self.driver
        controls.step.on_click(lambda _: driver.start(1))
        controls.run.on_click(lambda _: driver.start(controls.updates.value))
        controls.until.on_click(lambda _: driver.start(ENOUGH, controls.goal))
        controls.pause.on_click(lambda _: driver.pause())
        controls.rewind.on_click(lambda _: driver.rewind(controls.update.value))
        controls.branch.on_click(lambda _: self.branch())
        self.chooser.observe(lambda change: self._switch(change["new"]), "value")
        for box in self.on_show:
            box.observe(lambda _: self.draw(), "value")

    @property
    def trainer(self) -> Trainer | None:
        """The trainer that is driven; None before it is open."""
        return self.driver.trainer

    @property
    def figure(self) -> go.FigureWidget:
        """The figure."""
        return self._figure.widget

    @property
    def sliders(self) -> dict[str, widgets.Widget]:
        """Sliders by the name of their setting."""
        return self._settings.sliders

    def still_drives(self, runs: Sequence[str]) -> bool:
        """Whether this panel is in use, and at work or on the newest of these runs."""
        in_use = self.comm is not None and self.trainer is not None
        return in_use and (self.driver.at_work or self.trainer.run.name == runs[-1])

    # What the buttons do

    def start(self, updates: int, until: str | None = None) -> None:
        """Take so many updates; more when already at work adds to them."""
        self.driver.start(updates, until)

    def pause(self) -> None:
        """Stop after the update under way."""
        self.driver.pause()

    def rewind(self, update: int) -> None:
        """Go to how everything was after `update`."""
        self.driver.rewind(update)

    def branch(self) -> None:
        """A sibling run from where this one stands, with the settings that the sliders show."""
        trainer = self.trainer
        self.driver.branch(**(self._settings.changes(trainer.settings) if trainer else {}))

    def _switch(self, name: str | None) -> None:
        with self._drawing:  # the list may be filled on another thread just now
            if self._showing or not name:
                return
        if self.driver.switch(name):
            self.lens.clear()  # it would keep the run's memory
        else:  # the list says what is driven still
            self._show_runs()

    def _picked(self, update: int) -> None:
        if self.trainer is None or update != self.trainer.update:
            self.driver.rewind(update)

    def _change(self, name: str, value: float) -> None:
        try:
            if (trainer := self.trainer) is None:
                raise LabError("The run is not open yet: a moment.")
            if trainer.update < trainer.run.last:
                return self.status.say(
                    f"{name} = {value:g} for a branch: the updates after {trainer.update} have "
                    f"their settings. Press Branch, as branch({trainer.update}, {name}={value:g})."
                )
            if value == getattr(trainer.settings, name):
                return
            trainer.change(**{name: value})
            self.status.say(f"{name} = {value:g} from the next update on.")
        except LabError as error:
            self.status.say(str(error), alert=True)

    # What is shown

    def _show(self, metrics: dict | None) -> None:
        """The trainer is another one, or stands elsewhere."""
        if (trainer := self.trainer) is None:
            return self._show_runs()  # the list says which run could not be left
        rewound = trainer.update < trainer.run.last  # then sliders may be preparing a branch
        if self._name != trainer.run.name or metrics is None or not rewound:
            self._settings.show(trainer.settings)
        if self._name != trainer.run.name:
            self.lens.clear()
        self._name = trainer.run.name
        if not self.driver.to_go:
            self._show_runs()
        if not self.driver.to_go or time.monotonic() - self._drawn_at > DRAW_EVERY:
            self.draw()
            self._drawn_at = time.monotonic()
        self.status.say(standing(self.driver, trainer, self._plots[:ON_SHOW], metrics))

    def _tell(self) -> None:
        d = self.driver
        self.controls.progressed(d.to_go, d.total, d.paused, d.at_work)

    def _show_runs(self) -> None:
        with self._drawing:
            rows = self.study.run_table()
            names = [row["run"] for row in rows if row["kind"] == self.kind]
            self._showing = True
            try:
                self.chooser.options = names
                self.chooser.value = self._name if self._name in names else None
            finally:
                self._showing = False
            self.table.show(rows, self._name, self.kind)

    def refresh(self) -> None:
        """Show what others have done to the runs meanwhile, in code for example."""
        self._show_runs()
        self.draw()

    def draw(self) -> None:
        """Draw the run as it is recorded, and those beside it. Safe on any thread."""
        with self._drawing:  # or what is older could be drawn last
            self._draw(self.trainer)

    def _draw(self, trainer: Trainer | None) -> None:
        history, samples = [], []
        now = first = last = 0
        if self._name is not None:
            record = self.study.run_record(self._name)
            first, last = record.first, record.last
            now = trainer.update if trainer is not None else last
            history, samples = self.study.history_of(self._name)
        on_show = [i for i, box in enumerate(self.on_show) if box.value]
        beside = {name: self.study.run_record(name).history for name in self.table.beside}
        over_kl = any(self._plots[i].over_kl for i in on_show)
        fits = self._name is not None and self.yardstick.fits(self._name)
        sticks = self._yardsticks() if over_kl and fits else {}
        curves = Curves(history, samples, now, beside, sticks)
        self._figure.draw(curves, on_show)
        self.controls.show(first, now, last)
        so_far = [row for row in history if row["update"] <= now]
        target = None if trainer is None else getattr(trainer.settings, "kl_target", None)
        self.health.value = health_html(health(so_far, target))
        newest = max((row["update"] for row in samples if row["update"] <= now), default=None)
        self.samples.value = samples_html([row for row in samples if row["update"] == newest])
        self._show_lens()

    def _yardsticks(self) -> dict[str, list[dict]]:
        """Best-of-n for the run's reward model; nothing for a run without one."""
        if self._name is not None and self._name not in self._sticks:
            try:
                found = {
                    "best of n, stored answers": frontier.stored(self.study, self._name),
                    "best of n, held-out prompts": frontier.measured(self.study, self._name),
                }
            except LabError:
                found = {}
            self._sticks[self._name] = {name: rows for name, rows in found.items() if rows}
        return self._sticks.get(self._name, {})

    def _measured(self) -> None:
        self._sticks.clear()
        self.draw()
        self.status.say("Best-of-n is measured, and drawn in the plot called frontier.")

    def _show_lens(self) -> None:
        trainer, fold = self.trainer, self._fold
        if fold is not None and fold.selected_index == 0 and trainer is not None:
            self.lens.show(trainer, trainer.update)
