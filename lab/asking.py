"""What a session of ranking asks next, and what it shows for it."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from .preferences import Completion, Ranking
from .questions import Choice, choose_repeat, choose_unsure, drawn_at, other_order

if TYPE_CHECKING:
    from .ranking import RankingSession


@dataclass(frozen=True)
class Question:
    """A prompt and its completions in the order on screen, and how it was chosen; `edits` is the
    earlier judgement that an answer replaces."""

    prompt: str
    completions: tuple[Completion, ...]
    selection_probability: float | None
    selection: str = "random"
    repeats: int | None = None
    edits: Ranking | None = None


class Asking:
    """Part of `RankingSession`."""

    def upcoming(self: RankingSession) -> list[str]:
        """Prompts this rater has not judged, in the order in which they come at random."""
        judged = {r.prompt for r in self.done}
        return [p for p in self.study.completions.order(self.split) if p not in judged]

    def ready(self: RankingSession) -> list[str]:
        """Upcoming prompts whose completions are already there."""
        counts = self.study.completions.counts(self.policy)
        return [p for p in self.upcoming() if counts.get(p, 0) >= self.k]

    def ahead(self: RankingSession, count: int) -> list[str]:
        """The prompts that come next, or may: to be prepared."""
        upcoming = self.upcoming()
        if not upcoming or not self._draws_anew():
            return upcoming[:count]
        done, order, seed = (
            len(self.done),
            self.study.completions.order(self.split),
            self.study.seed,
        )
        drawn = [drawn_at(seed, done + i, order, upcoming) for i in range(count)]
        return list(dict.fromkeys(drawn + upcoming))[:count]

    def prepare(self: RankingSession, prompts: int = 1) -> None:
        """Sample completions of the next prompts, where they are missing."""
        self.study.completions.ensure(self.ahead(prompts), self.policy, self.k)

    def choose(self: RankingSession) -> Choice | None:
        """What is asked next; None when every prompt was judged. Until something is judged, here or
        in another notebook, it stays."""
        done = self.done
        state = len(done), done[-1].id if done else 0
        if self._choice is None or self._choice[0] != state:
            repeat = choose_repeat(self.study.seed, done, self.repeats)
            self._choice = state, repeat or self._choose_new()
        return self._choice[1]

    def _choose_new(self: RankingSession) -> Choice | None:
        upcoming = self.upcoming()
        if not upcoming:
            return None
        drawn = self.ahead(1)[0]
        if self.ask == "random":
            return Choice(drawn, "random", 1 / len(upcoming))
        found = self.study.store.ids_by_prompt(self.policy)
        doubts = {
            prompt: self.study.reward_model.uncertainty(found[prompt][: self.k])
            for prompt in upcoming
            if len(found.get(prompt, ())) >= self.k
        }
        return choose_unsure(self.study.seed, len(self.done), drawn, len(upcoming), doubts)

    def _draws_anew(self: RankingSession) -> bool:
        """Whether the seeded order is no longer a random sample: what was left of it since the
        model was sure of it is easier than the rest."""
        return self.ask == "unsure" or any(r.selection == "unsure" for r in self.done)

    def waits(self: RankingSession) -> bool:
        """Whether the next question has to be sampled first."""
        choice = self.choose()
        if choice is None or choice.repeats is not None:
            return False
        return self.study.store.count(choice.prompt, self.policy) < self.k

    def next(self: RankingSession) -> Question | None:
        """The next question; None when every prompt was judged. Samples if it has to."""
        choice = self.choose()
        if choice is None:
            self.current = None
            return None
        shown = self._shown(choice)
        self.current = Question(
            choice.prompt, shown, choice.probability, choice.selection, choice.repeats
        )
        self.started = time.monotonic()
        return self.current

    def _shown(self: RankingSession, choice: Choice) -> tuple[Completion, ...]:
        """The completions to rank, in their order on screen."""
        seed, store = self.study.seed, self.study.store
        if choice.repeats is not None:
            ids = other_order(seed, store.ranking(choice.repeats).shown, choice.repeats)
            return tuple(map(store.completion, ids))
        self.study.completions.ensure([choice.prompt], self.policy, self.k)
        found = store.completions(choice.prompt, self.policy)[: self.k]
        shuffle = np.random.default_rng([seed, 1, found[0].id]).permutation(self.k)
        return tuple(found[i] for i in shuffle)
