"""Do raters agree, with each other and with themselves? Does it matter where a card stood?"""

from __future__ import annotations

import html
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from .preferences import Ranking
from .statistics import Estimate, proportion

RESAMPLES = 400


@dataclass(frozen=True)
class Disagreement:
    """A prompt that raters ordered otherwise.

    Attributes:
        share: of the pairs that any two raters both ordered strictly, how many they ordered the
            opposite way, 0 to 1.
        ranks: for each rater, the rank of each completion in `completions`; tied ones share one.
    """

    prompt: str
    completions: tuple[int, ...]
    ranks: dict[str, tuple[float, ...]]
    share: float


@dataclass(frozen=True)
class Agreement:
    """What the rankings of a study say of its raters.

    Attributes:
        rankings: of each rater, repeats aside.
        alpha: Krippendorff's alpha; None with one rater, or nothing that two of them ranked.
        consistency: of each rater, how often a repeated prompt's pairs came out the same.
        disagreements: prompts where raters differed, the widest first.
    """

    rankings: dict[str, int]
    alpha: Estimate | None
    consistency: dict[str, Estimate]
    disagreements: list[Disagreement]

    @classmethod
    def of(cls, rankings: Sequence[Ranking]) -> Agreement:
        """The agreement in rankings; give repeats as well: `store.rankings(repeats=True)`."""
        raters = list(dict.fromkeys(r.rater for r in rankings))
        first = [r for r in rankings if r.repeats is None and r.tiers is not None]
        found = {rater: self_consistency(rankings, rater) for rater in raters}
        return cls(
            {rater: sum(r.rater == rater for r in first) for rater in raters},
            alpha(first),
            {rater: estimate for rater, estimate in found.items() if estimate is not None},
            disagreements(first),
        )

    def __str__(self) -> str:
        raters = ", ".join(f"{rater} ({n})" for rater, n in self.rankings.items())
        lines = [f"Rankings: {raters or 'none'}.", f"Agreement: {alpha_in_words(self.alpha)}"]
        lines += [
            f"{rater} with themselves: {estimate} of the pairs of repeated prompts the same."
            for rater, estimate in self.consistency.items()
        ]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        words = "".join(f"<p>{html.escape(line)}</p>" for line in str(self).split("\n"))
        rows = "".join(
            f"<tr><td>{html.escape(d.prompt[:80])}</td><td>{d.share:.0%}</td><td>"
            + "<br>".join(html.escape(f"{r}: {ranks_in_words(x)}") for r, x in d.ranks.items())
            + "</td></tr>"
            for d in self.disagreements[:10]
        )
        head = "<tr><th>prompt</th><th>pairs ordered otherwise</th><th>ranks</th></tr>"
        return words + (f"<table>{head}{rows}</table>" if rows else "")


def ranks(ranking: Ranking) -> dict[int, float]:
    """The rank of each completion, 1 for the best; tied ones share the mean of their places."""
    found, before = {}, 0
    for tier in ranking.tiers or ():
        found |= dict.fromkeys(tier, before + (len(tier) + 1) / 2)
        before += len(tier)
    return found


def alpha(rankings: Sequence[Ranking]) -> Estimate | None:
    """Krippendorff's alpha for ordinal data (Hayes and Krippendorff 2007): 1 where raters agree, 0
    where they agree no more than by chance. A unit is a completion that at least two raters ranked
    among the same others; its value is its rank. The 95 % interval resamples prompts. None where
    no two raters ranked the same completions, or all ranks are equal."""
    groups = [together for together in by_question(rankings) if len(together) > 1]
    raters = sorted({rater for together in groups for rater in together})
    blocks = []
    for together in groups:
        given = {rater: ranks(ranking) for rater, ranking in together.items()}
        ids = next(iter(together.values())).shown
        blocks.append(
            np.array([[given.get(r, {}).get(i, np.nan) for i in ids] for r in raters], dtype=float)
        )
    if (value := krippendorffs_alpha(blocks)) is None:
        return None
    rng = np.random.default_rng(0)
    draws = [
        krippendorffs_alpha([blocks[i] for i in rng.integers(len(blocks), size=len(blocks))])
        for _ in range(RESAMPLES if len(blocks) > 1 else 0)
    ]
    known = [draw for draw in draws if draw is not None]
    low, high = np.quantile(known, [0.025, 0.975]) if known else (-1.0, 1.0)
    return Estimate(value, float(low), float(high), sum(b.shape[1] for b in blocks))


