"""A study from end to end on a tiny random model, and every wrong turn a person can take."""

from __future__ import annotations

import json
import threading

import pytest
from helpers import save_tiny_model

import lab
from lab.errors import (
    BadPrompts,
    BadSetting,
    DamagedStudy,
    LabError,
    NotReady,
    PromptTooLong,
    UnknownModel,
)

PROMPTS = [f"Tell me about thing {i}." for i in range(16)]


@pytest.fixture
def opened(tmp_path, model):
    """Opens the study `tmp` again and again."""

    def open_study(**changes) -> lab.Experiment:
        options = {"model": model, "prompts": PROMPTS, "root": tmp_path, "max_new_tokens": 6}
        return lab.Experiment("tmp", **{**options, **changes}, progress=False)

    return open_study


def shortest(prompt: str, completion: str) -> float:
    return -len(completion)


def test_a_study_goes_from_rankings_to_an_aligned_model(opened) -> None:
    study = opened()
    study.session().simulate(shortest, 6)
    assert study.reward_model.accuracies.rankings == 6
    trainer = study.trainer(batch_size=4)
    trainer.train(2)
    assert [row["update"] for row in trainer.history] == [1, 2]
    columns = study.side_by_side("A prompt of my own.", count=2)
    assert list(columns) == ["reference", "aligned: ppo-1@2"]
    assert study.measure(shortest, count=1).win_rate.count == 4


def test_opening_a_study_again_continues_it(opened) -> None:
    study = opened()
    study.session().simulate(shortest, 4)
    study.trainer(batch_size=4).train(2)
    weights = study.aligned.trainable_state()
    again = opened(model="smollm2")  # the default name stands for "the model it has"
    assert len(again.store.rankings()) == 4
    assert [row["rankings"] for row in again.reward_history()] == [1, 2, 3, 4]
    assert again.trainer().update == 2
    for name, tensor in again.aligned.trainable_state().items():
        assert tensor.equal(weights[name])
    assert again.trainer().step()["update"] == 3


def test_a_study_keeps_its_prompts(opened) -> None:
    first = opened()
    assert [p.text for p in first.prompts] == PROMPTS
    assert opened(prompts=None).prompts == first.prompts
    assert len(opened(prompts=["Only this one?"]).prompts) == 1
    assert len(opened(prompts=None).prompts) == 1


def test_opening_the_panel_again_leaves_a_run_under_way_alone(opened) -> None:
    study = opened()
    study.session().simulate(shortest, 3)
    trainer = study.trainer(batch_size=4)
    trainer.step()  # in the history, in no checkpoint yet
    study.ppo()
    assert study.runner.wait(30)
    lines = (trainer.run.folder / "metrics.jsonl").read_text().splitlines()
    assert len(lines) == 1 and study.trainer() is trainer


def test_a_board_on_an_aligned_policy_that_moved_on_says_so(opened) -> None:
    study = opened()
    study.session().simulate(shortest, 3)
    study.trainer(batch_size=4).train(1)
    session = study.session(policy="aligned")
    session.next()
    study.trainer().step()
    session.skip()
    with pytest.raises(LabError, match="moved on"):
        session.next()


def test_a_second_round_ranks_the_aligned_model_and_starts_a_new_run(opened) -> None:
    study = opened()
    study.session().simulate(shortest, 4)
    study.trainer(batch_size=4).train(1)
    study.session(policy="aligned").simulate(shortest, 3)
    policies = {c.policy for c in study.store.completions()}
    assert policies == {"reference", "ppo-1@1"}
    second = study.trainer(new=True, batch_size=4)
    assert study.runs == ["ppo-1", "ppo-2"] and second.update == 0
    assert second.run.config["rankings"] == 7


def test_rankings_during_a_run_do_not_move_its_reward_model(opened) -> None:
    study = opened()
    study.session().simulate(shortest, 3)
    trainer = study.trainer(batch_size=4)
    trainer.step()
    before = trainer.score(["p"] * 4, trainer.samples)
    study.session().simulate(shortest, 4)
    assert list(trainer.score(["p"] * 4, trainer.samples)) == list(before)


def test_undo_brings_the_question_back_and_the_reward_model_forgets(opened) -> None:
    study = opened()
    session = study.session()
    first = session.next()
    session.submit([[2], [0, 1], [3]])
    study.refit()
    session.next()
    assert session.undo().tiers is not None
    assert session.current.prompt == first.prompt
    assert study.reward_model.head is None
    session.submit([[3], [0, 1], [2]])
    assert len(study.store.rankings()) == 1


