"""What to do next in a study: the loop of RLHF as five steps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from .votes import Votes

if TYPE_CHECKING:
    from .experiment import Experiment

RANKINGS = 8  # after which the reward model has something to say
UPDATES = 10  # after which a policy has moved enough to be compared
VOTES = 10  # after which a win rate has begun to mean something


@dataclass(frozen=True)
class Step:
    """One step of the loop: where it is taken, whether it is done, and what to do for it."""

    place: str
    done: bool
    words: str


def steps(study: Experiment) -> list[Step]:
    """The steps of the loop in their order; `place` is "rank", "reward", "train" or "compare".
    Rankings of held-out prompts measure and train nothing, so they are none of the steps."""
    heldout = set(study.heldout)
    train = [policy for prompt, policy in study.store.ranked() if prompt not in heldout]
    left = max(0, RANKINGS - len(train))
    updates = max((study.run_record(name).last for name in study.runs), default=0)
    votes = len(Votes(study.store).all())
    return [
        Step(
            "rank",
            left == 0,
            f"Rank the completions of {left} more prompt{'s' * (left != 1)}, so that the reward "
            "model has something to learn from.",
        ),
        Step(
            "reward",
            left == 0 and updates > 0,
            "See how well the reward model predicts your rankings. Rank more if its interval is "
            "too wide for you; else go on to align the policy.",
        ),
        Step(
            "train",
            updates >= UPDATES,
            f"Take PPO updates: Step for one, Run for more. {updates} so far; after {UPDATES} the "
            "policy has moved enough to be compared.",
        ),
        Step(
            "compare",
            votes >= VOTES,
            f"Put the aligned policy beside the reference, and vote blind: {votes} of {VOTES} "
            "votes so far.",
        ),
        Step(
            "rank",
            any(policy != "reference" for policy in train),
            'A second round: rank what the aligned policy says now, study.rank(policy="aligned"), '
            "and start a new run with the better reward model.",
        ),
    ]


def next_step(study: Experiment) -> Step | None:
    """The first step that is not done; None when the loop is closed."""
    return first_undone(steps(study))


def first_undone(found: list[Step]) -> Step | None:
    """The next of these steps."""
    return next((step for step in found if not step.done), None)
