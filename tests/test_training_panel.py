"""The panel that drives a trainer, without a browser."""

from __future__ import annotations

import time

import pytest
from studies import idle, rank_some


def trace(panel, name: str):
    """A trace of the figure by its name."""
    return next(t for t in panel.figure.data if t.name == name)


def test_the_training_panel_steps_runs_and_plots(study) -> None:
    rank_some(study)
    panel = study.ppo(batch_size=4)
    panel.start(1)
    idle(study)
    panel.start(2)
    idle(study)
    names = ("score of the reward model", "score less the KL penalty", "KL to the reference")
    assert [list(trace(panel, name).x) for name in names] == [[1, 2, 3]] * 3
    kl = [row["objective/kl"] for row in panel.trainer.history]
    assert list(trace(panel, "KL to the reference").y) == kl
    assert panel.trainer.run.checkpoints[-1] == 3


@pytest.mark.parametrize(
    ("kind", "options", "lines", "sliders"),
    [
        ("grpo", {"batch_size": 4, "num_generations": 2}, 3, {"beta", "epsilon", "temperature"}),
        ("dpo", {"batch_size": 4}, 3, {"beta"}),
        ("sft", {"demonstrations": [("w3", "w4"), ("w5", "w6")]}, 2, set()),
        ("reward", {"batch_size": 4}, 4, set()),
    ],
)
def test_every_trainer_is_driven_by_the_same_panel(study, kind, options, lines, sliders) -> None:
    rank_some(study, 6)
    panel = study.train(kind, **options)
    panel.start(2)
    idle(study)
    assert 'role="alert"' not in panel.status.value and "Update 2" in panel.status.value
    assert set(panel.sliders) == sliders | {"learning_rate"}
    solid = [t for t in panel.figure.data if t.opacity is None]
    assert len(solid) == lines
    assert list(solid[0].x) == [1, 2]
    assert "prompt" in panel.samples.value
    panel.sliders["learning_rate"].value = 1e-3
    panel.start(1)
    idle(study)
    assert panel.trainer.history[-1]["learning_rate"] == pytest.approx(1e-3)


def test_sliders_show_settings_past_their_ends_and_change_none(study) -> None:
    rank_some(study)
    study.trainer(batch_size=4, kl_coef=5.0, temperature=3.0, learning_rate=1e-8).train(1)
    panel = study.ppo()
    idle(study)
    settings = panel.trainer.settings
    assert (settings.kl_coef, settings.temperature, settings.learning_rate) == (5.0, 3.0, 1e-8)
    assert panel.sliders["kl_coef"].value == 5.0 and panel.sliders["temperature"].value == 3.0


def test_a_panel_opened_on_a_run_that_was_rewound_says_where_settings_can_change(study) -> None:
    rank_some(study)
    study.trainer(batch_size=4).train(2)
    panel = study.ppo()
    idle(study)
    panel.trainer.rewind(1)
    panel.sliders["kl_coef"].value = 0.9
    assert "branch(1" in panel.status.value and 'role="alert"' not in panel.status.value


def test_pause_ends_a_run_after_the_update_under_way(study) -> None:
    rank_some(study)
    panel = study.ppo(batch_size=4)
    panel.start(10_000)
    while panel.trainer is None or len(panel.trainer.history) < 2:
        time.sleep(0.01)
    start = time.perf_counter()
    panel.pause()
    assert time.perf_counter() - start < 0.3 and "Pausing" in panel.status.value
    idle(study)
    assert 2 <= len(panel.trainer.history) < 100


def test_sliders_change_the_next_update(study) -> None:
    rank_some(study)
    panel = study.ppo(batch_size=4)
    idle(study)
    panel.sliders["learning_rate"].value = 1e-3
    panel.sliders["cliprange"].value = 0.5
    panel.start(1)
    idle(study)
    assert panel.trainer.history[-1]["learning_rate"] == pytest.approx(1e-3)
    assert panel.trainer.settings.cliprange == 0.5


def test_an_error_during_training_is_shown_and_the_panel_lives_on(study) -> None:
    rank_some(study)
    panel = study.ppo(batch_size=4)
    idle(study)
    good, panel.trainer.score = panel.trainer.score, lambda p, s: [float("nan")] * len(p)
    panel.start(3)
    idle(study)
    assert 'role="alert"' in panel.status.value and "not a finite number" in panel.status.value
    panel.trainer.score = good
    panel.start(1)
    idle(study)
    assert len(panel.trainer.history) == 1
