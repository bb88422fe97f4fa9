"""A study makes runs of every kind, each pinned to what it learns from."""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

import lab
from lab.errors import (
    BadDemonstrations,
    BadSetting,
    DamagedStudy,
    LabError,
    NotReady,
    PromptTooLong,
)

PROMPTS = [f"w{20 + i} w{21 + i}" for i in range(16)]
DEMONSTRATIONS = [(p, "w9 w9") for p in PROMPTS[:4]]


@pytest.fixture
def opened(tmp_path, model):
    """Opens the study `tmp` again and again."""
    options = {"prompts": PROMPTS, "root": tmp_path, "max_new_tokens": 6, "progress": False}
    return lambda: lab.Experiment("tmp", model, **options)


@pytest.fixture
def ranked(opened):
    study = opened()
    study.session().simulate(lambda prompt, text: -len(text), 6)
    return study


OPTIONS = {
    "ppo": {"batch_size": 4},
    "grpo": {"batch_size": 4, "num_generations": 2},
    "dpo": {"batch_size": 4},
    "sft": {"batch_size": 2, "demonstrations": DEMONSTRATIONS},
    "reward": {"batch_size": 4, "layers": "top"},
}


@pytest.mark.parametrize("kind", OPTIONS)
def test_every_kind_of_run_steps_and_goes_on_after_a_restart(ranked, opened, kind):
    trainer = ranked.trainer(kind, **OPTIONS[kind])
    trainer.train(2)
    trainer.step()  # which no checkpoint knows: it is computed again, and must be the same
    assert ranked.all_runs == [f"{kind}-1"]
    again = opened()
    continued = again.trainer(kind)
    assert continued.update == 3
    for name, weight in continued.snapshot()[0].items():
        assert torch.equal(weight, trainer.snapshot()[0][name])
    assert continued.step()["update"] == 4
    assert again.trainer(kind) is continued


@pytest.mark.parametrize("kind", ["grpo", "dpo", "sft"])
def test_every_policy_stands_beside_the_reference(ranked, kind):
    ranked.trainer(kind, learning_rate=0.01, **OPTIONS[kind]).train(2)
    columns = ranked.side_by_side("w30 w31", count=2)
    title = "sft-1@2" if kind == "sft" else f"aligned: {kind}-1@2"
    assert list(columns) == ["reference", title]
    assert all(isinstance(a["score"], float) for rows in columns.values() for a in rows)
    assert ranked.measure(count=1).win_rate.count == 4
    state = ranked.policy_of(f"{kind}-1").trainable_state
    assert state() == {}, "a policy to compare with is frozen"


def test_sft_needs_no_ranking(opened):
    study = opened()
    study.trainer("sft", **OPTIONS["sft"]).train(1)
    columns = study.side_by_side("w30", count=1)
    assert [rows[0]["score"] for rows in columns.values()] == [None, None]
    with pytest.raises(NotReady):
        study.measure()


def test_ppo_can_start_from_what_sft_came_to(ranked, opened):
    sft = ranked.trainer("sft", learning_rate=0.01, **OPTIONS["sft"])
    sft.train(3)
    ppo = ranked.trainer("ppo", start="sft-1", learning_rate=0.0, batch_size=4)
    for name, weight in ppo.policy.trainable_state().items():
        assert torch.equal(weight, sft.policy.trainable_state()[name])
    assert abs(ppo.step()["objective/kl"]) < 1e-5  # the reference is what RL started from
    again = opened().trainer()
    assert again.run.name == "ppo-2" and again.update == 1
    assert again.step()["update"] == 2


def test_what_a_run_starts_from_stays_as_it_was(ranked, opened):
    """Also where the SFT was not saved yet, and where it goes on afterwards."""
    sft = ranked.trainer("sft", learning_rate=0.01, **OPTIONS["sft"])
    for _ in range(3):
        sft.step()
    ppo = ranked.trainer("ppo", start="sft-1", batch_size=4)
    start = {k: v.clone() for k, v in sft.policy.trainable_state().items()}
    sft.train(3)
    ppo.train(1)
    reference = opened().trainer("ppo").reference
    found = dict(reference.named_parameters())
    assert all(torch.equal(weight, found[name]) for name, weight in start.items())
    assert any(not torch.equal(w, sft.policy.trainable_state()[n]) for n, w in start.items())


def test_a_run_that_cannot_be_opened_is_not_left_behind(ranked):
    ranked.trainer("ppo", batch_size=4).train(1)
    with pytest.raises(PromptTooLong):
        ranked.trainer("sft", demonstrations=[("w5", "w6 " * 200)])
    assert ranked.all_runs == ["ppo-1"]
    ranked.aligned  # noqa: B018


def test_a_run_opened_after_a_crash_stands_at_its_end(ranked, opened):
    trainer = ranked.trainer("ppo", batch_size=4)
    for _ in range(3):  # no checkpoint yet
        trainer.step()
    again = opened()
    assert again.policy_name("aligned") == "ppo-1@3"
    again.trainer().change(kl_coef=0.3)


