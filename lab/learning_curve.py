"""How many rankings are enough? Held-out accuracy over the number of rankings that trained."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from .errors import NotReady
from .statistics import Estimate, mean
from .subset import reward_model_of

if TYPE_CHECKING:
    from .experiment import Experiment

SIZES = (5, 10, 20, 50, 100, 200)


def learning_curve(
    study: Experiment,
    sizes: Sequence[int] = SIZES,
    draws: int = 5,
    seed: int = 0,
    rater: str | None = None,
) -> Iterator[tuple[int, Estimate]]:
    """Accuracy on rankings of held-out prompts after training on n others, n by n; all of one
    rater, if given.

    For each n that there are rankings for, `draws` random subsets are fitted; the 95 % interval is
    over them, so it says how much depends on *which* n were ranked. The held-out prompts stay the
    same: how much depends on those is what the reward model's own interval says. A subset of ties
    alone teaches nothing: it counts as a coin.

    Raises:
        NotReady: no held-out prompt was ranked, or all with ties alone; or there are fewer rankings
            that train than the smallest n.
    """
    heldout = set(study.heldout)
    rankings = study.store.rankings(rater=rater)
    training = [r.id for r in rankings if r.prompt not in heldout]
    if len(training) == len(rankings):
        raise NotReady(
            "A learning curve is measured on held-out prompts, and none was ranked: "
            "study.rank(heldout=True), or study.session(heldout=True).simulate(rater, 40)."
        )
    measuring = {r.id for r in rankings} - set(training)
    possible = [n for n in sizes if n <= len(training)]
    if not possible:
        raise NotReady(f"There are {len(training)} rankings, and a curve from {min(sizes)} on.")
    rng = np.random.default_rng(seed)
    for n in possible:
        found = []
        for _ in range(draws):
            kept = measuring | set(rng.permutation(training)[:n].tolist())
            found.append(accuracy_of(study, kept))
        yield n, mean(found, range(draws))


def accuracy_of(study: Experiment, kept: set[int]) -> float:
    """Held-out accuracy of a reward model fitted to the rankings of these ids; ½ where none of them
    prefers anything."""
    try:
        model = reward_model_of(study, lambda ranking: ranking.id in kept)
    except NotReady:
        return 0.5
    if model.accuracies.heldout is None:
        raise NotReady("The rankings of held-out prompts are all ties: rank more of them.")
    return model.accuracies.heldout.value
