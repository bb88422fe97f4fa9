"""The reward model's score and the rater's own utility, while PPO climbs (Gao et al. 2022).

PPO maximises the score of a reward model: the proxy. What the rater wants is the gold utility, of
which the proxy is an estimate from a few rankings. At first both rise; from some KL on only the
proxy does. With a simulated rater the gold utility is known, so the parting can be seen.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from .compare import EVALUATION, Answers, answer
from .raters import Rater, Utility, get_rater
from .reward import RewardHead
from .statistics import Estimate, distinct_n, mean

if TYPE_CHECKING:
    from .experiment import Experiment
    from .trainer import Trainer


@dataclass(frozen=True)
class Point:
    """A policy on its way, measured on held-out prompts.

    Attributes:
        seconds: of training so far, measuring aside.
        kl: to the reference, nats.
        proxy: gain in the reward model's score, in its standard deviations.
        gold: gain in the rater's utility, in standard deviations of the reference's answers.
        distinct2: share of different pairs of words.
    """

    update: int
    seconds: float
    kl: float
    proxy: Estimate
    gold: Estimate
    distinct2: float


def climb(
    study: Experiment,
    trainer: Trainer,
    rater: str | Rater | Utility,
    updates: int,
    every: int = 5,
    prompts: Sequence[str] | None = None,
    count: int = 2,
) -> Iterator[Point]:
    """Take updates, and measure before the first and after every few.

    Args:
        trainer: of any kind that has a policy. The proxy is the reward model that its run is pinned
            to; for a run without one, the study's own.
        rater: whose utility is gold; its noise is left out.
        updates: to take in all, from where the trainer stands.
        prompts: the held-out ones unless given, `count` answers to each.
    """
    asked = [p for p in prompts or study.heldout for _ in range(count)]
    folder, utility = trainer.run.folder, get_rater(rater).utility
    pinned = (folder / "reward.json").exists()
    head = RewardHead.load(folder) if pinned else study.reward_model.require_head()
    drawing = {"max_new_tokens": study.max_new_tokens, "temperature": study.temperature}

    def answers_of(policy) -> Answers:
        with study.compute:
            seed = study.seed + EVALUATION
            return answer(policy, asked, reference=study.reference, seed=seed, **drawing)

    def judged(answers: Answers) -> tuple[np.ndarray, np.ndarray]:
        texts = zip(answers.prompts, answers.texts, strict=True)
        return head.score(answers.prompts, answers.features), np.array([utility(*t) for t in texts])

    proxy_before, gold_before = judged(answers_of(study.reference))
    spread = float(gold_before.std(ddof=1)) or 1.0
    for done in range(updates + 1):
        if done:
            trainer.step()
        if done % every == 0 or done == updates:
            answers = answers_of(trainer.policy)
            proxy, gold = judged(answers)
            yield Point(
                update=trainer.update,
                seconds=sum(row["seconds"] for row in trainer.history),
                kl=answers.kl,
                proxy=mean(proxy - proxy_before, asked),
                gold=mean((gold - gold_before) / spread, asked),
                distinct2=distinct_n(answers.texts),
            )