def test_all_who_ask_for_a_run_get_the_same_trainer(ranked):
    ppo = ranked.trainer("ppo", batch_size=4)
    sft = ranked.trainer("sft", **OPTIONS["sft"])
    assert ranked.trainer("ppo") is ppo and ranked.trainer() is sft
    assert ranked.open_run("ppo-1") is ppo and ppo.lock is ranked.compute


def test_measuring_before_any_run_makes_none(ranked):
    with pytest.raises(NotReady, match="PPO steps"):
        ranked.measure()
    assert ranked.all_runs == []


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("trainable", "al"),
        ("trainable", 0),
        ("seed", -1),
        ("temperature", "hot"),
        ("temperature", 0),
        ("max_new_tokens", 0),
    ],
)
def test_a_study_with_a_bad_setting_is_never_begun(tmp_path, model, setting, value):
    with pytest.raises(BadSetting, match=f"{setting}={value!r}"):
        lab.Experiment("new", model, root=tmp_path, progress=False, **{setting: value})
    assert not (tmp_path / "new").exists()


def test_dpo_learns_from_training_pairs_alone_and_keeps_them(ranked):
    heldout = {p.text for p in ranked.prompts if p.split == "heldout"}
    dpo = ranked.trainer("dpo", batch_size=4)
    count = len(dpo.pairs)
    assert count and not heldout & {p.prompt for p in dpo.pairs}
    ranked.session().simulate(lambda prompt, text: len(text), 3)
    rows = json.loads((dpo.run.folder / "pairs.json").read_text())
    assert len(rows) == count == len(ranked.trainer("dpo").pairs)


def test_the_reward_model_by_steps_holds_prompts_out(ranked):
    trainer = ranked.trainer("reward", batch_size=4)
    training, heldout = ({p.prompt for p in pairs} for pairs in (trainer.pairs, trainer.heldout))
    assert training and heldout and not training & heldout
    assert "eval_accuracy" in trainer.step()
    with pytest.raises(NotReady):  # it is a run, but not of a policy
        ranked.aligned  # noqa: B018


def test_a_branch_is_the_newest_run_and_all_are_in_the_table(ranked, opened):
    ranked.trainer("ppo", batch_size=4).train(3)
    branch = ranked.branch(1, kl_coef=0.5)
    branch.train(1)
    assert ranked.trainer() is branch and ranked.runs == ["ppo-1", "ppo-2"]
    rows = opened().run_table()
    assert [(r["run"], r["parent"], r["updates"]) for r in rows] == [
        ("ppo-1", None, 3),
        ("ppo-2", {"run": "ppo-1", "update": 1}, 2),
    ]
    assert rows[1]["settings"]["kl_coef"] == 0.5
    assert all(r["megabytes"] > 0 and r["score"] is not None for r in rows)
    again = opened().trainer()
    assert again.run.name == "ppo-2" and again.update == 2
    again.score(PROMPTS[:4], again.rollout()[1])  # the reward model came along


def test_what_is_missing_or_wrong_is_said_before_a_folder_is_made(opened):
    study = opened()
    for kind in ("ppo", "grpo", "dpo", "reward"):
        with pytest.raises(NotReady, match="ranking"):
            study.trainer(kind)
    with pytest.raises(NotReady, match="demonstrations"):
        study.trainer("sft")
    with pytest.raises(BadDemonstrations, match="demonstration 1"):
        study.trainer("sft", demonstrations=[("a", " ")])
    with pytest.raises(BadSetting, match="kind='rlhf'"):
        study.trainer("rlhf")
    with pytest.raises(BadSetting, match="kl_coef"):
        study.trainer("dpo", kl_coef=0.1)
    with pytest.raises(NotReady, match="sft-9"):
        study.trainer("sft", start="sft-9", demonstrations=DEMONSTRATIONS)
    with pytest.raises(LabError, match="no run 'sft-9'"):
        study.policy_of("sft-9")
    assert study.all_runs == []


def test_damaged_pairs_are_named(ranked, opened):
    trainer = ranked.trainer("dpo", batch_size=4)
    (trainer.run.folder / "pairs.json").write_text("[{}]")
    with pytest.raises(DamagedStudy, match="pairs"):
        opened().trainer("dpo")


def test_threads_that_ask_at_once_get_one_new_run(ranked):
    with ranked.compute:  # both have looked before either may make one
        pool = ThreadPoolExecutor(2)
        asked = [pool.submit(ranked.trainer, "dpo") for _ in range(2)]
        time.sleep(0.2)
    first, second = (future.result(30) for future in asked)
    assert first is second and ranked.all_runs == ["dpo-1"]


def test_threads_that_open_a_run_at_once_get_one_trainer(ranked, opened):
    ranked.trainer("dpo", batch_size=4).train(1)
    again = opened()
    with again.compute:
        pool = ThreadPoolExecutor(2)
        asked = [pool.submit(again.open_run, "dpo-1") for _ in range(2)]
        time.sleep(0.2)
    first, second = (future.result(30) for future in asked)
    assert first is second
