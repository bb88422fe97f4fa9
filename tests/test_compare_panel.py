"""The panel that puts models side by side, without a browser."""

from __future__ import annotations

from studies import HOSTILE, idle, rank_some


def test_the_compare_panel_puts_both_models_side_by_side(study) -> None:
    rank_some(study)
    study.trainer(batch_size=4).train(1)
    panel = study.compare()
    panel.prompt.value = "A prompt of my own"
    panel.compare()
    panel.measure()
    idle(study)
    assert 'aria-label="reference"' in panel.answers.value
    assert 'aria-label="aligned: ppo-1@1"' in panel.answers.value
    assert "win rate" in panel.figures.value


def test_comparing_too_early_says_what_to_do(study) -> None:
    panel = study.compare()
    panel.compare()
    idle(study)
    assert 'role="alert"' in panel.status.value and "PPO" in panel.status.value
    assert not panel.button.disabled


def test_model_text_cannot_become_markup() -> None:
    from lab.widgets.compare_panel import columns_html
    from lab.widgets.training_panel import samples_html

    answer = {"text": HOSTILE, "score": 0.0, "finished": True}
    sample = {"prompt": HOSTILE, "completion": HOSTILE, "score": 0.0}
    for page in (columns_html({HOSTILE: [answer]}), samples_html([sample])):
        assert "<script" not in page and "<img" not in page and "&lt;script" in page
