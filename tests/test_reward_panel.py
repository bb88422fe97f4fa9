"""The reward model's panel, without a browser."""

from __future__ import annotations

from studies import rank_some


def test_the_reward_panel_has_a_point_for_each_ranking_from_the_second_on(study) -> None:
    rank_some(study, 2)
    panel = study.reward()
    rank_some(study, 3)
    trace = panel.figure.data[0]
    assert list(trace.x) == [2, 3, 4, 5] and len(trace.y) == 4
