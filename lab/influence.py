"""Which rankings make the reward model prefer what it prefers?

The influence of a ranking on a contrast, such as r(refusal) - r(compliance), is what the contrast
loses when that ranking is left out and everything is fitted again. Influence functions (Koh & Liang
2017, arXiv 1703.04730) estimate that number; here a fit takes milliseconds, so it is computed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from .errors import BadSetting
from .preferences import Ranking
from .subset import reward_model_of

if TYPE_CHECKING:
    from .experiment import Experiment
    from .reward import RewardHead

AT_ONCE = 32  # texts read together


@dataclass(frozen=True)
class Contrast:
    """How much higher the reward model scores one text than another, prompt by prompt.

    Attributes:
        differences: features [n, H] of the first texts less those of the second.
    """

    prompts: list[str]
    differences: np.ndarray

    @classmethod
    def of(cls, study: Experiment, pairs: Sequence[tuple[str, str, str]]) -> Contrast:
        """From (prompt, text, other text), read by the study's model.

        Raises:
            BadSetting: there are no pairs.
        """
        from .dpo import pair_of_texts
        from .sampling import read

        if not pairs:
            raise BadSetting("A contrast needs at least one (prompt, text, other text).")
        trunk = study.reference.trunk
        found = [pair_of_texts(trunk, *pair) for pair in pairs]

        def features(side: str) -> np.ndarray:
            parts = [found[i : i + AT_ONCE] for i in range(0, len(found), AT_ONCE)]
            rows = [
                read(
                    trunk, [trunk.encode(p.prompt) for p in part], [getattr(p, side) for p in part]
                )
                for part in parts
            ]
            return np.concatenate([row.numpy(force=True) for row in rows]).astype(np.float64)

        with study.compute:
            differences = features("chosen") - features("rejected")
        return cls([pair[0] for pair in pairs], differences)

    def values(self, head: RewardHead) -> np.ndarray:
        """r(text) - r(other text) [n], in standard deviations of scores within a prompt."""
        return self.differences @ head.weight / head.spread

    def mean(self, head: RewardHead) -> float:
        """The mean of `values`."""
        return float(self.values(head).mean())


@dataclass(frozen=True)
class Influence:
    """What one ranking does to a contrast: with all rankings, less without this one."""

    ranking: Ranking
    change: float


def influences(study: Experiment, contrast: Contrast) -> Iterator[Influence]:
    """The influence of each ranking that trains, oldest first: as many fits as rankings.

    Raises:
        NotReady: there is no reward model.
    """
    heldout = set(study.heldout)
    rankings = [r for r in study.store.rankings() if r.prompt not in heldout]
    whole = contrast.mean(reward_model_of(study, lambda ranking: True).head)
    for left_out in rankings:
        model = reward_model_of(study, lambda r, out=left_out.id: r.id != out)
        yield Influence(left_out, whole - contrast.mean(model.head))
