"""Intervals that know that what shares a prompt is not independent."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

Z95 = 1.959964


@dataclass(frozen=True)
class Estimate:
    """A mean with its 95 % interval, from `count` observations."""

    value: float
    low: float
    high: float
    count: int

    def __str__(self) -> str:
        return f"{self.value:.2f} [{self.low:.2f}, {self.high:.2f}] (n = {self.count})"

    @property
    def interval(self) -> list[float]:
        return [self.low, self.high]


def cluster_means(values: Sequence[float], clusters: Sequence) -> tuple[np.ndarray, np.ndarray]:
    """Sum and size of each cluster."""
    _, index = np.unique(np.asarray(clusters, dtype=str), return_inverse=True)
    sizes = np.bincount(index)
    return np.bincount(index, weights=np.asarray(values, dtype=float)), sizes


def proportion(values: Sequence[float], clusters: Sequence) -> Estimate | None:
    """Mean of values in [0, 1] with a Wilson interval at the effective sample size: the number of
    independent values that would vary as much as these clusters do. None without values.

    All-equal values say nothing of their own spread; then each cluster counts once.
    """
    if len(values) == 0:
        return None
    sums, sizes = cluster_means(values, clusters)
    n, groups = int(sizes.sum()), len(sizes)
    p = float(sums.sum() / n)
    effective = groups
    if groups > 1 and 0 < p < 1:
        residual = sums - p * sizes  # of the ratio estimator
        variance = (residual**2).sum() * groups / (groups - 1) / n**2
        if variance > 0:
            effective = min(n, p * (1 - p) / variance)
    centre = (p + Z95**2 / (2 * effective)) / (1 + Z95**2 / effective)
    half = Z95 / (1 + Z95**2 / effective)
    half *= np.sqrt(p * (1 - p) / effective + Z95**2 / (4 * effective**2))
    low, high = max(0.0, centre - half), min(1.0, centre + half)
    return Estimate(p, float(min(low, p)), float(max(high, p)), n)  # not past it by rounding


def mean(values: Sequence[float], clusters: Sequence) -> Estimate:
    """Mean of cluster means with Student's t interval over clusters."""
    from scipy.stats import t

    sums, sizes = cluster_means(values, clusters)
    means = sums / sizes
    value, groups = float(means.mean()), len(means)
    if groups < 2:
        return Estimate(value, float("-inf"), float("inf"), len(values))
    half = float(t.ppf(0.975, groups - 1) * means.std(ddof=1) / np.sqrt(groups))
    return Estimate(value, value - half, value + half, len(values))


def ngrams(words: Sequence[str], n: int) -> Iterator[tuple[str, ...]]:
    """Each run of n words."""
    return zip(*(words[i:] for i in range(n)), strict=False)


def distinct_n(texts: Sequence[str], n: int = 2) -> float:
    """Share of different n-grams of words among all of them (Li et al. 2016): low where texts
    repeat themselves or each other. It falls with the amount of text: compare equal amounts."""
    grams = []
    for text in texts:
        grams += ngrams(text.lower().split(), n)
    return len(set(grams)) / len(grams) if grams else 0.0


def self_bleu(texts: Sequence[str], n: int = 4, most: int = 100) -> float:
    """Mean BLEU of each text against all others as references, 0 to 1: high where texts resemble
    each other (Zhu et al. 2018, arXiv 1802.01886). It rises with the number of texts: compare equal
    numbers. NaN for fewer than two texts with words.

    Counts of n-grams above 1 have one added (Lin & Och 2004); the brevity penalty is against the
    closest length, the shorter of two as close. Of more than `most` texts, a seeded draw is judged.
    """
    spoken = sorted(words for text in texts if (words := text.lower().split()))
    if len(spoken) > most:
        drawn = np.random.default_rng(0).choice(len(spoken), most, replace=False)
        spoken = [spoken[i] for i in drawn]
    if len(spoken) < 2:
        return float("nan")
    precision = np.ones((len(spoken), n))
    for size in range(1, n + 1):
        counts = [Counter(ngrams(words, size)) for words in spoken]
        times = defaultdict(lambda: [0])
        for count in counts:
            for gram, often in count.items():
                times[gram].append(often)
        # A text's count is cut to the highest of the others: the second highest of all, or its own.
        second = {gram: sorted(found)[-2] for gram, found in times.items()}
        for i, count in enumerate(counts):
            matched = sum(min(often, second[gram]) for gram, often in count.items())
            precision[i, size - 1] = (matched + (size > 1)) / (count.total() + (size > 1))
    lengths = [len(words) for words in spoken]
    penalty = []
    for i, length in enumerate(lengths):
        others = lengths[:i] + lengths[i + 1 :]
        closest = min(others, key=lambda other: (abs(other - length), other))
        penalty.append(np.exp(min(0.0, 1 - closest / length)))
    return float(np.mean(penalty * precision.prod(axis=1) ** (1 / n)))
