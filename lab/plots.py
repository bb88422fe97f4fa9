"""What of a trainer's metrics is worth watching."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Plot:
    """What is worth watching while a trainer works: metrics over updates that share an axis. The
    first of them stands for the plot in a line of words, as `word` and in `form`.

    `over_kl`: drawn over √KL to the reference instead of over updates, with best-of-n beside it.
    """

    axis: str
    metrics: dict[str, str]
    word: str
    form: str = ".2f"
    from_zero: bool = False
    over_kl: bool = False
