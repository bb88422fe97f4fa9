"""A session of ranking: which prompt comes next, what was shown, what was said."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING
from zlib import crc32

import numpy as np

from .asking import Asking, Question
from .errors import AlreadyAnswered, LabError
from .preferences import Ranking
from .questions import Choice, History, check_asking
from .raters import Rater, get_rater
from .statistics import Estimate
from .store import clean

if TYPE_CHECKING:
    from .experiment import Experiment
    from .guess import Guess
    from .store import PreferenceStore

LONGEST_NAME = 60
FEWEST_TIMES = 3  # rankings, before their seconds say something


@dataclass(frozen=True)
class Summary:
    """What a rater has done so far.

    Attributes:
        rankings: those that stand; `repeats` of them asked an earlier one again.
        seconds: the median a ranking took, None before FEWEST_TIMES of them.
        agreement: prequential accuracy of the study's reward model.
        consistency: how often pairs were ordered the same way when they came again.
        position_bias: the share of pairs won by the card at each place; see `agreement`.
    """

    rankings: int
    repeats: int
    seconds: float | None
    agreement: Estimate | None
    consistency: Estimate | None
    position_bias: list[Estimate] | None


class RankingSession(Asking):
    """What the ranking board drives; a notebook or a simulated rater can drive it as well.

    `submit`, `skip` and `undo` return when the store has the row.

    Args:
        rater: whose judgements these are. Each rater is asked every prompt.
        policy: "reference", or "aligned" for what the newest run says now.
        k: completions to rank, 2 to 9.
        ask: "random", prompts in a seeded order; or "unsure", those of which the reward model was
            least sure when the last ranking came in, and RANDOM_SHARE of them at random to measure
            by.
        repeats: the share of questions that ask an earlier one again, unannounced, with the
            completions in another order. Their answers train nothing.
        heldout: ask the prompts that are held out: their rankings measure the reward model, and
            train nothing.
    """

    def __init__(
        self,
        study: Experiment,
        rater: str = "me",
        policy: str = "reference",
        k: int = 4,
        ask: str = "random",
        repeats: float = 0.0,
        heldout: bool = False,
    ) -> None:
        if not 2 <= k <= 9:
            raise LabError(f"k={k}: rank from 2 to 9 completions at a time.")
        check_asking(ask, repeats)
        self.study, self.k, self.repeats = study, k, repeats
        self.split = "heldout" if heldout else "train"
        self._held_out = frozenset(study.heldout)
        self.policy = study.policy_name(policy)
        self.started = time.monotonic()
        self.guess: Guess | None = None  # of the last ranking
        self._ask = ask
        self.rater = rater

    @property
    def rater(self) -> str:
        """Whose judgements these are. Another rater has another open question."""
        return self._rater

    @rater.setter
    def rater(self, name: str) -> None:
        name = " ".join(clean(name).split())
        if not 0 < len(name) <= LONGEST_NAME:
            raise LabError(f"A rater's name has 1 to {LONGEST_NAME} characters, not {len(name)}.")
        self._rater = name
        self._history = History(self.study.store, self.policy, name)
        self.current: Question | None = None
        self.guess = None
        self._choice: tuple[tuple[int, int], Choice | None] | None = None  # see `choose`
        self._left: tuple[Question | None, float] | None = None  # while one edits: see `edit`

    @property
    def ask(self) -> str:
        """How the next prompt is chosen."""
        return self._ask

    @ask.setter
    def ask(self, ask: str) -> None:
        check_asking(ask, self.repeats)
        self._ask, self._choice = ask, None

    @property
    def done(self) -> list[Ranking]:
        """This rater's judgements of this policy's completions that stand, oldest first; skipped
        prompts and repeats included. A session of held-out prompts has those of its own."""
        heldout = self.split == "heldout"
        return [r for r in self._history.read() if (r.prompt in self._held_out) == heldout]

    @property
    def seconds(self) -> float | None:
        """The median that a ranking took, None before FEWEST_TIMES of them."""
        ranked = [r for r in self.done if r.tiers is not None and r.edits is None]
        times = [r.seconds for r in ranked if r.seconds is not None]
        return median(times) if len(times) >= FEWEST_TIMES else None

    def summary(self) -> Summary:
        """What this rater has done so far."""
        from .agreement import position_bias, self_consistency

        ranked = [r for r in self.done if r.tiers is not None]
        first = [r for r in ranked if r.repeats is None]
        return Summary(
            rankings=len(ranked),
            repeats=len(ranked) - len(first),
            seconds=self.seconds,
            agreement=self.study.reward_model.accuracies.prequential,
            consistency=self_consistency(ranked, self.rater),
            position_bias=position_bias(first),
        )

    # What is said

    def submit(
        self,
        tiers: Sequence[Sequence[int]],
        seconds: float | None = None,
        *,
        all_bad: bool = False,
        note: str | None = None,
    ) -> Ranking:
        """Keep a ranking of the current question: tiers of positions on screen, best first.

        Args:
            all_bad: none is acceptable; then all of them are in one tier.
            note: flags the ranking, with or without words.
        """
        question = self._require_question()
        if sorted(i for tier in tiers for i in tier) != list(range(len(question.completions))):
            raise LabError(
                f"tiers={tiers!r}: each of the positions 0 to {len(question.completions) - 1} "
                "must be in exactly one tier."
            )
        ids = [c.id for c in question.completions]
        ordered = tuple(tuple(ids[i] for i in tier) for tier in tiers if len(tier))
        if all_bad and len(ordered) > 1:
            raise LabError(f"tiers={tiers!r}: where all are bad, they are in one tier.")
        return self._keep(question, ordered, seconds, all_bad=all_bad, note=note)

    def skip(self, seconds: float | None = None, *, note: str | None = None) -> Ranking:
        """Leave the current question unjudged; it does not come again."""
        return self._keep(self._require_question(), None, seconds, note=note)

    def undo(self) -> Ranking | None:
        """Take back this rater's last judgement; its question comes again. If it had changed an
        earlier one, that one stands again, and the open question stays."""
        self.leave()
        done = self.done
        ranking = self.study.store.undo(self.rater, done[-1].id) if done else None
        if ranking is not None:
            self.guess = self._choice = None
            self.study.refit()
            if ranking.edits is None:
                self.current = self._question_of(ranking)
                self.started = time.monotonic()
        return ranking

    def edit(self, ranking: int) -> Question:
        """Put an earlier judgement of this rater up again, by its id: the next `submit` or `skip`
        replaces it, and the open question comes back.

        Raises:
            LabError: it is another rater's, or no longer stands.
        """
        earlier = next((r for r in self.done if r.id == ranking), None)
        if earlier is None:
            raise LabError(
                f"Ranking {ranking} is none of {self.rater!r} that stands: it was taken back, "
                "replaced by a newer one, or is another rater's."
            )
        self.leave()
        self._left = self.current, time.monotonic() - self.started
        self.guess = None
        self.current = self._question_of(earlier, edits=earlier)
        self.started = time.monotonic()
        return self.current

    def leave(self) -> None:
        """Go back from an edit to the open question; nothing is changed."""
        if self._left is not None:
            self.current, spent = self._left
            self.started, self._left = time.monotonic() - spent, None

    def _question_of(self, ranking: Ranking, edits: Ranking | None = None) -> Question:
        completions = tuple(map(self.study.store.completion, ranking.shown))
        how = ranking.selection_probability, ranking.selection, ranking.repeats
        return Question(ranking.prompt, completions, *how, edits)

    def simulate(
        self,
        rater: str | Rater,
        rankings: int,
        on_ranking: Callable[[int], None] | None = None,
    ) -> None:
        """Let a simulated rater rank; its rows are labelled as simulated."""
        rater = get_rater(rater)
        self.rater = rater.name
        for i in range(rankings):
            if self.next() is None:
                break
            rng = self._noise(rater)
            texts = [c.text for c in self.current.completions]
            tiers = rater.rank(self.current.prompt, texts, rng)
            ids = [c.id for c in self.current.completions]
            ordered = tuple(tuple(ids[j] for j in tier) for tier in tiers)
            self._keep(self.current, ordered, None, simulated=rater.simulated)
            self.study.refit()
            if on_ranking:
                on_ranking(i + 1)

    def _noise(self, rater: Rater) -> np.random.Generator:
        """Random numbers of one rater's judgement: others for another rater, and for the same cards
        in another order, as when a question comes again."""
        shown = [c.id for c in self.current.completions]
        return np.random.default_rng([self.study.seed, 2, crc32(rater.name.encode()), *shown])

    def _require_question(self) -> Question:
        if self.current is None:
            raise LabError("There is no question to answer: call next() first.")
        return self.current

    def _keep(self, question: Question, tiers, seconds: float | None, **more) -> Ranking:
        ids = tuple(c.id for c in question.completions)
        model, edits, store = self.study.reward_model, question.edits, self.study.store
        new = edits is None and question.repeats is None
        if new and any(r.prompt == question.prompt for r in self.done):
            self.current = self._choice = None
            raise AlreadyAnswered("This question was answered elsewhere meanwhile.")
        head = model.head
        seen = store.was_guessed(question.prompt, self.rater)
        predicted = None if seen else model.predict(ids)
        ranking = store.add_ranking(
            Ranking(
                prompt=question.prompt,
                tiers=tiers,
                shown=ids,
                rater=self.rater,
                selection=question.selection,
                selection_probability=question.selection_probability,
                seconds=time.monotonic() - self.started if seconds is None else seconds,
                predicted=edits.predicted if edits else predicted,
                edits=edits.id if edits else None,
                repeats=question.repeats,
                **more,
            )
        )
        self._answered(ranking, head)
        return ranking

    def _answered(self, ranking: Ranking, head) -> None:
        from .guess import guess_of

        self.current = self._choice = None
        self.leave()
        self.guess = guess_of(ranking, head) if ranking.edits is None else None


def last_rater(store: PreferenceStore) -> str:
    """The person who ranked last in a study; "me" where nobody has."""
    people = (r.rater for r in reversed(store.rankings(skipped=True)) if not r.simulated)
    return next(people, "me")
