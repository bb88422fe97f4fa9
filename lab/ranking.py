"""A session of ranking: which prompt comes next, what was shown, what was said."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from .errors import LabError
from .preferences import Completion, Ranking
from .raters import Rater, get_rater

if TYPE_CHECKING:
    from .experiment import Experiment


@dataclass(frozen=True)
class Question:
    """A prompt and its completions in the order on screen."""

    prompt: str
    completions: tuple[Completion, ...]
    selection_probability: float


class RankingSession:
    """What the ranking board drives; a notebook or a simulated rater can drive it as well.

    Prompts come in a seeded order, uniformly among those not yet judged. `submit`, `skip` and
    `undo` return when the store has the row.

    Args:
        policy: "reference", or "aligned" for what the newest run says now.
        k: completions to rank, 2 to 9.
    """

    def __init__(
        self, study: Experiment, rater: str = "me", policy: str = "reference", k: int = 4
    ) -> None:
        if not 2 <= k <= 9:
            raise LabError(f"k={k}: rank from 2 to 9 completions at a time.")
        self.study, self.rater, self.k = study, rater, k
        self.policy = study.policy_name(policy)
        self.started = time.monotonic()
        self.current: Question | None = None

    @property
    def done(self) -> list[Ranking]:
        """Judgements of this policy's completions, skipped ones included."""
        return self.study.store.rankings(skipped=True, policy=self.policy)

    def upcoming(self) -> list[str]:
        """Prompts not yet judged, in the order in which they will come."""
        judged = set(self.study.store.judged(skipped=True, policy=self.policy))
        return [p for p in self.study.completions.order() if p not in judged]

    def ready(self) -> list[str]:
        """Upcoming prompts whose completions are already there."""
        counts = self.study.completions.counts(self.policy)
        return [p for p in self.upcoming() if counts.get(p, 0) >= self.k]

    def prepare(self, prompts: int = 1) -> None:
        """Sample completions of the next prompts, where they are missing."""
        self.study.completions.ensure(self.upcoming()[:prompts], self.policy, self.k)

    def next(self) -> Question | None:
        """The next question; None when every prompt was judged. Samples if it has to."""
        upcoming = self.upcoming()
        if not upcoming:
            self.current = None
            return None
        prompt = upcoming[0]
        self.study.completions.ensure([prompt], self.policy, self.k)
        found = self.study.store.completions(prompt, self.policy)[: self.k]
        shuffle = np.random.default_rng([self.study.seed, 1, found[0].id]).permutation(self.k)
        shown = tuple(found[i] for i in shuffle)
        self.current = Question(prompt, shown, 1 / len(upcoming))
        self.started = time.monotonic()
        return self.current

    def submit(self, tiers: Sequence[Sequence[int]], seconds: float | None = None) -> Ranking:
        """Keep a ranking of the current question: tiers of positions on screen, best first."""
        question = self._require_question()
        if sorted(i for tier in tiers for i in tier) != list(range(len(question.completions))):
            raise LabError(
                f"tiers={tiers!r}: each of the positions 0 to {len(question.completions) - 1} "
                "must be in exactly one tier."
            )
        ids = [c.id for c in question.completions]
        ordered = tuple(tuple(ids[i] for i in tier) for tier in tiers if len(tier))
        return self._keep(question, ordered, seconds)

    def skip(self, seconds: float | None = None) -> Ranking:
        """Leave the current question unjudged; it does not come again."""
        return self._keep(self._require_question(), None, seconds)

    def undo(self) -> Ranking | None:
        """Take back this rater's last judgement; its question comes again."""
        ranking = self.study.store.undo(self.rater)
        if ranking is not None:
            self.study.refit()
            completions = tuple(self.study.store.completion(i) for i in ranking.shown)
            self.current = Question(ranking.prompt, completions, ranking.selection_probability or 0)
            self.started = time.monotonic()
        return ranking

    def simulate(self, rater: str | Rater, rankings: int, on_ranking=None) -> None:
        """Let a simulated rater rank; its rows are labelled as simulated."""
        rater = get_rater(rater)
        self.rater = rater.name
        for i in range(rankings):
            if self.next() is None:
                break
            rng = np.random.default_rng([self.study.seed, 2, self.current.completions[0].id])
            texts = [c.text for c in self.current.completions]
            tiers = rater.rank(self.current.prompt, texts, rng)
            ids = [c.id for c in self.current.completions]
            ordered = tuple(tuple(ids[j] for j in tier) for tier in tiers)
            self._keep(self.current, ordered, None, simulated=rater.simulated)
            self.study.refit()
            if on_ranking:
                on_ranking(i + 1)

    def _require_question(self) -> Question:
        if self.current is None:
            raise LabError("There is no question to answer: call next() first.")
        return self.current

    def _keep(self, question: Question, tiers, seconds, simulated: bool = False) -> Ranking:
        ids = tuple(c.id for c in question.completions)
        ranking = self.study.store.add_ranking(
            Ranking(
                prompt=question.prompt,
                tiers=tiers,
                shown=ids,
                rater=self.rater,
                simulated=simulated,
                selection_probability=question.selection_probability,
                seconds=time.monotonic() - self.started if seconds is None else seconds,
                predicted=self.study.reward_model.predict(ids),
            )
        )
        self.current = None
        return ranking