def krippendorffs_alpha(blocks: Sequence[np.ndarray]) -> float | None:
    """Alpha of reliability data [raters, units] in blocks; None where it is not defined."""
    import krippendorff

    if not blocks:
        return None
    data = np.concatenate(blocks, axis=1)
    if len(np.unique(data[~np.isnan(data)])) < 2:
        return None
    with warnings.catch_warnings():  # resampled data may lack what alpha needs: it is NaN then
        warnings.simplefilter("ignore", RuntimeWarning)
        value = float(krippendorff.alpha(data, level_of_measurement="ordinal"))
    return value if np.isfinite(value) else None


def self_consistency(rankings: Sequence[Ranking], rater: str) -> Estimate | None:
    """How often a rater orders the pairs of a prompt the same way when it comes again: a pair tied
    once and not the other time counts half. None without a repeat."""
    first = {r.id: r for r in rankings}
    first |= {r.edits: r for r in rankings if r.edits is not None}  # in its place
    same, prompts = [], []
    for again in rankings:
        before = first.get(again.repeats)
        if again.rater != rater or before is None or not (again.tiers and before.tiers):
            continue
        one, two = ranks(before), ranks(again)
        for a, b in combinations(one, 2):
            signs = np.sign(one[a] - one[b]), np.sign(two[a] - two[b])
            same.append(1 - abs(signs[0] - signs[1]) / 2)
            prompts.append(again.prompt)
    return proportion(same, prompts)


def disagreements(rankings: Sequence[Ranking]) -> list[Disagreement]:
    """Prompts of which two raters ordered a pair the opposite way, the widest difference first."""
    found = []
    for together in by_question(rankings):
        opposite = []
        for one, two in combinations([ranks(r) for r in together.values()], 2):
            signs = [
                np.sign((one[a] - one[b]) * (two[a] - two[b])) for a, b in combinations(one, 2)
            ]
            opposite += [sign < 0 for sign in signs if sign]
        if any(opposite):
            example = next(iter(together.values()))
            ids = tuple(sorted(example.shown))
            given = {name: tuple(ranks(r)[i] for i in ids) for name, r in together.items()}
            found.append(Disagreement(example.prompt, ids, given, float(np.mean(opposite))))
    return sorted(found, key=lambda d: -d.share)


def position_bias(rankings: Sequence[Ranking]) -> list[Estimate] | None:
    """For each place on screen, the share of pairs that the card shown there won, ties half: ½ for
    all where it does not matter where a card stands. None without rankings; those of another
    number of cards than most are left out."""
    judged = [r for r in rankings if r.tiers is not None]
    if not judged:
        return None
    sizes = [len(r.shown) for r in judged]
    k = max(set(sizes), key=sizes.count)
    judged = [r for r in judged if len(r.shown) == k]
    given = [ranks(r) for r in judged]
    prompts = [r.prompt for r in judged]
    # A card of rank r loses to r - 1 of the k - 1 others, those tied with it counting half.
    shares = [[(k - g[r.shown[place]]) / (k - 1) for r, g in zip(judged, given, strict=True)]
              for place in range(k)]  # fmt: skip
    return [proportion(share, prompts) for share in shares]


def by_question(rankings: Sequence[Ranking]) -> list[dict[str, Ranking]]:
    """Rankings of the same completions, by rater; the last one where a rater has several."""
    questions: dict[frozenset[int], dict[str, Ranking]] = {}
    for ranking in rankings:
        if ranking.tiers is not None:
            questions.setdefault(frozenset(ranking.shown), {})[ranking.rater] = ranking
    return list(questions.values())


def alpha_in_words(estimate: Estimate | None) -> str:
    """Krippendorff's own reading of his alpha: 0.8 is reliable, 0.667 the least to lean on."""
    if estimate is None:
        return "no two raters have ranked the same completions."
    word = (
        "reliable" if estimate.value >= 0.8 else "tentative" if estimate.value >= 0.667 else "low"
    )
    return (
        f"Krippendorff's alpha {estimate.value:.2f} [{estimate.low:.2f}, {estimate.high:.2f}] over "
        f"{estimate.count} completions ({word})."
    )


def ranks_in_words(values: Sequence[float]) -> str:
    return " ".join(f"{value:g}" for value in values)
