"""One protocol for every trainer: a step, a history, and travel in time.

A trainer is one file that says what an update is; all else is here, so that one panel drives every
trainer and one folder layout keeps every run.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor, nn

from .errors import BadSetting, LabError, NotRepeated, TrainingStopped
from .runs import CHECKPOINT_EVERY, Checkpoint, History, Row, Run
from .settings import Settings

SAMPLES_KEPT = 4  # samples of each update that go into the history
CLOCK = ("seconds", "seconds_sampling", "seconds_scoring", "seconds_training", "eps")


@dataclass(frozen=True)
class Plot:
    """What is worth watching while a trainer works: metrics over updates that share an axis. The
    first of them stands for the plot in a line of words, as `word` and in `form`."""

    axis: str
    metrics: dict[str, str]
    word: str
    form: str = ".2f"
    from_zero: bool = False


class Trainer:
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

    # Forward

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

    def step(self) -> Row:
        """One update. Returns its metrics, TRL's names.

        An update is all or nothing: where it fails, everything is as it was before. After a rewind
        the updates that are recorded come again, the same as before.

        Raises:
            TrainingStopped: a score, loss or gradient was not finite.
        """
        with self.lock:
            return self._step()

    def _step(self) -> Row:
        start, before = time.perf_counter(), self.update
        again = before < self.run.last
        if isinstance(self.run, Run) and not again:
            self.run.hold()
        if threads := self.run.config.get("threads"):  # sums depend on it, in their last bits
            torch.set_num_threads(min(threads, os.cpu_count() or threads))
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
        if self.update % CHECKPOINT_EVERY == 0:
            self.save()
        return metrics

    def train(self, updates: int, on_update: Callable[[Row], None] | None = None) -> list[Row]:
        """`step()` so many times, then save. Returns the metrics of these updates."""
        rows = []
        for _ in range(updates):
            rows.append(self.step())
            if on_update:
                on_update(rows[-1])
        self.save()
        return rows

    def _compared(self, again: Row) -> Row:
        """The recorded row of an update that was computed again, if it is the same."""
        row = self.run.row(self.update)
        if self.parameters[0].is_cuda:  # a GPU adds in an order of its own
            return row
        if any(again[k] != row.get(k) for k in again if k not in CLOCK):
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
            group["lr"] = self._now.learning_rate
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return norm.item()

    # Back

    def rewind(self, update: int) -> None:
        """Go back (or forward again) to how everything was after `update`: weights, optimizer,
        value head, order of prompts, random numbers. Starts from the nearest checkpoint before
        and computes the updates in between again. The record stays as it is.

        Raises:
            LabError: the update was never taken, or belongs to the run that this one branched off.
        """
        if not self.run.first <= update <= self.run.last:
            parent = self.run.config.get("parent")
            before = f" What is before is in {parent['run']}." if parent else ""
            raise LabError(
                f"rewind({update}): {self.run.name} has the updates {self.run.first} to "
                f"{self.run.last}.{before}"
            )
        with self.lock:
            self._go_to(update)

    def _go_to(self, update: int, replay: bool = True) -> None:
        saved = self.run.load(update)
        if saved is not None:
            self.restore(*saved)
        else:
            self.optimizer.zero_grad(set_to_none=True)
            self.optimizer.state.clear()
            self.begin()
            self.update = 0
        while replay and self.update < update:
            self._step()
        settings = self.run.settings_of(min(self.update + 1, self.run.last))
        if settings is not None:
            self.settings = type(self.settings).of(settings)
        self.last_samples = [row for row in self.run.samples if row["update"] == self.update]

    def branch(self, update: int, **changes: Any) -> Self:
        """A sibling run that starts after `update` of this one, with the settings that came next
        there, but for what is given; its config names this run as its parent. This trainer stays
        where it is.

        Raises:
            BadSetting: a setting is unknown or out of range.
            LabError: the update was never taken.
        """
        type(self.settings).of({**asdict(self.settings), **changes})  # before anything moves
        with self.lock:
            tensors, state = self._state_after(update)
        checked = type(self.settings).of({**state["settings"], **changes})
        run = self.run.sibling(self.kind, asdict(checked), update)
        run.start(tensors, {**state, "settings": asdict(checked)})
        return self.twin(checked, run)

    def _state_after(self, update: int) -> Checkpoint:
        """The snapshot of another moment, or of this one."""
        here = self.snapshot()
        if update == self.update:
            return here
        samples = self.last_samples
        try:
            self.rewind(update)
            return self.snapshot()
        finally:
            self.restore(*here)
            self.last_samples = samples

    def save(self) -> None:
        """Write a checkpoint of where the run stands, if it lives on disk, has none there, and was
        not rewound."""
        if not isinstance(self.run, Run) or self.update < self.run.last:
            return
        with self.lock:
            if self.update not in (self.run.first, *self.run.checkpoints):
                self.run.save(*self.snapshot(copy=False), self.best_metric)

    def snapshot(self, copy: bool = True) -> Checkpoint:
        """All that the next update depends on: tensors, and a state that JSON can hold. Without
        `copy` the tensors are those that train, for who writes them down at once."""
        tensors = dict(self._trained())
        for i, moments in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{i}.{k}": v for k, v in moments.items()}
        tensors = {k: v.detach().clone() if copy else v.detach() for k, v in tensors.items()}
        return tensors, {"update": self.update, "settings": asdict(self.settings)}

    @torch.no_grad()
    def restore(self, tensors: Mapping[str, Tensor], state: Row) -> None:
        """Go to what `snapshot` gave."""
        for name, parameter in self._trained().items():
            parameter.copy_(tensors[name])
        moments: dict[int, dict[str, Tensor]] = {}
        for name, tensor in tensors.items():
            if name.startswith("optimizer."):
                _, index, key = name.split(".")
                moments.setdefault(int(index), {})[key] = tensor.clone()
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.zero_grad(set_to_none=True)
        self.optimizer.load_state_dict({"state": moments, "param_groups": groups})
        self.settings = type(self.settings).of(state["settings"])
        self.update = state["update"]

    def _trained(self) -> dict[str, nn.Parameter]:
        """The parameters that training moves, by name."""
        return {
            f"{name}.{key}": parameter
            for name, module in self.modules.items()
            for key, parameter in module.named_parameters()
            if parameter.requires_grad
        }
