"""The ranking board's Python side, without a browser."""

from __future__ import annotations

from studies import idle


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
