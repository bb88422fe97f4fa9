"""The ranking board's Python side, without a browser."""

from __future__ import annotations

import time

from studies import HOSTILE, idle, rank_some, small_study

from lab.preferences import Ranking
from lab.ranking import Summary
from lab.statistics import Estimate
from lab.widgets import ranking_words as words

ORDER = [[0], [1], [2], [3]]


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


def open_board(study, **options):
    board = study.rank(**options)
    idle(study)
    return board


def test_the_guess_shows_after_the_ranking_never_before(study) -> None:
    board = open_board(study)
    assert board.guess == {}
    say(board, "submit", tiers=ORDER)
    assert board.guess["rows"] == [] and "no guess" in board.guess["words"]
    second = board.question
    assert not {"predicted", "policy"} & set(second)
    say(board, "submit", tiers=[[2], [0, 1], [3]])
    rows, texts = board.guess["rows"], second["completions"]
    assert [yours for yours, _, _ in rows] == [1, 2, 2, 4]
    assert rows[0][2] == words.cut(texts[2])
    assert "of 5 pairs" in board.guess["words"] and board.guess["policy"] == "reference"
    assert "of 5 pairs, before it saw them" in board.agreement
    idle(study)
    say(board, "undo")
    assert board.guess == {}, "the question is open again"
    assert "not enough yet" in board.agreement


def test_two_cards_are_told_the_same_or_the_other(study) -> None:
    board = open_board(study, k=2)
    for _ in range(3):
        say(board, "submit", tiers=[[1], [0]])
        idle(study)
    assert board.guess["words"].startswith("The reward model had guessed the ")
    assert len(board.guess["rows"]) == 2


def test_all_bad_and_a_note_are_kept_with_the_ranking(study) -> None:
    board = open_board(study)
    say(board, "submit", tiers=[[0, 1, 2, 3]], all_bad=True, note=HOSTILE)
    say(board, "skip", note="")
    bad, skipped = study.store.rankings(skipped=True)
    assert bad.all_bad and bad.note.startswith("<script>") and skipped.note == ""
    say(board, "earlier")
    assert board.earlier[0]["marks"] == ["skipped", "flagged"]


def test_an_earlier_ranking_is_changed_and_the_open_question_comes_back(study) -> None:
    board = open_board(study)
    for _ in range(3):
        say(board, "submit", tiers=ORDER)
        idle(study)
    open_question = board.question
    say(board, "earlier")
    assert [row["id"] for row in board.earlier] == [3, 2, 1]
    say(board, "edit", ranking=2)
    assert board.question["edits"] and board.guess == {}
    assert board.question["tiers"] == ORDER and board.question["prompt"] != open_question["prompt"]
    say(board, "submit", tiers=[[3], [2], [1], [0]], note="slip")
    assert board.question == open_question and board.done == 3 and board.guess == {}
    old, new = study.store.ranking(2), study.store.rankings()[-1]
    assert new.edits == 2 and new.predicted == old.predicted and new.note == "slip"
    assert board.earlier[0]["marks"] == ["flagged: slip", "changed"]
    say(board, "undo")
    assert [r.id for r in study.store.rankings()] == [1, 2, 3]
    assert board.question == open_question


def test_going_back_from_an_edit_changes_nothing(study) -> None:
    board = open_board(study)
    say(board, "submit", tiers=ORDER)
    idle(study)
    open_question = board.question
    say(board, "edit", ranking=1)
    say(board, "edit", ranking=1)
    say(board, "undo")
    assert board.question == open_question and len(study.store.rankings()) == 1
    say(board, "edit", ranking=99)
    assert board.alert and "Ranking 99" in board.status and board.question == open_question


def test_an_edit_while_completions_are_written_comes_back_to_the_question(study) -> None:
    board = open_board(study)
    say(board, "submit", tiers=ORDER)
    idle(study)
    board.session.current, board.busy = None, True  # as it is while the next one is sampled
    say(board, "edit", ranking=1)
    assert board.question["edits"] and not board.busy
    say(board, "undo")
    idle(study)
    assert board.question["completions"] and not board.question["edits"]


def test_raters_have_their_own_questions_on_one_board(study) -> None:
    board = open_board(study)
    assert board.rater == "me"
    first = board.question["prompt"]
    say(board, "submit", tiers=ORDER)
    idle(study)
    board.rater = " Ada "
    idle(study)
    assert board.rater == "Ada" and board.question["prompt"] == first
    assert board.done == 0 and board.guess == {} and not board.busy
    board.rater = ""
    assert board.alert and board.rater == "Ada" and board.session.rater == "Ada"
    say(board, "submit", tiers=ORDER)
    assert [r.rater for r in study.store.rankings()] == ["me", "Ada"]
    assert open_board(study).rater == "Ada", "the last name used"


