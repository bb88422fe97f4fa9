"""Best of n: sample n completions, keep the one with the highest score. No training at all.

The baseline that RL has to beat, at a KL that is known without measuring: at most
log n - (n-1)/n nats (Stiennon et al. 2020; a bound from above, Beirami et al. 2024).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from .compare import Answers, answer
from .errors import BadSetting
from .policy import Policy

AT_MOST = 64  # at larger n the bound is far from the truth, and KL past 3 nats


def kl_bound(n: int) -> float:
    """Upper bound of KL(best of n ‖ policy) in nats."""
    return math.log(n) - (n - 1) / n


def expected_best(scores: np.ndarray, n: int) -> np.ndarray:
    """Mean score [P] of the best of n among m sampled completions, from scores [P, m]: over all
    subsets of n, without drawing any. The i-th smallest of m is the best in C(i-1, n-1) of them."""
    m = scores.shape[1]
    if not 1 <= n <= m:
        raise BadSetting(f"n={n}: give a whole number from 1 to {m}, the completions there are.")
    share = np.array([math.comb(i, n - 1) / math.comb(m, n) for i in range(m)])
    return np.sort(scores, axis=1) @ share


def best_of_n(
    policy: Policy,
    prompts: Sequence[str],
    score,
    n: int = 8,
    *,
    max_new_tokens: int = 24,
    temperature: float = 1.0,
    seed: int = 0,
) -> tuple[Answers, np.ndarray]:
    """n answers to each prompt, and their scores [P, n]; row i·n + j is the j-th answer to prompt
    i. `best(answers, scores)` picks the winners.

    Args:
        score: (Answers) -> a number for each, as `lab.compare` judges.

    Raises:
        BadSetting: n is not from 1 to 64.
    """
    if not isinstance(n, int) or isinstance(n, bool) or not 1 <= n <= AT_MOST:
        raise BadSetting(f"n={n!r}: give a whole number from 1 to {AT_MOST}.")
    asked = [p for p in prompts for _ in range(n)]
    answers = answer(
        policy, asked, max_new_tokens=max_new_tokens, temperature=temperature, seed=seed
    )
    return answers, np.asarray(score(answers), dtype=float).reshape(len(prompts), n)


def best(answers: Answers, scores: np.ndarray) -> Answers:
    """The answer with the highest score to each prompt; the first of equals."""
    n = scores.shape[1]
    rows = [i * n + int(j) for i, j in enumerate(scores.argmax(1))]
    return answers.rows(rows)
