"""What has been judged in a store: pairs and predictions of its rankings, each read once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .bradley_terry import FOLDS
from .calibration import Predictions
from .preferences import Pair, pairs_of
from .store import PreferenceStore


class Judgements:
    """The rankings that stand, read as they arrive. Other notebooks may add to the store, and undo.

    Attributes:
        count: rankings that stand, skipped prompts aside.
        training: their pairs, oldest first, but for those of held-out prompts.
        measuring: the pairs of held-out prompts.
        predictions: what was predicted of them; of prompts that came up at random, the first time
            that they did. A prompt chosen since the model was unsure of it is harder than others,
            one that another rater had before is easier, and whoever edits has seen the guess.
            Held-out prompts have an accuracy of their own.
        changed: rankings that came or were undone since somebody set this to 0.
    """

    def __init__(self, store: PreferenceStore, heldout: frozenset[str]) -> None:
        self._store, self._heldout = store, heldout
        self._newest = self.changed = 0
        self._undone: set[int] = set()
        self._forget()

    def _forget(self) -> None:
        self._standing: set[int] = set()
        self._order: dict[str, int] = {}  # of the prompts in training
        self._seen: set[str] = set()
        self.training: list[Pair] = []
        self.measuring: list[Pair] = []
        self.predictions = Predictions()

    @property
    def count(self) -> int:
        return len(self._standing)

    def read(self) -> bool:
        """Read what is new. If one was undone, forget all and read all again (what an undone edit
        had replaced stands again): then True."""
        new, undone = self._store.rankings(after=self._newest), self._store.undone()
        turned = undone ^ self._undone
        self.changed += len(new) + len(turned)
        if turned:
            self._forget()
            self._undone, new = undone, self._store.rankings()
        for ranking in new:
            self._standing.add(ranking.id)
            self._newest = max(self._newest, ranking.id)
            fresh = ranking.prompt not in self._seen and ranking.edits is None
            self._seen.add(ranking.prompt)
            if ranking.prompt in self._heldout:
                self.measuring += pairs_of(ranking)
                continue
            if fresh and ranking.selection == "random":
                self.predictions.add(ranking)
            if pairs := pairs_of(ranking):
                self._order.setdefault(ranking.prompt, len(self._order))
                self.training += pairs
        return bool(turned)

    @property
    def folds(self) -> int:
        """How many folds have pairs."""
        return min(FOLDS, len(self._order))

    def fold(self, pairs: Sequence[Pair]) -> np.ndarray:
        """The fold [n] of each training pair; all pairs of a prompt share one."""
        return np.array([self._order[p.prompt] % FOLDS for p in pairs], dtype=int)

    def sample(self, most: int) -> list[Pair]:
        """The training pairs of at most so many rankings, always the same ones of the same. They
        are drawn at random: every fifth, say, would be all of one fold."""
        rankings = list(dict.fromkeys(p.ranking for p in self.training))
        if len(rankings) <= most:
            return self.training
        drawn = np.random.default_rng(0).permutation(len(rankings))[:most]
        kept = {rankings[i] for i in drawn}
        return [p for p in self.training if p.ranking in kept]
