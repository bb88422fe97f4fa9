"""Best of n: what it gains, and the KL that it costs at most."""

from __future__ import annotations

import math
from itertools import combinations

import numpy as np
import pytest
from helpers import build_policy

from lab.best_of_n import best, best_of_n, expected_best, kl_bound
from lab.errors import BadSetting

PROMPTS = ["w20 w21", "w30", "w31 w32"]


def test_the_expected_best_is_the_mean_over_all_subsets():
    scores = np.random.default_rng(0).normal(size=(3, 7))
    for n in range(1, 8):
        subsets = [max(row[list(c)]) for row in scores for c in combinations(range(7), n)]
        mean = np.array(subsets).reshape(3, -1).mean(1)
        assert expected_best(scores, n) == pytest.approx(mean)


def test_the_bound_is_log_n_less_n_minus_1_over_n_and_holds():
    """The KL of the best of n among equally likely, differently scored answers is computed."""
    assert kl_bound(1) == 0
    assert kl_bound(4) == pytest.approx(math.log(4) - 3 / 4)
    m = 50
    for n in (2, 4, 16):
        p = [((i + 1) / m) ** n - (i / m) ** n for i in range(m)]
        kl = sum(x * math.log(x * m) for x in p if x > 0)
        assert 0 < kl <= kl_bound(n)


def test_the_highest_score_of_each_prompt_is_picked():
    policy = build_policy(eos=range(3, 7))
    answers, scores = best_of_n(
        policy, PROMPTS, lambda a: [len(t) for t in a.token_ids], 5, max_new_tokens=6
    )
    winners = best(answers, scores)
    assert winners.prompts == PROMPTS
    assert len(answers.texts) == 15 and scores.shape == (3, 5)
    assert [len(t) for t in winners.token_ids] == scores.max(1).tolist()
    assert winners.features.shape[0] == 3


def test_equal_scores_pick_the_first():
    answers, scores = best_of_n(build_policy(), ["w20"], lambda a: [1.0] * 3, 3, max_new_tokens=4)
    assert best(answers, scores).texts == answers.texts[:1]


@pytest.mark.parametrize("n", [0, 65, 2.5, True])
def test_n_out_of_range_is_refused(n):
    with pytest.raises(BadSetting, match=f"n={n!r}"):
        best_of_n(build_policy(), PROMPTS, lambda a: [], n)
    with pytest.raises(BadSetting, match="n=4"):
        expected_best(np.zeros((2, 3)), 4)
