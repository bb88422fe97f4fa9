"""The whole lab on one page, without a browser; and which step comes next."""

from __future__ import annotations

from studies import idle, rank_some

from lab.guide import next_step, steps
from lab.votes import Vote, Votes
from lab.widgets import App, ComparePanel, RankingBoard, RewardPanel, TrainingPanel


def shown(app: App, place: str):
    """The instrument of a tab."""
    return app.places[place].children[-1]


def test_the_next_step_follows_what_was_done(study) -> None:
    assert next_step(study).place == "rank" and "8 more prompts" in next_step(study).words
    rank_some(study, 8)
    assert next_step(study).place == "reward"
    study.trainer(batch_size=4).train(3)
    assert next_step(study).place == "train" and "3 so far" in next_step(study).words
    study.trainer().train(7)
    assert next_step(study).place == "compare"
    for _ in range(10):
        Votes(study.store).add(Vote("p", ("reference", "ppo-1"), ("a", "b"), "a"))
    assert "second round" in next_step(study).words
    study.session(policy="aligned").simulate(lambda prompt, text: -len(text), 1)
    assert next_step(study) is None and all(step.done for step in steps(study))


def test_tabs_make_their_instrument_when_they_are_opened(study) -> None:
    app = study.app()
    idle(study)
    assert isinstance(shown(app, "rank"), RankingBoard)
    assert not app.places["reward"].children and "8 more prompts" in app.next.value
    for place, kind in {"reward": RewardPanel, "compare": ComparePanel}.items():
        app.go_to(place)
        idle(study)
        assert isinstance(shown(app, place), kind)


def test_a_tab_that_can_not_open_yet_says_why_and_opens_later(study) -> None:
    app = study.app()
    app.go_to("train")
    idle(study)
    assert "at least 1 more ranking" in shown(app, "train").value
    rank_some(study, 8)
    app.go_to("rank")
    app.go_to("train")
    idle(study)
    assert isinstance(shown(app, "train"), TrainingPanel)


def test_what_was_done_is_marked_and_the_next_step_is_a_click_away(study) -> None:
    app = study.app()
    idle(study)
    rank_some(study, 8)
    assert app.tabs.titles[0] == "Rank ✓" and app.tabs.titles[1] == "Reward model"
    app.go.click()
    assert app.place == "reward"


def test_another_trainer_takes_the_place_of_the_first(study) -> None:
    rank_some(study, 8)
    app = study.app()
    app.go_to("train")
    idle(study)
    first = shown(app, "train")
    app.kind.value = "dpo"
    idle(study)
    assert isinstance(shown(app, "train"), TrainingPanel) and shown(app, "train") is not first
    assert study.all_runs[-1].startswith("dpo-")


def test_rankings_of_held_out_prompts_are_no_step(study) -> None:
    study.session(heldout=True).simulate(lambda prompt, text: -len(text), 3)
    assert "8 more prompts" in next_step(study).words
    rank_some(study, 7)
    assert "1 more prompt," in next_step(study).words


def test_what_comes_next_is_found_without_reading_what_was_said(study, monkeypatch) -> None:
    rank_some(study, 2)
    for name in ("completions", "rankings"):
        monkeypatch.setattr(study.store, name, None)
    assert "6 more prompts" in next_step(study).words


def test_one_page_however_often_it_is_asked_for(study) -> None:
    app = study.app()
    assert study.app() is app and len(study._on_refit) == 1
    idle(study)
    app.close()
    assert study.app() is not app
    idle(study)


def test_an_instrument_is_watched_once(study, monkeypatch) -> None:
    rank_some(study, 8)
    app = study.app()
    app.go_to("train")
    idle(study)
    for kind in ("dpo", "ppo"):
        app.kind.value = kind
        idle(study)
    said = []
    monkeypatch.setattr(app, "say_next", lambda: said.append(1))
    shown(app, "train").status.say("Something new.")
    assert said == [1]


def test_what_fails_in_the_page_is_said_there_and_stops_nobody(study, monkeypatch) -> None:
    app = study.app()
    idle(study)
    monkeypatch.setattr(study.store, "ranked", lambda: 1 / 0)
    rank_some(study, 1)
    assert "ZeroDivisionError" in app.next.value and 'role="alert"' in app.next.value


def test_a_watcher_that_fails_stops_neither_the_ranking_nor_other_watchers(study, caplog) -> None:
    told = []
    study.on_refit(lambda: 1 / 0)
    study.on_refit(lambda: told.append(1))
    rank_some(study, 2)
    assert len(told) == len(study.store.rankings()) == 2
    assert "ZeroDivisionError" in caplog.text


def test_the_page_opens_its_tabs_without_a_person(study, monkeypatch) -> None:
    rank_some(study, 8)
    monkeypatch.setenv("LAB_RATER", "brief")
    monkeypatch.setenv("LAB_UPDATES", "2")
    app = study.app()
    app.go_to("train")
    idle(study)
    assert isinstance(shown(app, "train"), TrainingPanel)
    assert shown(app, "train").trainer.update == 2
    app.go_to("compare")
    idle(study)
    assert isinstance(shown(app, "compare"), ComparePanel)