def test_a_skipped_prompt_does_not_come_again_and_trains_nothing(opened) -> None:
    session = opened().session()
    skipped = session.next().prompt
    session.skip()
    assert session.next().prompt != skipped
    assert session.study.store.pairs() == []


def test_completions_sampled_ahead_are_the_ones_shown(opened) -> None:
    study = opened()
    session = study.session()
    session.prepare(2)
    count = len(study.store.completions())
    assert session.ready() == session.upcoming()[:2]
    session.next()
    assert len(study.store.completions()) == count == 8


def test_a_prediction_is_kept_from_the_second_ranking_on(opened) -> None:
    study = opened()
    study.session().simulate(shortest, 3)
    predicted = [r.predicted for r in study.store.rankings()]
    assert predicted[0] is None and all(len(p) == 4 for p in predicted[1:])


def test_long_work_does_not_hold_up_a_question_that_is_ready(opened) -> None:
    study = opened()
    session = study.session()
    session.prepare(1)
    with study.compute:  # somebody trains
        thread = threading.Thread(target=session.next)
        thread.start()
        thread.join(5)
    assert session.current is not None


# Wrong turns


def test_unknown_model_lists_the_known_ones(tmp_path) -> None:
    with pytest.raises(UnknownModel, match="smollm2"):
        lab.Experiment("x", model="smollm3", root=tmp_path)


def test_ppo_before_any_ranking_says_how_many_are_missing(opened) -> None:
    with pytest.raises(NotReady, match="at least 1 more ranking"):
        opened().trainer()


def test_rankings_that_only_tie_are_no_reward_model(opened) -> None:
    study = opened()
    session = study.session()
    session.next()
    session.submit([[0, 1, 2, 3]])
    with pytest.raises(NotReady, match="preference pairs"):
        study.trainer()


def test_comparing_before_a_run_says_what_to_do(opened) -> None:
    with pytest.raises(NotReady, match="PPO"):
        opened().side_by_side("Hello")


def test_a_wrong_setting_is_named_before_anything_is_sampled(opened) -> None:
    study = opened()
    study.session().simulate(shortest, 2)
    count = len(study.store.completions())
    with pytest.raises(BadSetting, match="kl_coef=-1"):
        study.trainer(kl_coef=-1)
    with pytest.raises(BadSetting, match="klcoef"):
        study.trainer(klcoef=1)
    assert len(study.store.completions()) == count and study.runs == []


def test_a_prompt_longer_than_the_context_is_refused(opened) -> None:
    study = opened(prompts=["word " * 5000])
    with pytest.raises(PromptTooLong, match="context"):
        study.session().next()


def test_a_prompt_file_with_a_broken_line_names_file_and_line(opened, tmp_path) -> None:
    file = tmp_path / "prompts.jsonl"
    file.write_text('{"prompt": "fine"}\n{"prompt": \n')
    with pytest.raises(BadPrompts, match=r"prompts\.jsonl, line 2"):
        opened(prompts=file)


def test_a_damaged_experiment_json_is_kept_aside_and_the_rankings_stay(opened, tmp_path) -> None:
    opened().session().simulate(shortest, 2)
    path = tmp_path / "tmp" / "experiment.json"
    path.write_text("{ this is not")
    with pytest.raises(DamagedStudy, match="kept as"):
        opened()
    assert path.with_name("experiment.json.damaged-1").read_text() == "{ this is not"
    assert len(opened().store.rankings()) == 2


def test_a_damaged_store_is_kept_aside(opened, tmp_path) -> None:
    opened().store.close()
    path = tmp_path / "tmp" / "preferences.sqlite"
    path.write_bytes(b"not a database at all" * 100)
    with pytest.raises(DamagedStudy, match="kept as"):
        opened()
    assert path.with_name("preferences.sqlite.damaged-1").exists()
    assert opened().store.rankings() == []


def test_two_models_do_not_mix_in_one_study(opened, tmp_path) -> None:
    opened()
    other = save_tiny_model(tmp_path / "other")
    with pytest.raises(LabError, match="another name"):
        opened(model=str(other))


@pytest.mark.parametrize("name", ["", "../escape", "a/b", ".hidden", "x" * 200])
def test_a_study_cannot_leave_its_folder(name, tmp_path, model) -> None:
    with pytest.raises(LabError, match="named"):
        lab.Experiment(name, model=model, root=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_the_source_of_the_weights_is_recorded(opened, tmp_path) -> None:
    opened()
    assert json.loads((tmp_path / "tmp" / "experiment.json").read_text())["source"] == "folder"
