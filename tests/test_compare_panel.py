"""The panel that puts variants side by side, without a browser."""

from __future__ import annotations

import json
import threading

import pytest
from studies import HOSTILE, idle, rank_some

from lab.bulk import Bulk
from lab.columns import Cell, Column
from lab.votes import Vote, Votes
from lab.widgets import answer_columns
from lab.widgets.answer_columns import shown
from lab.widgets.bulk_panel import bulk_html
from lab.widgets.vote_table import votes_html


@pytest.fixture
def trained(study):
    rank_some(study)
    study.trainer(batch_size=4, learning_rate=0.01).train(1)
    return study


def titles(panel) -> list[str]:
    return [column["title"] for column in panel.answers.columns]


# Side by side


def test_reference_and_the_newest_run_stand_side_by_side(trained) -> None:
    panel = trained.compare()
    panel.prompt.value = "w20 w21"
    panel.seed.value = 3
    panel.compare()
    idle(trained)
    assert titles(panel) == ["reference", "aligned: ppo-1@1"]
    assert panel.answers.prompt == "w20 w21"
    expected = trained.side_by_side("w20 w21", seed=3)
    for column in panel.answers.columns:
        rows = expected[column["title"]]
        assert [a["text"] for a in column["answers"]] == [row["text"] for row in rows]
        for shown_row, row in zip(column["answers"], rows, strict=True):
            assert f"score {row['score']:+.2f}" in shown_row["under"]
    assert not panel.button.disabled and panel.stop_button.disabled
    assert "standard deviations above the average answer of the reference" in panel.status.value


def test_before_any_run_the_reference_stands_alone_and_says_what_is_missing(study) -> None:
    panel = study.compare()
    panel.compare()
    idle(study)
    assert titles(panel) == ["reference"]
    assert len(panel.answers.columns[0]["answers"]) == 3
    assert "no aligned policy yet" in panel.status.value and "PPO" in panel.status.value
    assert "score" not in panel.answers.columns[0]["answers"][0]["under"]


def test_a_new_run_takes_its_place_unless_somebody_chose(study) -> None:
    panels = [study.compare(), study.compare()]
    panels[1].variants[1].value = "best-of-2"
    rank_some(study)
    study.trainer(batch_size=4).train(1)
    assert panels[0].names() == ["reference", "ppo-1"]
    assert panels[1].names() == ["reference", "best-of-2"]
    assert "ppo-1" in panels[1].variants[2].options


def test_text_comes_while_it_is_written(trained, monkeypatch) -> None:
    monkeypatch.setattr(answer_columns, "EVERY", 0)
    panel = trained.compare()
    seen = []
    panel.answers.observe(lambda change: seen.append(change["new"]), "columns")
    panel.compare()
    idle(trained)
    grown = [c[0]["answers"][0]["text"] for c in seen if c[0]["answers"]]
    assert len(set(grown)) > 3
    assert all(grown[-1].startswith(text) for text in grown)
    assert any(c[0]["note"] == "is writing…" for c in seen)
    assert {c["note"] for c in panel.answers.columns} == {""}


def test_stop_ends_the_writing_and_keeps_what_is_there(trained, monkeypatch) -> None:
    monkeypatch.setattr(answer_columns, "EVERY", 0)
    panel = trained.compare()
    panel.tokens.value = 60
    panel.answers.observe(
        lambda change: change["new"][0]["answers"] and panel.stop_button.click(), "columns"
    )
    panel.compare()
    idle(trained)
    assert "Stopped" in panel.status.value and 'role="alert"' not in panel.status.value
    assert len(panel.answers.columns[0]["answers"][0]["text"].split()) < 59
    assert panel.answers.columns[1]["answers"] == []
    assert not panel.button.disabled
    panel.answers.unobserve_all("columns")
    panel.compare()
    idle(trained)
    assert len(panel.answers.columns[1]["answers"]) == 3, "a new start is not stopped"


def test_stop_ends_the_computing_of_an_update_again(trained) -> None:
    trained.trainer().train(3)  # and there are no checkpoints after 1 to 3
    panel, said = trained.compare(), []
    panel.variants[0].value, panel.variants[1].value = "ppo-1@3", ""

    def stop_at_the_first(change: dict) -> None:
        said.append(change["new"])
        if "computed update 1 of 3" in change["new"]:
            panel.stop_button.click()

    panel.status.observe(stop_at_the_first, "value")
    panel.compare()
    idle(trained)
    assert any("computed update 1 of 3" in words for words in said)
    assert not any("computed update 2 of 3" in words for words in said)
    assert "Stopped" in said[-1] and not panel.button.disabled