def test_two_boards_of_two_raters_do_not_disturb_each_other(study) -> None:
    ada, bo = open_board(study, rater="Ada"), open_board(study, rater="Bo")
    for _ in range(2):
        say(ada, "submit", tiers=ORDER)
        say(bo, "submit", tiers=[[3], [2], [1], [0]])
        idle(study)
    assert ada.question["prompt"] == bo.question["prompt"] and (ada.done, bo.done) == (2, 2)
    say(ada, "undo")
    assert (ada.done, bo.done) == (1, 2)
    assert [r.rater for r in study.store.rankings()] == ["Ada", "Bo", "Bo"]


def test_guidelines_are_saved_at_once_and_seen_by_other_boards(study) -> None:
    one, two = open_board(study), open_board(study, rater="Bo")
    one.guidelines = HOSTILE
    assert study.store.guidelines.startswith("<script>")
    say(two, "submit", tiers=ORDER)
    assert two.guidelines == study.store.guidelines
    assert open_board(study).guidelines == study.store.guidelines


def test_asking_where_the_model_is_unsure_can_be_switched_on_the_board(study) -> None:
    rank_some(study, 3)
    study.completions.ensure(study.completions.order())
    board = open_board(study)
    assert board.asking == ""
    board.ask = "unsure"
    assert board.asking.startswith("30% of the questions still come at random. 0 of your 0")
    for _ in range(5):
        say(board, "submit", tiers=ORDER)
        idle(study)
    mine = study.store.rankings(rater="me")
    unsure = [r for r in mine if r.selection == "unsure"]
    assert unsure and f"{5 - len(unsure)} of your 5 rankings" in board.asking
    board.ask = "random"
    assert board.asking.startswith(f"{5 - len(unsure)} of your 5 rankings")


def test_the_goal_brings_a_summary(study) -> None:
    board = open_board(study, rankings=3)
    for _ in range(3):
        assert board.summary == []
        say(board, "submit", tiers=ORDER)
        idle(study)
    assert board.summary[0] == "You gave 3 rankings." and "(median)" in board.summary[1]
    assert "foresaw" in board.summary[2] and "not enough rankings" in board.summary[-1]
    assert board.pace == "under 1 s each"


def test_the_summary_names_the_places_that_win_too_often() -> None:
    fair, high = Estimate(0.5, 0.4, 0.6, 40), Estimate(0.7, 0.6, 0.8, 40)
    summary = Summary(40, 4, 12.4, Estimate(0.8, 0.7, 0.9, 200), fair, [high, fair])
    lines = words.summary_lines(summary)
    assert lines[0].startswith("You gave 40 rankings, 4 of which")
    assert "took 12 s" in lines[1] and "0.80 [0.70, 0.90] of 200 pairs" in lines[2]
    assert "0.50 [0.40, 0.60] of 40 pairs the same way" in lines[3]
    assert lines[4].endswith("cards shown at place 1 won 0.70 [0.60, 0.80] of their pairs")
    assert words.position_words([fair, fair]).startswith("No sign")


def test_a_repeat_is_unannounced(tmp_path, model) -> None:
    study = small_study(tmp_path, model, prompts=[f"Thing {i}" for i in range(14)])
    board = open_board(study, rankings=40, repeats=0.9)
    asked = []
    while not any(r.repeats for r in board.session.done):
        asked.append(board.question)
        say(board, "submit", tiers=ORDER)
        idle(study)
    assert {tuple(q) for q in asked} == {tuple(asked[0])} and not any(q["edits"] for q in asked)
    assert asked[-1]["tiers"] == ORDER and board.done == len(asked)


def test_the_next_question_is_quick_when_its_completions_are_there(study) -> None:
    board = open_board(study)
    shown = tuple(c.id for c in board.session.current.completions)
    for i in range(500):
        study.store.add_ranking(Ranking(f"old {i}", None, shown))
    say(board, "submit", tiers=ORDER)
    idle(study)
    times = []
    for _ in range(4):
        changed = []
        board.observe(
            lambda change, changed=changed: changed.append(time.perf_counter()), "question"
        )
        start = time.perf_counter()
        say(board, "submit", tiers=ORDER)
        times.append(changed[0] - start)
        idle(study)
    assert sorted(times)[1] < 0.3


def test_a_long_text_is_cut_where_it_is_named_in_passing() -> None:
    assert words.cut("a\n b") == "a b"
    assert len(words.cut("x" * 500)) == words.LONGEST


def test_a_board_of_held_out_prompts_counts_its_own_rankings(study) -> None:
    study.session().simulate(lambda prompt, text: -len(text), 3)
    board = study.rank(rankings=2, rater=study.store.rankings()[0].rater, heldout=True)
    idle(study)
    assert board.done == 0 and "measure the reward model" in board.asking


def test_a_question_that_was_answered_elsewhere_gives_way_to_the_next(study) -> None:
    board, other = study.rank(), study.session()
    idle(study)
    other.next()
    other.submit([[0], [1], [2], [3]])
    first = board.question["prompt"]
    say(board, "submit", tiers=[[3], [2], [1], [0]])
    assert board.question["prompt"] != first and "answered elsewhere" in board.status
    assert len(study.store.rankings()) == 1
