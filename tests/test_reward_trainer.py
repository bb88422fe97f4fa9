"""The reward model by gradient steps goes where the fitted one goes, and is measured apart."""

from __future__ import annotations

import math

import pytest
import torch
from helpers import build_policy, tiny_model
from trainers import HELDOUT, PAIRS, PROMPTS, make

from lab.dpo import TokenPair
from lab.errors import LabError
from lab.ppo import PPO
from lab.reward_trainer import RewardTrainer
from lab.settings import PPOSettings, RewardSettings


def start(pairs=PAIRS, heldout=HELDOUT, **settings) -> RewardTrainer:
    mine = {"batch_size": 64, "learning_rate": 0.05, **settings}
    return RewardTrainer(build_policy(trainable=2), pairs, heldout, RewardSettings(**mine))


@pytest.mark.parametrize("layers", ["head", "top"])
def test_an_untrained_reward_model_has_a_loss_of_ln_2(layers):
    row = start(layers=layers, learning_rate=0.0).step()
    assert row["loss"] == pytest.approx(math.log(2), abs=1e-6)
    assert (row["accuracy"], row["margin"]) == (0.5, 0.0)


@pytest.mark.parametrize("layers", ["head", "top"])
def test_accuracy_and_loss_on_pairs_that_train_and_on_held_out_ones_after_each_step(layers):
    trainer = start(layers=layers)
    rows = trainer.train(10)
    assert rows[-1]["accuracy"] > 0.9 and rows[-1]["loss"] < rows[0]["loss"]
    margins = trainer.margins([len(PAIRS), len(PAIRS) + 1]).detach()
    expected = margins.exp().log1p() - torch.tensor([1.0, 0.5]) * margins
    assert rows[-1]["eval_loss"] == pytest.approx(expected.mean().item(), abs=1e-5)
    assert rows[-1]["eval_margin"] == pytest.approx(margins[0].item(), abs=1e-5)
    assert rows[-1]["eval_accuracy"] in (0, 1)


def test_held_out_pairs_never_train():
    with_them, without = start(), start(heldout=[])
    a, b = with_them.train(3), without.train(3)
    assert [r["loss"] for r in a] == [r["loss"] for r in b]
    assert "eval_loss" not in b[0]


def test_pairs_preferred_three_times_of_four_come_to_a_margin_of_ln_3():
    """The minimum of the Bradley-Terry loss, which the fitted reward model goes to in one go."""
    strict = [p for p in PAIRS if p.target == 1][:4]
    against = [TokenPair(p.prompt, p.rejected, p.chosen, 1.0, p.weight / 3) for p in strict]
    trainer = start([*strict, *against], learning_rate=0.02, weight_decay=0.0)
    trainer.train(300)
    margins = trainer.margins(range(4)).tolist()
    assert margins == pytest.approx([math.log(3)] * 4, abs=0.05)


@pytest.mark.parametrize("layers", ["head", "top"])
def test_a_rollout_is_scored_as_its_stored_completions_are(layers):
    trainer = start(layers=layers)
    trainer.train(3)
    ppo = PPO(build_policy(trainable=2), trainer.score, PROMPTS, PPOSettings(batch_size=4))
    ppo.step()
    rows = zip(ppo.last_samples, ppo.samples.token_lists(), strict=True)
    pairs = [TokenPair(s["prompt"], tuple(ids), (17,)) for s, ids in rows]
    again = start(pairs, layers=layers)
    again.head.load_state_dict(trainer.head.state_dict())
    again.scale = trainer.scale
    if layers == "top":
        again.top.load_state_dict(trainer.top.state_dict())
    stored = again._rewards(again._features(0, range(4))).tolist()
    assert stored == pytest.approx([s["score"] for s in ppo.last_samples], abs=1e-4)


def test_the_reference_is_not_touched():
    policy = build_policy(trainable=2)
    make("reward-top", policy=policy).train(2)
    fresh = tiny_model()
    for name, parameter in policy.top.named_parameters():
        if name.startswith("layers.0"):
            whole = dict(fresh.model.named_parameters())[name.replace("layers.0", "layers.2")]
            assert torch.equal(parameter, whole)


@pytest.mark.parametrize("layers", ["head", "top"])
@pytest.mark.parametrize(
    "pairs",
    [
        [TokenPair("w20", (7, 7), (7, 7))],
        [TokenPair("w20", (), (7, 7))],
        [TokenPair("w20", (7,), (8,), 0.5)],
    ],
)
def test_awkward_pairs_train_without_nan(pairs, layers):
    rows = start(pairs, [], layers=layers).train(2)
    assert all(math.isfinite(v) for row in rows for v in row.values())


def test_no_pairs_is_an_error():
    with pytest.raises(LabError, match="at least one preference pair"):
        start([])
