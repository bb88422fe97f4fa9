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
