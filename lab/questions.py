"""Which prompt is asked next: at random, where the reward model is unsure, or one asked before.

Every choice is seeded by the study and by how much its rater has judged, so that a study opened
again tomorrow goes on with the same question, and what comes next can be prepared.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from .errors import LabError
from .preferences import Ranking
from .store import PreferenceStore

ASK = ("random", "unsure")
RANDOM_SHARE = 0.3  # of the questions when the others are those the model is unsure of
REPEAT_AFTER = 5  # rankings, before one comes again


@dataclass(frozen=True)
class Choice:
    """A prompt to ask, how it was chosen and how likely that was; see `Ranking`."""

    prompt: str
    selection: str
    probability: float
    repeats: int | None = None


class History:
    """What one rater has judged of one policy's completions and still stands, skipped prompts and
    repeats included, oldest first. It is read as it arrives: other notebooks may add to it."""

    def __init__(self, store: PreferenceStore, policy: str, rater: str) -> None:
        self._store, self._whose = store, {"policy": policy, "rater": rater}
        self._lock = threading.Lock()
        self._undone: set[int] = set()
        self._rows: list[Ranking] = []

    def read(self) -> list[Ranking]:
        """All of it as it is now."""
        with self._lock:
            undone = self._store.undone()
            if undone != self._undone:  # what an undone edit replaced stands again, further back
                self._undone, self._rows = undone, []
            newest = self._rows[-1].id if self._rows else 0
            self._rows += self._store.rankings(
                skipped=True, after=newest, repeats=True, **self._whose
            )
            return list(self._rows)


def check_asking(ask: str, repeats: float) -> None:
    """Raises LabError where a way of asking is unknown or a share is none."""
    if ask not in ASK:
        raise LabError(f"ask={ask!r}: give one of {', '.join(map(repr, ASK))}.")
    if not 0 <= repeats < 1:
        raise LabError(f"repeats={repeats!r}: give a share of the questions, 0 up to less than 1.")


def drawn_at(seed: int, count: int, order: Sequence[str], upcoming: Sequence[str]) -> str:
    """The prompt that is drawn after `count` judgements: uniform among those upcoming. It is the
    first of a permutation of all prompts, so that it stays when others are answered before."""
    left = set(upcoming)
    shuffled = np.random.default_rng([seed, 3, count]).permutation(len(order))
    return next(order[i] for i in shuffled if order[i] in left)


def choose_unsure(
    seed: int, count: int, drawn: str, upcoming: int, doubts: Mapping[str, float | None]
) -> Choice:
    """With probability RANDOM_SHARE the prompt `drawn` at random from so many upcoming, else the
    one of whose order the model is least sure; at random while there is no model.

    Args:
        doubts: `RewardModel.uncertainty` of each prompt whose completions are there.
    """
    known = {prompt: doubt for prompt, doubt in doubts.items() if doubt is not None}
    if not known:
        return Choice(drawn, "random", 1 / upcoming)
    unsure = max(known, key=known.__getitem__)
    at_random = np.random.default_rng([seed, 4, count]).random() < RANDOM_SHARE
    prompt = drawn if at_random else unsure
    probability = RANDOM_SHARE / upcoming + (1 - RANDOM_SHARE) * (prompt == unsure)
    return Choice(prompt, "random" if at_random else "unsure", probability)


def choose_repeat(seed: int, history: Sequence[Ranking], share: float) -> Choice | None:
    """Now and then, a ranking given at least REPEAT_AFTER rankings ago, once each; else None."""
    rng = np.random.default_rng([seed, 5, len(history)])
    if rng.random() >= share:
        return None
    again = {r.repeats for r in history} - {None}
    ranked = [r for r in history if r.tiers is not None]
    old = [r for r in ranked[:-REPEAT_AFTER] if r.repeats is None and not again & {r.id, r.edits}]
    if not old:
        return None
    ranking = old[int(rng.integers(len(old)))]
    return Choice(ranking.prompt, "random", share / len(old), ranking.id)


def other_order(seed: int, shown: Sequence[int], repeats: int) -> list[int]:
    """The completions of a ranking in another order on screen."""
    rng = np.random.default_rng([seed, 6, repeats])
    while True:  # two completions in their old order are as likely as not
        order = [shown[i] for i in rng.permutation(len(shown))]
        if order != list(shown):
            return order
