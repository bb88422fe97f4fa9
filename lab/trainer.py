"""One protocol for every trainer: a step, a history, and travel in time.

A trainer is one file that says what an update is; all else is here, so that one panel drives every
trainer and one folder layout keeps every run.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, replace
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor, nn

from .errors import BadSetting, NotRepeated, TrainingStopped
from .plots import Plot
from .runs import CHECKPOINT_EVERY, Checkpoint, History, Row, Run
from .settings import Settings
from .travel import Travel
from .until import Until

SAMPLES_KEPT = 4  # samples of each update that go into the history
CLOCK = ("seconds", "seconds_sampling", "seconds_scoring", "seconds_training", "eps")


class Trainer(Travel):
    """Takes updates, one at a time; goes back to any of them; branches off from any of them.

    A subclass names its `kind`, its `Settings`, the `modules` that it trains, the metric by which a
    checkpoint is the best and the `plots` of what it does; it says in `begin` how the modules start
    and in `take` what an update is.

    Everything random must follow from `settings.seed` and `update`: then a run computed again is
    the same run, to the last bit on the same machine and number of threads.

    Args:
        modules: what is trained, by name; only parameters that require a gradient count.
        settings: a `Settings` of the subclass.
        run: where history and checkpoints go; an existing run is continued. None: memory only.
    """

    kind: ClassVar[str]
    best_metric: ClassVar[str]
    plots: ClassVar[tuple[Plot, ...]]
    checkpoint_every: ClassVar[int] = CHECKPOINT_EVERY  # updates

    def __init__(
        self, modules: Mapping[str, nn.Module], settings: Settings, run: History | None = None
    ) -> None:
        self.modules = dict(modules)
        self.settings = settings
        self._now: Any = settings  # those of the update under way: changes wait for the next
        self.run = run or History()
        self.parameters = list(self._trained().values())
        self.optimizer = self.make_optimizer()
        self.update = 0
        self.last_samples: list[Row] = []
        self._touched = False  # whether the update under way has moved a weight
        self.lock: Any = threading.RLock()  # a study gives that which it holds to run the model
        self._go_to(self.run.resume_at)

    def make_optimizer(self) -> torch.optim.Optimizer:
        """Adam as in "The N implementation details": eps 1e-5, no weight decay."""
        return torch.optim.Adam(self.parameters, self.settings.learning_rate, eps=1e-5, fused=True)

    def begin(self) -> None:
        """Put the trained modules where the run starts."""
        raise NotImplementedError

    def take(self) -> tuple[Row, list[Row]]:
        """Compute update `self.update` with `self._now`: its metrics, and samples to look at."""
        raise NotImplementedError

    def twin(self, settings: Settings, run: History) -> Self:
        """The same trainer with other settings and another run."""
        raise NotImplementedError

    @property
    def history(self) -> list[Row]:
        """The metrics of every update that was recorded, also of those after a rewind."""
        return self.run.history

    def change(self, **settings: float | None) -> None:
        """Change live settings from the next update on.

        Raises:
            BadSetting: a setting can't be changed during a run, or is out of its range; or the
                run was rewound, and what comes next was taken with other settings.
        """
        live = self.settings.live()
        if unknown := set(settings) - set(live):
            raise BadSetting(
                f"{', '.join(sorted(unknown))} can't be changed during a run. "
                f"These can: {', '.join(live)}. branch() starts a run with any settings."
            )
        if self.update < self.run.last:
            raise BadSetting(
                f"The updates after {self.update} were taken with the settings they had. "
                f"branch({self.update}, ...) starts a run from here with others."
            )
        self.settings = replace(self.settings, **settings)

    def step(self, on_recorded: Callable[[Row], None] | None = None) -> Row:
        """One update. Returns its metrics, TRL's names.

        An update is all or nothing: where it fails, everything is as it was before. After a rewind
        the updates that are recorded come again, the same as before. `on_recorded` gets the metrics
        before a checkpoint is written, which may take a second.

        Raises:
            TrainingStopped: a score, loss or gradient was not finite.
        """
        with self.lock:
            metrics = self._step()
            if on_recorded:
                on_recorded(metrics)
            if self.update % self.checkpoint_every == 0:
                self.save()
        return metrics

    def _step(self) -> Row:
        with threads_of(self.run.config.get("threads")):
            return self._one_update()

    def _one_update(self) -> Row:
        start, before = time.perf_counter(), self.update
        again = before < self.run.last
        if isinstance(self.run, Run) and not again:
            self.run.hold()
        recorded = self.run.settings_of(before + 1)
        self._now = self.settings if recorded is None else type(self.settings).of(recorded)
        undo = None if isinstance(self.run, Run) else self.snapshot()
        self._touched = False
        self.update += 1
        try:
            metrics, samples = self.take()
            metrics = {"update": self.update, **metrics, "seconds": time.perf_counter() - start}
            if again:
                metrics = self._compared(metrics)
            else:
                self.run.append(metrics, samples[:SAMPLES_KEPT], asdict(self._now))
        except BaseException as error:
            self._undo(before, undo, replay=not isinstance(error, NotRepeated))
            if not isinstance(error, TrainingStopped):
                raise
            raise TrainingStopped(
                f"Update {before + 1} stopped: {error} The weights are those before it. "
                "Try a smaller learning_rate."
            ) from None
        self.last_samples = samples
        if again:
            self._settle()
        return metrics

    def train(
        self,
        updates: int,
        on_update: Callable[[Row], None] | None = None,
        until: str | None = None,
    ) -> list[Row]:
        """`step()` so many times, then save. Returns the metrics of these updates.

        `until`: ends earlier, after the first update for which it holds: a metric, `>=` or `<=`,
        and a number, as in "objective/kl >= 8" or "update >= 40".

        Raises:
            BadSetting: `until` can't be read, or names a metric that an update does not have.
        """
        goal, rows = None if until is None else Until.of(until), []
        for _ in range(updates):
            rows.append(self.step())
            if on_update:
                on_update(rows[-1])
            if goal and goal.reached(rows[-1]):
                break
        self.save()
        return rows

    def _compared(self, again: Row) -> Row:
        """The recorded row of an update that was computed again, if it is the same."""
        row = self.run.row(self.update)
        if self.parameters[0].is_cuda:  # a GPU adds in an order of its own
            return row
        known = [k for k in again if k in row and k not in CLOCK]  # later versions measure more
        if not all(same(again[k], row[k]) for k in known):
            raise NotRepeated(
                f"Update {self.update} of {self.run.name} came out otherwise than it is recorded: "
                "the machine, its number of threads or a package is not what it was. "
                f"branch({self.update - 1}) goes on from here as a run of its own."
            )
        return row

    def _undo(self, update: int, undo: Checkpoint | None, replay: bool) -> None:
        """Back to before an update that failed. A run on disk goes back to its last checkpoint and
        comes forward again, which saves a copy of weights and moments in every update; without
        `replay` it stays at the checkpoint."""
        settings = self.settings  # a person may have changed them meanwhile
        self.optimizer.zero_grad(set_to_none=True)
        if not self._touched:
            self.update = update
        elif undo is not None:
            self.restore(*undo)
        else:
            self._go_to(update, replay)
        self.settings = settings

    def turn(self, count: int, size: int) -> list[int]:
        """Which `size` of `count` things this update takes: shuffled passes in a row."""
        first = (self.update - 1) * size
        orders = {
            k: np.random.default_rng([self._now.seed, k]).permutation(count)
            for k in range(first // count, (first + size - 1) // count + 1)
        }
        return [int(orders[i // count][i % count]) for i in range(first, first + size)]

    def rate(self) -> float:
        """The learning rate of the update under way."""
        return self._now.learning_rate

    def descend(self, loss: Tensor) -> None:
        """Add the gradient of a part of the loss, if the part is finite."""
        if not loss.isfinite():
            raise TrainingStopped("the loss is not a finite number.")
        loss.backward()

    def apply_gradients(self) -> float:
        """One step of the optimizer on the gradients so far, clipped; returns their norm."""
        norm = nn.utils.clip_grad_norm_(self.parameters, self._now.max_grad_norm)
        if not norm.isfinite():
            self.optimizer.zero_grad(set_to_none=True)
            raise TrainingStopped("the gradient is not finite.")
        self._touched = True
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate()
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return norm.item()


@contextmanager
def threads_of(count: int | None) -> Iterator[None]:
    """Compute with the number of threads that a run was begun with, as far as there are so many:
    sums depend on it, in their last bits. Afterwards all is as it was."""
    before = torch.get_num_threads()
    if count:
        torch.set_num_threads(min(count, os.cpu_count() or count))
    try:
        yield
    finally:
        torch.set_num_threads(before)


def same(a: Any, b: Any) -> bool:
    """Whether a metric came out the same; what is no number both times is."""
    return a == b or (a != a and b != b)
