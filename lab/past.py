"""A run that is looked at, and not touched."""

from __future__ import annotations

from typing import Any

from .errors import LabError
from .runs import Row, Run


class Past(Run):
    """A trainer that opens it can go to any recorded update; it writes nothing, and needs no hold
    of the run."""

    def hold(self) -> None:
        raise LabError(f"{self.name} is only looked at: open it with study.open_run to go on.")

    def save(self, tensors: dict[str, Any], state: Row, metric: str) -> None:
        """Nothing: what is on disk belongs to the run."""
