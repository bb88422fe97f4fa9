"""Best-of-n, measured on a button's press in the background."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import ipywidgets as widgets
import numpy as np

from .. import frontier
from ..errors import LabError
from ..runner import TRAINING
from .status import StatusLine, words_of

if TYPE_CHECKING:
    from ..experiment import Experiment


class YardstickButton(widgets.HBox):
    """Samples 64 answers to a few held-out prompts, a job a prompt, and keeps the curve.

    Args:
        study: whose reference answers.
        run: gives the name of the run whose reward model judges.
        say: shows words.
        done: called when there is a curve.
    """

    def __init__(
        self,
        study: Experiment,
        run: Callable[[], str | None],
        say: Callable[..., None],
        done: Callable[[], None],
    ) -> None:
        self.study, self._run, self._say, self._done = study, run, say, done
        self.button = widgets.Button(
            description="Measure best-of-n",
            tooltip="The reference answers a few held-out prompts 64 times: about a minute",
            layout={"width": "auto", "flex": "0 0 auto"},
        )
        self.button.on_click(lambda _: self.measure())
        self.progress = widgets.IntProgress(0, 0, 1, layout={"visibility": "hidden"})
        self.words = StatusLine()
        super().__init__([self.button, self.progress, self.words], layout={"flex_flow": "row wrap"})

    def fits(self, run: str) -> bool:
        """Whether best-of-n is a yardstick for a run; says why where it is none."""
        why = frontier.unlike(self.study, run)
        self.words.say(why)
        return not why

    def measure(self) -> None:
        """What `frontier.measure` does, in the background."""
        run = self._run()
        try:
            if run is None:
                raise LabError("The run is not open yet: a moment.")
            frontier.require_like(self.study, run)
            prompts = frontier.heldout(self.study)
        except LabError as error:
            return self._say(str(error), alert=True)
        self.button.disabled, self.progress.layout.visibility = True, "visible"
        self.progress.max, self.progress.value = len(prompts), 0
        self._submit(run, prompts, [])

    def _submit(self, run: str, prompts: list[str], scores: list[np.ndarray]) -> None:
        job = lambda: self._one(run, prompts, scores)  # noqa: E731
        self.study.runner.submit(job, TRAINING, self._failed)

    def _one(self, run: str, prompts: list[str], scores: list[np.ndarray]) -> None:
        i = len(scores)
        found = frontier.scores_of(self.study, run, prompts[i], frontier.AT_MOST, seed=i)
        self.progress.value = i + 1
        if i + 1 < len(prompts):
            return self._submit(run, prompts, [*scores, found])
        frontier.keep(self.study, run, np.stack([*scores, found]))
        self._rest()
        self._done()

    def _failed(self, error: BaseException) -> None:
        self._rest()
        self._say(words_of(error), alert=True)

    def _rest(self) -> None:
        self.button.disabled, self.progress.layout.visibility = False, "hidden"
