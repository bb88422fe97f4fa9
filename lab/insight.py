"""What the reward model has learnt, to look at: its margins, and what it loves and hates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from .calibration import Bin, PredictedPair, Predictions
from .preferences import Completion

if TYPE_CHECKING:
    from .experiment import Experiment
    from .statistics import Estimate

WIDTH, BINS = 0.5, 8  # of the histogram, in standard deviations; the last bin holds all beyond
FEWEST = 10  # pairs of a bin that is worth a sentence


@dataclass(frozen=True)
class MarginHistogram:
    """How many pairs were predicted how far apart, and how many of them rightly.

    Attributes:
        start: where each bin begins [BINS], in standard deviations of scores within a prompt.
        right: pairs [BINS] whose preferred completion had the higher score.
        wrong: pairs [BINS] whose preferred completion had the lower score.
        equal: pairs with equal scores, which are neither.
    """

    start: np.ndarray
    right: np.ndarray
    wrong: np.ndarray
    equal: int


def margin_histogram(predictions: Predictions) -> MarginHistogram:
    """The margins of pairs that were predicted before they were judged, by their size."""
    margins = np.array(predictions.margins)
    place = bin_of(margins)
    right, wrong = (np.bincount(place[s * margins > 0], minlength=BINS) for s in (1, -1))
    return MarginHistogram(WIDTH * np.arange(BINS), right, wrong, int((margins == 0).sum()))


def bin_of(margins: Sequence[float]) -> np.ndarray:
    """The bin [n] of each margin, right or wrong."""
    return np.minimum(np.abs(margins) // WIDTH, BINS - 1).astype(int)


def pairs_in_bin(predictions: Predictions, place: int, right: bool) -> list[PredictedPair]:
    """The pairs of one bar of the histogram, newest first."""
    margins = np.array(predictions.margins)
    found = (bin_of(margins) == place) & ((margins > 0) if right else (margins < 0))
    return [predictions.pairs[i] for i in reversed(np.flatnonzero(found))]


def surest_bin(bins: Sequence[Bin]) -> Bin | None:
    """Of a calibration's bins, the surest that has FEWEST pairs; None if none has."""
    enough = [b for b in bins if b.observed.count >= FEWEST]
    return max(enough, key=lambda b: b.predicted, default=None)


@dataclass(frozen=True)
class Scored:
    """A completion and its score: standard deviations above its prompt's average."""

    completion: Completion
    score: float


def loves_and_hates(study: Experiment, count: int = 5) -> tuple[list[Scored], list[Scored]]:
    """The reference's completions with the highest and with the lowest scores, the most extreme
    first, whether they were ranked or not. Only prompts with several completions count: a single
    one is its prompt's average. Both lists are empty while there is no reward model, and they
    share no completion.
    """
    model, store = study.reward_model, study.store
    several = [ids for ids in store.ids_by_prompt("reference").values() if len(ids) > 1]
    ids = [i for of_prompt in several for i in of_prompt]
    raw = model.predict(ids)
    if raw is None or not ids:
        return [], []
    sizes = [len(of_prompt) for of_prompt in several]
    prompt = np.repeat(np.arange(len(sizes)), sizes)
    score = np.array(raw) - (np.bincount(prompt, raw) / sizes)[prompt]
    order = np.argsort(-score, kind="stable")
    count = min(count, len(ids) // 2)
    best, worst = order[:count], order[::-1][:count]
    return tuple(
        [Scored(store.completion(ids[i]), float(score[i])) for i in found]
        for found in (best, worst)
    )


def accuracy_by_kind(study: Experiment) -> dict[str, Estimate]:
    """Prequential accuracy on the prompts of each kind, the kind with most pairs first. A prompt
    that the study no longer has is of the kind "other"."""
    kinds = {p.text: p.kind for p in study.prompts}
    return study.reward_model.predictions.accuracy_by(lambda prompt: kinds.get(prompt, "other"))
