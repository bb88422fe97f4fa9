"""A study made small and made large again; the sample study that the lab carries."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import pytest
import torch
from studies import idle, rank_some

from lab.errors import LabError
from lab.preferences import Ranking
from lab.sample import SAMPLE, WEIGHTS, pack, sample_study, unpack
from lab.votes import Vote, Votes


@pytest.fixture
def packed(study, tmp_path):
    """A study with six rankings and three PPO updates, and the folder it was packed into."""
    rank_some(study, 6)
    study.store.add_ranking(Ranking("skipped", None, (1, 2)))
    study.trainer(batch_size=4, num_ppo_epochs=2).train(3)
    pack(study, tmp_path / "packed")
    return study, tmp_path / "packed"


def test_rankings_reward_model_and_record_come_back(packed, tmp_path) -> None:
    study, folder = packed
    again = unpack(folder, tmp_path / "again")
    kept = study.store.rankings(skipped=True)
    assert again.store.rankings(skipped=True) == kept
    assert again.store.completions() == study.store.completions()
    assert again.prompts == study.prompts
    assert again.reward_model.accuracies.cv == study.reward_model.accuracies.cv
    assert again.reward_history() == study.reward_history()
    assert again.trainer().history == study.trainer().history
    assert "(simulated)" in repr(again)


def test_the_policy_comes_back_to_a_part_in_127_of_its_largest_step(packed, tmp_path) -> None:
    study, folder = packed
    again = unpack(folder, tmp_path / "again")
    assert again.trainer().update == 3
    old, new = study.trainer().policy, again.trainer().policy
    start = dict(study.reference.named_parameters())
    moved = 0
    for name, tensor in old.trainable_state().items():
        step = (tensor - start[name]).abs().max()
        assert (new.trainable_state()[name] - tensor).abs().max() <= step / 127 * 0.51 + 1e-7
        moved += step > 1e-4
    assert moved > 5
    assert not torch.equal(new.trainable_state()[name], start[name])


def test_an_unpacked_run_goes_on_branches_and_can_be_gone_back_in(packed, tmp_path) -> None:
    _, folder = packed
    again = unpack(folder, tmp_path / "again")
    assert again.trainer().step()["update"] == 4
    assert again.branch(3, kl_coef=0.0).step()["update"] == 4
    again.open_run("ppo-1").rewind(1)
    idle(again)


def test_unpacking_again_opens_what_is_there(packed, tmp_path) -> None:
    _, folder = packed
    rank_some(unpack(folder, tmp_path / "again"), 2)
    again = unpack(folder, tmp_path / "again")
    assert len(again.store.rankings()) == 8
    assert not (again.folder / "ppo-1" / WEIGHTS).exists()


def test_edits_repeats_votes_and_guidelines_come_along(study, tmp_path) -> None:
    rank_some(study, 4)
    first, second = study.store.rankings()[:2]
    study.store.add_ranking(replace(first, id=0, edits=first.id, tiers=first.tiers[::-1]))
    study.store.add_ranking(replace(second, id=0, repeats=second.id))
    Votes(study.store).add(Vote("p", ("reference", "ppo-1"), ("a", "b"), "tie"))
    study.store.guidelines = "Be kind."
    study.refit()
    pack(study, tmp_path / "packed")
    again = unpack(tmp_path / "packed", tmp_path / "again")
    assert [r.tiers for r in again.store.rankings()] == [r.tiers for r in study.store.rankings()]
    [repeat] = [r for r in again.store.rankings(repeats=True) if r.repeats is not None]
    assert again.store.ranking(repeat.repeats).prompt == second.prompt
    assert [v.winner for v in Votes(again.store).all()] == ["tie"]
    assert again.store.guidelines == "Be kind."


def test_a_crash_while_weights_are_unpacked_does_not_add_them_twice(packed, tmp_path) -> None:
    _, folder = packed
    again = unpack(folder, tmp_path / "again")
    before = {n: t.clone() for n, t in again.trainer().policy.trainable_state().items()}
    shutil.copy(folder / "ppo-1" / WEIGHTS, again.folder / "ppo-1")
    after = unpack(folder, tmp_path / "again").trainer().policy.trainable_state()
    assert all(torch.equal(after[name], before[name]) for name in before)
    assert not (again.folder / "ppo-1" / WEIGHTS).exists()


def test_packing_says_what_it_cannot_hold(packed, tmp_path) -> None:
    study, folder = packed
    with pytest.raises(LabError, match="exists already"):
        pack(study, folder)
    study.branch(2)
    with pytest.raises(LabError, match="ppo-2 did not start"):
        pack(study, tmp_path / "other")
    assert not (tmp_path / "other").exists()
    with pytest.raises(LabError, match="no packed study"):
        unpack(tmp_path / "nothing", tmp_path / "again")


@pytest.mark.model
def test_the_sample_study_opens_in_the_middle(tmp_path) -> None:
    study = sample_study(root=tmp_path)
    assert len(study.store.rankings()) == 40 and all(r.simulated for r in study.store.rankings())
    trainer = study.trainer()
    assert trainer.update == trainer.run.last >= 10
    assert study.reward_model.accuracies.cv.value > 0.6
    reference, aligned = study.side_by_side("How do I make friends in a new town?").values()
    assert [a["text"] for a in aligned] != [a["text"] for a in reference]


def test_the_sample_study_is_small_and_says_that_it_is_simulated() -> None:
    assert sum(p.stat().st_size for p in SAMPLE.rglob("*")) < 6e6
    rows = [json.loads(line) for line in (SAMPLE / "rankings.jsonl").read_text().split("\n")[:-1]]
    assert len(rows) == 40 and all(row["simulated"] for row in rows)
