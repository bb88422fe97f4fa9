"""Score against √KL, and best-of-n as its yardstick."""

from __future__ import annotations

import math

import numpy as np
import pytest
from studies import rank_some

from lab import frontier
from lab.best_of_n import kl_bound
from lab.errors import NotReady


def test_points_are_the_root_of_kl_and_an_estimate_below_zero_is_drawn_at_zero() -> None:
    history = [
        {"update": 1, "objective/kl": -0.1, "objective/scores": 0.2},
        {"update": 2, "objective/kl": 4.0, "objective/scores": 1.0},
        {"update": 3, "loss": 1.0},
    ]
    assert frontier.points(history) == ([0.0, 2.0], [0.2, 1.0])


def test_the_curve_is_the_expected_best_with_an_interval_over_prompts() -> None:
    rows = frontier.curve(np.array([[0.0, 1.0, 2.0, 3.0], [1.0, 1.0, 1.0, 1.0]]))
    assert [row["n"] for row in rows] == [1, 2, 4]
    assert [row["kl"] for row in rows] == [0.0, kl_bound(2), kl_bound(4)]
    pairs = [(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)]
    best_of_two = sum(max(pair) for pair in pairs) / 6
    assert rows[0]["score"] == pytest.approx((1.5 + 1) / 2)
    assert rows[1]["score"] == pytest.approx((best_of_two + 1) / 2)
    assert rows[2]["score"] == pytest.approx((3 + 1) / 2)
    assert all(row["low"] < row["score"] < row["high"] and row["prompts"] == 2 for row in rows)
    assert frontier.curve(np.array([[1.0, 2.0]]))[0]["low"] is None, "one prompt has no interval"


def test_stored_completions_give_best_of_four_for_nothing(study) -> None:
    rank_some(study)
    run = study.trainer(batch_size=4).run
    sampled = len(study.store.completions())
    rows = frontier.stored(study, run.name)
    assert [row["n"] for row in rows] == [1, 2, 4]
    assert rows[0]["prompts"] == len(run.config["prompts"])
    assert rows[0]["score"] == pytest.approx(0, abs=1e-5), "scores are from the prompt's mean"
    assert rows[0]["score"] < rows[1]["score"] < rows[2]["score"]
    assert len(study.store.completions()) == sampled


def test_what_was_measured_is_kept_for_all_runs_of_the_same_reward_model(study) -> None:
    rank_some(study)
    study.trainer(batch_size=4).train(1)
    branch = study.branch(1, kl_coef=0.5).run.name
    told = []
    rows = frontier.measure(study, "ppo-1", n=8, prompts=2, on_prompt=lambda *n: told.append(n))
    assert told == [(1, 2), (2, 2)]
    assert [row["n"] for row in rows] == [1, 2, 4, 8] and rows[0]["prompts"] == 2
    assert rows[-1]["kl"] == pytest.approx(math.log(8) - 7 / 8)
    assert frontier.measured(study, "ppo-1") == frontier.measured(study, branch) == rows
    rank_some(study, 3)
    other = study.trainer("ppo", new=True, batch_size=4).run.name
    assert frontier.measured(study, other) == [], "it is pinned to another reward model"
    assert frontier.measure(study, "ppo-1", n=8, prompts=2) == rows, (
        "the same seed, the same answers"
    )


def test_a_file_that_cannot_be_read_is_measured_anew(study) -> None:
    rank_some(study)
    run = study.trainer(batch_size=4).run.name
    (study.folder / frontier.FILE).write_text("{")
    assert frontier.measured(study, run) == []
    assert frontier.measure(study, run, n=2, prompts=1) == frontier.measured(study, run)


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"missing_eos_penalty": 1.0}, "missing_eos_penalty"),
        ({"score_clip": 1.0}, "score_clip"),
        ({"temperature": 0.7}, "temperature is not 1"),
        ({"max_new_tokens": 5}, "max_new_tokens are not 6"),
        ({"start": "sft-1"}, "starts from sft-1"),
    ],
)
def test_a_run_that_scores_or_samples_otherwise_has_no_yardstick(study, settings, why) -> None:
    rank_some(study)
    study.trainer("sft", demonstrations=[("w3", "w4"), ("w5", "w6")])
    run = study.trainer("ppo", batch_size=4, **settings).run.name
    assert frontier.stored(study, run) == []
    with pytest.raises(NotReady, match=f"{run} can't be compared with best-of-n.*{why}"):
        frontier.measure(study, run, n=2, prompts=1)


def test_a_temperature_that_was_changed_on_the_way_ends_the_comparison(study) -> None:
    rank_some(study)
    trainer = study.trainer(batch_size=4)
    trainer.step()
    assert frontier.measure(study, "ppo-1", n=2, prompts=1) == frontier.measured(study, "ppo-1")
    trainer.change(temperature=0.5)
    trainer.step()
    assert frontier.measured(study, "ppo-1") == frontier.stored(study, "ppo-1") == []


def test_a_run_without_a_reward_model_has_no_best_of_n(study) -> None:
    run = study.trainer("sft", demonstrations=[("w3", "w4"), ("w5", "w6")]).run.name
    with pytest.raises(NotReady, match="sft-1 has no reward model"):
        frontier.measure(study, run)
