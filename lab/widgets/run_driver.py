"""Takes a trainer through updates, back and into branches, on the study's background thread."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

from ..errors import LabError
from ..runner import NOW, TRAINING
from ..until import Until
from .status import words_of

if TYPE_CHECKING:
    from ..experiment import Experiment
    from ..trainer import Trainer

ENOUGH = 10_000  # updates that a run until a goal takes at most


class RunDriver:
    """What the buttons of a training panel do. Each update is a job of its own, so that whatever is
    more urgent waits for one at most; every method returns at once, on any thread.

    Args:
        study: whose runner and lock are used.
        opens: gives the trainer; called in the background, since it may have to sample first.
        say: shows words, with `alert` those of an error.
        show: called when the trainer is another one, stands elsewhere or could not be opened; gets
            its newest metrics, or None.
        tell: called when what may be pressed, or the progress, has changed.
    """

    def __init__(
        self,
        study: Experiment,
        opens: Callable[..., Trainer],
        say: Callable[..., None],
        show: Callable[[dict | None], None],
        tell: Callable[[], None],
    ) -> None:
        self.study = study
        self.trainer: Trainer | None = None
        self._opens, self._say, self._show, self._told = opens, say, show, tell
        self._lock = threading.RLock()
        self.to_go = self.total = 0
        self.at_work = self.paused = self.branching = False
        self.back_to: int | None = None  # the update that is being rewound to
        self.goal: Until | None = None

    # What one can ask for

    def open(self) -> None:
        """Open the run; what else is asked for waits for it."""
        self.study.runner.submit(self._open, NOW, self._stop)

    def start(self, updates: int, until: str | None = None) -> None:
        """Take so many updates; more when already at work adds to them, but for a run that goes on
        until something is reached. `until`: see `Trainer.train`."""
        try:
            goal = None if until is None else Until.of(until)
        except LabError as error:
            return self._say(str(error), alert=True)
        with self._lock:
            if self.back_to is not None or self.branching:
                return self._refuse()
            if goal is not None:
                self.goal, self.to_go = goal, updates
            elif self.goal is None:
                self.to_go += updates
            self.paused, self.total = False, self.to_go
            fresh, self.at_work = not self.at_work, True
            on = "" if self.goal is None else f" It goes on until {self.goal}; Pause ends it."
        self._begin(f"The update is under way…{on}", self._update if fresh else None, TRAINING)

    def pause(self) -> None:
        """Stop after the update under way."""
        with self._lock:
            if not self.at_work:
                return
            self.to_go, self.paused, self.goal = min(self.to_go, 1), True, None
        self._tell()
        self._say("Pausing after this update…")

    def rewind(self, update: int) -> None:
        """Go to how everything was after `update`: from the nearest checkpoint, and what lies
        between is computed again, one job an update."""
        with self._lock:
            if self.at_work or self.trainer is None:
                return self._refuse()
            if update == self.trainer.update:
                return self._say(f"{self.trainer.run.name} stands at update {update}.")
            self.at_work, self.paused, self.back_to, self.goal = True, False, update, None
        self._begin(f"Rewinding to update {update}…", self._approach)

    def branch(self, **changes: Any) -> None:
        """A sibling run from where the trainer stands, with other settings; it is driven on."""
        with self._lock:
            if self.at_work or self.trainer is None:
                return self._refuse()
            self.at_work = self.branching = True
        words = "A branch is made: weights and moments are copied…"
        self._begin(words, partial(self._branch, changes))

    def switch(self, name: str) -> bool:
        """Drive another run. False where that is refused."""
        with self._lock:
            if self.at_work:
                self._refuse()
                return False
            self.trainer, before = None, self._opens
            self._opens = lambda on_chunk: self.study.open_run(name)
        self._say(f"Opening {name}…")

        def failed(error: BaseException) -> None:
            self._opens = before
            with suppress(Exception):  # where that fails too, Step opens it
                self._open()
            self._stop(error)

        self.study.runner.submit(self._open, NOW, failed)
        return True

    def _begin(self, words: str, job: Callable[[], None] | None, priority: int = NOW) -> None:
        """Say what begins, and begin it, whatever becomes of the words."""
        try:
            self._tell()
            self._say(words)
        finally:
            if job is not None:
                self.study.runner.submit(job, priority, self._stop)

    # Jobs of the background thread

    def _open(self) -> None:
        self.trainer = self._opens(
            on_chunk=lambda n: self._say(f"The reference writes for comparison: {n} so far…")
        )
        name = self.trainer.run.name
        self._opens = lambda on_chunk: self.study.open_run(name)
        self._show(None)
        self._tell()

    def _update(self) -> None:
        if self.trainer is None:  # opening it failed; what was missing may be there now
            self._open()
        with self.study.compute:
            metrics = self.trainer.step(self._ended)
        if not self.to_go:
            with self.study.compute:
                self.trainer.save()
        with self._lock:
            rewinding, on = self.back_to is not None, self.to_go > 0
            if not on:  # Run may have been pressed while the checkpoint was written
                self._reset()
        if on:
            return self.study.runner.submit(
                self._update, NOW if rewinding else TRAINING, self._stop
            )
        self._tell()
        self._show(None if rewinding else metrics)

    def _ended(self, metrics: dict) -> None:
        """An update is recorded; a checkpoint may still have to be written."""
        with self._lock:
            reached = self.goal is not None and self.goal.reached(metrics)
            self.to_go = 0 if reached else max(0, self.to_go - 1)
            self.goal = None if reached else self.goal
        self._show(metrics)
        self._tell()

    def _approach(self) -> None:
        with self.study.compute:
            self.trainer.approach(self.back_to)
        with self._lock:
            left = self.back_to - self.trainer.update
            self.to_go = self.total = 0 if self.paused else left
        self._show(None)
        self._tell()
        if self.to_go:
            self.study.runner.submit(self._update, NOW, self._stop)
        else:
            self._rest()
            self._show(None)

    def _branch(self, changes: dict[str, Any]) -> None:
        before = self.trainer
        self.trainer = self.study.branch(before.update, run=before.run.name, **changes)
        name = self.trainer.run.name
        self._opens = lambda on_chunk: self.study.open_run(name)
        self._rest()
        self._show(None)

    def _tell(self) -> None:
        """What may be pressed now, in one piece: else, of two threads that tell at once, the page
        may keep for good what the slower one read before."""
        with self._lock:
            self._told()

    def _reset(self) -> None:
        with self._lock:
            self.at_work = self.branching = False
            self.to_go, self.back_to, self.goal = 0, None, None

    def _rest(self) -> None:
        self._reset()
        self._tell()

    def _stop(self, error: BaseException) -> None:
        self._rest()
        self._show(None)
        self._say(words_of(error), alert=True)

    def _refuse(self) -> None:
        if self.trainer is None:
            words = "The run is not open yet: a moment."
        elif self.back_to is not None:
            words = f"The run is being rewound to update {self.back_to}. Wait, or press Pause."
        elif self.to_go:
            words = "An update is under way. Press Pause, and wait until it has ended."
        else:
            words = "A branch is being made, or a checkpoint is written: a moment."
        self._say(words, alert=True)
