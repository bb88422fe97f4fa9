"""Agreement of raters, on rankings whose agreement is known."""

from __future__ import annotations

import numpy as np
import pytest

from lab.agreement import Agreement, alpha, disagreements, position_bias, ranks, self_consistency
from lab.preferences import Ranking


def ranking(prompt: int, order, rater="Ada", **more) -> Ranking:
    """`order`: tiers of places 0 to 3 of a prompt's completions."""
    ids = [10 * prompt + i for i in range(4)]
    tiers = tuple(tuple(ids[i] for i in tier) for tier in order)
    return Ranking(f"prompt {prompt}", tiers, tuple(ids), rater, **more)


def strict(permutation) -> list[list[int]]:
    return [[int(i)] for i in permutation]


def test_tied_completions_share_the_mean_of_their_places() -> None:
    assert ranks(ranking(0, [[2], [0, 3], [1]])) == {2: 1.0, 0: 2.5, 3: 2.5, 1: 4.0}
    assert ranks(Ranking("p", None, (1, 2))) == {}


def test_alpha_is_one_for_raters_who_agree_and_minus_one_or_so_for_opposites() -> None:
    same = [ranking(p, strict(range(4)), r) for p in range(5) for r in ("Ada", "Bo")]
    assert alpha(same).value == 1.0 and alpha(same).count == 20
    ways = {"Ada": range(4), "Bo": range(3, -1, -1)}
    opposite = [ranking(p, strict(o), r) for p in range(5) for r, o in ways.items()]
    assert alpha(opposite).value < -0.9


def test_alpha_is_near_zero_for_random_raters_and_its_interval_says_so() -> None:
    rng = np.random.default_rng(0)
    random = [ranking(p, strict(rng.permutation(4)), r) for p in range(60) for r in ("a", "b", "c")]
    found = alpha(random)
    assert abs(found.value) < 0.1 and found.low < 0 < found.high


def test_alpha_needs_two_raters_on_the_same_completions() -> None:
    assert alpha([]) is None
    assert alpha([ranking(0, strict(range(4))), ranking(1, strict(range(4)), "Bo")]) is None
    tied = [ranking(0, [[0, 1, 2, 3]], r) for r in ("Ada", "Bo")]
    assert alpha(tied) is None


def test_a_rater_is_measured_against_their_own_earlier_ranking() -> None:
    rows = [
        ranking(0, strict([0, 1, 2, 3]), id=1),
        ranking(0, strict([1, 0, 2, 3]), id=2, repeats=1),  # one pair of six turned round
        ranking(1, [[0, 1], [2], [3]], id=3),
        ranking(1, strict([0, 1, 2, 3]), id=4, repeats=3),  # one pair was tied
        ranking(2, strict([0, 1, 2, 3]), "Bo", id=5),
    ]
    assert self_consistency(rows, "Ada").value == pytest.approx(10.5 / 12)
    assert self_consistency(rows, "Bo") is None


def test_disagreements_come_widest_first_and_ties_are_none() -> None:
    rows = [
        *(ranking(0, strict(o), r) for r, o in {"Ada": [0, 1, 2, 3], "Bo": [1, 0, 2, 3]}.items()),
        *(ranking(1, strict(o), r) for r, o in {"Ada": [0, 1, 2, 3], "Bo": [3, 2, 1, 0]}.items()),
        ranking(2, [[0, 1], [2], [3]]),
        ranking(2, strict(range(4)), "Bo"),
    ]
    found = disagreements(rows)
    assert [(d.prompt, round(d.share, 3)) for d in found] == [
        ("prompt 1", 1.0),
        ("prompt 0", 0.167),
    ]
    assert found[1].ranks == {"Ada": (1, 2, 3, 4), "Bo": (2, 1, 3, 4)}


def test_position_bias_is_one_half_without_any_and_found_where_it_is() -> None:
    rng = np.random.default_rng(0)
    fair = [ranking(p, strict(rng.permutation(4))) for p in range(200)]
    assert all(e.low < 0.5 < e.high for e in position_bias(fair))
    lazy = [ranking(p, strict([0, *rng.permutation([1, 2, 3])])) for p in range(40)]
    first, *others = position_bias(lazy)
    assert first.value == 1.0 and all(e.value == pytest.approx(1 / 3, abs=0.1) for e in others)
    assert position_bias([Ranking("p", None, (1, 2))]) is None


def test_agreement_counts_raters_and_reads_in_words_and_as_text_only() -> None:
    rows = [ranking(0, strict(range(4)), "<b>Ada", id=1), ranking(0, strict([3, 1, 2, 0]), "Bo")]
    rows.append(ranking(0, strict(range(4)), "<b>Ada", id=9, repeats=1))
    found = Agreement.of(rows)
    assert found.rankings == {"<b>Ada": 1, "Bo": 1}
    assert "Krippendorff's alpha" in str(found) and "with themselves: 1.00" in str(found)
    assert "<b>Ada" not in found._repr_html_() and "&lt;b&gt;Ada" in found._repr_html_()


def test_a_ranking_that_was_edited_is_compared_as_it_stands() -> None:
    rows = [
        ranking(0, strict([3, 2, 1, 0]), id=3, edits=1),
        ranking(0, strict([3, 2, 1, 0]), id=2, repeats=1),
    ]
    assert self_consistency(rows, "Ada").value == 1.0
