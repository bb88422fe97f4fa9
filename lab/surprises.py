"""Pairs on which the rater said the opposite of what the reward model was sure of.

Either the model has something to learn there, or the rater slipped: both are worth a second look.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from .calibration import predicted_pairs
from .errors import BadSetting

if TYPE_CHECKING:
    from .experiment import Experiment


@dataclass(frozen=True)
class Surprise:
    """A strict pair that the reward model had confidently the other way round.

    Attributes:
        ranking: the id of the ranking.
        chosen: the text that the rater preferred.
        rejected: the text that the model had expected to win.
        probability: how sure of that it was. The margin is from before the ranking was given; the
            temperature that makes it a probability is today's, fitted to these same pairs.
    """

    ranking: int
    prompt: str
    chosen: str
    rejected: str
    probability: float


def surprises(study: Experiment, at_least: float = 0.8, most: int | None = None) -> list[Surprise]:
    """The surprises of all rankings that stand, the most confident first; at most so many.

    None while too little was predicted to say how sure the model may be (see
    `Predictions.temperature`).

    Raises:
        BadSetting: at_least is no probability from ½ to 1.
    """
    if not 0.5 <= at_least <= 1:
        raise BadSetting(f"at_least={at_least}: give a probability from 0.5 to 1.")
    head, store = study.reward_model.head, study.store
    if head is None or head.temperature is None:
        return []
    pairs = [pair for ranking in store.rankings() for pair in predicted_pairs(ranking)]
    margin = np.array([pair.margin for pair in pairs])
    sure = head.probability(-margin)
    found = np.flatnonzero((margin < 0) & (sure >= at_least))
    ordered = found[np.argsort(-sure[found], kind="stable")][:most]
    return [_surprise(store, pairs[i], float(sure[i])) for i in ordered]


def _surprise(store, pair, probability: float) -> Surprise:
    chosen, rejected = store.completion(pair.chosen), store.completion(pair.rejected)
    return Surprise(pair.ranking, chosen.prompt, chosen.text, rejected.text, probability)
