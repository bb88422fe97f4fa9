"""Proxy and gold are measured on the way up."""

from __future__ import annotations

import numpy as np
import pytest

from lab.overoptimisation import climb


def shorter(prompt: str, text: str) -> float:
    return -float(len(text))


def test_a_climb_starts_at_nothing_gained_and_measures_every_few_updates(study) -> None:
    study.session().simulate(shorter, 5)
    trainer = study.trainer("ppo", batch_size=8, learning_rate=5e-3)
    points = list(climb(study, trainer, shorter, updates=5, every=2))
    assert [p.update for p in points] == [0, 2, 4, 5]
    start = points[0]
    assert start.kl == pytest.approx(0, abs=1e-5)
    assert start.proxy.value == start.gold.value == 0
    assert points[-1].kl != 0 and points[-1].proxy.value != 0
    assert all(np.isfinite([p.proxy.value, p.gold.value, p.distinct2]).all() for p in points)


def test_a_climb_is_the_run_that_steps_would_have_made(study) -> None:
    study.session().simulate(shorter, 5)
    trainer = study.trainer("ppo", batch_size=8)
    list(climb(study, trainer, shorter, updates=3, every=1))
    measured = [row["objective/scores"] for row in trainer.history]
    again = study.trainer("ppo", new=True, batch_size=8)
    for _ in range(3):
        again.step()
    assert [row["objective/scores"] for row in again.history] == measured


def test_a_run_without_a_reward_model_is_measured_by_the_study_s_own(study) -> None:
    study.session().simulate(shorter, 5)
    points = list(climb(study, study.trainer("dpo", batch_size=8), shorter, updates=2, every=2))
    assert [p.update for p in points] == [0, 2]
    assert points[0].seconds == 0 < points[1].seconds
