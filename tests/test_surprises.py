"""Where the rater said the opposite of what the reward model was sure of."""

from __future__ import annotations

from dataclasses import replace

import pytest
from studies import rank_some

from lab.errors import BadSetting
from lab.preferences import Completion, Ranking
from lab.surprises import surprises

SURE = 3.0  # a margin


@pytest.fixture
def judged(study):
    """Rankings of two completions each, added by hand: `judge(margin)` returns the ranking."""
    rank_some(study, 1)
    extractor = study.reward_model.extractor
    width = study.reward_model.features(study.store.ids_by_prompt("reference").popitem()[1]).shape

    def judge(margin: float) -> Ranking:
        prompt = f"Asked {len(study.store.completions())}"
        pair = [Completion(prompt, f"{side} of {prompt}", (3,), True) for side in ("good", "bad")]
        features = [[float(i)] * width[1] for i in range(2)]
        a, b = study.store.add_completions(pair, extractor, features)
        return study.store.add_ranking(Ranking(prompt, ((a,), (b,)), (a, b), predicted=(margin, 0)))

    return judge


def test_the_confident_and_wrong_ones_are_found_the_surest_first(study, judged) -> None:
    for _ in range(40):
        judged(SURE)
    slight, worse, wrong, equal = (judged(m) for m in (-0.01, -SURE - 1, -SURE, 0.0))
    study.refit()
    found = surprises(study)
    assert [s.ranking for s in found] == [worse.id, wrong.id]
    assert found[0].prompt == worse.prompt
    assert found[0].chosen == f"good of {worse.prompt}"
    assert found[0].rejected == f"bad of {worse.prompt}"
    head = study.reward_model.head
    assert found[0].probability == pytest.approx(float(head.probability(SURE + 1)))
    assert [s.ranking for s in surprises(study, most=1)] == [worse.id]
    every = [s.ranking for s in surprises(study, at_least=0.5)]
    assert slight.id in every and equal.id not in every


def test_a_surprise_that_was_ranked_again_the_other_way_is_none(study, judged) -> None:
    for _ in range(40):
        judged(SURE)
    wrong = judged(-SURE)
    study.refit()
    assert [s.ranking for s in surprises(study)] == [wrong.id]
    study.store.add_ranking(replace(wrong, tiers=wrong.tiers[::-1], edits=wrong.id))
    study.refit()
    assert surprises(study) == []


def test_without_a_temperature_nobody_knows_how_sure_it_was(study, judged) -> None:
    for _ in range(10):
        judged(SURE)
    judged(-SURE)
    study.refit()
    assert study.reward_model.head.temperature is None
    assert surprises(study) == []


@pytest.mark.parametrize("at_least", [0.4, 1.1, float("nan")])
def test_a_probability_out_of_range_is_refused(study, at_least) -> None:
    with pytest.raises(BadSetting, match="at_least"):
        surprises(study, at_least)
