"""When to stop: a metric that is reached, as in `trainer.train(50, until="objective/kl >= 8")`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from .errors import BadSetting

SIGNS = (">=", "<=")


@dataclass(frozen=True)
class Until:
    """A metric's name, a sign and a value."""

    metric: str
    sign: str
    value: float

    @classmethod
    def of(cls, text: str) -> Self:
        """Read "metric >= value" or "metric <= value". Raises BadSetting for anything else."""
        for sign in SIGNS:
            metric, found, value = text.partition(sign)
            try:
                if found and metric.strip() and math.isfinite(float(value)):
                    return cls(metric.strip(), sign, float(value))
            except ValueError:
                break
        raise BadSetting(
            f'until={text!r}: give a metric, a sign and a number, as in "objective/kl >= 8".'
        )

    def reached(self, row: Mapping[str, Any]) -> bool:
        """Whether an update's metrics are there. Raises BadSetting where the metric is unknown."""
        if self.metric not in row:
            known = ", ".join(name for name in row if not name.startswith("seconds"))
            raise BadSetting(f"until: there is no metric {self.metric!r}. There are: {known}.")
        value = row[self.metric]
        return value >= self.value if self.sign == ">=" else value <= self.value

    def __str__(self) -> str:
        return f"{self.metric} {self.sign} {self.value:g}"
