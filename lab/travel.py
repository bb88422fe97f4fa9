"""Travel in time: back to any update of a run, off to a branch from there, and what is kept so
that one can."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from .errors import LabError
from .runs import Checkpoint, History, Row, Run


class Travel:
    """Part of `Trainer`, which steps forward."""

    kind: ClassVar[str]
    best_metric: ClassVar[str]
    checkpoint_every: ClassVar[int]
    modules: dict[str, nn.Module]
    optimizer: torch.optim.Optimizer
    settings: Any
    run: History
    update: int
    last_samples: list[Row]
    lock: Any
    _set_last: tuple[int, Any] | None = None  # settings for after the newest update, on a look back

    def rewind(self, update: int, on_update: Callable[[Row], None] | None = None) -> None:
        """Go back (or forward again) to how everything was after `update`: weights, optimizer,
        value head, order of prompts, random numbers. Starts from the nearest checkpoint before
        and computes the updates in between again. The record stays as it is.

        Args:
            on_update: gets the metrics of each update that is computed again.

        Raises:
            LabError: the update was never taken, or belongs to the run that this one branched off.
        """
        with self.lock:
            self.approach(update)
            while self.update < update:
                metrics = self._step()
                if on_update:
                    on_update(metrics)

    def approach(self, update: int) -> None:
        """The first half of `rewind`: go to the nearest moment, at or before the end of `update`,
        that takes no computing. `step()` leads on from there.

        Raises:
            LabError: as in `rewind`.
        """
        if not self.run.first <= update <= self.run.last:
            parent = self.run.config.get("parent")
            before = f" What is before is in {parent['run']}." if parent else ""
            raise LabError(
                f"rewind({update}): {self.run.name} has the updates {self.run.first} to "
                f"{self.run.last}.{before}"
            )
        with self.lock:
            if self.update == self.run.last:
                self._set_last = self.update, self.settings
            saved = [k for k in getattr(self.run, "checkpoints", ()) if k <= update]
            if not max(saved, default=self.run.first) <= self.update <= update:
                self._go_to(update, replay=False)

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
        self._settle()
        self.last_samples = [row for row in self.run.samples if row["update"] == self.update]

    def _settle(self) -> None:
        """Take the settings that the record has for what comes next; past it, those that were
        set there before a look back."""
        if self._set_last is not None and self._set_last[0] == self.update == self.run.last:
            self.settings = self._set_last[1]
            return
        settings = self.run.settings_of(min(self.update + 1, self.run.last))
        if settings is not None:
            self.settings = type(self.settings).of(settings)

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
                self.run.save(*self.snapshot(copy=False), self.best_metric, self.checkpoint_every)

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