def test_where_an_answer_parts_is_marked_and_a_twin_is_named(trained) -> None:
    panel = trained.compare()
    for box, name in zip(panel.variants, ["reference", "ppo-1", "ppo-1@0"], strict=False):
        box.value = name
    panel.count.value = 8
    panel.compare()
    idle(trained)
    first, run, start = panel.answers.columns
    assert all("the same as in the first column" in a["under"] for a in start["answers"])
    assert all(a["same"] is None for a in first["answers"] + start["answers"])
    parted = [a for a in run["answers"] if a["same"] is not None]
    assert parted, "learning has moved something"


def test_a_wrong_name_or_no_prompt_is_an_alert(trained) -> None:
    panel = trained.compare()
    panel.variants[1].value = "ppo-9"
    panel.compare()
    idle(trained)
    assert 'role="alert"' in panel.status.value and "There is: reference" in panel.status.value
    panel.variants[1].value = "ppo-1"
    panel.prompt.value = " "
    panel.compare()
    assert "Type a prompt" in panel.status.value
    panel.prompt.value = "w5 " * 10_000
    panel.compare()
    idle(trained)
    assert "exceeds the model" in panel.status.value and not panel.button.disabled


def test_the_panel_never_waits_for_the_model(trained) -> None:
    panel = trained.compare()
    done = threading.Event()

    def click() -> None:
        for button in (panel.button, panel.blind_button, panel.bulk.button):
            button.click()
        done.set()

    with trained.compute:
        threading.Thread(target=click).start()
        assert done.wait(5)
    idle(trained)


# Blind votes


@pytest.fixture
def blind(trained):
    panel = trained.compare()
    panel.start_blind()
    idle(trained)
    return panel


def press(panel, **content) -> None:
    """What the page sends for a key or a button."""
    panel.board._on_message(None, {"question": panel.board.question.get("id"), **content}, [])


def everything_shown(panel) -> str:
    board = panel.board
    state = {name: getattr(board, name) for name in ("question", "status", "busy", "alert")}
    return json.dumps(state)


def test_nothing_names_the_variants_before_the_vote(blind) -> None:
    for _ in range(6):
        board = blind.board
        names = board.test.current.variants
        assert set(board.question) == {"id", "prompt", "a", "b"}
        before = everything_shown(blind).replace(board.status, "")
        assert not any(name in before for name in names)
        assert "was" not in board.status or "You chose" in board.status  # of the vote before
        press(blind, action="vote", winner="a")
        assert f"You chose A: A was {names[0]}, B was {names[1]}." in board.status
        idle(blind.study)


def test_the_first_question_says_nothing_of_who_writes(trained) -> None:
    panel = trained.compare()
    said = []
    panel.board.observe(lambda change: said.append(str(change["new"])), ["status", "question"])
    panel.start_blind()
    idle(trained)
    assert said and not any("ppo" in words or "reference" in words for words in said)


def test_a_vote_is_stored_and_the_next_duel_shows_at_once(blind) -> None:
    study, first = blind.study, blind.board.question
    assert blind.board.test.ready == 3
    press(blind, action="vote", winner="tie")
    assert blind.board.question["id"] != first["id"] and not blind.board.busy
    assert [v.winner for v in Votes(study.store).all()] == ["tie"]
    assert "1 blind vote of 1 rater" in blind.results.value
    press(blind, action="vote", winner="a", question=first["id"])  # a second click comes late
    assert len(Votes(study.store).all()) == 1


def test_undo_takes_a_vote_back_and_shows_its_duel(blind) -> None:
    first = blind.board.question
    press(blind, action="vote", winner="bad")
    press(blind, action="undo")
    assert Votes(blind.study.store).all() == []
    assert {k: blind.board.question[k] for k in ("prompt", "a", "b")} == {
        k: first[k] for k in ("prompt", "a", "b")
    }
    assert "No votes yet" in blind.results.value
    press(blind, action="undo")
    assert "nothing to take back" in blind.board.status
    press(blind, action="vote", winner="a")
    assert "1 vote came again after the names had shown" in blind.results.value


def test_a_second_undo_of_a_question_that_has_gone_takes_nothing_back(blind) -> None:
    """A double click, or a click in each of two views."""
    for winner in ("a", "b"):
        press(blind, action="vote", winner=winner)
        idle(blind.study)
    shown = blind.board.question["id"]
    for _ in range(2):
        press(blind, action="undo", question=shown)
    assert [v.winner for v in Votes(blind.study.store).all()] == ["a"]


