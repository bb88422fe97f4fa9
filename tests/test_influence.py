"""What a reward model would be with fewer rankings, and which of them made it so."""

from __future__ import annotations

import numpy as np
import pytest

import lab
from lab.errors import BadSetting, NotReady
from lab.influence import Contrast, influences
from lab.learning_curve import learning_curve
from lab.subset import Subset, reward_model_of


def longer(prompt: str, text: str) -> float:
    return float(len(text))


@pytest.fixture
def ranked(study) -> lab.Experiment:
    study.session().simulate(longer, 6)
    return study


def test_all_rankings_give_the_study_s_own_reward_model(ranked) -> None:
    again = reward_model_of(ranked, lambda ranking: True)
    ranked.reward_model.refit()
    own = ranked.reward_model.head
    assert np.allclose(again.head.weight, own.weight, rtol=1e-2, atol=1e-4 * abs(own.weight).max())


def test_a_ranking_that_is_left_out_is_as_one_that_was_never_given(ranked, tmp_path) -> None:
    last = ranked.store.rankings()[-1].id
    without = reward_model_of(ranked, lambda r: r.id != last)
    ranked.store.undo()
    undone = reward_model_of(ranked, lambda ranking: True)
    assert np.array_equal(without.head.weight, undone.head.weight)


def test_a_subset_leaves_the_study_as_it_was(ranked) -> None:
    before = ranked.reward_model.head
    reward_model_of(ranked, lambda r: r.id % 2 == 0)
    assert ranked.reward_model.head is before and len(ranked.store.rankings()) == 6
    assert len(Subset(ranked.store, lambda r: False).rankings()) == 0


def test_no_strict_ranking_left_says_so(ranked) -> None:
    with pytest.raises(NotReady):
        reward_model_of(ranked, lambda ranking: False)


def test_a_contrast_is_the_difference_of_scores(ranked) -> None:
    pairs = [("Tell me about thing 1.", "a long answer", "no"), ("thing 2?", "yes", "a b c")]
    contrast, head = Contrast.of(ranked, pairs), ranked.reward_model.head
    back = Contrast.of(ranked, [(prompt, b, a) for prompt, a, b in pairs])
    assert np.allclose(contrast.values(head), -back.values(head))
    assert contrast.mean(head) == pytest.approx(contrast.values(head).mean())
    same = Contrast.of(ranked, [("thing?", "the same", "the same")])
    assert same.mean(head) == 0


def test_a_contrast_of_nothing_is_refused(ranked) -> None:
    with pytest.raises(BadSetting, match="at least one"):
        Contrast.of(ranked, [])


def test_influence_is_what_the_contrast_loses_without_the_ranking(ranked) -> None:
    contrast = Contrast.of(ranked, [("Tell me about thing 1.", "word word word word", "w")])
    found = list(influences(ranked, contrast))
    assert [i.ranking.id for i in found] == [r.id for r in ranked.store.rankings()]
    third = found[2]
    whole = reward_model_of(ranked, lambda r: True)
    without = reward_model_of(ranked, lambda r: r.id != third.ranking.id)
    lost = contrast.mean(whole.head) - contrast.mean(without.head)
    assert third.change == pytest.approx(lost) and third.change != 0


def test_rankings_of_held_out_prompts_have_no_influence(ranked) -> None:
    ranked.session(heldout=True).simulate(longer, 2)
    contrast = Contrast.of(ranked, [("thing?", "word word", "w")])
    assert len(list(influences(ranked, contrast))) == 6


def test_a_learning_curve_goes_as_far_as_there_are_rankings(ranked) -> None:
    ranked.session(heldout=True).simulate(longer, 3)
    curve = dict(learning_curve(ranked, sizes=(2, 4, 9), draws=3))
    assert list(curve) == [2, 4]
    assert all(0 <= e.value <= 1 and e.count == 3 for e in curve.values())
    assert curve == dict(learning_curve(ranked, sizes=(2, 4, 9), draws=3))


def test_a_learning_curve_says_what_it_lacks(ranked) -> None:
    with pytest.raises(NotReady, match="none was ranked"):
        next(learning_curve(ranked))
    ranked.session(heldout=True).simulate(longer, 1)
    with pytest.raises(NotReady, match="6 rankings"):
        next(learning_curve(ranked, sizes=(50,)))


def test_a_learning_curve_of_one_rater_sees_only_their_rankings(ranked) -> None:
    ranked.session(heldout=True).simulate(longer, 3)
    other = lab.Rater("other", lambda prompt, text: -len(text))
    with pytest.raises(NotReady, match="none was ranked"):
        next(learning_curve(ranked, rater="other"))
    ranked.session(rater="other").simulate(other, 4)
    ranked.session(rater="other", heldout=True).simulate(other, 3)
    assert list(dict(learning_curve(ranked, sizes=(4, 6), rater="other"))) == [4]


def test_a_subset_of_ties_counts_as_a_coin(study) -> None:
    study.session().simulate(lambda prompt, text: 0.0, 4)
    study.session(heldout=True).simulate(longer, 3)
    assert [e.value for _, e in learning_curve(study, sizes=(2, 4), draws=2)] == [0.5, 0.5]


def test_held_out_ties_measure_nothing_and_say_so(ranked) -> None:
    ranked.session(heldout=True).simulate(lambda prompt, text: 0.0, 3)
    with pytest.raises(NotReady, match="all ties"):
        next(learning_curve(ranked, sizes=(4,), draws=1))
