"""A study makes runs of every kind, each pinned to what it learns from."""

from __future__ import annotations

import json

import pytest
import torch
from helpers import same_metrics

import lab
from lab.errors import BadDemonstrations, BadSetting, DamagedStudy, LabError, NotReady

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
    assert ranked.all_runs == [f"{kind}-1"]
    again = opened()
    continued = again.trainer(kind)
    assert continued.update == 2
    assert same_metrics(trainer.step(), continued.step())
    assert again.trainer(kind) is continued


@pytest.mark.parametrize("kind", ["grpo", "dpo", "sft"])
def test_every_policy_stands_beside_the_reference(ranked, kind):
    ranked.trainer(kind, learning_rate=0.01, **OPTIONS[kind]).train(2)
    columns = ranked.side_by_side("w30 w31", count=2)
    assert list(columns) == ["reference", f"aligned: {kind}-1@2"]
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
    ppo.save()
    again = opened().trainer()
    assert again.run.name == "ppo-2"
    assert same_metrics(ppo.step(), again.step())


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
