"""The token lens: what an update did to every single token of its samples."""

from __future__ import annotations

from typing import TYPE_CHECKING

import ipywidgets as widgets

from .status import StatusLine

if TYPE_CHECKING:
    from ..rollout import RolloutTrainer
    from ..runner import Runner


class TokenLens(widgets.VBox):
    """The kept samples of an update of PPO or GRPO, each token shaded by a number of its own.

    Args:
        runner: the background thread, which finds likely alternatives when they are asked for.
    """

    def __init__(self, runner: Runner) -> None:
        self._runner = runner
        self.status = StatusLine()
        super().__init__([self.status])

    def show(self, trainer: RolloutTrainer, update: int) -> None:
        """Show the samples of a recorded update; returns at once, safe on any thread."""
        self.status.say(f"Update {update} of {trainer.run.name}.")
