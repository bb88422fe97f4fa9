"""Are the reward model's probabilities to be believed? Its predictions against what was said.

A prediction's *margin* is the score of the completion that the rater then preferred less that of
the other, predicted before the ranking was given: positive where it was right.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from .bradley_terry import sigmoid, softplus
from .preferences import Ranking
from .statistics import Estimate, proportion

FEWEST = 30  # strict pairs, 5 rankings of 4: with fewer, a temperature is mostly noise
BOUNDS = (0.01, 100.0)  # of a temperature: always right, or no better than a coin


@dataclass(frozen=True)
class Bin:
    """Pairs that were predicted about equally surely: how sure, against how often rightly.

    Attributes:
        predicted: mean probability that the predicted one would be preferred, ½ to 1.
        observed: the share that was, with its 95 % interval clustered by prompt.
    """

    predicted: float
    observed: Estimate


class PredictedPair(NamedTuple):
    """A strict pair of completion ids, `chosen` the preferred one, and its predicted margin."""

    ranking: int
    chosen: int
    rejected: int
    margin: float


class Predictions:
    """The margins of all strict pairs that were predicted before they were judged.

    Attributes:
        pairs: what was predicted, oldest first.
        margins: of each pair, in the units of the scores.
        weights: 1/C(k,2) for a pair of a ranking of k, as in the fit.
        prompts: a number for each pair's prompt.
    """

    def __init__(self, rankings: Iterable[Ranking] = ()) -> None:
        self.pairs: list[PredictedPair] = []
        self.margins: list[float] = []
        self.weights: list[float] = []
        self.prompts: list[int] = []
        self._number: dict[str, int] = {}
        for ranking in rankings:
            self.add(ranking)

    def add(self, ranking: Ranking) -> None:
        """Add the pairs of a ranking, if it was predicted."""
        pairs, k = predicted_pairs(ranking), len(ranking.shown)
        number = self._number.setdefault(ranking.prompt, len(self._number))
        self.pairs += pairs
        self.margins += [pair.margin for pair in pairs]
        self.weights += [2 / (k * (k - 1))] * len(pairs)
        self.prompts += [number] * len(pairs)

    def copy(self) -> Predictions:
        """These, unmoved by what is added later."""
        other = Predictions()
        other.pairs = self.pairs.copy()
        other.margins, other.weights = self.margins.copy(), self.weights.copy()
        other.prompts, other._number = self.prompts.copy(), self._number.copy()
        return other

    def accuracy(self) -> Estimate | None:
        """Prequential accuracy: the share predicted rightly, equal scores counting half."""
        return proportion(np.sign(self.margins) / 2 + 0.5, self.prompts)

    def accuracy_by(self, group: Callable[[str], str]) -> dict[str, Estimate]:
        """The same of each group of prompts, those with most pairs first. A group without strict
        pairs is left out."""
        names = np.array([group(prompt) for prompt in self._number], dtype=str)
        prompts, right = np.array(self.prompts, dtype=int), np.sign(self.margins) / 2 + 0.5
        of_pair = names[prompts]
        found = {str(n): np.flatnonzero(of_pair == n) for n in np.unique(of_pair)}
        ordered = sorted(found, key=lambda name: -len(found[name]))
        return {n: proportion(right[found[n]], prompts[found[n]]) for n in ordered}

    def temperature(self) -> float | None:
        """T of P = sigmoid(margin/T) by maximum likelihood (Guo et al. 2017, "On calibration of
        modern neural networks", with weights of pairs), within BOUNDS. Above 1/spread, the model
        was surer than it had reason to be. None with fewer than FEWEST pairs, or if all of them
        were predicted equal: then there is nothing to learn it from.

        The early predictions, of a model that knew little, count like the late ones.
        """
        from scipy.optimize import brentq

        margin, weight = np.array(self.margins), np.array(self.weights)
        if len(margin) < FEWEST or not margin.any():
            return None

        def slope(log_t: float) -> float:  # of the loss over 1/T, in which it is convex
            return float(-(weight * margin) @ sigmoid(-margin * np.exp(-log_t)))

        low, high = np.log(BOUNDS)
        if slope(low) <= 0:
            return BOUNDS[0]
        if slope(high) >= 0:
            return BOUNDS[1]
        return float(np.exp(brentq(slope, low, high)))

    def log_loss(self, temperature: float = 1.0) -> float | None:
        """Mean -log P(what was preferred), weighted as in the fit; ln 2 is a coin's."""
        if not self.margins:
            return None
        loss = softplus(-np.array(self.margins) / temperature)
        return float(np.average(loss, weights=self.weights))

    def reliability(self, temperature: float = 1.0, bins: int = 5) -> list[Bin]:
        """Bins of equal width over the probability of the predicted one, from ½ to 1; those
        without pairs are left out. A calibrated model has `observed` equal to `predicted`."""
        margin, prompts = np.array(self.margins), np.array(self.prompts)
        p = sigmoid(np.abs(margin) / temperature)
        place = np.minimum(((p - 0.5) * 2 * bins).astype(int), bins - 1)
        right = np.sign(margin) / 2 + 0.5
        found = [place == i for i in np.unique(place)]
        return [Bin(float(p[i].mean()), proportion(right[i], prompts[i])) for i in found]

    def calibration_error(self, temperature: float = 1.0, bins: int = 5) -> float | None:
        """Expected calibration error (Naeini et al. 2015): |predicted - observed| of the bins,
        averaged over pairs. None without any."""
        found = self.reliability(temperature, bins)
        if not found:
            return None
        gaps = [abs(b.predicted - b.observed.value) for b in found]
        return float(np.average(gaps, weights=[b.observed.count for b in found]))


def predicted_pairs(ranking: Ranking) -> list[PredictedPair]:
    """The strict pairs of a ranking with their predicted margins; none if it was skipped, or if
    there was no model yet."""
    if ranking.tiers is None or ranking.predicted is None:
        return []
    score = dict(zip(ranking.shown, ranking.predicted, strict=True))
    pairs, above = [], []
    for tier in ranking.tiers:
        pairs += [PredictedPair(ranking.id, a, b, score[a] - score[b]) for a in above for b in tier]
        above += tier
    return pairs


def strict_margins(ranking: Ranking) -> list[float]:
    """The margins alone."""
    return [pair.margin for pair in predicted_pairs(ranking)]
