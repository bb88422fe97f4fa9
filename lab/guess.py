"""How the reward model would have ranked, seen once a person has: never before."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from .calibration import strict_margins
from .preferences import Ranking
from .reward import RewardHead


@dataclass(frozen=True)
class Guess:
    """The reward model's guess of a ranking that it had not seen.

    Attributes:
        ranks: the rank it gave each completion, in the order on screen; 1 is the best.
        sure: the probability it gave the order of a pair, the mean over all pairs, ½ to 1;
            calibrated once enough was predicted (see `RewardHead.probability`).
        agreed: pairs ordered as the rater did, equal scores counting half.
        pairs: pairs that the rater ordered; ties say nothing of a guess.
    """

    ranks: tuple[int, ...]
    sure: float
    agreed: float
    pairs: int


def guess_of(ranking: Ranking, head: RewardHead | None) -> Guess | None:
    """The guess behind a ranking's `predicted`, by the head that made it; None without one."""
    if head is None or ranking.predicted is None or ranking.tiers is None:
        return None
    scores = ranking.predicted
    apart = [abs(a - b) for a, b in combinations(scores, 2)]
    margins = strict_margins(ranking)
    return Guess(
        ranks=tuple(1 + sum(other > score for other in scores) for score in scores),
        sure=float(np.mean(head.probability(apart))),
        agreed=float(np.sum(np.sign(margins) / 2 + 0.5)),
        pairs=len(margins),
    )


def ranks_of(tiers: Sequence[Sequence[int]], shown: Sequence[int]) -> tuple[int, ...]:
    """Ranks of the completions shown, in that order: tied ones share the better rank, as in
    sports, so that they compare with `Guess.ranks`."""
    rank, best = {}, 1
    for tier in tiers:
        rank |= dict.fromkeys(tier, best)
        best += len(tier)
    return tuple(rank[c] for c in shown)
