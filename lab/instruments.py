"""The instruments of a study: what a notebook shows. All that they do is also a method to call."""

from __future__ import annotations

import os
from functools import partial
from typing import TYPE_CHECKING, Any

from .ranking import last_rater
from .training import PLACES, settings_for, trainer_class

if TYPE_CHECKING:
    from .experiment import Experiment
    from .widgets import App, ComparePanel, RankingBoard, RewardPanel, TrainingPanel


class Instruments:
    """Part of `Experiment`."""

    _reward_panel: RewardPanel | None = None
    _app: App | None = None

    def rank(
        self: Experiment,
        rankings: int = 8,
        policy: str = "reference",
        k: int = 4,
        rater: str | None = None,
        ask: str = "random",
        repeats: float = 0.0,
        heldout: bool = False,
    ) -> RankingBoard:
        """The board on which a person ranks completions; see `RankingSession` for what is asked.

        Args:
            rankings: how many to give; one can go on after that.
            k: completions to a prompt; 2 stand side by side.
            rater: a name, changeable on the board; None for whoever ranked last in this study.
        """
        from .widgets import RankingBoard

        session = self.session(rater or last_rater(self.store), policy, k, ask, repeats, heldout)
        board = RankingBoard(session, rankings)
        if policy == "reference":
            self.completions.fill_pool_ahead()
        return board

    def reward(self: Experiment) -> RewardPanel:
        """What the reward model has learnt, live: one panel, however often it is shown."""
        from .widgets import RewardPanel

        if self._reward_panel is None or self._reward_panel.comm is None:  # none yet, or closed
            self._reward_panel = RewardPanel(self)
        return self._reward_panel

    def ppo(self: Experiment, new: bool = False, **settings) -> TrainingPanel:
        """The panel that drives PPO: the newest run, or a new one."""
        return self.train("ppo", new, **settings)

    def train(self: Experiment, kind: str, new: bool = False, **options: Any) -> TrainingPanel:
        """The panel that drives a trainer of any kind; see `trainer` for the options. The same
        panel again where it is at work, or drives the newest run already."""
        from .widgets import TrainingPanel

        runs = [r for r in self.all_runs if r.startswith(f"{kind}-")]
        open_panels = self.__dict__.setdefault("_training_panels", {})
        before = open_panels.get(kind)
        if not (new or options) and before is not None and before.still_drives(runs):
            before.refresh()
            return before
        if new or options or not runs:
            shown = settings_for(
                self, kind, **{k: v for k, v in options.items() if k not in PLACES}
            )
            if kind not in ("sft", "pretrain"):
                self.reward_model.require_head()  # say at once what is missing
        else:
            shown = self.trainer_settings(runs[-1])
        known = None if new or options or not runs else runs[-1]
        opens = partial(self.trainer, kind, new=new, **options)
        plots = trainer_class(kind).plots
        panel = open_panels[kind] = TrainingPanel(self, kind, opens, plots, shown, known)
        if nobody_is_here():
            panel.start(int(os.environ.get("LAB_UPDATES", "25")))
            self.runner.wait()
        return panel

    def compare(self: Experiment) -> ComparePanel:
        """Base against aligned: side by side, in blind votes, in bulk."""
        from .widgets import ComparePanel

        panel = ComparePanel(self)
        if nobody_is_here():
            panel.compare()
            panel.measure()
            self.runner.wait()
        return panel

    def app(self: Experiment) -> App:
        """The whole lab on one page: the instruments in tabs, and which step comes next. One page,
        however often it is shown."""
        from .widgets import App

        if self._app is None or self._app.comm is None:  # none yet, or closed
            self._app = App(self)
        else:
            self._app.say_next()
        return self._app


def nobody_is_here() -> bool:
    """Whether LAB_RATER names a simulated rater: notebooks then run without a person."""
    return bool(os.environ.get("LAB_RATER"))
