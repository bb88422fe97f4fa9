"""GRPO compares a completion with its group, and pays for KL in the loss."""

from __future__ import annotations

import math

import pytest
import torch
from helpers import build_policy
from trainers import PROMPTS, likes, make

from lab.errors import BadSetting
from lab.formulas import group_advantages
from lab.grpo import GRPO
from lab.settings import GRPOSettings


def start(score=likes, prompts=PROMPTS, **settings) -> GRPO:
    mine = {"batch_size": 8, "num_generations": 4, "max_new_tokens": 6, "learning_rate": 3e-3}
    return GRPO(build_policy(trainable=2), score, prompts, GRPOSettings(**{**mine, **settings}))


def test_advantages_are_relative_to_the_group():
    scores = torch.tensor([1.0, 2.0, 3.0, 10.0, 10.0, 10.0])
    advantages, spread = group_advantages(scores, 3, scale=True)
    assert advantages.tolist() == pytest.approx([-1, 0, 1, 0, 0, 0], abs=1e-3)
    assert spread.tolist() == pytest.approx([1.0, 0.0])
    plain, _ = group_advantages(scores, 3, scale=False)
    assert plain.tolist() == pytest.approx([-1, 0, 1, 0, 0, 0])


def test_each_prompt_is_answered_by_a_group():
    grpo = start()
    grpo.step()
    prompts = [s["prompt"] for s in grpo.last_samples]
    assert prompts[:4] == [prompts[0]] * 4 and prompts[4:] == [prompts[4]] * 4
    assert prompts[0] != prompts[4]
    assert len({s["completion"] for s in grpo.last_samples[:4]}) > 1


def test_the_first_gradient_is_that_of_the_policy_gradient():
    """Where the ratio is 1 and KL 0, the loss is minus the mean of advantage times log-prob."""
    from lab.sampling import logprobs

    grpo = start(score=lambda p, s: [float(i) for i in range(8)])
    grpo._now, grpo.update = grpo.settings, 1
    _, samples = grpo.rollout()
    advantages, _ = group_advantages(torch.arange(8.0), 4, True)
    new, _ = logprobs(grpo.policy, samples)
    (-(advantages * new.sum(1) / samples.lengths).mean()).backward()
    expected = [p.grad.clone() for p in grpo.parameters]
    grpo.optimizer.zero_grad()
    seen = []
    grpo.apply_gradients = lambda: seen.extend(p.grad.clone() for p in grpo.parameters)
    grpo._iteration(samples, advantages, samples.logprobs)
    for a, b in zip(seen, expected, strict=True):
        assert torch.allclose(a, b, atol=1e-5)


@pytest.mark.parametrize("score", [1.0, 2.7, 0.3])
def test_groups_of_equal_scores_teach_nothing_but_the_kl(score):
    grpo = start(lambda p, s: [score] * len(s), beta=0.0, num_generations=8)
    before = [p.clone() for p in grpo.parameters]
    row = grpo.step()
    assert row["frac_reward_zero_std"] == 1
    assert all(torch.equal(a, b) for a, b in zip(before, grpo.parameters, strict=True))
    assert all(math.isfinite(v) for v in row.values())


def test_a_larger_beta_keeps_the_policy_closer():
    loose, tight = (
        start(beta=b, learning_rate=1e-2, batch_size=32).train(8)[-1] for b in (0.0, 5.0)
    )
    assert tight["objective/kl"] < loose["objective/kl"]


def test_a_batch_that_is_no_number_of_groups_is_refused():
    with pytest.raises(BadSetting, match="batch_size=10: give a multiple of num_generations"):
        GRPOSettings(batch_size=10, num_generations=4)


def test_there_is_no_value_head():
    assert not any("value" in name for name in make("grpo").snapshot()[0])
