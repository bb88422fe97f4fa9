"""The instruments' Python side, on a tiny model, without a browser."""

from __future__ import annotations

import time

import pytest

import lab

PROMPTS = [f"Tell me about thing {i}." for i in range(12)]
HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(2)>"


@pytest.fixture
def study(tmp_path, model, monkeypatch) -> lab.Experiment:
    monkeypatch.delenv("LAB_RATER", raising=False)
    return lab.Experiment(
        "w", model, prompts=PROMPTS, root=tmp_path, max_new_tokens=6, progress=False
    )


def idle(study: lab.Experiment) -> None:
    assert study.runner.wait(30)
    assert study.runner.error is None, study.runner.error


def say(board, action: str, **content) -> None:
    """What the browser sends."""
    board._on_message(
        board, {"action": action, "question": board.question.get("id"), **content}, []
    )


def test_a_ranking_is_stored_and_the_next_question_shows(study) -> None:
    board = study.rank(rankings=2)
    idle(study)
    first = board.question
    say(board, "submit", tiers=[[3], [0, 1], [2]])
    shown = study.store.rankings()[0].shown
    assert study.store.rankings()[0].tiers == ((shown[3],), (shown[0], shown[1]), (shown[2],))
    assert board.question["prompt"] != first["prompt"] and board.done == 1 and not board.busy


def test_the_next_question_shows_before_the_reward_model_is_refitted(study) -> None:
    board = study.rank()
    idle(study)
    first = board.question["prompt"]
    seen = []
    study.on_refit(lambda: seen.append(board.question["prompt"]))
    say(board, "submit", tiers=[[0], [1], [2], [3]])
    assert len(seen) == 1 and seen[0] != first


def test_a_second_click_on_the_same_question_does_nothing(study) -> None:
    board = study.rank()
    idle(study)
    old = board.question["id"]
    say(board, "submit", tiers=[[0], [1], [2], [3]])
    message = {"action": "submit", "question": old, "tiers": [[0], [1], [2], [3]]}
    board._on_message(board, message, [])
    assert len(study.store.rankings()) == 1


def test_undo_shows_the_last_ranking_as_it_was_given(study) -> None:
    board = study.rank()
    idle(study)
    first = board.question
    say(board, "submit", tiers=[[3], [0, 1], [2]])
    say(board, "undo")
    assert board.question["prompt"] == first["prompt"]
    assert board.question["tiers"] == [[3], [0, 1], [2]]
    assert study.store.rankings() == [] and board.done == 0


def test_skip_counts_for_nothing(study) -> None:
    board = study.rank()
    idle(study)
    first = board.question["prompt"]
    say(board, "skip")
    assert board.question["prompt"] != first and board.done == 0


def test_an_error_in_a_callback_is_shown_on_the_board(study) -> None:
    board = study.rank()
    idle(study)
    say(board, "submit", tiers=[[0], [0], [2], [3]])
    assert board.alert and "exactly one tier" in board.status


def test_the_board_says_when_no_prompt_is_left(study) -> None:
    board = study.rank(rankings=2)
    idle(study)
    for _ in range(9):
        say(board, "submit", tiers=[[0], [1], [2], [3]])
        idle(study)
    assert board.question == {} and "Nothing is left" in board.status
    say(board, "undo")
    assert board.question["completions"]


def test_a_simulated_rater_fills_in_when_nobody_is_there(study, monkeypatch) -> None:
    monkeypatch.setenv("LAB_RATER", "brief")
    board = study.rank(rankings=3)
    assert board.done == 3 and "simulated" in board.status
    assert all(r.simulated for r in study.store.rankings())


def rank_some(study, count: int = 4) -> None:
    study.session().simulate(lambda prompt, text: -len(text), count)


def test_the_reward_panel_has_a_point_for_each_ranking_from_the_second_on(study) -> None:
    rank_some(study, 2)
    panel = study.reward()
    rank_some(study, 3)
    trace = panel.figure.data[0]
    assert list(trace.x) == [2, 3, 4, 5] and len(trace.y) == 4


def test_the_training_panel_steps_runs_and_plots(study) -> None:
    rank_some(study)
    panel = study.ppo(batch_size=4)
    panel.start(1)
    idle(study)
    panel.start(2)
    idle(study)
    assert [list(t.x) for t in panel.figure.data] == [[1, 2, 3]] * 3
    assert list(panel.figure.data[2].y) == [row["objective/kl"] for row in panel.trainer.history]
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
    assert len(panel.figure.data) == lines
    assert list(panel.figure.data[0].x) == [1, 2]
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
    assert "branch(1" in panel.status.value


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