def test_a_vote_without_word_of_who_finished_is_taken_back_and_shown(blind) -> None:
    kept = Votes(blind.study.store)
    kept.add(Vote("p", ("ppo-1@1", "reference"), ("x", "y"), "a", rater=blind.board.test.rater))
    press(blind, action="undo")
    shown = {name: blind.board.question[name] for name in ("prompt", "a", "b")}
    assert shown == {"prompt": "p", "a": "x", "b": "y"} and not blind.board.alert


def test_a_vote_for_nobody_is_an_alert(blind) -> None:
    press(blind, action="vote", winner="c")
    assert blind.board.alert and "winner='c'" in blind.board.status


def test_votes_of_before_are_counted_when_the_panel_opens(trained) -> None:
    Votes(trained.store).add(Vote("p", ("ppo-1@1", "reference"), ("x", "y"), "a"))
    assert "ppo-1@1" in trained.compare().results.value


def test_blind_votes_before_a_run_say_what_is_missing(study) -> None:
    panel = study.compare()
    panel.start_blind()
    assert 'role="alert"' in panel.blind_status.value and "PPO" in panel.blind_status.value
    assert not panel.board.started


@pytest.mark.parametrize("chosen", [["reference"], ["best-of-2"], [], ["ppo-1", "ppo-1@1"]])
def test_blind_votes_on_one_variant_say_that_two_are_needed(trained, chosen) -> None:
    panel = trained.compare()
    for box, name in zip(panel.variants, [*chosen, "", ""], strict=False):
        box.value = name
    panel.start_blind()
    assert "two different ones" in panel.blind_status.value and not panel.board.started


def test_simulated_votes_are_called_so() -> None:
    votes = [Vote("p", ("a", "b"), ("", ""), "a", simulated=s) for s in (True, False, True)]
    assert "3 blind votes of 1 rater, 2 simulated<" in votes_html(votes)
    assert "simulated" not in votes_html(votes[1:2])


# In bulk


def test_bulk_fills_a_table_and_says_who_judged(trained) -> None:
    panel = trained.compare()
    panel.variants[2].value = "best-of-4"
    panel.measure()
    idle(trained)
    table = panel.bulk.figures.value
    for name in ("reference", "ppo-1@1", "best-of-4", "≤ 0.6"):
        assert name in table
    assert "3 prompts, 2 answers to each, judged by the reward model of ppo-1" in table
    assert "were made to please this judge" in table
    assert not panel.bulk.button.disabled and panel.bulk.cancel_button.disabled


def test_bulk_takes_own_prompts_and_a_simulated_rater(trained) -> None:
    panel = trained.compare()
    panel.bulk.prompts.value = "w20\n\n  w30 \n"
    panel.bulk.judge.value = "brief"
    assert panel.bulk.button.description == "Measure on 2 prompts of mine"
    panel.measure()
    idle(trained)
    table = panel.bulk.figures.value
    assert "2 prompts, 2 answers to each, judged by the simulated rater" in table
    assert "made to please" not in table


def test_cancel_ends_a_table_between_two_jobs(trained) -> None:
    panel = trained.compare()
    panel.bulk.progress.observe(lambda change: panel.bulk.cancel_button.click(), "value")
    panel.measure()
    idle(trained)
    assert "Cancelled: 1 variant left out" in panel.bulk.status.value
    assert "ppo-1@1" not in panel.bulk.figures.value and "reference" in panel.bulk.figures.value
    assert not panel.bulk.button.disabled


def test_bulk_without_a_judge_says_what_is_missing(study) -> None:
    panel = study.compare()
    panel.measure()
    idle(study)
    assert 'role="alert"' in panel.bulk.status.value and "ranking" in panel.bulk.status.value
    assert not panel.bulk.button.disabled


# Hostile text


def test_model_text_cannot_become_markup(study) -> None:
    rank_some(study)
    bulk = Bulk(study, ["reference"])
    bulk.run()
    bulk.found[HOSTILE] = bulk.found["reference"]
    bulk.bounds[HOSTILE] = None
    votes = [Vote("p", (HOSTILE, "reference"), ("x", "y"), "a")]
    for page in (votes_html(votes), bulk_html(bulk)):
        assert "<script" not in page and "<img" not in page and "&lt;script" in page


def test_hostile_text_goes_to_the_page_as_it_is() -> None:
    column = shown(Column(HOSTILE, HOSTILE, [Cell(HOSTILE, True, 3)]))
    assert column["answers"][0]["text"].startswith("<script>")
    json.dumps(column, ensure_ascii=False).encode()  # no half character breaks the message
