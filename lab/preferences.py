"""What a preference is made of: completions, a ranking of them, the pairs that follow from it."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import combinations


@dataclass(frozen=True)
class Completion:
    """A sampled text with all that made it. `policy` is "reference" or "<run>@<update>"."""

    prompt: str
    text: str
    token_ids: tuple[int, ...]
    finished: bool
    model: str = ""
    source: str = ""
    policy: str = "reference"
    sampling: dict = field(default_factory=dict, hash=False)
    id: int = 0


@dataclass(frozen=True)
class Ranking:
    """A judgement of the completions of one prompt.

    Attributes:
        tiers: completion ids from best to worst; those in one tier are tied. None: skipped.
        shown: completion ids in the order on screen.
        selection_probability: how likely this prompt was chosen among those not yet judged (or of a
            repeat, that this one came again); None if a person chose it.
        predicted: the reward model's score of each shown completion *before* this ranking, or
            None if there was no model yet, or the rater had seen its guess: ranked, taken back,
            ranked again. Prequential accuracy comes from it.
        selection: how the prompt was chosen: "random", or "unsure" where it was the one whose
            ranking the reward model was least sure of.
        all_bad: the rater found none of them acceptable; they are in one tier.
        note: what the rater flagged it with, perhaps no words; None: not flagged.
        edits: the id of the ranking that this one replaces. `predicted` is then of the first.
        repeats: the id of the ranking that this one asks again, unannounced. It measures how
            consistent a rater is, and trains nothing.
    """

    prompt: str
    tiers: tuple[tuple[int, ...], ...] | None
    shown: tuple[int, ...]
    rater: str = "me"
    simulated: bool = False
    selection_probability: float | None = None
    seconds: float | None = None
    predicted: tuple[float, ...] | None = None
    created: float = 0.0
    id: int = 0
    selection: str = "random"
    all_bad: bool = False
    note: str | None = None
    edits: int | None = None
    repeats: int | None = None


@dataclass(frozen=True)
class Pair:
    """A preference pair of completion ids. Target 1: `chosen` was preferred; ½: a tie.
    The pairs of a ranking of k weigh 1/C(k,2) each, so that no ranking outvotes another."""

    prompt: str
    chosen: int
    rejected: int
    target: float
    weight: float
    ranking: int


def pairs_of(ranking: Ranking) -> list[Pair]:
    """All C(k,2) preference pairs of a ranking, ties included."""
    if ranking.tiers is None:
        return []
    place = {c: i for i, tier in enumerate(ranking.tiers) for c in tier}
    pairs = []
    for a, b in combinations(place, 2):  # in order of preference, since tiers are
        target = 0.5 if place[a] == place[b] else 1.0
        pairs.append(Pair(ranking.prompt, a, b, target, 0.0, ranking.id))
    return [
        Pair(p.prompt, p.chosen, p.rejected, p.target, 1 / len(pairs), p.ranking) for p in pairs
    ]
