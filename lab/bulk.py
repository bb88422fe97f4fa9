"""Many variants on many prompts, judged by one judge: the table of a comparison in bulk."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from . import statistics
from .compare import EVALUATION, Answers, Comparison, join, judge_of
from .errors import BadSetting
from .statistics import Estimate
from .variants import distinct

if TYPE_CHECKING:
    from .experiment import Experiment
    from .raters import Rater, Utility
    from .variants import Tell, Variant


@dataclass(frozen=True)
class BulkRow:
    """One variant in the table.

    Attributes:
        score: mean by the judge.
        gain: over the reference, row by row with the same seed; None for the reference.
        win_rate: how often it beats the reference's answer; ties half; None for the reference.
        kl: to the reference in nats; None for a model with other tokens.
        kl_is_bound: it was not measured, and is that at most (best of n).
        distinct2: share of different pairs of words among all; lower is more repetition.
        tokens: mean length of an answer.
        finished: share of answers that ended by themselves.
    """

    name: str
    answers: int
    score: float
    gain: Estimate | None
    win_rate: Estimate | None
    kl: float | None
    kl_is_bound: bool
    distinct2: float
    tokens: float
    finished: float


@dataclass
class Bulk:
    """Answers of variants to prompts, in short jobs: `run` does all, `work` one chunk at a time.

    The reference is always among the variants, and first: gains are over it.

    Args:
        names: variants, see `lab.variants`.
        rater: whose utility judges; None for the reward model of the newest run.
        prompts: the held-out ones unless given.
        count: answers to each prompt.

    Raises:
        NotReady: the reward model is to judge, and there is none.
        BadSetting: there are no prompts, or `count` is not from 1 to 64.
        LabError: there is nothing of one of the names.
    """

    study: Experiment
    names: Sequence[str]
    rater: str | Rater | Utility | None = None
    prompts: Sequence[str] | None = None
    count: int = 2
    found: dict[str, Answers] = field(default_factory=dict)
    done: int = 0

    def __post_init__(self) -> None:
        if not 1 <= self.count <= 64:
            raise BadSetting(f"count={self.count}: give a number from 1 to 64.")
        self.names = distinct(self.study, ["reference", *self.names])
        self.prompts = list(self.prompts or self.study.heldout)
        if not self.prompts:
            raise BadSetting("There are no held-out prompts: give some of your own.")
        self.asked = [p for p in self.prompts for _ in range(self.count)]
        self.total = len(self.names) * len(self.asked)
        self.bounds: dict[str, float | None] = {}
        self.judge_name = ""

    def work(self, tell: Tell | None = None) -> Iterator[int]:
        """Yields how many answers are there, after each chunk."""
        with self.study.compute:
            judge, self.judge_name = judge_of(self.study, self.rater)  # what is missing: at once
        self._judge = judge
        for name in self.names:
            variant = self.study.variant(name, tell)
            parts: list[Answers] = []
            chunks = variant.chunks(self.asked, seed=self.study.seed + EVALUATION)
            while (part := self._next(chunks)) is not None:
                parts.append(part)
                self.done += len(part.prompts)
                if self.done % len(self.asked) == 0:
                    self._keep(variant, parts)
                yield self.done

    def _next(self, chunks: Iterator[Answers]) -> Answers | None:
        with self.study.compute:
            return next(chunks, None)

    def _keep(self, variant: Variant, parts: list[Answers]) -> None:
        self.found[variant.name] = join(parts)
        self.bounds[variant.name] = variant.kl_bound

    def run(self, on_chunk: Callable[[int, int], None] | None = None) -> list[BulkRow]:
        """All of it. `on_chunk` gets how many answers are there, and of how many."""
        for done in self.work():
            if on_chunk:
                on_chunk(done, self.total)
        return self.rows()

    @property
    def made_to_please(self) -> bool:
        """Whether variants were made to please the judge: trained on it, or picked by it."""
        kinds = {name.partition("-")[0] for name in self.found}
        return self.rater is None and bool(kinds & {"ppo", "grpo", "best"})

    def rows(self) -> list[BulkRow]:
        """The table of the variants that have answered."""
        if not self.found:
            return []
        reference = self.found["reference"]
        utility = {n: np.array(self._judge(a), dtype=float) for n, a in self.found.items()}
        return [self._row(n, a, reference, utility) for n, a in self.found.items()]

    def _row(self, name: str, answers: Answers, reference: Answers, utility: dict) -> BulkRow:
        bound, is_reference = self.bounds[name], name == "reference"
        result = Comparison(reference, answers, utility["reference"], utility[name])
        return BulkRow(
            name=name,
            answers=len(answers.texts),
            score=float(utility[name].mean()),
            gain=None if is_reference else result.gain,
            win_rate=None if is_reference else result.win_rate,
            kl=bound if bound is not None else None if np.isnan(answers.kl) else answers.kl,
            kl_is_bound=bound is not None,
            distinct2=statistics.distinct_n(answers.texts),
            tokens=float(np.mean([len(ids) for ids in answers.token_ids])),
            finished=float(np.mean(answers.finished)),
        )
