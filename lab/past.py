"""A run as it was after an update: to look back without touching it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .errors import LabError
from .runs import Row, Run


class Past(Run):
    """The record of a run up to an update. A trainer that opens it computes again what no
    checkpoint has; it writes nothing, and needs no hold of the run.

    Raises:
        LabError: the update was never taken, or belongs to the run that this one branched off.
    """

    def __init__(self, folder: Path, update: int) -> None:
        super().__init__(folder)
        if not self.first <= update <= self.last:
            raise LabError(f"{self.name}@{update}: it has the updates {self.first} to {self.last}.")
        self.history = [row for row in self.history if row["update"] <= update]

    @property
    def resume_at(self) -> int:
        return max((k for k in self.checkpoints if k <= self.last), default=self.first)

    def hold(self) -> None:
        raise LabError(f"{self.name} is only looked at: open it with study.open_run to go on.")

    def save(self, tensors: dict[str, Any], state: Row, metric: str) -> None:
        """Nothing: what is on disk belongs to the run."""
